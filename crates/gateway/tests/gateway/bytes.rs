//! What is passed on is what the engine sent, byte for byte, however the network cut it.

use crate::support::{answer, chat, config, engine, gateway, send, text, until_idle};
use axum::body::Bytes;

const STREAM: &str = r#"{"model":"public","stream":true}"#;
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}";

/// What the client gets of this stream, cut into pieces of `size` bytes.
async fn passed(stream: &str, size: usize) -> String {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    for piece in stream.as_bytes().chunks(size) {
        feed.send(Ok(Bytes::copy_from_slice(piece))).unwrap();
    }
    let passed = text(send(&gateway, chat(STREAM)).await).await;
    until_idle(&gateway).await;
    passed
}

#[tokio::test]
async fn streams_keep_their_line_ends_comments_and_names() {
    let hi = r#"{"choices":[{"index":0,"delta":{"content":"Hé 🚢"}}]}"#;
    let split = "{\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"x\"}}]}";
    for end in ["\n", "\r\n", "\r"] {
        let before = format!(
            ": begin\n\nevent: message\nid: 7\ndata:{hi}\n\n: keep-alive\n\nretry: 5\ndata: {split}\n\n"
        );
        let (before, after) = (before.replace('\n', end), "data: [DONE]\n\n".replace('\n', end));
        let usage = format!("{USAGE}\n\n").replace('\n', end);
        for size in [1, 2, 3, 7, 64, 10_000] {
            let passed = passed(&[&before[..], &usage, &after].concat(), size).await;
            // A stream is over at the carriage return of its last line end; a line feed that the
            // network cut off from it is not waited for.
            let expect = [&before[..], &after].concat();
            let same =
                passed == expect || format!("{passed}\n") == expect && passed.ends_with('\r');
            assert!(same, "{end:?} in pieces of {size}: {passed:?}");
        }
    }
}

#[tokio::test]
async fn an_error_without_a_shape_gets_one() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    engine.plain(422, "text/plain; charset=utf-8", "no such voice");
    let response = send(&gateway, chat(r#"{"model":"public"}"#)).await;
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/json");
    let told = r#"{"error":{"message":"no such voice","type":"invalid_request_error","param":null,"code":null}}"#;
    assert_eq!(text(response).await, told);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_asked_for_again() {
    let mut config = config();
    config.limits.answer_bytes_max = 10;
    let mut engine = engine().await;
    let gateway = gateway(config, &[&engine]);
    engine.json(200, "{\"a\":[1,2,3,4,5]}");
    engine.json(200, "{}");
    let (status, body) = answer(&gateway, chat(r#"{"model":"public"}"#)).await;
    assert!(
        status == 502 && body.contains("10 bytes") && body.contains("answer_too_large"),
        "{body}"
    );
    assert!(engine.seen.recv().await.is_some() && engine.seen.try_recv().is_err());
    until_idle(&gateway).await;
}
