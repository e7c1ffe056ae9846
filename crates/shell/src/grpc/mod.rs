//! A server of gRPC on the listener that serves everything else: methods by their path, each with
//! messages of any type that `prost` can read and write; and a client for calls of other servers.
//!
//! ```text
//! use pilotage_shell::grpc::{Grpc, GrpcLimits, Health, Replies, Requests};
//!
//! let grpc = Grpc::new(GrpcLimits::default())
//!     .unary("/example.Greeter/Greet", async |name: String| Ok(format!("hello {name}")))
//!     .streaming(
//!         "/example.Greeter/Chat",
//!         async |mut names: Requests<String>, greetings: Replies<String>| {
//!             while let Some(name) = names.next().await? {
//!                 greetings.send(&format!("hello {name}")).await;
//!             }
//!             Ok(())
//!         },
//!     )
//!     .health(|service| match service {
//!         "" | "example.Greeter" => Health::Serving,
//!         _ => Health::Unknown,
//!     });
//! // With a listener: `serve(entrance, grpc.service(), Grpc::serve_limits(), stop)`.
//! ```
//!
//! A method that answers one request with many messages is a streaming one that begins with
//! [`Requests::only`]. What a method does is dropped when its client leaves or its deadline passes.
//! Bounded are the bytes of a message and the answers that wait to be taken, here, and by
//! [`ServeLimits`] connections, streams, heads and what clients leave unread. Messages that are compressed
//! are refused, as the protocol provides for.

mod body;
mod call;
pub mod client;
mod frame;
mod health;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use prost::Message;
use tokio::sync::mpsc;

pub use body::GrpcBody;
use body::Running;
pub use call::{Replies, Requests};
pub use client::{CallError, GrpcClient};
pub use health::Health;
pub use status::{Code, Status};

use crate::serve::{Http2Limits, ServeLimits};

/// What calls may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrpcLimits {
    /// Bytes of a message from a client.
    pub message_bytes_max: usize,
    /// Messages for a client that wait until it takes them.
    pub replies_max: usize,
    /// How long a method waits for a client's next message.
    pub quiet_max: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            // What others take by default.
            message_bytes_max: 4 << 20,
            replies_max: 16,
            quiet_max: Duration::from_secs(3600),
        }
    }
}

type Source = Box<dyn Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + Send + Unpin>;
type Work = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;
type Method = Box<dyn Fn(Source, mpsc::Sender<Bytes>) -> Work + Send + Sync>;

/// The methods of a server. To be served, see [`Grpc::service`].
pub struct Grpc {
    limits: GrpcLimits,
    methods: BTreeMap<&'static str, Method>,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.methods.keys()).finish()
    }
}

/// The media type of gRPC; what comes after it names how messages are written.
const MEDIA_TYPE: &str = "application/grpc";

/// A deadline that a client may set at most; what is longer is none.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

impl Grpc {
    /// A server without methods.
    pub const fn new(limits: GrpcLimits) -> Self {
        Self { limits, methods: BTreeMap::new() }
    }

    /// A method that answers one message with one, at `/package.Service/Method`.
    #[must_use]
    pub fn unary<In, Out, Answer, F>(self, path: &'static str, answer: Answer) -> Self
    where
        In: Message + Default + 'static,
        Out: Message + 'static,
        Answer: Fn(In) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Out, Status>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        self.streaming(path, move |requests: Requests<In>, replies: Replies<Out>| {
            let answer = Arc::clone(&answer);
            async move {
                let request = requests.only().await?;
                let answering = answer(request);
                replies.send(&answering.await?).await;
                Ok(())
            }
        })
    }

    /// A method with any number of messages either way, at `/package.Service/Method`.
    #[must_use]
    pub fn streaming<In, Out, Answer, F>(mut self, path: &'static str, answer: Answer) -> Self
    where
        In: Message + Default + 'static,
        Out: Message + 'static,
        Answer: Fn(Requests<In>, Replies<Out>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let limits = self.limits;
        let run = move |source: Source, replies: mpsc::Sender<Bytes>| -> Work {
            Box::pin(answer(Requests::new(source, &limits), Replies::new(replies)))
        };
        self.methods.insert(path, Box::new(run));
        self
    }

    /// The health service that gateways and Kubernetes probe, `grpc.health.v1.Health/Check`.
    #[must_use]
    pub fn health(self, told: impl Fn(&str) -> Health + Send + Sync + 'static) -> Self {
        self.unary(health::CHECK, move |asked: health::Asked| {
            ready(health::answer(told(&asked.service)))
        })
    }

    /// What holds for a listener whose clients are proxies: few connections, of which each carries
    /// many calls that last.
    pub fn serve_limits() -> ServeLimits {
        ServeLimits {
            connections_max: 1024,
            header_timeout: Duration::from_secs(300),
            http2: Http2Limits {
                streams_max: 4096,
                resets_max: 1024,
                stream_window_bytes: 1 << 20,
                connection_window_bytes: 16 << 20,
                send_bytes_max: 256 * 1024,
                ..Http2Limits::default()
            },
            ..ServeLimits::default()
        }
    }

    /// The service for [`serve`](crate::serve::serve).
    pub fn service(
        self,
    ) -> impl Fn(Request<Incoming>) -> Ready<Result<Response<GrpcBody>, Infallible>>
    + Clone
    + Send
    + Sync
    + 'static {
        let grpc = Arc::new(self);
        move |request| ready(Ok(grpc.answer(request)))
    }

    /// Answers one call. Its method runs while the answer's body is asked for more.
    pub fn answer<B>(&self, request: Request<B>) -> Response<GrpcBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let sent = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !sent.is_some_and(is_grpc) {
            let mut response = Response::new(GrpcBody::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let Some(method) = self.methods.get(head.uri.path()) else {
            return refused(&Status::new(Code::Unimplemented, "there is no such method here"));
        };
        let deadline = deadline(&head.headers);
        let (replies, taken) = mpsc::channel(self.limits.replies_max.max(1));
        let work = method(Box::new(body.map_err(Into::into)), replies);
        respond(GrpcBody::running(Running::new(work, taken, deadline)))
    }
}

fn is_grpc(kind: &[u8]) -> bool {
    let rest = kind.strip_prefix(MEDIA_TYPE.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn respond(body: GrpcBody) -> Response<GrpcBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    response
}

/// An answer that is over before it begins.
fn refused(status: &Status) -> Response<GrpcBody> {
    let mut response = respond(GrpcBody::empty());
    response.headers_mut().extend(status.trailers());
    response
}

/// How long the client waits, where it says so.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let told = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = told.split_at_checked(told.len().checked_sub(1)?)?;
    // The protocol has eight digits at most.
    let number = number.parse::<u64>().ok().filter(|_| number.len() <= 8)?;
    let duration = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    (duration <= DEADLINE_MAX).then_some(duration)
}
