//! Endpoints that are passed through to replicas that have them, and what requests may hold besides
//! text.

use axum::body::Body;
use axum::http::Request;
use pilotage_core::admit::Quota;
use pilotage_core::traffic::{Feature, Features};
use serde_json::{Value, json};

use crate::support::{
    KEY, answer, config, ended, engine, gateway, metrics, post, send, text, until_idle,
};

#[tokio::test]
async fn an_api_that_no_replica_has_is_refused() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    for path in ["/v1/rerank", "/v1/audio/speech", "/v1/images/generations"] {
        let (status, error) = answer(&gateway, post(path, r#"{"model":"public"}"#)).await;
        assert!(status == 400 && error.contains("no_model_fits"), "{path}: {error}");
    }
    let (status, error) = answer(&gateway, post("/v1/nothing", "{}")).await;
    assert!(status == 404 && error.contains("/v1/rerank, "), "{error}");
}

#[tokio::test]
async fn documents_are_ranked_and_counted() {
    let mut engine = engine().await;
    let mut config = config();
    config.lanes[0].capabilities.features = Features::of(&[Feature::Rerank]);
    let gateway = gateway(config, &[&engine]);
    let body = r#"{"results":[{"index":1,"relevance_score":0.9}],"usage":{"prompt_tokens":12,"total_tokens":12}}"#;
    engine.json(200, body);
    let asked = r#"{"query":"q","documents":["a","b"],"model":"public","top_n":1}"#;
    assert_eq!(answer(&gateway, post("/v1/rerank", asked)).await, (200, body.to_owned()));
    let seen = engine.seen.recv().await.unwrap();
    assert_eq!((seen.path.as_str(), seen.body), ("/v1/rerank", asked.replace("public", "served")));
    until_idle(&gateway).await;
    let line = r#"pilotage_tokens_total{lane="lane",type="input"} 12"#;
    assert!(metrics(&gateway).await.contains(line));
}

#[tokio::test]
async fn forms_and_sounds_go_through_as_they_are() {
    let mut engine = engine().await;
    let mut config = config();
    config.lanes[0].capabilities.features =
        Features::of(&[Feature::Speech, Feature::Transcription]);
    config.tenants[0].quota = Quota { requests_per_minute: Some(60), ..Quota::default() };
    let gateway = gateway(config, &[&engine]);
    let form = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\0{}\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nalias\r\n--x--\r\n";
    let kind = "multipart/form-data; boundary=x";
    let request = |path: &str, form: &'static str| {
        let request = Request::post(path).header("authorization", format!("Bearer {KEY}"));
        request.header("content-type", kind).body(Body::from(form)).unwrap()
    };
    engine.plain(200, "text/plain; charset=utf-8", "Hello");
    let response = send(&gateway, request("/v1/audio/transcriptions", form)).await;
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.headers()["x-ratelimit-remaining-requests"], "59", "counted as one");
    assert_eq!(text(response).await, "Hello");
    let seen = engine.seen.recv().await.unwrap();
    assert_eq!(seen.body, form.replace("alias", "served"));
    assert_eq!(seen.headers["content-type"], kind);

    engine.plain(200, "audio/mpeg", "ID3");
    let response =
        send(&gateway, post("/v1/audio/speech", r#"{"model":"public","input":"Hi","voice":"a"}"#))
            .await;
    assert_eq!(response.headers()["content-type"], "audio/mpeg");
    until_idle(&gateway).await;
    assert_eq!(ended(&gateway, "ok").await, 2);

    let (status, error) = answer(&gateway, request("/v1/audio/transcriptions", "--x--\r\n")).await;
    assert!(status == 400 && error.contains("`model` is missing"), "{error}");
    let (status, error) = answer(&gateway, request("/v1/chat/completions", form)).await;
    assert!(status == 400 && error.contains("JSON object"), "{error}");
    let body = r#"{"model":"public","input":"Hi","ref_audio":"http://169.254.169.254/"}"#;
    let (status, error) = answer(&gateway, post("/v1/audio/speech", body)).await;
    assert!(status == 400 && error.contains("media_url_not_allowed"), "{error}");
}

#[tokio::test]
async fn addresses_are_refused_unless_their_host_is_listed() {
    let mut engine = engine().await;
    let mut config = config();
    config.media_hosts = vec!["img.example.com".to_owned()];
    config.limits.media.parts_max = 2;
    config.limits.media.part_bytes_max = 100;
    config.lanes[0].capabilities.features = Features::of(&[Feature::Text, Feature::Vision]);
    let gateway = gateway(config, &[&engine]);
    let part = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let body = |parts: Vec<Value>| {
        json!({"model": "public", "messages": [{"role": "user", "content": parts}]}).to_string()
    };
    let refused = async |path: &str, body: &str, code: &str| {
        let (status, error) = answer(&gateway, post(path, body)).await;
        assert!(status == 400 && error.contains(code), "{body}: {status} {error}");
        assert!(!error.contains("169.254"), "the address is not repeated: {error}");
    };
    let chat = "/v1/chat/completions";
    for url in
        ["http://169.254.169.254/", "https://img.example.com\\@169.254.169.254/", "file:///x"]
    {
        refused(chat, &body(vec![part(url)]), "media_url_not_allowed").await;
        let bare = json!({"image_url": url});
        refused(chat, &body(vec![bare]), "media_url_not_allowed").await;
        let item = json!({"model": "public", "input": [{"role": "user", "content":
            [{"type": "input_image", "image_url": url}]}]});
        refused("/v1/responses", &item.to_string(), "media_url_not_allowed").await;
        let block = json!({"model": "public", "max_tokens": 5, "messages": [{"role": "user", "content":
            [{"type": "image", "source": {"type": "url", "url": url}}]}]});
        refused("/v1/messages", &block.to_string(), "data:").await;
        refused("/v1/messages/count_tokens", &block.to_string(), "data:").await;
    }
    let data = format!("data:image/png;base64,{}", "A".repeat(60));
    refused(chat, &body(vec![part(&data); 3]), "too_many_media_parts").await;
    refused(chat, &body(vec![part(&format!("{data}{data}"))]), "media_too_large").await;
    for url in [data.as_str(), "https://img.example.com/a.png"] {
        engine.json(200, "{}");
        assert_eq!(answer(&gateway, post(chat, &body(vec![part(url)]))).await.0, 200, "{url}");
        assert!(engine.seen.recv().await.unwrap().body.contains(url));
    }
}
