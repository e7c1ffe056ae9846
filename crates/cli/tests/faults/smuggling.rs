//! Requests of HTTP/2 that mean something else once they are told on in HTTP/1.1: refused, and never
//! seen by an engine as anything but the one request that they are.

use crate::frames::*;
use crate::rig::KEY;

type Head = Vec<(Vec<u8>, Vec<u8>)>;

/// The head of an ordinary request with a body of that length.
fn usual(length: usize) -> Head {
    let bytes = |(name, value): (String, String)| (name.into_bytes(), value.into_bytes());
    head(Some(length)).into_iter().map(bytes).collect()
}

/// A request that must never be taken for one of its own.
fn hidden() -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n")
}

fn with(mut head: Head, name: &str, value: &[u8]) -> Head {
    head.push((name.into(), value.to_vec()));
    head
}

/// The same with another value under that name.
fn changed(mut head: Head, name: &str, value: &[u8]) -> Head {
    for (_, old) in head.iter_mut().filter(|(its, _)| its == name.as_bytes()) {
        *old = value.to_vec();
    }
    head
}

fn without(mut head: Head, name: &str) -> Head {
    head.retain(|(its, _)| its != name.as_bytes());
    head
}

/// What becomes of a request.
#[derive(Debug, Eq, PartialEq)]
enum Fate {
    Status(u16),
    Reset(u32),
    Goaway(u32),
    Nothing,
}

/// Sends the frames of stream 1, then an ordinary request: what became of the first, when the second
/// got its own answer or the connection is gone. An engine saw as many requests as were answered.
async fn fate(served: &Served, frames: &[u8]) -> Fate {
    let before = served.requests();
    let mut wire = Wire::open(served.at).await;
    wire.send(frames).await;
    let heard = wire.hear_of(1).await;
    let fate = match (heard.resets.get(&1), heard.statuses.get(&1), heard.goaway) {
        (Some(reason), ..) => Fate::Reset(*reason),
        (_, Some(status), _) => Fate::Status(*status),
        (_, _, Some(reason)) => Fate::Goaway(reason),
        _ => Fate::Nothing,
    };
    let mut answered = u64::from(fate == Fate::Status(200));
    if heard.goaway.is_none() {
        wire.send(&request(3, CHAT)).await;
        let heard = wire.hear_of(3).await;
        assert_eq!(heard.statuses.get(&3), Some(&200), "after {fate:?}: {heard:?}");
        let body = String::from_utf8_lossy(&heard.bodies[&3]);
        assert!(body.contains("\"chat.completion\""), "{body}");
        answered += 1;
    }
    let stats = served.rig.engines[0].as_ref().unwrap().stats();
    assert_eq!((stats.requests - before, stats.not_http), (answered, 0), "after {fate:?}");
    fate
}

/// The head with a whole body is refused as one that breaks the protocol, or with status 400.
async fn refused(served: &Served, head: Head) {
    let frames = [frame(HEADERS, WHOLE, 1, &block(&head)), frame(DATA, END, 1, CHAT.as_bytes())];
    let fate = fate(served, &frames.concat()).await;
    let text = String::from_utf8_lossy(&block(&head)).into_owned();
    let refused = [Fate::Reset(PROTOCOL_ERROR), Fate::Status(400), Fate::Goaway(PROTOCOL_ERROR)];
    assert!(refused.contains(&fate), "{text:?} got {fate:?}");
}

fn usual_chat() -> Head {
    usual(CHAT.len())
}

