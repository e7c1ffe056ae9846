//! Serving HTTP with every limit explicit: connections, headers, the time a head may take, and the
//! time a drain may take.
//!
//! HTTP/1.1, and HTTP/2 from its first byte on (no upgrades); over TLS where there are certificates,
//! whose clients then choose by ALPN. Generic over the service, so that routers of any framework fit:
//! an `axum::Router` goes in through `hyper_util::service::TowerToHyperService`.

mod clients;
mod enter;
mod http2;
mod patience;
mod tls;
mod unread;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use clients::Clients;
use enter::{Entered, enter};
pub use http2::Http2Limits;
pub use tls::{CertificateError, Certificates};

/// What a listener allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServeLimits {
    /// Connections at once; more wait in the system's backlog.
    pub connections_max: usize,
    /// Bytes of a request's head; more is answered with status 431.
    pub header_bytes_max: usize,
    /// Headers of a request; more is answered with status 431.
    pub headers_max: usize,
    /// How long a head may take to come in, the handshake of TLS before the first one included, and
    /// how long a connection may idle before the next.
    pub header_timeout: Duration,
    /// How long a client may leave what it is sent unread.
    pub write_timeout: Duration,
    /// How long running requests get when the listener closes.
    pub drain_timeout: Duration,
    /// What holds for connections of HTTP/2 besides.
    pub http2: Http2Limits,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            header_bytes_max: 64 * 1024,
            headers_max: 100,
            header_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(60),
            http2: Http2Limits::default(),
        }
    }
}

/// Where connections come in: a socket, and what encrypts them, if anything does.
#[derive(Debug)]
pub struct Entrance {
    socket: TcpListener,
    certificates: Option<Certificates>,
}

impl Entrance {
    /// One for clients of TLS alone.
    pub const fn encrypted(socket: TcpListener, certificates: Certificates) -> Self {
        Self { socket, certificates: Some(certificates) }
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What encrypts them, if anything does.
    pub const fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// What the addresses of its clients begin with.
    pub const fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }
}

impl From<TcpListener> for Entrance {
    fn from(socket: TcpListener) -> Self {
        Self { socket, certificates: None }
    }
}

/// How long accepting pauses when the system has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection has to begin when the listener closes.
const ENTER_GRACE: Duration = Duration::from_millis(250);

/// What the connections of a listener share.
struct Shared {
    limits: ServeLimits,
    certificates: Option<Certificates>,
    stop: CancellationToken,
    /// The streams of HTTP/2, which are tasks of their own, and room for them.
    streams: TaskTracker,
    rooms: Arc<Semaphore>,
}

/// Serves until `stop`, then lets running requests finish within the drain timeout. Returns how
/// many connections had to be cut.
pub async fn serve<S, F, B>(
    entrance: impl Into<Entrance>,
    service: S,
    limits: ServeLimits,
    stop: CancellationToken,
) -> usize
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Entrance { socket, certificates } = entrance.into();
    let shared = Arc::new(Shared {
        limits,
        certificates,
        stop,
        streams: TaskTracker::new(),
        rooms: Arc::new(Semaphore::new(limits.http2.requests_max)),
    });
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = accept(&socket, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let connection = connection(stream, peer, service.clone(), Arc::clone(&shared));
        let cut = cut.clone();
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection => {}
            }
        });
    }
    drop(socket);
    connections.close();
    let drained = tokio::time::timeout(limits.drain_timeout, connections.wait()).await;
    let left = connections.len();
    cut.cancel();
    connections.wait().await;
    // Those of connections that are gone end by themselves.
    shared.streams.close();
    shared.streams.wait().await;
    if drained.is_err() { left } else { 0 }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is a place for it.
async fn accept(socket: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection<S, F, B>(stream: TcpStream, peer: SocketAddr, service: S, shared: Arc<Shared>)
where
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let first = sleep(shared.limits.header_timeout);
    tokio::pin!(first);
    // Who was accepted in the last moment may have asked already.
    let stopped = async {
        shared.stop.cancelled().await;
        sleep(ENTER_GRACE).await;
    };
    let entered = tokio::select! {
        biased;
        entered = enter(stream, &shared) => entered,
        () = first.as_mut() => return over(peer, "a connection asked for nothing"),
        () = stopped => return,
    };
    // What few connections are must not make the tasks of all of them larger.
    match entered {
        Ok(Entered::Http1(io)) => http1(io, peer, service, &shared, first).await,
        Ok(Entered::Secure(io)) => Box::pin(http1(io, peer, service, &shared, first)).await,
        Ok(Entered::Http2(io)) => Box::pin(http2::serve(io, peer, service, &shared, first)).await,
        Err(error) => failed(peer, &error, "a connection could not begin"),
    }
}

/// Logs that a connection is over. Lints count what logging expands to, so that it is apart from
/// what decides.
fn over(peer: SocketAddr, why: &'static str) {
    tracing::debug!(%peer, "{why}");
}

/// Logs that a connection failed.
fn failed(peer: SocketAddr, error: &dyn fmt::Display, what: &'static str) {
    tracing::debug!(%peer, %error, "{what}");
}

/// Serves a connection of HTTP/1.1, whose first head has to be there when `first` is over.
async fn http1<I, S, F, B>(
    io: I,
    peer: SocketAddr,
    service: S,
    shared: &Shared,
    mut first: Pin<&mut Sleep>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let limits = &shared.limits;
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        service(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers_max)
        .max_header_size(limits.header_bytes_max)
        .half_close(false)
        .serve_connection(TokioIo::new(io), service);
    // Not looked at any more once there was a request.
    let overdue = poll_fn(|context| match asked.load(Ordering::Relaxed) {
        true => Poll::Pending,
        false => first.as_mut().poll(context),
    });
    tokio::pin!(connection, overdue);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = overdue.as_mut() => {
                return over(peer, "a first request did not come in time");
            }
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        failed(peer, &error, "a connection ended early");
    }
}
