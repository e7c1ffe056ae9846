//! The body of an answer, read as it is asked for. At its end the connection waits for another request;
//! dropped before that, it is closed, which tells the other side to stop.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::exchange::Unsent;
use super::framing::{Framing, Garbage};
use super::pool::{Origin, Pool};
use super::socket::Socket;

/// A body that comes.
pub struct Incoming {
    framing: Framing,
    /// What came with the head.
    rest: Bytes,
    /// Nothing once the connection is not needed.
    socket: Option<Socket>,
    /// Where the connection may wait after this.
    home: Option<(Arc<Pool>, Origin)>,
    /// What of the request is sent while this is read.
    unsent: Option<Box<Unsent>>,
    reused: bool,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("framing", &self.framing).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(super) fn new(
        (framing, rest): (Framing, Bytes),
        socket: Socket,
        home: Option<(Arc<Pool>, Origin)>,
        unsent: Option<Box<Unsent>>,
    ) -> Self {
        let mut incoming =
            Self { framing, rest, socket: Some(socket), home, unsent, reused: false };
        incoming.settle();
        incoming
    }

    /// The same, over a connection that was open already or not.
    pub(super) const fn over(mut self, reused: bool) -> Self {
        self.reused = reused;
        self
    }

    /// Whether it came over a connection that was open before its request.
    pub const fn is_reused(&self) -> bool {
        self.reused
    }

    /// At the end of the body: lets the connection go. More than the body came on one that is not clean.
    fn settle(&mut self) {
        if !self.framing.is_over() {
            return;
        }
        if let (Some(socket), Some((pool, origin)), true) =
            (self.socket.take(), self.home.take(), self.rest.is_empty())
        {
            pool.put(origin, socket);
        }
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        // Who takes no more of the request may go on answering: that it failed says nothing.
        if let (Some(unsent), Some(socket)) = (&mut self.unsent, &mut self.socket)
            && unsent.poll(socket, context).is_ready()
        {
            self.unsent = None;
        }
        while !self.framing.is_over() {
            let read = if self.rest.is_empty() {
                let Self { framing, socket: Some(socket), .. } = self else { break };
                ready!(socket.poll_take(context, |bytes| take(framing, bytes)))
            } else {
                Ok(take(&mut self.framing, &std::mem::take(&mut self.rest)))
            };
            let data = match read.and_then(|taken| taken.map_err(garbage)) {
                Ok(Some((data, true))) => data,
                Ok(Some((data, false))) => {
                    self.home = None;
                    data
                }
                Ok(None) => {
                    self.socket = None;
                    return Poll::Ready(None);
                }
                Err(error) => return Poll::Ready(Some(self.fail(error))),
            };
            self.settle();
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
        Poll::Ready(None)
    }

    /// Nothing that comes after this means anything.
    fn fail(&mut self, error: io::Error) -> io::Result<Bytes> {
        self.socket = None;
        self.home = None;
        Err(error)
    }
}

/// Data in what came, and whether all of that was the body's; nothing at the end of the connection.
fn take(framing: &mut Framing, bytes: &[u8]) -> Result<Option<(Bytes, bool)>, Garbage> {
    if bytes.is_empty() {
        return framing.close().map(|()| None);
    }
    let mut data = Vec::with_capacity(bytes.len());
    let taken = framing.take(bytes, &mut data)?;
    Ok(Some((data.into(), taken == bytes.len())))
}

fn garbage(error: Garbage) -> io::Error {
    let kind = match error {
        Garbage::Cut => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.poll_data(context).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.framing.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.framing.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