#[tokio::test(start_paused = true)]
async fn ordinary_requests_are_answered() {
    let served = Served::new().await;
    assert_eq!(fate(&served, &request(1, CHAT)).await, Fate::Status(200));
    // Neither a length nor a host is needed, and these are allowed.
    for head in [
        without(usual_chat(), "content-length"),
        without(usual_chat(), ":authority"),
        with(without(usual_chat(), ":authority"), "host", b"a"),
        with(usual_chat(), "host", b"A"),
        with(usual_chat(), "te", b"trailers"),
        changed(usual_chat(), ":scheme", b"https"),
    ] {
        let frames =
            [frame(HEADERS, WHOLE, 1, &block(&head)), frame(DATA, END, 1, CHAT.as_bytes())];
        assert_eq!(fate(&served, &frames.concat()).await, Fate::Status(200), "{head:?}");
    }
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn lengths_are_those_of_the_data() {
    let served = Served::new().await;
    let body = CHAT.to_owned() + &hidden();
    for length in [CHAT.len(), CHAT.len() - 1, 0, body.len() + 1] {
        let head = frame(HEADERS, WHOLE, 1, &block(&usual(length)));
        let got = fate(&served, &[head, frame(DATA, END, 1, body.as_bytes())].concat()).await;
        assert_eq!(got, Fate::Reset(PROTOCOL_ERROR), "{length}");
    }
    // Over several frames, and with padding, which does not count.
    let head = frame(HEADERS, WHOLE, 1, &block(&usual_chat()));
    let first = frame(DATA, 0, 1, CHAT.as_bytes());
    let got = fate(&served, &[&head[..], &first, &frame(DATA, END, 1, b"x")].concat()).await;
    assert_eq!(got, Fate::Reset(PROTOCOL_ERROR));
    let padded = [&[7][..], CHAT.as_bytes(), &[0; 7]].concat();
    let got = fate(&served, &[&head[..], &frame(DATA, END | 8, 1, &padded)].concat()).await;
    assert_eq!(got, Fate::Status(200));
    // A head that says it is all.
    let got = fate(&served, &frame(HEADERS, WHOLE | END, 1, &block(&usual(5)))).await;
    assert!(matches!(got, Fate::Reset(PROTOCOL_ERROR) | Fate::Status(400)), "{got:?}");
    for wrong in ["-1", "+5", "0x10", "5, 6", "99999999999999999999", "1e3", "", " 5"] {
        refused(&served, changed(usual_chat(), "content-length", wrong.as_bytes())).await;
    }
    refused(&served, with(usual_chat(), "content-length", b"3")).await;
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn headers_of_connections_are_refused() {
    let served = Served::new().await;
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "close"),
        ("connection", "keep-alive, x-a"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, chunked"),
    ] {
        refused(&served, with(usual_chat(), name, value.as_bytes())).await;
    }
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn lines_do_not_end_within_names_and_values() {
    let served = Served::new().await;
    let inside =
        ["a\r\nx-b: c", "a\nx-b: c", "a\rb", "a\0b", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "a\x7f"];
    for value in inside {
        for name in ["x-a", "content-type", "x-request-id", "traceparent", "authorization"] {
            refused(&served, with(usual_chat(), name, value.as_bytes())).await;
        }
    }
    for name in
        ["x-a\r\nx-b", "x-a\n", "x\0a", "x a", "x-a:", "X-A", "Transfer-Encoding", "x-\u{e4}", ""]
    {
        refused(&served, with(usual_chat(), name, b"a")).await;
    }
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_request_is_stands_first_and_once() {
    let served = Served::new().await;
    for name in [":method", ":scheme", ":path", ":authority"] {
        let mut late = without(usual_chat(), name);
        let own = usual_chat().into_iter().find(|(its, _)| its == name.as_bytes()).unwrap();
        late.push(own.clone());
        refused(&served, late).await;
        let mut twice = usual_chat();
        twice.insert(0, own);
        refused(&served, twice).await;
        if name != ":authority" {
            refused(&served, without(usual_chat(), name)).await;
        }
    }
    for (name, value) in [(":status", "200"), (":unknown", "a"), (":protocol", "websocket")] {
        let mut head = usual_chat();
        head.insert(0, (name.into(), value.into()));
        refused(&served, head).await;
    }
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn paths_are_paths() {
    let served = Served::new().await;
    for path in [
        "",
        "/v1/chat/completions HTTP/1.1\r\nx-a: b",
        "/v1/chat/completions x",
        "/v1/chat/completions\r\n",
        "/v1/chat\0/completions",
        "http://[/",
    ] {
        refused(&served, changed(usual_chat(), ":path", path.as_bytes())).await;
    }
    // These are paths, to nothing that there is.
    for path in [
        "*",
        "//v1/chat/completions",
        "http://b/v1/chat/completions",
        "v1/chat/completions",
        "/v1/../v1/chat/completions",
        "/v1%2fchat/completions",
    ] {
        let head = changed(usual_chat(), ":path", path.as_bytes());
        let frames =
            [frame(HEADERS, WHOLE, 1, &block(&head)), frame(DATA, END, 1, CHAT.as_bytes())];
        let got = fate(&served, &frames.concat()).await;
        let refused = [Fate::Status(404), Fate::Status(400), Fate::Reset(PROTOCOL_ERROR)];
        assert!(refused.contains(&got), "{path:?} got {got:?}");
    }
    for method in ["", "PO ST", "GET / HTTP/1.1\r\n", "POST\r\n"] {
        refused(&served, changed(usual_chat(), ":method", method.as_bytes())).await;
    }
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_not_opened() {
    let served = Served::new().await;
    let key = format!("Bearer {KEY}");
    let connect = [(":method", "CONNECT"), (":authority", "b:80"), ("authorization", key.as_str())];
    let frames =
        [frame(HEADERS, WHOLE, 1, &block(&connect)), frame(DATA, END, 1, hidden().as_bytes())];
    let got = fate(&served, &frames.concat()).await;
    assert!(matches!(got, Fate::Status(400..=499) | Fate::Reset(_)), "{got:?}");
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_names_one_host() {
    let served = Served::new().await;
    refused(&served, with(usual_chat(), "host", b"b")).await;
    refused(&served, with(with(without(usual_chat(), ":authority"), "host", b"a"), "host", b"b"))
        .await;
    for authority in ["user@a", "a b", "a\r\nx-b: c", "a/b", "[::1"] {
        refused(&served, changed(usual_chat(), ":authority", authority.as_bytes())).await;
    }
    served.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn trailers_change_nothing() {
    let served = Served::new().await;
    let body =
        [frame(HEADERS, WHOLE, 1, &block(&usual_chat())), frame(DATA, 0, 1, CHAT.as_bytes())]
            .concat();
    let trailers = |name: &str, value: &str| {
        let end = frame(HEADERS, WHOLE | END, 1, &block(&[(name, value)]));
        [&body[..], &end].concat()
    };
    for (name, value) in [("content-length", "3"), ("authorization", "Bearer x"), ("x-a", "b")] {
        assert_eq!(fate(&served, &trailers(name, value)).await, Fate::Status(200), "{name}");
    }
    // A library may overlook it, as long as nobody takes it for the path.
    let got = fate(&served, &trailers(":path", "/nowhere")).await;
    assert!(matches!(got, Fate::Reset(PROTOCOL_ERROR) | Fate::Status(200)), "{got:?}");
    for (name, value) in [("transfer-encoding", "chunked"), ("x-a", "b\r\nc")] {
        let got = fate(&served, &trailers(name, value)).await;
        let refused =
            [Fate::Reset(PROTOCOL_ERROR), Fate::Goaway(PROTOCOL_ERROR), Fate::Status(400)];
        assert!(refused.contains(&got), "{name}: {got:?}");
    }
    served.leaves_nothing().await;
}
