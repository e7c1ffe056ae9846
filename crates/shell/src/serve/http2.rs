//! A connection of HTTP/2: streams within limits, and an end when nobody asks for anything.
//!
//! Its requests run as tasks of their own. A client that resets a stream drops its response, as one of
//! HTTP/1.1 does that closes its connection.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use h2::Reason;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::enter::Io;
use super::unread::{Parts, Streams};
use super::{ServeLimits, Shared};

/// What a listener allows on connections of HTTP/2, besides what holds for all: they carry many
/// requests, and cost work before there is any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Http2Limits {
    /// Requests at once on a connection; more are refused, and may be sent again. Enough for a proxy,
    /// and little for who opens a connection to flood it.
    pub streams_max: u32,
    /// Requests at once on all connections of the listener together, refused as well: connections
    /// times streams would be far more than anything behind it has room for.
    pub requests_max: usize,
    /// Streams that were reset before they were looked at; one more ends the connection. Who opens
    /// streams only to reset them (CVE-2023-44487) would make work at no cost of its own.
    pub resets_max: usize,
    /// Streams that a connection may have reset by its mistakes; one more ends it. Each reset is
    /// written down until it is sent, and whoever makes so many makes them on purpose.
    pub mistakes_max: usize,
    /// Bytes of a frame, the least that the protocol allows: streams take turns frame by frame, and
    /// a frame is kept until it is whole.
    pub frame_bytes_max: u32,
    /// Bytes of a request's body that may come before they are read, and of all bodies of a
    /// connection: what a client can make us keep. More is sent once these are read.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together.
    pub connection_window_bytes: u32,
    /// Bytes of an answer that are kept for a client that is slow to take them; the rest waits where
    /// it is made.
    pub send_bytes_max: usize,
    /// Bytes of the table that compresses heads, the protocol's own default.
    pub table_bytes_max: u32,
    /// After how long without a frame that carries a request a client is asked whether it is there.
    pub ping_interval: Duration,
    /// How long it may take to say so; a connection to nobody is closed.
    pub ping_timeout: Duration,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams_max: 128,
            requests_max: 16_384,
            resets_max: 20,
            mistakes_max: 1024,
            frame_bytes_max: 16 * 1024,
            stream_window_bytes: 256 * 1024,
            connection_window_bytes: 512 * 1024,
            send_bytes_max: 16 * 1024,
            table_bytes_max: 4096,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// How long a client that never asked for anything has for reading that its connection ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves a connection, whose first head has to be there when `first` is over.
pub(super) async fn serve<S, F, B>(
    io: Io,
    peer: SocketAddr,
    service: S,
    shared: &Arc<Shared>,
    mut first: Pin<&mut Sleep>,
) where
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let limits = shared.limits;
    let open = Arc::new(Open::default());
    let (rooms, counted) = (Arc::clone(&shared.rooms), Arc::clone(&open));
    let service = service_fn(move |request: Request<Incoming>| {
        let Some(place) = Place::take(&counted, &rooms) else {
            // Its client may send it again, to somebody else or later.
            return Either::Left(ready(Err(h2::Error::from(Reason::REFUSED_STREAM))));
        };
        let answer = match malformed(&request, &limits) {
            Some(status) => Err(status),
            None => Ok(service(request)),
        };
        let part_bytes_max = limits.http2.send_bytes_max;
        Either::Right(async move {
            let (head, body) = match answer {
                Ok(answer) => {
                    let Ok(answer) = answer.await;
                    let (head, body) = answer.into_parts();
                    (head, Some(body))
                }
                Err(status) => (refusal(status), None),
            };
            Ok(Response::from_parts(head, Parts::new(body, part_bytes_max, place)))
        })
    });
    let streams = Streams { tasks: shared.streams.clone(), patience: limits.write_timeout };
    let connection = builder(&limits, streams).serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let mut closing = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = open.quiet(first.as_mut(), limits.header_timeout) => {
                if closing {
                    return super::over(peer, "a connection was cut: its client keeps it open");
                }
            }
            () = shared.stop.cancelled(), if !closing => {}
        }
        closing = true;
        connection.as_mut().graceful_shutdown();
        // The end of an answer may still be on its way.
        let asked = open.asked.load(Ordering::Relaxed);
        first.set(sleep(if asked { limits.write_timeout } else { GOODBYE }));
    };
    if let Err(error) = ended {
        super::failed(peer, &error, "a connection ended early");
    }
}

