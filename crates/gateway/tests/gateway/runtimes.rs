//! Replicas that have an API of their own: clients speak OpenAI's with them all the same.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, Replica, Resume};
use pilotage_wire::dialect::{Dialect, Own};
use serde_json::{Value, json};

use crate::support::{
    Engine, answer, chat, config, ended, engine, gateway, post, send, text, until_idle,
};

const WHOLE: &str = r#"{"model":"public","prompt":"Once","max_tokens":5}"#;
const STREAM: &str =
    r#"{"model":"public","prompt":"Once","stream":true,"stream_options":{"include_usage":true}}"#;

/// A gateway before such replicas, the first of which is asked first.
fn before(dialect: Dialect, own: Own, engines: &[&Engine]) -> Gateway {
    let mut config = config();
    config.lanes[0].resume = Resume::Text;
    let gateway = gateway(config, &[]);
    for (id, engine) in (1..).zip(engines) {
        let replica = Replica::at(format!("r{id}"), &engine.url, Capacity::of_requests(4));
        let replica = Replica { dialect, own: Some(own), metrics: None, ..replica };
        gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
    }
    gateway
}

fn completions(body: &str) -> Request<Body> {
    post("/v1/completions", body)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn triton_is_asked_to_generate_and_answers_as_openai_would() {
    let mut engine = engine().await;
    let gateway = before(Dialect::Triton, Own::Triton, &[&engine]);
    engine.json(200, r#"{"model_name":"served","model_version":"1","text_output":" upon","finish_reason":"length","num_input_tokens":3,"num_output_tokens":5}"#);
    let (status, body) = answer(&gateway, completions(WHOLE)).await;
    let body = json(&body);
    assert_eq!((status, &body["choices"][0]["text"]), (200, &json!(" upon")), "{body}");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"], json!({"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}));
    let seen = engine.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/v2/models/served/generate");
    let asked = json(&seen.body);
    assert_eq!((&asked["text_input"], &asked["max_tokens"]), (&json!("Once"), &json!(5)));
    until_idle(&gateway).await;
}

