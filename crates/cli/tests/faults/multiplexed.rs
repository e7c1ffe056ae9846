//! Ordinary clients of HTTP/2, as a proxy in front of the gateway is one: many requests over a
//! connection, streams among them, one that is given up, and an end without losses. In real time,
//! which stands still only where nothing is on its way.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilotage_shell::serve::ServeLimits;
use pilotage_shell::tasks;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{pause, resume};

use crate::frames::{Served, limits};
use crate::rig::{AT_ONCE, KEY, pass};

/// What sends requests over one connection.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// A client's side of a connection.
pub(crate) async fn client(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Sender {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    drop(tasks::spawn("client", connection));
    sender
}

/// A chat, whose answer is `words` long and may be a stream.
pub(crate) fn chat(stream: bool, words: usize) -> Request<Full<Bytes>> {
    let body = format!(
        r#"{{"model":"public","max_tokens":{words},"stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#
    );
    Request::post("http://gateway/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Full::new(body.into()))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Waits until that is so.
async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

async fn served() -> (Served, Sender) {
    let served =
        Served::with(ServeLimits { header_timeout: Duration::from_secs(20), ..limits() }).await;
    let client = client(TcpStream::connect(served.at).await.unwrap()).await;
    (served, client)
}

#[tokio::test]
async fn a_stream_and_many_requests_over_one_connection() {
    let (served, mut client) = served().await;
    let response = client.send_request(chat(true, 12)).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    for gone in ["connection", "transfer-encoding", "keep-alive", "upgrade", "te"] {
        assert!(!response.headers().contains_key(gone), "{gone}");
    }
    assert!(text(response).await.ends_with("data: [DONE]\n\n"));
    let mut sent = 0;
    while sent < 64 {
        let together = AT_ONCE.min(64 - sent);
        let answers: Vec<_> =
            (0..together).map(|_| client.send_request(chat(sent % 3 == 0, 8))).collect();
        for answer in answers {
            let response = answer.await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(!text(response).await.is_empty());
        }
        sent += together;
    }
    assert_eq!(served.requests(), 65);
    drop(client);
    pause();
    served.leaves_nothing().await;
}

/// Answers that close a connection of HTTP/1.1 leave this one open, and say nothing of it.
#[tokio::test]
async fn errors_are_those_of_one_request() {
    let (served, mut client) = served().await;
    let mut large = chat(false, 1);
    *large.body_mut() = Full::new(vec![b' '; 2 << 20].into());
    let response = client.send_request(large).await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(!response.headers().contains_key("connection"));
    for (request, status) in [
        (Request::get("http://gateway/nothing"), 404),
        (Request::get("http://gateway/v1/chat/completions"), 405),
        (Request::post("http://gateway/v1/chat/completions"), 401),
        (Request::get("http://gateway/health/ready"), 200),
    ] {
        let request = request.body(Full::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), status);
    }
    assert_eq!(client.send_request(chat(false, 1)).await.unwrap().status(), 200);
    drop(client);
    pause();
    served.leaves_nothing().await;
}

#[tokio::test]
async fn who_gives_up_an_answer_cancels_it_for_the_engine() {
    let (served, mut client) = served().await;
    let kept = client.send_request(chat(true, 400)).await.unwrap().into_body();
    let mut given_up = client.send_request(chat(true, 400)).await.unwrap().into_body();
    given_up.frame().await.unwrap().unwrap();
    drop(given_up);
    // Another is given up before its head, once an engine has it.
    let before = served.requests();
    tokio::select! {
        early = client.send_request(chat(false, 400)) => unreachable!("{early:?}"),
        () = until(|| served.requests() > before) => {}
    }
    until(|| served.active() == 1).await;
    let stats = served.rig.engines[0].as_ref().unwrap().stats();
    assert_eq!((stats.finished, stats.aborted), (0, 2), "they were cancelled, not waited for");
    let all = kept.collect().await.unwrap().to_bytes();
    assert!(all.ends_with(b"data: [DONE]\n\n"), "the other went on");
    drop(client);
    pause();
    served.leaves_nothing().await;
}

#[tokio::test]
async fn a_listener_that_stops_finishes_what_it_has() {
    let (served, mut client) = served().await;
    let body = client.send_request(chat(true, 12)).await.unwrap().into_body();
    served.stop();
    let all = body.collect().await.unwrap().to_bytes();
    assert!(all.ends_with(b"data: [DONE]\n\n"));
    client.ready().await.unwrap_err();
    assert_eq!(served.ended().await, 0);
}

/// What is not finished in time is cut, and its streams with it.
#[tokio::test]
async fn a_drain_that_is_over_cuts() {
    let drain_timeout = Duration::from_millis(20);
    let served = Served::with(ServeLimits { drain_timeout, ..limits() }).await;
    let mut client = client(TcpStream::connect(served.at).await.unwrap()).await;
    let body = client.send_request(chat(true, 4000)).await.unwrap().into_body();
    served.stop();
    assert!(body.collect().await.is_err());
    pause();
    assert_eq!(served.rig.left().await, None);
    assert_eq!(served.ended().await, 1);
}

/// A connection that idles is said goodbye to; one with a request is not.
#[tokio::test]
async fn idle_connections_end() {
    let (served, mut client) = served().await;
    assert_eq!(client.send_request(chat(false, 1)).await.unwrap().status(), 200);
    let idle = async |seconds| {
        pause();
        pass(Duration::from_secs(seconds)).await;
        resume();
    };
    idle(19).await;
    assert_eq!(client.send_request(chat(false, 1)).await.unwrap().status(), 200);
    idle(21).await;
    until(|| client.is_closed()).await;
    pause();
    served.leaves_nothing().await;
}