fn builder(limits: &ServeLimits, streams: Streams) -> http2::Builder<Streams> {
    let own = limits.http2;
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(own.streams_max)
        .max_pending_accept_reset_streams(own.resets_max)
        .max_local_error_reset_streams(own.mistakes_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .header_table_size(own.table_bytes_max)
        .max_frame_size(own.frame_bytes_max)
        .initial_stream_window_size(own.stream_window_bytes)
        .initial_connection_window_size(own.connection_window_bytes)
        .max_send_buf_size(own.send_bytes_max)
        .keep_alive_interval(own.ping_interval)
        .keep_alive_timeout(own.ping_timeout);
    builder
}

/// The status of a request that is refused for its form: what the protocol leaves to the server.
fn malformed<B>(request: &Request<B>, limits: &ServeLimits) -> Option<StatusCode> {
    if request.headers().len() > limits.headers_max {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    (!is_one_host(request.uri(), request.headers())).then_some(StatusCode::BAD_REQUEST)
}

/// Whether a request names one server at most, and nobody's password with it.
fn is_one_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let agree = match (authority, host) {
        (Some(authority), Some(host)) => host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()),
        _ => true,
    };
    agree && another.is_none() && !authority.is_some_and(|authority| authority.contains('@'))
}

fn refusal(status: StatusCode) -> http::response::Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head
}

/// The requests that a connection is asked at the moment.
#[derive(Default)]
struct Open {
    requests: AtomicUsize,
    asked: AtomicBool,
    changed: Notify,
}

impl Open {
    /// Waits until there was no request when `end` came, which is put off by each that ends. For one
    /// caller at a time.
    async fn quiet(&self, mut end: Pin<&mut Sleep>, patience: Duration) {
        loop {
            let idle = self.requests.load(Ordering::Acquire) == 0;
            tokio::select! {
                // An end that came before it was put off is none.
                biased;
                () = self.changed.notified() => end.set(sleep(patience)),
                () = end.as_mut(), if idle => return,
            }
        }
    }
}

/// A request's place among those of its connection and of the listener.
struct Place {
    open: Arc<Open>,
    _room: OwnedSemaphorePermit,
}

impl Place {
    /// None when the listener has no room.
    fn take(open: &Arc<Open>, rooms: &Arc<Semaphore>) -> Option<Self> {
        let room = Arc::clone(rooms).try_acquire_owned().ok()?;
        open.asked.store(true, Ordering::Relaxed);
        if open.requests.fetch_add(1, Ordering::AcqRel) == 0 {
            open.changed.notify_one();
        }
        Some(Self { open: Arc::clone(open), _room: room })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.open.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.open.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_server() {
        let check = |uri: &str, hosts: &[&'static str], expect: bool| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, http::HeaderValue::from_static(host));
            }
            assert_eq!(is_one_host(&uri.parse().unwrap(), &headers), expect, "{uri} {hosts:?}");
        };
        check("http://a/", &[], true);
        check("/", &["a"], true);
        check("/", &[], true);
        check("http://a/", &["A"], true);
        check("http://a/", &["b"], false);
        check("http://a/", &["a:80"], false);
        check("http://a/", &["a", "a"], false);
        check("/", &["a", "b"], false);
        check("http://user@a/", &[], false);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_quiet_when_no_request_was_there_for_long() {
        let patience = Duration::from_secs(20);
        let (open, rooms) = (Arc::new(Open::default()), Arc::new(Semaphore::new(1)));
        let end = sleep(patience);
        tokio::pin!(end);
        let place = Place::take(&open, &rooms).unwrap();
        assert!(Place::take(&open, &rooms).is_none(), "there is one room");
        let busy = tokio::time::timeout(patience * 9, open.quiet(end.as_mut(), patience)).await;
        assert!(busy.is_err(), "a request is there");
        drop(place);
        let short = patience - Duration::from_millis(1);
        let idle = tokio::time::timeout(short, open.quiet(end.as_mut(), patience)).await;
        assert!(idle.is_err(), "it was there just now");
        open.quiet(end.as_mut(), patience).await;
    }
}
