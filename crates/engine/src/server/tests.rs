//! The API on the fake backend: shapes, refusals and streams, without a model.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::KeyHash;
use pilotage_wire::sse::Decoder;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::Api;
use crate::runner::tests::engine;

fn api() -> Api {
    let (engine, _) = engine(4, 16);
    Api::new(engine, "m".to_owned(), 256, Some(KeyHash::of("key")), Clock::start()).unwrap()
}

async fn send(api: &Api, path: &str, body: &Value) -> (u16, String) {
    let request = Request::post(path)
        .header("authorization", "Bearer key")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = api.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn whole(api: &Api, path: &str, body: &Value) -> Value {
    let (status, text) = send(api, path, body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn stream(api: &Api, path: &str, body: &Value) -> Vec<Value> {
    let (status, text) = send(api, path, body).await;
    assert_eq!(status, 200, "{text}");
    let mut decoder = Decoder::default();
    decoder.push(text.as_bytes()).unwrap();
    decoder.finish().unwrap();
    let mut events: Vec<String> =
        std::iter::from_fn(|| decoder.next()).map(|event| event.data).collect();
    assert_eq!(events.pop().unwrap(), "[DONE]");
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

fn hello(more: &Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": 6});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn streams_join_to_what_whole_answers_say() {
    let api = api();
    let answer =
        whole(&api, "/v1/chat/completions", &hello(&json!({"return_token_ids": true}))).await;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!((answer["usage"]["completion_tokens"].as_u64(), text.len()), (Some(6), 6));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["token_ids"].as_array().unwrap().len(), 6);
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = stream(&api, "/v1/chat/completions", &hello(&options)).await;
    let joined: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(joined, text);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let last = chunks.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(6)));
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn completions_take_texts_and_tokens_and_several_answers() {
    let api = api();
    let body = |prompt: Value| json!({"model": "m", "prompt": prompt, "max_tokens": 4, "temperature": 0, "n": 2, "logprobs": 1});
    let text = whole(&api, "/v1/completions", &body(json!("ab"))).await;
    let tokens = whole(&api, "/v1/completions", &body(json!([97, 98]))).await;
    assert_eq!(text["choices"][0]["text"], tokens["choices"][0]["text"]);
    assert_eq!(text["choices"].as_array().unwrap().len(), 2);
    assert_eq!(text["usage"]["prompt_tokens"], 2, "the prompt counts once");
    assert_eq!(text["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().len(), 4);
    assert_eq!(text["choices"][0]["logprobs"]["text_offset"], json!([0, 1, 2, 3]));
    let both = whole(
        &api,
        "/v1/completions",
        &json!({"model": "m", "prompt": ["ab", "cd"], "max_tokens": 1, "echo": true}),
    )
    .await;
    assert!(both["choices"][1]["text"].as_str().unwrap().starts_with("cd"));
}

#[tokio::test]
async fn embeddings_and_tokens() {
    let api = api();
    let answer = whole(&api, "/v1/embeddings", &json!({"model": "m", "input": ["abc", "a"]})).await;
    assert_eq!(answer["data"][0]["embedding"], json!([3.0, 0.0]));
    let coded = json!({"model": "m", "input": "abc", "encoding_format": "base64"});
    assert_eq!(whole(&api, "/v1/embeddings", &coded).await["data"][0]["embedding"], "AABAQAAAAAA=");
    let tokens = whole(&api, "/tokenize", &json!({"prompt": "ab"})).await;
    assert_eq!((&tokens["tokens"], &tokens["max_model_len"]), (&json!([97, 98]), &json!(256)));
    assert_eq!(whole(&api, "/detokenize", &json!({"tokens": [97, 98]})).await["prompt"], "ab");
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let api = api();
    for (more, param, part) in [
        (json!({"messages": []}), "messages", "empty"),
        (json!({"messages": [{"role": "emperor"}]}), "messages[0].role", "emperor"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "missing"),
        (json!({"temperature": 9}), "temperature", "0 to 2"),
        (json!({"top_logprobs": 3}), "top_logprobs", "logprobs"),
        (json!({"tool_choice": "required"}), "tool_choice", "tools"),
        (json!({"max_tokens": 300}), "max_tokens", "256"),
        (json!({"messages": [{"role": "user", "content": "x".repeat(300)}]}), "messages", "256"),
    ] {
        let (status, text) = send(&api, "/v1/chat/completions", &hello(&more)).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, error["error"]["param"].as_str()), (400, Some(param)), "{text}");
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(send(&api, "/v1/chat/completions", &hello(&json!({"model": "x"}))).await.0, 404);
    assert_eq!(send(&api, "/v1/nope", &json!({})).await.0, 404);
    assert_eq!(send(&api, "/health", &json!({})).await.0, 405);
    for (path, body) in [
        ("/v1/completions", json!({"model": "m", "prompt": [999_999]})),
        ("/v1/completions", json!({"model": "m", "prompt": "x", "suffix": "y"})),
        ("/v1/embeddings", json!({"model": "m", "input": []})),
        ("/v1/embeddings", json!({"model": "m", "input": "x", "dimensions": 7})),
    ] {
        assert_eq!(send(&api, path, &body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn only_health_answers_without_the_key() {
    let api = api();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for path in ["/metrics", "/v1/models", "/version", "/nothing"] {
        assert_eq!(api.router().oneshot(get(path)).await.unwrap().status(), 401, "{path}");
    }
    assert_eq!(api.router().oneshot(get("/health")).await.unwrap().status(), 200);
    api.inner.engine.drain().await;
    assert_eq!(api.router().oneshot(get("/health")).await.unwrap().status(), 503);
    assert_eq!(send(&api, "/v1/chat/completions", &hello(&json!({}))).await.0, 503);
}

#[tokio::test]
async fn metrics_have_vllms_names() {
    let api = api();
    whole(&api, "/v1/chat/completions", &hello(&json!({}))).await;
    let request =
        Request::get("/metrics").header("authorization", "Bearer key").body(Body::empty()).unwrap();
    let body = api
        .router()
        .oneshot(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    for line in [
        "vllm:num_requests_waiting{model_name=\"m\"} 0",
        "vllm:generation_tokens_total{model_name=\"m\"} 6",
        "vllm:request_success_total{model_name=\"m\",finished_reason=\"length\"} 1",
        "vllm:time_to_first_token_seconds_count{model_name=\"m\"} 1",
        "vllm:inter_token_latency_seconds_count{model_name=\"m\"} 5",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
