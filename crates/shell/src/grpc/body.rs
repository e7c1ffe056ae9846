//! The body of an answer: it runs its method whenever it is asked for more, and ends with how that ended.
//! Who drops it, as a client that leaves does, drops the method.

use std::convert::Infallible;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use super::{Code, Status, Work};

/// The body of an answer.
pub struct GrpcBody(Option<Running>);

impl fmt::Debug for GrpcBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcBody").finish_non_exhaustive()
    }
}

/// A method at work.
pub(super) struct Running {
    /// None when it is over.
    work: Option<Work>,
    replies: mpsc::Receiver<Bytes>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: Status,
}

impl Running {
    pub(super) fn new(
        work: Work,
        replies: mpsc::Receiver<Bytes>,
        deadline: Option<Duration>,
    ) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(sleep(deadline)));
        Self { work: Some(work), replies, deadline, ended: Status::ok() }
    }

    /// The next message; none when there is no more.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(message) = self.replies.poll_recv(context) {
            return Poll::Ready(message);
        }
        let Some(work) = &mut self.work else {
            // Whoever still could send runs beside its method, which is over.
            self.replies.close();
            return self.replies.poll_recv(context);
        };
        match work.as_mut().poll(context) {
            Poll::Ready(ended) => self.end(ended.err().unwrap_or(Status::ok())),
            Poll::Pending => {
                let deadline =
                    self.deadline.as_mut().map(|deadline| deadline.as_mut().poll(context));
                if deadline.is_some_and(|deadline| deadline.is_ready()) {
                    let message = "the call's deadline has passed";
                    self.end(Status::new(Code::DeadlineExceeded, message));
                }
            }
        }
        // It may have sent something by now.
        self.replies.poll_recv(context)
    }

    fn end(&mut self, status: Status) {
        self.work = None;
        self.ended = status;
        self.replies.close();
    }
}

impl GrpcBody {
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    pub(super) const fn running(running: Running) -> Self {
        Self(Some(running))
    }
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(running) = &mut self.0 else { return Poll::Ready(None) };
        let frame = match std::task::ready!(running.poll_message(context)) {
            Some(message) => Frame::data(message),
            None => {
                let trailers = running.ended.trailers();
                self.0 = None;
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
