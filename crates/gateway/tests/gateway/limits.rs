//! Requests that are refused at the door, each in OpenAI's shape.

use crate::support::{KEY, answer, chat, config, gateway, send, text};
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::{StreamExt as _, stream};

async fn refused(request: Request<Body>, status: u16, part: &str) {
    let gateway = gateway(config(), &[]);
    let (code, body) = answer(&gateway, request).await;
    assert_eq!(code, status, "{body}");
    let error: serde_json::Value = serde_json::from_str(&body).unwrap();
    let error = &error["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
    assert!(body.contains(part), "{body}");
}

#[tokio::test]
async fn bodies_that_are_wrong() {
    refused(chat("{"), 400, "not valid JSON").await;
    refused(chat("[]"), 400, "JSON object").await;
    refused(chat("{}"), 400, "`model` is missing").await;
    refused(chat(r#"{"model":5}"#), 400, "a string").await;
    refused(chat(r#"{"model":"public","stream":"yes"}"#), 400, "`stream`").await;
    refused(chat(r#"{"model":"nope"}"#), 404, "model_not_found").await;
    refused(chat(r#"{"model":"nope"}"#), 404, "public").await;
}

#[tokio::test]
async fn bodies_that_are_too_large_announced_or_not() {
    refused(chat(&" ".repeat(10_001)), 413, "10000 bytes").await;
    let pieces =
        stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1000]))));
    let request = Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from_stream(pieces))
        .unwrap();
    refused(request, 413, "10000 bytes").await;
}

#[tokio::test(start_paused = true)]
async fn bodies_that_come_a_byte_a_second() {
    let drops = stream::repeat(()).then(|()| async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b" "))
    });
    let request = Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from_stream(drops))
        .unwrap();
    refused(request, 408, "too slowly").await;
}

#[tokio::test]
async fn keys_paths_and_methods() {
    let post = |key: &str| {
        Request::post("/v1/chat/completions")
            .header("authorization", key)
            .body(Body::from("{}"))
            .unwrap()
    };
    refused(post("Bearer wrong"), 401, "invalid_api_key").await;
    refused(post("Basic x"), 401, "no API key").await;
    let get = |path: &str| {
        Request::get(path)
            .header("authorization", format!("Bearer {KEY}"))
            .body(Body::empty())
            .unwrap()
    };
    refused(get("/v1/chat/completions"), 405, "method").await;
    refused(get("/nothing"), 404, "/v1/chat/completions").await;
    refused(get("/v1/models/nope"), 404, "model_not_found").await;
    let gateway = gateway(config(), &[]);
    let models = answer(&gateway, get("/v1/models")).await;
    assert!(
        models.0 == 200 && models.1.contains("public") && models.1.contains("alias"),
        "{models:?}"
    );
    assert_eq!(answer(&gateway, get("/v1/models/alias")).await.0, 200);
    assert_eq!(
        answer(&gateway, Request::get("/health/live").body(Body::empty()).unwrap()).await.0,
        200
    );
    assert_eq!(
        answer(&gateway, Request::get("/health/ready").body(Body::empty()).unwrap()).await.0,
        503
    );
}

#[tokio::test]
async fn names_that_clients_make_up_make_no_metrics() {
    use tower::ServiceExt as _;
    let gateway = gateway(config(), &[]);
    for number in 0..50 {
        let _ =
            text(send(&gateway, chat(&format!(r#"{{"model":"made-up-{number}"}}"#))).await).await;
    }
    let request = Request::get("/metrics")
        .header("authorization", "Bearer pk-admin")
        .body(Body::empty())
        .unwrap();
    let metrics =
        text(gateway.admin_router(Default::default()).oneshot(request).await.unwrap()).await;
    assert!(!metrics.contains("made-up"), "{metrics}");
    let counted = "pilotage_requests_total{lane=\"_other\",termination=\"bad_request\",status_class=\"4xx\"} 50";
    assert!(metrics.contains(counted), "{metrics}");
}
