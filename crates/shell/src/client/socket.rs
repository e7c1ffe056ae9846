//! An open connection, encrypted or not, that needs no buffer of its own: all connections of a thread
//! read into one, so that thousands that wait for the next token hold nothing.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use hyper_rustls::MaybeHttpsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Stream;

/// Bytes that are read at once.
const READ_MAX: usize = 64 << 10;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// A connection; dropping it closes it.
pub(super) enum Socket {
    Plain(TcpStream),
    Encrypted(Box<dyn ReadWrite>),
}

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ReadWrite for T {}

impl From<Stream> for Socket {
    fn from(stream: Stream) -> Self {
        match stream {
            MaybeHttpsStream::Http(plain) => Self::Plain(plain.into_inner()),
            MaybeHttpsStream::Https(encrypted) => Self::Encrypted(Box::new(encrypted.into_inner())),
        }
    }
}

impl Socket {
    /// Reads once, and hands on what came: nothing at the end.
    pub(super) fn poll_take<T>(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(match self {
                Self::Plain(socket) => Pin::new(socket).poll_read(context, &mut buffer),
                Self::Encrypted(socket) => Pin::new(socket).poll_read(context, &mut buffer),
            })?;
            Poll::Ready(Ok(take(buffer.filled())))
        })
    }

    /// Writes some of both.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        (first, second): (&[u8], &[u8]),
    ) -> Poll<io::Result<usize>> {
        let both = [IoSlice::new(first), IoSlice::new(second)];
        let parts = if first.is_empty() { &both[1..] } else { &both[..] };
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::Encrypted(socket) => Pin::new(socket).poll_write_vectored(context, parts),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // What is written is with the system.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Encrypted(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    /// Whether it is open, as far as is known, with nothing to be read: what comes before anything was
    /// asked is nobody's answer. Looked at whatever the task has done before: one that has used its turn
    /// up is told that nothing is there.
    pub(super) fn is_quiet(&mut self) -> bool {
        let look = tokio::task::unconstrained(poll_fn(|context| self.poll_take(context, |_| ())));
        pin!(look).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}
