//! One request and the head of its answer, on one connection, driven by whoever waits for it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::Method;

use super::head::{self, Head};
use super::socket::Socket;

/// Heads before the answer's own, such as `100 Continue`.
const INFORMATIONAL_MAX: u32 = 16;

/// The head of an answer, what of its body came with it, and what of the request is not sent yet.
pub(super) struct Answered {
    pub(super) head: Head,
    pub(super) rest: Bytes,
    pub(super) unsent: Option<Box<Unsent>>,
}

/// What is to be sent of a request.
pub(super) struct Unsent {
    head: Bytes,
    body: Bytes,
    flushed: bool,
}

/// A request on its way.
struct Exchange<'a> {
    socket: &'a mut Socket,
    method: &'a Method,
    unsent: Unsent,
    /// The other side takes no more: it may have answered all the same.
    refused: Option<io::Error>,
    /// What came of a head that is not all there.
    came: Vec<u8>,
    informational: u32,
}

/// Sends a request and waits for the head of its answer, which may come before the request is sent. One that
/// agrees may need the rest, which is sent while the answer is read; of one that does not, nothing more is
/// sent. Nothing else may follow either.
pub(super) async fn run(
    socket: &mut Socket,
    method: &Method,
    head: Vec<u8>,
    body: Bytes,
) -> io::Result<Answered> {
    let mut exchange = Exchange {
        socket,
        method,
        unsent: Unsent { head: head.into(), body, flushed: false },
        refused: None,
        came: Vec::new(),
        informational: 0,
    };
    poll_fn(|context| exchange.poll(context)).await
}

/// What a read made of the bytes that came.
enum Came {
    End,
    Some,
    Head(Box<Answered>),
}

impl Exchange<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Answered>> {
        if self.refused.is_none()
            && let Poll::Ready(Err(error)) = self.unsent.poll(self.socket, context)
        {
            self.refused = Some(error);
        }
        loop {
            let Self { socket, method, came, informational, .. } = self;
            let read = socket.poll_take(context, |bytes| take(bytes, came, informational, method));
            match ready!(read).and_then(|came| came) {
                Ok(Came::Some) => {}
                Ok(Came::Head(mut answered)) => {
                    answered.head.reusable &= self.unsent.flushed;
                    let agrees = answered.head.response.status().is_success();
                    if agrees && !self.unsent.flushed && self.refused.is_none() {
                        answered.unsent = Some(Box::new(self.unsent.take()));
                    }
                    return Poll::Ready(Ok(*answered));
                }
                Ok(Came::End) => {
                    let closed = || io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Err(self.refused.take().unwrap_or_else(closed)));
                }
                Err(error) => return Poll::Ready(Err(self.refused.take().unwrap_or(error))),
            }
        }
    }
}

impl Unsent {
    fn take(&mut self) -> Self {
        let Self { head, body, flushed } = self;
        Self { head: std::mem::take(head), body: std::mem::take(body), flushed: *flushed }
    }

    /// Sends on, until all is sent.
    pub(super) fn poll(
        &mut self,
        socket: &mut Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.head.is_empty() || !self.body.is_empty() {
            let sent = ready!(socket.poll_write(context, (&self.head, &self.body)))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = sent.min(self.head.len());
            self.head.advance(of_head);
            self.body.advance(sent - of_head);
        }
        if !self.flushed {
            ready!(socket.poll_flush(context))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Looks for the end of a head in what came.
fn take(
    bytes: &[u8],
    came: &mut Vec<u8>,
    informational: &mut u32,
    method: &Method,
) -> io::Result<Came> {
    if bytes.is_empty() {
        return Ok(Came::End);
    }
    let mut bytes = bytes;
    // Most heads come at once, and are read where they lie.
    let joined;
    if !came.is_empty() {
        came.extend_from_slice(bytes);
        joined = std::mem::take(came);
        bytes = &joined;
    }
    while let Some(head) = head::read(bytes, method).map_err(garbage)? {
        let rest = &bytes[head.length..];
        if !head.response.status().is_informational() {
            let rest = Bytes::copy_from_slice(rest);
            return Ok(Came::Head(Box::new(Answered { head, rest, unsent: None })));
        }
        *informational += 1;
        if *informational > INFORMATIONAL_MAX {
            return Err(garbage("it has too many heads"));
        }
        bytes = rest;
    }
    if bytes.len() > head::BYTES_MAX {
        return Err(garbage("its head is too large"));
    }
    came.extend_from_slice(bytes);
    Ok(Came::Some)
}

fn garbage(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
