//! Engines whose certificates are not to be trusted: refused, and the request answered elsewhere. The
//! certificates are of an authority made for these tests; one is good, the others are of the past, of
//! the future, and of another name.

use std::sync::Arc;

use pilotage_lab::engine::Engine;
use pilotage_lab::engine::fault::find;
use pilotage_shell::client::Client;
use pilotage_shell::tasks;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::answer::{Ask, Verdict};
use crate::rig::{Rig, bare, engine};

const GOOD: &str = include_str!("certificates/good.pem");
const AUTHORITY: &str = include_str!("certificates/ca.pem");
const KEY: &str = include_str!("certificates/key.pem");
const BAD: [(&str, &str); 3] = [
    ("certificate-expired", include_str!("certificates/expired.pem")),
    ("certificate-early", include_str!("certificates/early.pem")),
    ("certificate-of-another", include_str!("certificates/another.pem")),
];

/// What tells this test that it runs in the process that trusts the authority.
const TRUSTING: &str = "whom-to-trust-is-said";

/// Whom to trust is read from the environment once, so the test runs itself in a process of its own.
#[test]
fn certificates() {
    if std::env::args().any(|argument| argument == TRUSTING) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside());
    }
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/certificates/ca.pem");
    let inside = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::certificates", "--skip", TRUSTING])
        .env("SSL_CERT_FILE", authority)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout) + String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success() && said.contains("1 passed"), "{said}");
}

/// An endpoint's own `caFile` is all that it is trusted by.
#[tokio::test]
async fn the_authority_of_one_endpoint() {
    let own = || Some(Client::trusting(AUTHORITY.as_bytes()).unwrap());
    let (rig, _engines) = secured_for(own(), &[GOOD]).await;
    assert_eq!(verdicts(&rig).await, vec![Verdict::Complete; 6]);
    let nobodys = Client::trusting(BAD[0].1.as_bytes()).unwrap();
    for (client, certificate) in [(None, GOOD), (Some(nobodys), GOOD), (own(), BAD[0].1)] {
        let (rig, engines) = secured_for(client, &[certificate]).await;
        let verdicts = verdicts(&rig).await;
        let refused = |verdict: &Verdict| matches!(verdict, Verdict::Error(502 | 503));
        assert!(verdicts.iter().all(refused), "{verdicts:?}");
        assert_eq!(engines[0].stats().requests, 0);
    }
}

async fn inside() {
    let (rig, _engines) = secured(&[GOOD]).await;
    assert_eq!(verdicts(&rig).await, vec![Verdict::Complete; 6]);
    for (name, certificate) in BAD {
        assert!(find(name).is_some_and(|fault| fault.name == name));
        let (rig, engines) = secured(&[certificate, GOOD, GOOD]).await;
        assert_eq!(verdicts(&rig).await, vec![Verdict::Complete; 6], "{name}");
        assert_eq!(engines[0].stats().requests, 0, "{name} was trusted");
        let (rig, engines) = secured(&[certificate, certificate]).await;
        let verdicts = verdicts(&rig).await;
        assert!(
            verdicts.iter().all(|verdict| matches!(verdict, Verdict::Error(502 | 503))),
            "{name}: {verdicts:?}"
        );
        assert!(engines.iter().all(|engine| engine.stats().requests == 0), "{name} was trusted");
    }
}

/// A gateway with an engine for each certificate.
async fn secured(certificates: &[&'static str]) -> (Rig, Vec<Engine>) {
    secured_for(None, certificates).await
}

/// The same where the gateway has a client of their own for them.
async fn secured_for(client: Option<Client>, certificates: &[&'static str]) -> (Rig, Vec<Engine>) {
    let rig = Rig { gateway: bare(), engines: Vec::new() };
    let mut engines = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        let engine = engine().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        rig.up_through(index, &url, client.clone());
        let to = engine.addr();
        let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        drop(tasks::spawn("tls", async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                drop(tasks::spawn("tls connection", async move {
                    // A client that does not trust us leaves.
                    let Ok(mut inside) = acceptor.accept(socket).await else { return };
                    let mut outside = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                }));
            }
        }));
        engines.push(engine);
    }
    (rig, engines)
}

async fn verdicts(rig: &Rig) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for number in 0..6 {
        let ask = Ask { number };
        verdicts.push(ask.judge(&ask.send(rig.gateway.clone()).await));
    }
    verdicts
}
