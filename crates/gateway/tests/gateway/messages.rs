//! Clients that speak Anthropic's Messages, in front of engines that speak chat completions.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::{
    Engine, answer, config, ended, engine, gateway, post, send, text, until_idle,
};

const ASKED: &str = r#"{"model":"public","max_tokens":9,"system":"Be brief","messages":[{"role":"user","content":"Hi"}]}"#;
const WHOLE: &str = r#"{"model":"served","choices":[{"message":{"role":"assistant","content":"Hé"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hé\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";

fn messages(body: &str) -> Request<Body> {
    post("/v1/messages", body)
}

fn streamed() -> Request<Body> {
    messages(&ASKED.replacen('{', "{\"stream\":true,", 1))
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

fn names(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

async fn seen(engine: &mut Engine) -> Value {
    let seen = engine.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/v1/chat/completions");
    parsed(&seen.body)
}

#[tokio::test]
async fn a_message_is_asked_for_as_a_chat_and_told_back() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    engine.json(200, WHOLE);
    let mut request = messages(ASKED);
    let key = request.headers_mut().remove("authorization").unwrap();
    let key = key.to_str().unwrap().trim_start_matches("Bearer ").parse().unwrap();
    request.headers_mut().insert("x-api-key", key);
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    let response = send(&gateway, request).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["request-id"]),
        (200, &"mine".parse().unwrap())
    );
    assert_eq!(response.headers()["content-type"], "application/json");
    let message = parsed(&text(response).await);
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(message["content"], json!([{"type": "text", "text": "Hé"}]));
    assert_eq!(
        (&message["model"], &message["stop_reason"]),
        (&json!("public"), &json!("end_turn"))
    );
    assert_eq!(message["usage"]["input_tokens"], 3);
    assert_eq!(
        seen(&mut engine).await,
        json!({"model": "served", "max_tokens": 9, "messages":
            [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]})
    );
    until_idle(&gateway).await;
}

#[tokio::test]
async fn a_stream_is_told_event_by_event() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    // Cut in the middle of a character and of an event.
    let all = [": hello\n\n", HI, HI, END, USAGE, "data: [DONE]\n\n"].concat().into_bytes();
    let at = ": hello\n\n".len() + HI.find('é').unwrap() + 1;
    for piece in [&all[..at], &all[at..at + 9], &all[at + 9..]] {
        feed.send(Ok(piece.to_vec().into())).unwrap();
    }
    let response = send(&gateway, streamed()).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let stream = text(response).await;
    let expect = [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names(&stream), expect, "{stream}");
    assert!(stream.contains(r#""output_tokens":2"#) && !stream.contains("[DONE]"));
    assert_eq!(seen(&mut engine).await["stream_options"], json!({"include_usage": true}));
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "ok").await, 1);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_anthropics_error() {
    for last in [None, Some("data: {\"error\":{\"message\":\"secret of the engine\"}}\n\n")] {
        let engine = engine().await;
        let gateway = gateway(config(), &[&engine]);
        let feed = engine.stream();
        feed.send(Ok(HI.into())).unwrap();
        if let Some(last) = last {
            feed.send(Ok(last.into())).unwrap();
        }
        drop(feed);
        let stream = text(send(&gateway, streamed()).await).await;
        assert_eq!(names(&stream).last(), Some(&"error"), "{stream}");
        assert!(!stream.contains("message_stop") && !stream.contains("secret"), "{stream}");
        let error = parsed(stream.trim_end().rsplit("data: ").next().unwrap());
        assert_eq!(error["error"]["type"], "api_error");
        assert!(error["request_id"].as_str().unwrap().starts_with("req-"));
        assert_eq!(ended(&gateway, "upstream_interrupted").await, 1);
    }
}

#[tokio::test]
async fn errors_have_anthropics_shape() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let check = async |request: Request<Body>, status: u16, kind: &str| {
        let (code, body) = answer(&gateway, request).await;
        let body = parsed(&body);
        assert_eq!((code, body["error"]["type"].as_str()), (status, Some(kind)), "{body}");
        assert_eq!(body["type"], "error");
        body["error"]["message"].as_str().unwrap().to_owned()
    };
    let mut unknown = messages(ASKED);
    unknown.headers_mut().insert("authorization", "Bearer x".parse().unwrap());
    check(unknown, 401, "authentication_error").await;
    check(messages(r#"{"model":"public"}"#), 400, "invalid_request_error").await;
    check(messages(&ASKED.replace("public", "other")), 404, "not_found_error").await;
    check(messages(&format!("[{}]", "1,".repeat(6000))), 413, "request_too_large").await;
    engine.json(400, r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#);
    assert_eq!(check(messages(ASKED), 400, "invalid_request_error").await, "too long");
    engine.json(200, "{}");
    check(messages(ASKED), 502, "api_error").await;
    until_idle(&gateway).await;
    gateway.drain();
    check(messages(ASKED), 529, "overloaded_error").await;
}

#[tokio::test]
async fn tokens_are_counted_by_the_replica_or_estimated() {
    let mut engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let check = async |status: u16, body: &'static str, how: &str| {
        engine.json(status, body);
        let response = send(&gateway, post("/v1/messages/count_tokens", ASKED)).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-pilotage-count"]),
            (200, &how.parse().unwrap())
        );
        parsed(&text(response).await)["input_tokens"].as_u64().unwrap()
    };
    assert_eq!(check(200, r#"{"count":17,"tokens":[]}"#, "exact").await, 17);
    let estimate = check(404, r#"{"detail":"Not Found"}"#, "estimated").await;
    assert!((10..40).contains(&estimate), "{estimate}");
    assert_eq!(check(200, r#"{"tokens":[]}"#, "estimated").await, estimate);
    let asked = engine.seen.recv().await.unwrap();
    assert_eq!(asked.path, "/tokenize");
    assert_eq!(
        parsed(&asked.body),
        json!({"model": "served", "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]})
    );
    let (status, body) = answer(&gateway, post("/v1/messages/count_tokens", "{}")).await;
    assert_eq!((status, &parsed(&body)["error"]["type"]), (400, &json!("invalid_request_error")));
}
