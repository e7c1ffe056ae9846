//! A listener with a certificate: clients choose their protocol, what is no TLS or stops in the middle
//! of it ends, and a certificate that changes is taken over or stays as it was.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilotage_shell::serve::{CertificateError, Certificates, Entrance};
use pilotage_shell::tasks;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{pause, resume, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frames::{CHAT, PREFACE, Served, limits};
use crate::multiplexed::{chat, client};
use crate::rig::{KEY, Rig, pass};

const AUTHORITY: &str = include_str!("certificates/ca.pem");
const GOOD: &str = include_str!("certificates/good.pem");
const ANOTHER: &str = include_str!("certificates/another.pem");
const ITS_KEY: &str = include_str!("certificates/key.pem");
const OTHER_KEY: &str = include_str!("certificates/other-key.pem");

/// Files that a listener's certificate is read from.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("tls.crt", GOOD);
        files.write("tls.key", ITS_KEY);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self) -> Result<Certificates, CertificateError> {
        Certificates::read(&self.path("tls.crt"), &self.path("tls.key"))
    }
}

async fn served(files: &Files) -> Served {
    let certificates = files.read().unwrap();
    drop(tasks::spawn("certificates", certificates.clone().follow()));
    let entrance = |socket| Entrance::encrypted(socket, certificates);
    Served::of(Rig::new(1).await, limits(), entrance).await
}

/// A connection to a server of that name, over which one of these protocols is spoken.
pub(crate) async fn connect(
    at: SocketAddr,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let socket = TcpStream::connect(at).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

#[tokio::test]
async fn clients_choose_the_protocol() {
    let files = Files::new();
    let served = served(&files).await;
    let check = async |offered: &[&str], expect: Option<&str>| {
        let io = connect(served.at, "localhost", offered).await.unwrap();
        let chosen =
            io.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(chosen.as_deref(), expect, "of {offered:?}");
        io
    };
    for offered in [&["h2", "http/1.1"][..], &["http/1.1", "h2"], &["h2"]] {
        let mut client = client(check(offered, Some("h2")).await).await;
        let response = client.send_request(chat(true, 8)).await.unwrap();
        assert_eq!(response.status(), 200);
        let all = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert!(all.ends_with(b"data: [DONE]\n\n"));
    }
    let length = CHAT.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n{CHAT}"
    );
    for (offered, expect) in [(&["http/1.1"][..], Some("http/1.1")), (&[], None)] {
        let mut io = check(offered, expect).await;
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(connect(served.at, "localhost", &["h3"]).await.is_err(), "there is none of these");
    pause();
    assert_eq!(served.rig.left().await, None);
    assert_eq!(served.ended().await, 0);
}

/// Everything that comes back for bytes until the other side closes.
async fn send(served: &Served, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(served.at).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(60), socket.read_to_end(&mut all)).await;
    assert!(read.is_ok(), "it was not closed");
    all
}

#[tokio::test(start_paused = true)]
async fn what_is_no_tls_or_stops_ends() {
    // The beginning of a client's first message, and a record of nothing that there is.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 32]].concat();
    let request = format!("GET /v1/models HTTP/1.1\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let wrong: [&[u8]; 7] = [
        b"",
        b"\x16",
        &hello,
        request.as_bytes(),
        PREFACE,
        &[0xff; 4096],
        &[0x16, 3, 1, 0xff, 0xff],
    ];
    let files = Files::new();
    for bytes in wrong {
        let served = served(&files).await;
        let answer = send(&served, bytes).await;
        assert!(!answer.starts_with(b"HTTP"), "{bytes:?} got {answer:?}");
        assert_eq!(served.ended().await, 0, "{bytes:?}");
    }
    // And the other way round.
    let plain = Served::new().await;
    let answer = send(&plain, &hello).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    plain.leaves_nothing().await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_taken_over() {
    let files = Files::new();
    let served = served(&files).await;
    let shows = async |name: &str| connect(served.at, name, &["h2"]).await.is_ok();
    let look = async || {
        pause();
        pass(Duration::from_secs(3)).await;
        resume();
    };
    let begun = client(connect(served.at, "localhost", &["h2"]).await.unwrap()).await;
    assert_eq!((shows("localhost").await, shows("other.invalid").await), (true, false));
    // One that cannot be used changes nothing, whatever is wrong with it.
    for (name, content) in
        [("tls.crt", "no certificate"), ("tls.crt", GOOD), ("tls.key", OTHER_KEY), ("tls.key", "")]
    {
        files.write(name, content);
        look().await;
        assert_eq!((shows("localhost").await, shows("other.invalid").await), (true, false));
    }
    fs::remove_file(files.path("tls.crt")).unwrap();
    look().await;
    assert!(shows("localhost").await);
    // Replaced one after the other.
    files.write("tls.crt", ANOTHER);
    look().await;
    assert!(shows("localhost").await, "its key is not there yet");
    files.write("tls.key", ITS_KEY);
    look().await;
    assert_eq!((shows("localhost").await, shows("other.invalid").await), (false, true));
    drop(begun);
}

/// A connection that is open keeps what it began with.
#[tokio::test]
async fn a_change_interrupts_nobody() {
    let files = Files::new();
    let served = served(&files).await;
    let mut client = client(connect(served.at, "localhost", &["h2"]).await.unwrap()).await;
    assert_eq!(client.send_request(chat(false, 1)).await.unwrap().status(), 200);
    files.write("tls.crt", ANOTHER);
    // Within the time that a connection may idle, and after a look.
    pause();
    let asked = client.send_request(chat(true, 400));
    pass(Duration::from_millis(2100)).await;
    resume();
    assert_eq!(asked.await.unwrap().status(), 200);
    assert!(connect(served.at, "other.invalid", &["h2"]).await.is_ok());
}

#[test]
fn what_is_wrong_with_files_is_said() {
    let check = |certificate: Option<&str>, key: &str, expect: &str| {
        let files = Files::new();
        match certificate {
            Some(content) => files.write("tls.crt", content),
            None => fs::remove_file(files.path("tls.crt")).unwrap(),
        }
        files.write("tls.key", key);
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    };
    check(None, ITS_KEY, "cannot read");
    check(Some(""), ITS_KEY, "tls.crt holds no certificate");
    check(Some(ITS_KEY), ITS_KEY, "tls.crt holds no certificate");
    check(Some(GOOD), "", "tls.key holds no private key");
    check(Some(GOOD), GOOD, "tls.key holds no private key");
    check(Some(GOOD), OTHER_KEY, "cannot be used with the key");
    check(Some(&"x".repeat(2 << 20)), ITS_KEY, "more than");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check(Some(broken), ITS_KEY, "cannot be used");
}
