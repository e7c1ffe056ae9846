//! The certificates of a listener: read from files, and again when these change, so that renewing one
//! interrupts nobody. What cannot be used leaves the one before in its place.

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

use crate::files::{self, Stamp};

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
}

/// A certificate and its key, as they are at the moment. Clones are the same ones.
#[derive(Clone)]
pub struct Certificates {
    files: Arc<Files>,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What they looked like before they were first read.
    seen: [Option<Stamp>; 2],
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.files.certificate).finish()
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
        Ok(Self { files: Arc::new(files), current })
    }

    /// Takes over what the files hold whenever they change, for ever. Both at once, and only what fits:
    /// who replaces one after the other is waited for.
    pub async fn follow(self) {
        let mut seen = self.files.seen;
        loop {
            sleep(LOOK).await;
            let now = look(&self.files.certificate, &self.files.key);
            if now != seen && self.renew() {
                seen = now;
            }
        }
    }

    /// Whether that is all until the files change again: what could not be read may be readable later.
    fn renew(&self) -> bool {
        match self.files.read() {
            Ok(fresh) => {
                *self.current.write() = fresh;
                tracing::info!(file = %self.files.certificate.display(), "took over a certificate");
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
        let config = Arc::clone(&self.current.read());
        TlsAcceptor::from(config).accept(io).await
    }
}

impl Files {
    fn read(&self) -> Result<Arc<ServerConfig>, CertificateError> {
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
        configure(chain, key).map_err(|error| CertificateError::Unusable {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason: error.to_string(),
        })
    }
}

fn look(certificate: &Path, key: &Path) -> [Option<Stamp>; 2] {
    [files::stamp(certificate), files::stamp(key)]
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(Arc::new(config))
}
