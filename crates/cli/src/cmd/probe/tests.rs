//! Servers of a few lines, asked over the loopback.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use http::Request;
use hyper::body::Incoming;
use pilotage_shell::serve::{ServeLimits, serve};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;

async fn runtime(router: Router) -> String {
    runtime_at("127.0.0.1:0", router).await
}

async fn runtime_at(address: &str, router: Router) -> String {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |request: Request<Incoming>| router.clone().oneshot(request);
    let serving = serve(listener, answer, ServeLimits::default(), CancellationToken::new());
    drop(pilotage_shell::tasks::spawn("runtime", serving));
    url
}

async fn found(url: &str, key: Option<&str>, model: Option<&str>) -> Finding {
    let key = key.map(|key| Secret::new(key.to_owned()));
    let client = Client::new().unwrap();
    let patience = Duration::from_secs(5);
    let asking = Asking { client, url: url.to_owned(), key, patience };
    detect::judge(&asking.all(model).await.unwrap(), model)
}

const MODELS: &str = r#"{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm","max_model_len":2048}]}"#;

fn vllm() -> Router {
    Router::new()
        .route("/v1/models", get(|| async { MODELS }))
        .route("/version", get(|| async { r#"{"version":"0.32.0"}"# }))
        .route("/metrics", get(|| async { "vllm:num_requests_running 1\n" }))
}

#[tokio::test]
async fn a_server_is_recognized_over_the_network() {
    let url = runtime(vllm()).await;
    let seen = found(&url, None, Some("m")).await;
    assert_eq!((seen.dialect, seen.context), (Dialect::Vllm, Some(2048)));
    assert!(verdict(&seen, Some("m"), false).is_ok());
    let error = verdict(&seen, Some("other"), false).unwrap_err();
    assert_eq!(error.to_string(), "it is up, and serves another model than `other`");
    let told = told(&url, &seen);
    assert_eq!((&told["dialect"], &told["version"]), (&json!("vllm"), &json!("0.32.0")));
    assert_eq!(told["capabilities"]["priority"], "yes");
    assert_eq!(told["metrics"]["found"][0], "vllm:num_requests_running");
}

#[tokio::test]
async fn a_page_that_is_too_long_is_left_in_the_middle() {
    // As long as a page would never be.
    let endless = || async { "vllm:num_requests_running{a=\"x\"} 1\n".repeat(1 << 18) };
    let url = runtime(vllm().route("/prometheus/metrics", get(endless))).await;
    assert_eq!(found(&url, None, None).await.dialect, Dialect::Vllm);
}

#[tokio::test]
async fn keys_are_sent_and_asked_for() {
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    use axum::response::IntoResponse as _;
    let guard = from_fn(|request: Request, next: Next| async move {
        let sent = request.headers().get(header_name()).and_then(|value| value.to_str().ok());
        match sent {
            Some("Bearer right") => next.run(request).await,
            _ => (StatusCode::UNAUTHORIZED, r#"{"error":"Unauthorized"}"#).into_response(),
        }
    });
    let url = runtime(vllm().layer(guard)).await;
    assert_eq!(found(&url, Some("right"), None).await.dialect, Dialect::Vllm);
    let seen = found(&url, Some("wrong"), None).await;
    assert_eq!(verdict(&seen, None, true).unwrap_err().to_string(), "it answers, and wants a key");
}

const fn header_name() -> http::HeaderName {
    http::header::AUTHORIZATION
}

#[tokio::test]
async fn a_key_is_for_the_port_that_was_named() {
    use axum::http::HeaderMap;
    // An address of this machine whose port for metrics nobody else has.
    let triton = Router::new().route(
        "/v2",
        get(|| async {
            r#"{"name":"triton","version":"2.60.0","extensions":["model_repository"]}"#
        }),
    );
    let url = runtime_at("127.80.2.1:0", triton).await;
    let metrics = |headers: HeaderMap| async move {
        match headers.contains_key(header_name()) {
            true => "nv_inference_request_failure 1\n",
            false => "nv_inference_request_success 1\n",
        }
    };
    runtime_at("127.80.2.1:8002", Router::new().route("/metrics", get(metrics))).await;
    let asking = Asking {
        client: Client::new().unwrap(),
        url,
        key: Some(Secret::new("right".to_owned())),
        patience: Duration::from_secs(5),
    };
    let heard = asking.all(None).await.unwrap();
    let metrics = heard.iter().find(|one| one.body.starts_with(b"nv_")).unwrap();
    assert_eq!(metrics.body, b"nv_inference_request_success 1\n");
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let asking = Asking {
        client: Client::new().unwrap(),
        url: url.clone(),
        key: None,
        patience: Duration::from_secs(5),
    };
    let silence = asking.all(None).await.unwrap_err();
    assert!(matches!(silence, ask::Silence::Client(ClientError::Refused(_))), "{silence}");
    assert!(unreachable(&url, &silence).to_string().starts_with("cannot ask http://127.0.0.1"));
}

#[test]
fn addresses_are_taken_as_people_write_them() {
    let check =
        |url: &str, expect: Option<&str>| assert_eq!(address(url).ok().as_deref(), expect, "{url}");
    check("http://h:8000/v1/", Some("http://h:8000"));
    check("localhost:11434", Some("http://localhost:11434"));
    check("https://h/engine", Some("https://h/engine"));
    check("ftp://h", None);
    check("", None);
    check("http://", None);
}
