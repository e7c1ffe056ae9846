//! Clients that speak OpenAI's Responses, in front of engines that speak chat completions; and the
//! responses that are kept for them.

use axum::body::Body;
use axum::http::Request;
use pilotage_gateway::{Gateway, TenantConfig};
use pilotage_shell::secret::KeyHash;
use serde_json::{Value, json};

use crate::support::{KEY, answer, config, ended, engine, gateway, post, send, text, until_idle};

const WHOLE: &str = r#"{"model":"served","choices":[{"message":{"role":"assistant","content":"Hello Ada"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hé\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

async fn ask(gateway: &Gateway, body: &str) -> Value {
    let (status, body) = answer(gateway, post("/v1/responses", body)).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn look(gateway: &Gateway, method: &str, path: &str, key: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(format!("/v1/responses/{path}"));
    let request = request.header("authorization", format!("Bearer {key}"));
    let (status, body) = answer(gateway, request.body(Body::empty()).unwrap()).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_response_is_kept_and_gone_on_from() {
    let mut engine = engine().await;
    let mut config = config();
    let keys = vec![KeyHash::of("pk-other").into()];
    config.tenants.push(TenantConfig { keys, ..TenantConfig::named("other") });
    let gateway = gateway(config, &[&engine]);
    engine.json(200, WHOLE);
    let first =
        ask(&gateway, r#"{"model":"public","input":"I am Ada","instructions":"Be kind"}"#).await;
    assert_eq!((&first["status"], &first["model"]), (&json!("completed"), &json!("public")));
    assert_eq!(first["output"][0]["content"][0]["text"], "Hello Ada");
    let id = first["id"].as_str().unwrap();
    assert_eq!(look(&gateway, "GET", id, KEY).await, (200, first.clone()));

    engine.json(200, WHOLE);
    let body = json!({"model": "public", "input": "Who am I?", "previous_response_id": id});
    let second = ask(&gateway, &body.to_string()).await;
    assert_eq!(second["previous_response_id"], id);
    engine.seen.recv().await.unwrap();
    let seen: Value = serde_json::from_str(&engine.seen.recv().await.unwrap().body).unwrap();
    assert_eq!(
        seen["messages"],
        json!([{"role": "user", "content": "I am Ada"}, {"role": "assistant", "content": "Hello Ada"},
            {"role": "user", "content": "Who am I?"}])
    );
    let path = format!("{}/input_items?order=asc&limit=2", second["id"].as_str().unwrap());
    let (status, list) = look(&gateway, "GET", &path, KEY).await;
    assert_eq!(
        (status, list["data"].as_array().unwrap().len(), &list["has_more"]),
        (200, 2, &json!(true))
    );
    assert_eq!(list["data"][0]["content"][0]["text"], "I am Ada");

    for (method, path) in
        [("GET", id.to_owned()), ("DELETE", id.to_owned()), ("GET", format!("{id}/input_items"))]
    {
        assert_eq!(look(&gateway, method, &path, "pk-other").await.0, 404, "{method} {path}");
        assert_eq!(look(&gateway, method, &path, "pk-nobody").await.0, 401, "{method} {path}");
    }
    let mut request = post("/v1/responses", &body.to_string());
    request.headers_mut().insert("authorization", "Bearer pk-other".parse().unwrap());
    let (status, error) = answer(&gateway, request).await;
    assert!(status == 400 && error.contains("previous_response_not_found"), "{error}");
    let (status, gone) = look(&gateway, "DELETE", id, KEY).await;
    assert_eq!((status, gone), (200, json!({"id": id, "object": "response", "deleted": true})));
    assert_eq!(look(&gateway, "GET", id, KEY).await.0, 404);
    assert_eq!(answer(&gateway, post("/v1/responses", &body.to_string())).await.0, 400);
    assert_eq!(look(&gateway, "GET", "x?stream=true", KEY).await.0, 400);
    until_idle(&gateway).await;
}

#[tokio::test]
async fn what_nobody_wants_kept_is_not() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    engine.json(200, WHOLE);
    let response = ask(&gateway, r#"{"model":"public","input":"Hi","store":false}"#).await;
    assert_eq!(response["store"], false);
    assert_eq!(look(&gateway, "GET", response["id"].as_str().unwrap(), KEY).await.0, 404);
}

#[tokio::test]
async fn a_stream_is_kept_when_it_is_complete_and_failed_when_it_breaks() {
    for complete in [true, false] {
        let engine = engine().await;
        let gateway = gateway(config(), &[&engine]);
        let feed = engine.stream();
        feed.send(Ok([": x\n\n", HI].concat().into())).unwrap();
        if complete {
            feed.send(Ok([END, DONE].concat().into())).unwrap();
        }
        drop(feed);
        let request = post("/v1/responses", r#"{"model":"public","input":"Hi","stream":true}"#);
        let stream = text(send(&gateway, request).await).await;
        let last: Value =
            serde_json::from_str(stream.trim_end().rsplit("data: ").next().unwrap()).unwrap();
        let name = if complete { "response.completed" } else { "response.failed" };
        assert_eq!(last["type"], name, "{stream}");
        let id = last["response"]["id"].as_str().unwrap();
        let (status, kept) = look(&gateway, "GET", id, KEY).await;
        assert_eq!(status, if complete { 200 } else { 404 });
        if complete {
            assert_eq!(kept, last["response"]);
        }
        let way = if complete { "ok" } else { "upstream_interrupted" };
        assert_eq!(ended(&gateway, way).await, 1);
    }
}

#[tokio::test]
async fn what_is_not_supported_is_named_in_openais_shape() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    for (member, param) in [
        (r#""background":true"#, "background"),
        (r#""conversation":"c""#, "conversation"),
        (r#""tools":[{"type":"web_search"}]"#, "tools[0].type"),
    ] {
        let body = format!(r#"{{"model":"public","input":"Hi",{member}}}"#);
        let (status, error) = answer(&gateway, post("/v1/responses", &body)).await;
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!((status, error["error"]["param"].as_str()), (400, Some(param)));
    }
    engine.json(400, r#"{"error":{"message":"too long","param":null}}"#);
    let (status, error) =
        answer(&gateway, post("/v1/responses", r#"{"model":"public","input":"Hi"}"#)).await;
    let told = r#"{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":null}}"#;
    assert_eq!((status, error.as_str()), (400, told));
}

#[tokio::test]
async fn a_conversation_has_an_end() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let long = "x".repeat(6000);
    engine.json(200, WHOLE);
    let first = ask(&gateway, &json!({"model": "public", "input": long}).to_string()).await;
    let body = json!({"model": "public", "input": long, "previous_response_id": first["id"]});
    let (status, error) = answer(&gateway, post("/v1/responses", &body.to_string())).await;
    assert!(status == 413 && error.contains("conversation"), "{error}");
}
