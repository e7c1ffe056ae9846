//! One connection, driven by the task that uses it, so that no other task is woken for a token.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use pilotage_shell::client::{ClientError, Connector, Stream};

use super::target::Target;

/// What reads and writes a connection when it is polled.
type Open = Pin<Box<Connection<Ear, Full<Bytes>>>>;

/// Bytes of the first piece of an answer, at most.
const FIRST_PIECE_MAX: usize = 4 << 10;

/// An open connection.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// Nothing once it has ended: it must not be polled then.
    connection: Option<Open>,
    /// Whether anything came since the last request was sent.
    heard: Arc<AtomicBool>,
}

impl Link {
    /// Opens one.
    pub(super) async fn open(connector: &Connector, target: &Target) -> Result<Self, ClientError> {
        let stream = connector.connect(target.url()).await?;
        let heard = Arc::<AtomicBool>::default();
        let ear = Ear { stream, heard: Arc::clone(&heard) };
        let (sender, connection) =
            http1::handshake(ear).await.map_err(|error| ClientError::Connect(error.to_string()))?;
        Ok(Self { sender, connection: Some(Box::pin(connection)), heard })
    }

    /// Whether another request can be sent on it; reads what came meanwhile, which may be its end.
    pub(super) async fn is_usable(&mut self) -> bool {
        let Self { sender, connection, .. } = self;
        drive(connection, sender.ready()).await.is_ok() && self.connection.is_some()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, connection, heard } = self;
        heard.store(false, Ordering::Relaxed);
        drive(connection, sender.send_request(request)).await
    }

    /// Whether no byte came in answer to the last request.
    pub(super) fn is_unanswered(&self) -> bool {
        !self.heard.load(Ordering::Relaxed)
    }

    /// The next bytes of an answer; none at its end.
    pub(super) async fn next(&mut self, body: &mut Incoming) -> hyper::Result<Option<Bytes>> {
        loop {
            match drive(&mut self.connection, body.frame()).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// Polls the connection before the future that waits for it.
async fn drive<F: Future>(connection: &mut Option<Open>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Some(open) = connection
            && open.as_mut().poll(context).is_ready()
        {
            *connection = None;
        }
        future.as_mut().poll(context)
    })
    .await
}

/// A stream that remembers whether anything was read from it: who waits for an answer's head is not told
/// whether a connection ended before it or within it.
struct Ear {
    stream: Stream,
    heard: Arc<AtomicBool>,
}

impl Read for Ear {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let stream = Pin::new(&mut this.stream);
        if this.heard.load(Ordering::Relaxed) {
            return stream.poll_read(context, into);
        }
        let mut piece = [MaybeUninit::uninit(); FIRST_PIECE_MAX];
        let most = into.remaining().min(FIRST_PIECE_MAX);
        let mut piece = ReadBuf::uninit(&mut piece[..most]);
        ready!(stream.poll_read(context, piece.unfilled()))?;
        into.put_slice(piece.filled());
        this.heard.store(!piece.filled().is_empty(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl Write for Ear {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }
}
