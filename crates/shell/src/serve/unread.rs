//! Gives up on streams of HTTP/2 whose client takes nothing for too long: it may hold one back while it
//! reads the others and answers pings, so that the connection looks as it should.
//!
//! A body is asked for its next part only when the one before found room in the stream's window. A
//! part after which nobody asks is therefore one that its client does not let come, and its task is
//! ended then, which resets the stream and cancels whatever makes the body.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Sleep, sleep};
use tokio_util::task::TaskTracker;

tokio::task_local! {
    static GIVEN: Given;
}

/// What the body of a stream gave.
#[derive(Default)]
struct Given {
    parts: Cell<u64>,
    /// The last of them found no room yet.
    held: Cell<bool>,
}

/// Runs the streams of a connection, each for as long as its client takes what it is sent.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) tasks: TaskTracker,
    pub(super) patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let watched = Watched { stream: Box::pin(stream), patience: self.patience, waits: None };
        self.tasks.spawn(GIVEN.scope(Given::default(), watched));
    }
}

/// A stream, and since when its client takes nothing of it.
struct Watched<F> {
    stream: Pin<Box<F>>,
    patience: Duration,
    waits: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let (held, part) = GIVEN.with(|given| (given.held.get(), given.parts.get()));
        if !held {
            self.waits = None;
            return Poll::Pending;
        }
        let patience = self.patience;
        let since = self.waits.take().filter(|(since, _)| *since == part);
        let (_, end) =
            self.waits.insert(since.unwrap_or_else(|| (part, Box::pin(sleep(patience)))));
        std::task::ready!(end.as_mut().poll(context));
        tracing::debug!("a stream ended early: its client takes nothing of it");
        Poll::Ready(())
    }
}

/// A body in parts of a bounded size, since a part that found any room at all is kept as a whole by
/// who sends it. It holds `place` for as long as it is there.
pub(super) struct Parts<B, P> {
    /// None where there is none.
    body: Option<B>,
    rest: Bytes,
    part_bytes_max: usize,
    _place: P,
}

impl<B, P> Parts<B, P> {
    pub(super) const fn new(body: Option<B>, part_bytes_max: usize, place: P) -> Self {
        Self { body, rest: Bytes::new(), part_bytes_max, _place: place }
    }

    fn give(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.len().min(self.part_bytes_max);
        let part = self.rest.split_to(bytes);
        // Outside of a stream's task, as in a test, nobody watches.
        let _ = GIVEN.try_with(|given| {
            given.parts.set(given.parts.get() + 1);
            given.held.set(!part.is_empty());
        });
        Frame::data(part)
    }
}

impl<B, P> Body for Parts<B, P>
where
    B: Body<Data = Bytes> + Unpin,
    P: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let _ = GIVEN.try_with(|given| given.held.set(false));
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.give())));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match std::task::ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.give()
                }
                Err(trailers) => trailers,
            }))),
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_large_part_comes_in_small_ones() {
        let check = |text: &'static str, expect: &[&str]| {
            let body = Parts::new(Some(Full::new(Bytes::from(text))), 4, ());
            let expect: Vec<String> = expect.iter().map(|part| (*part).to_owned()).collect();
            async move {
                assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
                assert_eq!(body.is_end_stream(), text.is_empty());
                let mut body = body;
                let mut parts = Vec::new();
                while let Some(frame) = body.frame().await {
                    let part = frame.unwrap().into_data().unwrap();
                    parts.push(String::from_utf8(part.to_vec()).unwrap());
                    let left = text.len() - parts.concat().len();
                    assert_eq!(body.size_hint().exact(), Some(left as u64));
                    assert_eq!(body.is_end_stream(), left == 0);
                }
                assert_eq!(parts, expect);
            }
        };
        check("", &[]).await;
        check("1234", &["1234"]).await;
        check("123456789", &["1234", "5678", "9"]).await;
    }

    /// A stream whose client lets a part come every so often, or never.
    fn watched(every: Option<Duration>, parts: usize) -> impl Future<Output = usize> {
        let text = Bytes::from(vec![b'a'; parts]);
        let came = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&came);
        let stream = async move {
            let mut body = Parts::new(Some(Full::new(text)), 1, ());
            while body.frame().await.is_some() {
                match every {
                    Some(every) => sleep(every).await,
                    None => std::future::pending().await,
                }
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let tasks = TaskTracker::new();
        Streams { tasks: tasks.clone(), patience: Duration::from_secs(60) }.execute(stream);
        async move {
            tasks.close();
            tasks.wait().await;
            came.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_takes_ends_and_a_slow_one_does_not() {
        assert_eq!(watched(None, 3).await, 0);
        assert_eq!(watched(Some(Duration::from_secs(59)), 20).await, 20);
        assert_eq!(watched(Some(Duration::from_secs(61)), 20).await, 0);
    }
}