#[tokio::test]
async fn a_stream_without_an_end_of_its_own_gets_one() {
    let mut engine = engine().await;
    let gateway = before(Dialect::Triton, Own::Triton, &[&engine]);
    let feed = engine.stream();
    for piece in [
        "data: {\"text_output\":\" up\",\"finish_reason\":\"None\",\"num_input_tokens\":3,\"num_output_tokens\":1}\n\ndata: {\"text",
        "_output\":\"on\",\"finish_reason\":\"stop\",\"num_input_tokens\":3,\"num_output_tokens\":1}\n\n",
    ] {
        feed.send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
    }
    drop(feed);
    let response = send(&gateway, completions(STREAM)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let body = text(response).await;
    let chunks: Vec<&str> =
        body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let texts: String = chunks[..chunks.len() - 1]
        .iter()
        .filter_map(|chunk| json(chunk)["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!((&*texts, *chunks.last().unwrap()), (" upon", "[DONE]"), "{body}");
    assert!(
        body.contains(r#""completion_tokens":2"#) && body.contains(r#""finish_reason":"stop""#),
        "{body}"
    );
    assert_eq!(engine.seen.recv().await.unwrap().path, "/v2/models/served/generate_stream");
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "ok").await, 1);
}

#[tokio::test]
async fn a_stream_is_told_of_who_does_not_stream() {
    let mut engine = engine().await;
    let gateway = before(Dialect::DeepSpeed, Own::DeepSpeed, &[&engine]);
    engine.json(200, r#"[{"generated_text":" upon","prompt_length":3,"generated_length":2,"finish_reason":"stop"}]"#);
    let body = text(send(&gateway, completions(STREAM)).await).await;
    assert!(body.contains(r#""text":" upon""#) && body.ends_with("data: [DONE]\n\n"), "{body}");
    assert!(body.contains(r#""total_tokens":5"#), "{body}");
    assert_eq!(engine.seen.recv().await.unwrap().path, "/mii/served");
}

#[tokio::test]
async fn lines_of_json_become_events() {
    let mut engine = engine().await;
    let gateway = before(Dialect::Ollama, Own::Ollama, &[&engine]);
    engine.plain(200, "application/x-ndjson", "{\"model\":\"served\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":false}\n{\"model\":\"served\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":4,\"eval_count\":2}\n");
    let asked = r#"{"model":"public","messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    let body = text(send(&gateway, chat(asked)).await).await;
    assert!(
        body.contains(r#""delta":{"content":"Hi"}"#) && body.ends_with("data: [DONE]\n\n"),
        "{body}"
    );
    assert!(!body.contains("\"usage\""), "nobody asked for it: {body}");
    let seen = engine.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/api/chat");
    assert_eq!(json(&seen.body)["model"], "served");
}

#[tokio::test]
async fn what_cannot_be_told_is_the_clients_to_change() {
    let engine = engine().await;
    let gateway = before(Dialect::Triton, Own::Triton, &[&engine]);
    let (status, body) = answer(&gateway, chat(r#"{"model":"public","messages":[]}"#)).await;
    let error = &json(&body)["error"];
    assert_eq!(
        (status, &error["code"], &error["param"]),
        (400, &json!("unsupported_by_runtime"), &json!("messages"))
    );
    let (status, body) =
        answer(&gateway, completions(r#"{"model":"public","prompt":"x","logprobs":1}"#)).await;
    assert_eq!((status, &json(&body)["error"]["param"]), (400, &json!("logprobs")));
    until_idle(&gateway).await;
}

#[tokio::test]
async fn errors_are_told_in_openais_words_and_failures_go_elsewhere() {
    let (one, two) = (engine().await, engine().await);
    let gateway = before(Dialect::Triton, Own::Triton, &[&one, &two]);
    one.json(400, r#"{"error":"failed to parse the request JSON buffer"}"#);
    let (status, body) = answer(&gateway, completions(WHOLE)).await;
    let error = &json(&body)["error"];
    assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")), "{body}");
    // Status 200, and an error all the same; a model that is not there; what is no answer at all.
    for (failed, body) in [
        (200, r#"{"error":"engine is gone"}"#),
        (400, r#"{"error":"Request for unknown model: 'served' is not found"}"#),
        (200, r#"{"x":1}"#),
    ] {
        one.json(failed, body);
        two.json(200, r#"{"text_output":"x"}"#);
        let (status, answered) = answer(&gateway, completions(WHOLE)).await;
        assert_eq!((status, &json(&answered)["choices"][0]["text"]), (200, &json!("x")), "{body}");
    }
    until_idle(&gateway).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_off_never_ends_as_if_complete() {
    let engine = engine().await;
    let gateway = before(Dialect::Ollama, Own::Ollama, &[&engine]);
    engine.plain(
        200,
        "application/x-ndjson",
        "{\"message\":{\"content\":\"Hi\"},\"done\":false}\n",
    );
    let asked = r#"{"model":"public","messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    let body = text(send(&gateway, chat(asked)).await).await;
    assert!(body.contains("\"error\"") && !body.contains("[DONE]"), "{body}");
    until_idle(&gateway).await;
}

#[tokio::test]
async fn an_answer_that_breaks_goes_on_at_another() {
    let (one, mut two) = (engine().await, engine().await);
    let gateway = before(Dialect::Triton, Own::Triton, &[&one, &two]);
    let (broken, rest) = (one.stream(), two.stream());
    let piece = |text: &str| Bytes::from(format!("data: {{\"text_output\":\"{text}\"}}\n\n"));
    broken.send(Ok(piece(" up"))).unwrap();
    let mut client = send(&gateway, completions(STREAM)).await.into_body();
    let first = client.frame().await.unwrap().unwrap().into_data().unwrap();
    broken.send(Err(std::io::Error::other("gone"))).unwrap();
    rest.send(Ok(piece("on"))).unwrap();
    drop(rest);
    let more = client.collect().await.unwrap().to_bytes();
    let body = String::from_utf8([first, more].concat()).unwrap();
    let texts: String = body
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .filter_map(|data| json(data)["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(texts, " upon", "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    let seen = two.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/v2/models/served/generate_stream");
    assert_eq!(
        json(&seen.body)["text_input"],
        "Once up",
        "what came already is a part of the prompt"
    );
    until_idle(&gateway).await;
}

/// A server that lists its models and tells about itself, and answers with the name that it is asked by, where
/// that is the one it knows now.
async fn named(models: &'static str, info: &'static str, known: Arc<Mutex<String>>) -> String {
    let asked = Arc::clone(&known);
    let reply = move |body: String| async move {
        let name = json(&body)["model"].as_str().unwrap().to_owned();
        let is_known = *asked.lock() == name;
        let answer = match is_known {
            true => json!({"choices": [{"message": {"content": name}}]}),
            false => json!({"error": format!("model '{name}' not found")}),
        };
        let status = if is_known { 200 } else { 404 };
        (StatusCode::from_u16(status).unwrap(), axum::Json(answer))
    };
    let list = move || async move {
        let name = known.lock().clone();
        ([("content-type", "application/json")], models.replace("NAME", &name))
    };
    let router = axum::Router::new()
        .route("/v1/chat/completions", axum::routing::post(reply))
        .route("/v1/models", axum::routing::get(list))
        .route("/info", axum::routing::get(move || async move { info }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(pilotage_shell::tasks::spawn("named", async move { axum::serve(listener, router).await }));
    url
}

#[tokio::test]
async fn servers_are_asked_by_the_name_that_they_know() {
    const ONE: &str = r#"{"data":[{"id":"NAME"}]}"#;
    const TGI: &str = r#"{"model_id":"x/y","max_concurrent_requests":128,"version":"3.3.7"}"#;
    let check = async |models, info, name: &str, finds_name: bool, expect: (u16, &str)| {
        let known = Arc::new(Mutex::new(name.to_owned()));
        let url = named(models, info, Arc::clone(&known)).await;
        let gateway = gateway(config(), &[]);
        let replica = Replica::at("r", url, Capacity::of_requests(4));
        let replica = Replica { finds_name, metrics: None, ..replica };
        gateway.lane("lane").unwrap().replica_up(ReplicaId(1), replica);
        let ask = async || {
            let (status, body) = answer(&gateway, chat(r#"{"model":"public"}"#)).await;
            let body = json(&body);
            let content = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
            (status, content.to_owned())
        };
        assert_eq!(ask().await, (expect.0, expect.1.to_owned()), "{models} {info}");
        if expect.0 == 200 && finds_name && !info.is_empty() {
            return;
        }
        // It is started anew, with another name: one request finds that out.
        *known.lock() = "other".to_owned();
        let again = if finds_name { (200, "other".to_owned()) } else { (404, String::new()) };
        assert_eq!(ask().await.0, 404);
        assert_eq!(ask().await, again);
        until_idle(&gateway).await;
    };
    check(ONE, "", "/models/mistral", true, (200, "/models/mistral")).await;
    check(ONE, "", "served", true, (200, "served")).await;
    check(ONE, TGI, "tgi", true, (200, "tgi")).await;
    check(ONE, "", "/models/mistral", false, (404, "")).await;
}
