//! The certificates of a listener: read from files, and again when these change, or handed in, so that
//! renewing one interrupts nobody. What cannot be used leaves the one before in its place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients::Clients;
use crate::certificate::{self, Validity};
use crate::files::{self, Stamp};
use crate::secret::Secret;

/// The protocols that clients may choose from, the one that is preferred first.
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Most bytes of a file: a long chain has some ten thousand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

/// Why a certificate cannot be used. Whoever wrote the files can put it right.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no certificate.
    #[error("{} holds no certificate; it has to be PEM, the server's own first, then those that lead to its authority", .0.display())]
    NoCertificate(PathBuf),
    /// There is no key.
    #[error("{} holds no private key; it has to be PEM, without a password", .0.display())]
    NoKey(PathBuf),
    /// They are there, and do not fit.
    #[error("the certificate in {certificate} cannot be used with the key in {key}: {reason}", certificate = certificate.display(), key = key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was handed in cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Given(String),
}

/// A certificate and its key, as they are at the moment. Clones are the same ones.
#[derive(Clone)]
pub struct Certificates {
    /// None where it was handed in.
    files: Option<Arc<Files>>,
    current: Arc<RwLock<Current>>,
}

#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of the whole chain: from the last begin until the first end.
    validity: Option<Validity>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What they looked like before they were first read.
    seen: [Option<Stamp>; 2],
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.files.as_ref().map(|files| &files.certificate);
        f.debug_tuple("Certificates").field(&path).finish()
    }
}

impl Certificates {
    /// Reads a certificate with its chain, and its key, both PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let seen = look(certificate, key);
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned(), seen };
        let current = Arc::new(RwLock::new(files.read()?));
        Ok(Self { files: Some(Arc::new(files)), current })
    }

    /// A certificate with its chain, and its key, both PEM, for clients that prove who they are.
    ///
    /// # Errors
    /// [`CertificateError::Given`].
    pub fn mutual(
        certificate: &str,
        key: &Secret,
        clients: &Clients,
    ) -> Result<Self, CertificateError> {
        let current = Arc::new(RwLock::new(given(certificate, key, clients)?));
        Ok(Self { files: None, current })
    }

    /// Another one, and other clients, from the next connection on.
    ///
    /// # Errors
    /// [`CertificateError::Given`], and the one before stays.
    pub fn replace(
        &self,
        certificate: &str,
        key: &Secret,
        clients: &Clients,
    ) -> Result<(), CertificateError> {
        *self.current.write() = given(certificate, key, clients)?;
        Ok(())
    }

    /// From when until when all that clients are shown is valid; none where that could not be read.
    pub fn validity(&self) -> Option<Validity> {
        self.current.read().validity
    }

    /// Takes over what the files hold whenever they change, for ever. Both at once, and only what fits:
    /// who replaces one after the other is waited for.
    /// What was handed in is left to who did.
    pub async fn follow(self) {
        let Some(files) = &self.files else { return std::future::pending().await };
        let mut seen = files.seen;
        loop {
            sleep(LOOK).await;
            let now = look(&files.certificate, &files.key);
            if now != seen && self.renew(files) {
                seen = now;
            }
        }
    }

    /// Whether that is all until the files change again: what could not be read may be readable later.
    fn renew(&self, files: &Files) -> bool {
        match files.read() {
            Ok(fresh) => {
                *self.current.write() = fresh;
                tracing::info!(file = %files.certificate.display(), "took over a certificate");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a new certificate cannot be used; the one before stays");
                !matches!(error, CertificateError::File { .. })
            }
        }
    }

    pub(super) async fn accept<I>(&self, io: I) -> io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current.read().config);
        TlsAcceptor::from(config).accept(io).await
    }
}

impl Files {
    fn read(&self) -> Result<Current, CertificateError> {
        let read = |path: &Path| {
            files::read_bounded(path, FILE_BYTES_MAX)
                .map_err(|source| CertificateError::File { path: path.to_owned(), source })
        };
        let (certificates, key) = (read(&self.certificate)?, read(&self.key)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain =
            chain.ok_or_else(|| CertificateError::NoCertificate(self.certificate.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| CertificateError::NoKey(self.key.clone()))?;
        let validity = validity(&chain);
        let config = configure(chain, key).map_err(|error| CertificateError::Unusable {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason: error.to_string(),
        })?;
        Ok(Current { config, validity })
    }
}

fn look(certificate: &Path, key: &Path) -> [Option<Stamp>; 2] {
    [files::stamp(certificate), files::stamp(key)]
}

fn given(certificate: &str, key: &Secret, clients: &Clients) -> Result<Current, CertificateError> {
    let wrong = |error: &dyn fmt::Display| CertificateError::Given(error.to_string());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    let key = key.map_err(|error| wrong(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = clients.verifier(Arc::clone(&provider)).map_err(|error| wrong(&error))?;
    let validity = validity(&chain);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&error))?;
    Ok(Current { config: agreed(config), validity })
}

fn validity(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let each = chain.iter().filter_map(|one| certificate::validity(one));
    each.reduce(|all, one| Validity {
        from: all.from.max(one.from),
        until: all.until.min(one.until),
    })
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(agreed(config))
}

fn agreed(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Arc::new(config)
}
