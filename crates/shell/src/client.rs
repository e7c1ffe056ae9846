//! The HTTP client: one pool of connections, whose errors tell whether the other side can have
//! seen the request.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tower::Service as _;

use crate::dns::Resolver;

/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections kept for each host.
pub const IDLE_PER_HOST_MAX: usize = 512;

/// How long an idle connection is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A pooled client. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

/// Opens connections, for whoever keeps account of them itself.
#[derive(Clone, Debug)]
pub struct Connector(HttpsConnector<HttpConnector<Resolver>>);

/// An open connection, encrypted where the URL says so.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why no response came.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection was made, so the other side has seen nothing: trying elsewhere is safe.
    #[error("cannot connect: {0}")]
    Connect(String),
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
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(std::io::Error::other)?;
            roots.add(certificate).map_err(std::io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(std::io::Error::other("it holds no certificate (PEM)"));
        }
        Ok(Self::with(Connector::with_roots(roots)?))
    }

    fn with(connector: Connector) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .build(connector.0);
        Self { inner }
    }

    /// Sends a request and waits for the head of the response. Dropping the future or the
    /// response's body closes the connection, which tells the other side to stop.
    ///
    /// # Errors
    /// [`ClientError`]; the caller sets a limit on the time.
    pub async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.inner.request(request).await.map_err(|error| {
            let cause = deepest(&error);
            if error.is_connect() {
                ClientError::Connect(cause)
            } else {
                ClientError::Broken(cause)
            }
        })
    }
}

impl Connector {
    /// One for HTTP and HTTPS, as [`Client::new`].
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new() -> std::io::Result<Self> {
        Self::with_roots(roots())
    }

    fn with_roots(roots: RootCertStore) -> std::io::Result<Self> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new_with_resolver(Resolver::system());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self(https))
    }

    /// A connection to the host of that URL.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn connect(&self, url: &Uri) -> Result<Stream, ClientError> {
        let mut connector = self.0.clone();
        let connected = async {
            std::future::poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(url.clone()).await
        };
        connected.await.map_err(|error| ClientError::Connect(deepest(error.as_ref())))
    }
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

/// The innermost error is the one that tells people something.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(port: u16) -> Request<Full<Bytes>> {
        Request::get(format!("http://127.0.0.1:{port}/")).body(Full::default()).unwrap()
    }

    #[test]
    fn certificates_are_there_or_said_to_be_missing() {
        let check = |pem: &str| {
            let error = Client::trusting(pem.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("no certificate"), "{error}");
        };
        check("");
        check("no certificate");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(Client::trusting(broken.as_bytes()).is_err());
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_broken_one() {
        let port = crate::port::free().unwrap();
        let error = Client::new().unwrap().request(get(port)).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(_)), "{error}");
    }

    #[tokio::test]
    async fn a_connection_closed_without_an_answer_is_broken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 64];
            tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
        };
        let client = Client::new().unwrap();
        let (answer, ()) = tokio::join!(client.request(get(port)), accept);
        assert!(matches!(answer.unwrap_err(), ClientError::Broken(_)));
    }
}
