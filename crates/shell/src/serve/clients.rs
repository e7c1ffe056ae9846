//! Clients that prove who they are by a certificate: of which authorities, and of which names.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as Refused, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::certificate::common_name;

/// Who may connect: nobody without a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Clients {
    /// The authorities whose certificates count, PEM.
    pub authorities: String,
    /// The common names that count; all that the authorities signed where there are none.
    pub names: Vec<String>,
}

impl Clients {
    /// What checks them.
    pub(super) fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authorities.as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(Named { inner, names: self.names.clone() }))
    }
}

/// Those that the authorities signed, of those names.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let name = common_name(end_entity);
        let is_known = name.is_some_and(|name| self.names.contains(&name));
        if is_known || self.names.is_empty() {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(Refused::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, crypto};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::super::Certificates;
    use super::*;
    use crate::certificate::{Certificate, Purpose, Validity};
    use crate::clock::Clock;

    fn validity() -> Validity {
        let now = Clock::start().unix_ms() / 1000;
        Validity { from: now - 60, until: now + 3600 }
    }

    fn authority(name: &str) -> Certificate {
        Certificate::authority(name, validity()).unwrap()
    }

    /// Whether a client with that certificate gets an answer from a server of that authority.
    async fn connect(
        server: &Certificates,
        of: &Certificate,
        client: Option<&Certificate>,
    ) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(of.certificate.as_bytes()).unwrap()).unwrap();
        let config =
            ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(client) => {
                let chain = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(client.key.expose().as_bytes()).unwrap();
                config.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("metrics.example").unwrap();
        let asks = async {
            let mut io = TlsConnector::from(Arc::new(config)).connect(name, near).await.ok()?;
            let mut answer = [0];
            io.read_exact(&mut answer).await.ok().map(|_| answer[0])
        };
        let answers = async {
            if let Ok(mut io) = server.accept(far).await {
                let _ = io.write_all(b"y").await;
                let _ = io.flush().await;
            }
        };
        tokio::join!(asks, answers).0 == Some(b'y')
    }

    #[tokio::test]
    async fn only_who_is_named_may_connect() {
        let (ours, theirs, others) = (authority("ours"), authority("theirs"), authority("theirs"));
        let names = Purpose::Server(&["metrics.example"]);
        let server = ours.issue("metrics", names, validity()).unwrap();
        let client =
            |by: &Certificate, name: &str| by.issue(name, Purpose::Client, validity()).unwrap();
        let mut clients = Clients {
            authorities: theirs.certificate.clone(),
            names: vec!["aggregator".to_owned()],
        };
        let listener = Certificates::mutual(&server.certificate, &server.key, &clients).unwrap();
        let aggregator = client(&theirs, "aggregator");
        assert!(connect(&listener, &ours, Some(&aggregator)).await);
        assert!(!connect(&listener, &ours, Some(&client(&theirs, "someone"))).await);
        assert!(!connect(&listener, &ours, Some(&client(&others, "aggregator"))).await);
        assert!(!connect(&listener, &ours, Some(&client(&ours, "aggregator"))).await);
        assert!(!connect(&listener, &ours, None).await);
        // A server's certificate proves nobody a client.
        let wrong =
            theirs.issue("aggregator", Purpose::Server(&["a.example"]), validity()).unwrap();
        assert!(!connect(&listener, &ours, Some(&wrong)).await);
        clients.names.clear();
        listener.replace(&server.certificate, &server.key, &clients).unwrap();
        assert!(connect(&listener, &ours, Some(&client(&theirs, "someone"))).await);
        let none = Clients { authorities: String::new(), names: Vec::new() };
        assert!(Certificates::mutual(&server.certificate, &server.key, &none).is_err());
    }
}
