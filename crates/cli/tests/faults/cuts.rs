//! A stream comes to its client as it left the engine, wherever the network cut it.

use std::time::Duration;

use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt as _;
use pilotage_shell::tasks;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::rig::{KEY, Rig, bare, pass, paused};

/// Text of two, three and four bytes, all line ends, comments, and events of several lines.
const STREAM: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
    : ping\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"é€🎈\"}}]}\r\n\r\n\
    id: 7\ndata: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"a\\nb\"}}]}\n\n\
    data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"\"},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":3,\"total_tokens\":4}}\n\n\
    data: [DONE]\n\n";

/// An engine that sends the stream to everybody, one write after the other, each a chunk.
async fn serve(listener: TcpListener, pieces: Vec<Vec<u8>>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut more = [0; 4096];
            let read = socket.read(&mut more).await.unwrap();
            request.extend_from_slice(&more[..read]);
        }
        socket.set_nodelay(true).unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        for piece in &pieces {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            socket.write_all(&chunk).await.unwrap();
            // With time standing still, nothing else is left to do: the gateway has read this piece.
            pass(Duration::from_millis(1)).await;
        }
        socket.write_all(b"0\r\n\r\n").await.unwrap();
    }
}

/// What a client gets of the stream cut at these places.
fn relayed(cuts: &[usize]) -> String {
    paused().block_on(async {
        let mut pieces = Vec::new();
        let mut from = 0;
        for at in cuts.iter().copied().chain([STREAM.len()]).filter(|at| *at > 0) {
            if at > from {
                pieces.push(STREAM.as_bytes()[from..at].to_vec());
                from = at;
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(tasks::spawn("engine", serve(listener, pieces)));
        let rig = Rig { gateway: bare(), engines: Vec::new() };
        rig.up(0, &url);
        let body = r#"{"model":"public","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
        let request = Request::post("/v1/chat/completions")
            .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
            .body(Body::from(body))
            .unwrap();
        let response = rig.gateway.router().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    })
}

/// The bytes are those of the engine, except that what it says of a stream's line ends may be cut off
/// after its last event.
fn check(cuts: &[usize]) {
    assert_eq!(relayed(cuts), STREAM, "cut at {cuts:?}");
}

#[test]
fn cut_at_each_byte() {
    for at in 1..STREAM.len() {
        check(&[at]);
    }
}

#[test]
fn cut_at_all_bytes() {
    check(&(1..STREAM.len()).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn cut_anywhere(cuts in prop::collection::btree_set(1..STREAM.len(), 0..40)) {
        check(&cuts.into_iter().collect::<Vec<_>>());
    }
}
