//! Clients that break HTTP, on the listener itself: what is ambiguous is refused and its connection
//! closed, what is slow is cut, what is large is bounded. Those that break HTTP/2 are in `floods` and `smuggling`.

use std::net::SocketAddr;
use std::time::Duration;

use pilotage_shell::serve::ServeLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{KEY, Rig, listen};

/// Like those of production, with little patience.
fn limits() -> ServeLimits {
    ServeLimits { header_timeout: Duration::from_secs(2), ..ServeLimits::default() }
}

/// A gateway with an engine, and where it listens.
async fn gateway() -> (Rig, SocketAddr) {
    let rig = Rig::new(1).await;
    let at = listen(&rig.gateway, limits()).await;
    (rig, at)
}

/// Everything that comes back for bytes, until the other side closes; and whether it does.
async fn send(at: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut socket = TcpStream::connect(at).await.unwrap();
    // The other side may close before it has read all.
    let _ = socket.write_all(bytes).await;
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let closed = loop {
        match tokio::time::timeout(Duration::from_secs(60), socket.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(read)) => all.extend_from_slice(&buffer[..read]),
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&all).into_owned(), closed)
}

/// The statuses of all answers in what came back.
fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

const CHAT: &str =
    r#"{"model":"public","max_tokens":2,"messages":[{"role":"user","content":"x"}]}"#;

/// A request with these headers besides those that any has.
fn request(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n{headers}\r\n{body}"
    )
}

/// A request that must never be taken for one of its own.
fn hidden() -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n")
}

/// The bytes get one answer with that status, and the connection is closed: what follows is nobody's
/// request.
async fn refused(bytes: &str, status: u16) {
    let (rig, at) = gateway().await;
    let (answers, closed) = send(at, bytes.as_bytes()).await;
    assert_eq!((statuses(&answers), closed), (vec![status], true), "{bytes:?} got {answers:?}");
    assert_eq!(rig.left().await, None);
    assert_eq!(rig.engines[0].as_ref().unwrap().stats().requests, 0, "an engine got {bytes:?}");
}

