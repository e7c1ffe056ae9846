//! The HTTP client: one pool of connections, whose errors tell whether the other side can have
//! seen the request. Whoever waits for an answer drives its connection, and a connection has no
//! buffers of its own: streams that wait for their next token cost next to nothing.

mod counts;
mod exchange;
mod framing;
mod head;
mod incoming;
mod pool;
mod socket;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tower::Service as _;

use counts::Counts;
use exchange::Answered;
pub use incoming::Incoming;
use pool::{Origin, Pool};

use crate::clock::Clock;
use crate::dial::Dialer;
use crate::dns::Resolver;
use crate::metrics::Metrics;

/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections kept for each host.
pub const IDLE_PER_HOST_MAX: usize = 512;

/// How long an idle connection is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A pooled client. Clones share the pool.
#[derive(Clone)]
pub struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    counts: Option<Arc<Counts>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("idle", &self.pool.len()).finish_non_exhaustive()
    }
}

/// Opens connections, for whoever keeps account of them itself.
#[derive(Clone, Debug)]
pub struct Connector(HttpsConnector<Dialer>);

/// An open connection, encrypted where the URL says so.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why no response came.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection was made, so the other side has seen nothing: trying elsewhere is safe.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The same, as nobody listens at the address: whoever did is gone.
    #[error("cannot connect: {0}")]
    Refused(String),
    /// The same, as both sides do not agree how to encrypt it, or the other is not trusted.
    #[error("cannot connect: {0}")]
    Tls(String),
    /// The connection broke before a response; the other side may have seen the request.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Client {
    /// A client for HTTP and, with the system's certificates (or those in `SSL_CERT_FILE`), HTTPS.
    ///
    /// # Errors
    /// The cryptography provider does not know its own protocol versions: never with the one
    /// that is built in.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self::with(Connector::new()?))
    }

    /// A client that trusts these certificates (PEM) and no others.
    ///
    /// # Errors
    /// There is no certificate in it, or one that cannot be read.
    pub fn trusting(pem: &[u8]) -> std::io::Result<Self> {
        Ok(Self::with(Connector::with_tls(tls(Some(pem))?)))
    }

    fn with(connector: Connector) -> Self {
        Self { connector, pool: Arc::new(Pool::new()), counts: None }
    }

    /// The same, with its connections counted there.
    pub fn counted(self, metrics: &Metrics) -> Self {
        Self { counts: Some(Arc::new(Counts::register(metrics))), ..self }
    }

    /// Opens a connection to that address.
    async fn open(&self, uri: &Uri) -> Result<Stream, ClientError> {
        let Some(counts) = &self.counts else { return self.connector.connect(uri).await };
        let clock = Clock::start();
        let opened = self.connector.connect(uri).await;
        counts.new.inc();
        counts.connect.observe(clock.now_nanos() as f64 / 1e9);
        opened
    }

    /// Sends a request and waits for the head of the response. Dropping the future or the
    /// response's body closes the connection, which tells the other side to stop.
    ///
    /// # Errors
    /// [`ClientError`]; the caller sets a limit on the time.
    pub async fn request(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (parts, body) = request.into_parts();
        let nowhere = || ClientError::Connect(format!("`{}` names no host", parts.uri.path()));
        let origin = Origin::of(&parts.uri).ok_or_else(nowhere)?;
        let kept = self.pool.take(&origin);
        let reused = kept.is_some();
        let mut socket = match kept {
            Some(socket) => {
                if let Some(counts) = &self.counts {
                    counts.reused.inc();
                }
                socket
            }
            None => Box::pin(self.open(&parts.uri)).await?.into(),
        };
        let head = head::write(&parts, body.len());
        let Answered { head, rest, unsent } = exchange::run(&mut socket, &parts.method, head, body)
            .await
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let home = head.reusable.then(|| (Arc::clone(&self.pool), origin));
        let body = |()| Incoming::new((head.framing, rest), socket, home, unsent).over(reused);
        Ok(head.response.map(body))
    }
}

impl Connector {
    /// One for HTTP and HTTPS, as [`Client::new`].
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new() -> std::io::Result<Self> {
        Ok(Self::with_tls(tls(None)?))
    }

    fn with_tls(tls: ClientConfig) -> Self {
        let dialer = Dialer::new(Resolver::system(), CONNECT_TIMEOUT);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialer);
        Self(https)
    }

    /// A connection to the host of that URL.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::Refused`] or [`ClientError::Tls`].
    pub async fn connect(&self, url: &Uri) -> Result<Stream, ClientError> {
        let mut connector = self.0.clone();
        let connected = async {
            std::future::poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(url.clone()).await
        };
        connected.await.map_err(|error| unconnected(error.as_ref()))
    }
}

/// How connections are encrypted: with trust in these certificates (PEM) alone, or in the system's.
///
/// # Errors
/// There is no certificate, or one that cannot be read, or the provider does not know its own protocol versions.
pub(crate) fn tls(trusted: Option<&[u8]>) -> std::io::Result<ClientConfig> {
    let roots = match trusted {
        None => roots(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(std::io::Error::other)?;
                roots.add(certificate).map_err(std::io::Error::other)?;
            }
            if roots.is_empty() {
                return Err(std::io::Error::other("it holds no certificate (PEM)"));
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// A certificate that cannot be read is left out: the connection that needs it says so.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read some of the trusted certificates");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn unconnected(error: &(dyn std::error::Error + 'static)) -> ClientError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::ConnectionRefused) {
            return ClientError::Refused(deepest(error));
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<rustls::Error>()) || error.is::<rustls::Error>() {
            return ClientError::Tls(deepest(error));
        }
        cause = error.source();
    }
    ClientError::Connect(deepest(error))
}

/// The innermost error is the one that tells people something.
pub(crate) fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
