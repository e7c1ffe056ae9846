//! The cluster where clients reach it: in process, as a service that a client is made of, or over
//! HTTP on loopback.
//!
//! Contract: time is Tokio's, so that it stands still where a test pauses it; nothing sleeps but for
//! faults that delay and watches that wait.

mod http;

use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderMap, Request, Response, header};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use parking_lot::Mutex;
use pilotage_shell::clock::Clock;
use thiserror::Error;
use tokio::sync::watch;
use tower::Service;

pub use self::http::Listener;
use crate::{Answer, Call, Cluster, Limits, Payload, Pulled, Stream};

/// The connection broke off.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the connection to the cluster was lost")]
pub struct Lost;

/// An answer's body.
pub type Frames = UnsyncBoxBody<Bytes, Lost>;

/// A cluster that clients share. Copies are of the same one.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: Mutex<Cluster>,
    /// Counts changes, for watches that wait.
    changed: watch::Sender<u64>,
    clock: Clock,
    starts_at_ms: u64,
    body_bytes_max: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self::new(Limits::default(), 1)
    }
}

impl Server {
    /// An empty cluster, whose time begins now.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self::starting_at(Clock::start().unix_ms(), limits, seed)
    }

    /// An empty cluster, whose time begins then, in milliseconds since 1970.
    pub fn starting_at(starts_at_ms: u64, limits: Limits, seed: u64) -> Self {
        let shared = Shared {
            cluster: Mutex::new(Cluster::new(starts_at_ms, limits, seed)),
            changed: watch::Sender::new(0),
            clock: Clock::start(),
            starts_at_ms,
            body_bytes_max: limits.body_bytes_max,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The cluster's time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.shared.starts_at_ms + self.shared.clock.now_nanos() / 1_000_000
    }

    /// Does something to the cluster itself: set faults, read records, look at what is stored.
    pub fn with<T>(&self, does: impl FnOnce(&mut Cluster, u64) -> T) -> T {
        let now_ms = self.now_ms();
        let done = does(&mut self.shared.cluster.lock(), now_ms);
        self.shared.changed.send_modify(|count| *count += 1);
        done
    }

    /// A client's side: a service to make a client of. Of no user, an administrator's.
    pub fn connect(&self, user: &str) -> Connection {
        Connection { server: self.clone(), user: user.into() }
    }

    /// Answers a call.
    async fn answer(&self, call: Call) -> Result<Response<Frames>, Lost> {
        let delay_ms = self.shared.cluster.lock().delay_ms(&call);
        if delay_ms > 0 {
            let clock = self.shared.clock;
            clock.sleep_until_nanos(clock.now_nanos() + delay_ms * 1_000_000).await;
        }
        // Seen before the call is, so that a watch misses nothing that follows it.
        let changes = self.shared.changed.subscribe();
        let answer = self.with(|cluster, now_ms| cluster.handle(now_ms, &call));
        self.respond(answer, changes)
    }

    fn respond(
        &self,
        answer: Answer,
        changes: watch::Receiver<u64>,
    ) -> Result<Response<Frames>, Lost> {
        let body = match answer.payload {
            Payload::Text(text) => Full::new(text).map_err(|never| match never {}).boxed_unsync(),
            Payload::Stream(stream) => self.events(stream, changes),
            Payload::Lost => return Err(Lost),
        };
        let mut response = Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        response.body(body).map_err(|_| Lost)
    }

    /// What a watch sends, for as long as somebody reads.
    fn events(&self, stream: Box<Stream>, changes: watch::Receiver<u64>) -> Frames {
        let state = Some((self.clone(), stream, changes));
        let frames = stream::unfold(state, |state| async move {
            let (server, mut stream, mut changes) = state?;
            loop {
                changes.mark_unchanged();
                let now_ms = server.now_ms();
                let pulled = server.shared.cluster.lock().pull(now_ms, &mut stream);
                match pulled {
                    Pulled::Lines(lines) => {
                        let frame = Frame::data(Bytes::from(lines));
                        return Some((Ok(frame), Some((server, stream, changes))));
                    }
                    Pulled::End(None) => return None,
                    Pulled::End(Some(_)) => return Some((Err(Lost), None)),
                    Pulled::Nothing(until_ms) => {
                        let until_ms = until_ms.saturating_sub(server.shared.starts_at_ms);
                        let until = until_ms.saturating_mul(1_000_000);
                        tokio::select! {
                            _ = changes.changed() => {}
                            () = server.shared.clock.sleep_until_nanos(until) => {}
                        }
                    }
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// A client's side of a cluster: takes HTTP requests, gives responses.
#[derive(Clone, Debug)]
pub struct Connection {
    server: Server,
    user: Arc<str>,
}

impl<B> Service<Request<B>> for Connection
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Frames>;
    type Error = Lost;
    type Future = BoxFuture<'static, Result<Response<Frames>, Lost>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let connection = self.clone();
        Box::pin(connection.take(request))
    }
}

impl Connection {
    async fn take<B>(self, request: Request<B>) -> Result<Response<Frames>, Lost>
    where
        B: Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        // One byte more than what is taken, so that too much is seen to be.
        let body = Limited::new(body, self.server.shared.body_bytes_max + 1).collect().await;
        let body = body.map(|body| body.to_bytes());
        let too_large = || Bytes::from(vec![b' '; self.server.shared.body_bytes_max + 1]);
        let text = |name: header::HeaderName| text(&head.headers, &name);
        let said = head.headers.get("impersonate-user").and_then(|user| user.to_str().ok());
        let call = Call {
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: text(header::CONTENT_TYPE),
            accept: text(header::ACCEPT),
            user_agent: text(header::USER_AGENT),
            user: said.unwrap_or(&self.user).to_owned(),
            body: body.unwrap_or_else(|_| too_large()),
            method: head.method,
        };
        self.server.answer(call).await
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}