/// HTTP allows to read a request with a length and chunks by its chunks alone, if nothing else is read
/// from its connection.
#[tokio::test(start_paused = true)]
async fn of_two_ends_only_one_counts_and_nothing_comes_after_it() {
    let chunked = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n", CHAT.len());
    for headers in [
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
    ] {
        let (rig, at) = gateway().await;
        let (answers, closed) = send(at, (request(headers, &chunked) + &hidden()).as_bytes()).await;
        assert!(closed && matches!(statuses(&answers)[..], [200 | 400]), "{answers}");
        assert!(!answers.contains("\"object\":\"list\""), "{answers}");
        assert_eq!(rig.left().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_that_differ_are_refused() {
    let length = CHAT.len();
    let two = format!("content-length: {length}\r\ncontent-length: 5\r\n");
    refused(&(request(&two, CHAT) + &hidden()), 400).await;
    for wrong in ["-1", "+5", "0x10", "5, 6", "99999999999999999999", "1e3", ""] {
        refused(&request(&format!("content-length: {wrong}\r\n"), CHAT), 400).await;
    }
}

/// Whoever stands in front may have looked at the other one.
#[tokio::test(start_paused = true)]
async fn two_hosts_are_refused() {
    let headers = format!("host: b\r\ncontent-length: {}\r\n", CHAT.len());
    refused(&(request(&headers, CHAT) + &hidden()), 400).await;
}

#[tokio::test(start_paused = true)]
async fn encodings_that_nobody_knows_are_refused() {
    let chunked = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n", CHAT.len());
    for encoding in ["xchunked", "chunked, identity", "identity", "chunked\x0b", "\"chunked\""] {
        let headers = format!("transfer-encoding: {encoding}\r\n");
        refused(&(request(&headers, &chunked) + &hidden()), 400).await;
    }
    let twice = "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n";
    refused(&(request(twice, &chunked) + &hidden()), 400).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_client_cannot_send_chunks() {
    let chunked = format!("{:x}\r\n{CHAT}\r\n0\r\n\r\n", CHAT.len());
    let old = request("transfer-encoding: chunked\r\n", &chunked).replace("HTTP/1.1", "HTTP/1.0");
    refused(&(old + &hidden()), 400).await;
}

#[tokio::test(start_paused = true)]
async fn broken_chunks_are_refused() {
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}",
        "2\r\n{}xx0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "1_0\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
    ] {
        refused(&(request("transfer-encoding: chunked\r\n", chunks) + &hidden()), 400).await;
    }
}

#[tokio::test(start_paused = true)]
async fn folded_lines_and_spaces_before_colons_are_refused() {
    refused(&(request(" folded: yes\r\ncontent-length: 2\r\n", "{}") + &hidden()), 400).await;
    refused(&(request("x-a: b\r\n folded\r\ncontent-length: 2\r\n", "{}") + &hidden()), 400).await;
    refused(&(request("content-length : 2\r\n", "{}") + &hidden()), 400).await;
    refused(&(request("transfer-encoding : chunked\r\n", "0\r\n\r\n") + &hidden()), 400).await;
}

#[tokio::test(start_paused = true)]
async fn control_characters_in_headers_are_refused() {
    for wrong in [
        "x-a: b\0c\r\n",
        "x-a: b\x01c\r\n",
        "x\0a: b\r\n",
        "x a: b\r\n",
        "x-a\x7f: b\r\n",
        ": b\r\n",
        "x-a: b\rc\r\n",
    ] {
        refused(&(request(&format!("{wrong}content-length: 2\r\n"), "{}") + &hidden()), 400).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bare_line_feeds_hide_nothing() {
    // HTTP allows to take a line feed alone for a line's end; it must not end a head within a value.
    let (_rig, at) = gateway().await;
    let body = CHAT.replace('{', "{ ");
    let sneaky =
        request(&format!("x-a: b\ncontent-length: {}\r\ncontent-length: 3\r\n", body.len()), &body);
    let (answers, closed) = send(at, (sneaky + &hidden()).as_bytes()).await;
    assert_eq!((statuses(&answers), closed), (vec![400], true), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn the_first_line_has_one_form() {
    let headers = format!("host: a\r\nauthorization: Bearer {KEY}\r\n\r\n");
    for line in [
        "GET /v1/models HTTP/1.1 x",
        "GET /v1/models HTTP/9.9",
        "GET /v1/models HTTP/2.0",
        "GET /v1/models http/1.1",
        "GET /v1/models",
        "GET\t/v1/models\tHTTP/1.1",
        "GET /v1/mod\0els HTTP/1.1",
        "GET /v1/models\rx HTTP/1.1",
        "GET /v1/models x HTTP/1.1",
        "G\0T /v1/models HTTP/1.1",
        " GET /v1/models HTTP/1.1",
    ] {
        refused(&format!("{line}\r\n{headers}{}", hidden()), 400).await;
    }
}

/// Nobody reads the body of a request that is answered without it; it is a body all the same.
#[tokio::test(start_paused = true)]
async fn bodies_that_nobody_reads_are_no_requests() {
    let (rig, at) = gateway().await;
    let body = hidden();
    let length = body.len();
    let key = format!("authorization: Bearer {KEY}\r\n");
    for (line, key, expect) in [
        ("GET /v1/models", key.as_str(), 200),
        ("DELETE /v1/models", &key, 405),
        ("POST /nowhere", &key, 404),
        ("POST /v1/chat/completions", "", 401),
    ] {
        let chunked =
            format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
        for rest in [format!("content-length: {length}\r\n\r\n{body}"), chunked] {
            let request = format!("{line} HTTP/1.1\r\nhost: a\r\n{key}{rest}");
            let (answers, closed) = send(at, request.as_bytes()).await;
            assert_eq!((statuses(&answers), closed), (vec![expect], true), "{request}: {answers}");
        }
    }
    assert_eq!(rig.left().await, None);
}

#[tokio::test(start_paused = true)]
async fn chunk_extensions_carry_no_request() {
    let (rig, at) = gateway().await;
    let chunked = format!("{:x};ext=\"a\"\r\n{CHAT}\r\n0;x\r\n\r\n", CHAT.len());
    let (answers, _) = send(
        at,
        request("transfer-encoding: chunked\r\nconnection: close\r\n", &chunked).as_bytes(),
    )
    .await;
    assert_eq!(statuses(&answers), [200]);
    // A line feed inside of an extension is where parsers disagree.
    let hiding = format!("2;\nxx\r\n4c\r\n{}0\r\n\r\n", hidden());
    let (answers, closed) =
        send(at, request("transfer-encoding: chunked\r\n", &hiding).as_bytes()).await;
    assert!(closed && statuses(&answers).iter().all(|status| *status != 200), "{answers}");
    assert_eq!(rig.engines[0].as_ref().unwrap().stats().requests, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_upgraded() {
    let (_rig, at) = gateway().await;
    for upgrade in ["websocket", "h2c", "TLS/1.3"] {
        let headers = format!(
            "connection: upgrade, http2-settings, close\r\nupgrade: {upgrade}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\ncontent-length: {}\r\n",
            CHAT.len()
        );
        let (answers, _) = send(at, request(&headers, CHAT).as_bytes()).await;
        assert_eq!(statuses(&answers), [200], "{upgrade}: {answers}");
        assert!(!answers.to_ascii_lowercase().contains("upgrade:"), "{answers}");
    }
}

/// Neither in the middle of a connection of HTTP/1.1, nor by another of its versions.
#[tokio::test(start_paused = true)]
async fn http2_is_not_spoken_later() {
    let (rig, at) = gateway().await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let (answers, closed) = send(at, (hidden() + preface).as_bytes()).await;
    let statuses = statuses(&answers);
    assert!(
        closed && statuses[0] == 200 && statuses[1..].iter().all(|late| *late >= 400),
        "{answers}"
    );
    let (answers, closed) = send(at, b"PRI * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(closed && !answers.contains("HTTP/1.1 200"), "{answers}");
    assert_eq!(rig.left().await, None);
}

#[tokio::test(start_paused = true)]
async fn heads_have_a_size() {
    let many: String = (0..200).map(|number| format!("x-{number}: a\r\n")).collect();
    refused(&request(&many, ""), 431).await;
    let long = format!("x-long: {}\r\n", "a".repeat(100 << 10));
    refused(&request(&long, ""), 431).await;
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(100 << 10));
    let (_rig, at) = gateway().await;
    let (answers, closed) = send(at, target.as_bytes()).await;
    assert!(closed && matches!(statuses(&answers)[..], [414 | 431]), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn slow_heads_are_cut() {
    let (_rig, at) = gateway().await;
    let mut socket = TcpStream::connect(at).await.unwrap();
    let mut sent = 0;
    for byte in request("", "").bytes().cycle() {
        if socket.write_all(&[byte]).await.is_err() || sent > 100 {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sent <= 30, "{sent} bytes in 100 ms each");
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_are_cut() {
    let (rig, at) = gateway().await;
    let (answers, closed) =
        send(at, request("content-length: 1000\r\n", "{\"model\"").as_bytes()).await;
    assert_eq!((statuses(&answers), closed), (vec![408], true), "{answers}");
    assert_eq!(rig.left().await, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_in_the_middle_leaves_nothing_behind() {
    let (rig, at) = gateway().await;
    let bytes = request(&format!("content-length: {}\r\n", CHAT.len()), CHAT);
    for end in (1..bytes.len()).step_by(7).chain([bytes.len()]) {
        let mut socket = TcpStream::connect(at).await.unwrap();
        socket.write_all(&bytes.as_bytes()[..end]).await.unwrap();
    }
    assert_eq!(rig.left().await, None);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_and_deep_ones_are_refused() {
    let (rig, at) = gateway().await;
    let close = |length: usize| format!("connection: close\r\ncontent-length: {length}\r\n");
    let (answers, _) = send(at, request(&close(1 << 40), "{").as_bytes()).await;
    assert_eq!(statuses(&answers), [413], "{answers}");
    let arrays = ("[".repeat(100_000), "]".repeat(100_000));
    let objects = (r#"{"a":"#.repeat(50_000) + "1", "}".repeat(50_000));
    for (field, (open, end)) in [("messages", arrays), ("unknown", objects)] {
        let deep = format!(r#"{{"model":"public","{field}":{open}{end}}}"#);
        let (answers, _) = send(at, request(&close(deep.len()), &deep).as_bytes()).await;
        assert_eq!(statuses(&answers), [400], "{answers}");
        assert!(answers.contains("\"nested_too_deeply\""), "{answers}");
    }
    assert_eq!(rig.engines[0].as_ref().unwrap().stats().requests, 0);
    // Whatever became of those, it became of them alone.
    let (answers, _) = send(at, request(&close(CHAT.len()), CHAT).as_bytes()).await;
    assert_eq!(statuses(&answers), [200], "{answers}");
}

#[tokio::test(start_paused = true)]
async fn requests_in_one_write_are_answered_in_order() {
    let (_rig, at) = gateway().await;
    let one = request(&format!("content-length: {}\r\n", CHAT.len()), CHAT);
    let last = request(&format!("connection: close\r\ncontent-length: {}\r\n", CHAT.len()), CHAT);
    let (answers, closed) = send(at, (one.clone() + &hidden() + &one + &last).as_bytes()).await;
    assert_eq!((statuses(&answers), closed), (vec![200, 200, 200, 200], true), "{answers}");
    assert_eq!(answers.matches("\"object\":\"list\"").count(), 1);
}
