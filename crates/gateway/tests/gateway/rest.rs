//! Models that rest while nobody asks: requests that wait for the first replica to start, and what the
//! gateway tells those who start it.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use pilotage_core::Span;
use pilotage_core::scale::{Names, Report, Signals, Stage};
use pilotage_core::traffic::LaneId;
use pilotage_gateway::{Gateway, GatewayConfig, LaneConfig};
use pilotage_shell::clock::Clock;
use tower::ServiceExt as _;

use crate::support::{
    answer, chat, config, engine, gateway, send, text, until_idle, until_queued, up,
};

const WHOLE: &str = r#"{"model":"public"}"#;
const REST: Duration = Duration::from_secs(120);

/// The lane may rest, and a request waits for 120 seconds then; else for 5.
fn resting() -> GatewayConfig {
    let mut config = config();
    config.lanes[0].rest = Some(REST);
    config.routes[0].timeouts.total = Duration::from_secs(600);
    config
}

async fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    let request = Request::get(path).header("authorization", "Bearer pk-admin");
    let request = request.body(Body::empty()).unwrap();
    let response = gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
    (response.status().as_u16(), text(response).await)
}

/// What the admin listener tells of the lane, as another process reads it.
async fn seen(gateway: &Gateway) -> (Signals, Report) {
    let (status, body) = get(gateway, "/scaling").await;
    assert_eq!(status, 200, "{body}");
    let report: Report = serde_json::from_str(&body).unwrap();
    let now = pilotage_core::Time::from_millis(1_000_000);
    let model = report.models["lane"].clone();
    (model.into_signals(now, &mut Names::default()), report)
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_replica_to_start() {
    let engine = engine().await;
    let gateway = gateway(resting(), &[]);
    engine.json(200, r#"{"fine":true}"#);
    assert_eq!(get(&gateway, "/health/ready").await.0, 200, "one that rests is ready");
    let start = async {
        until_queued(&gateway, 1).await;
        assert!(gateway.lane("lane").unwrap().is_held());
        // Far longer than a queue's time.
        tokio::time::sleep(Duration::from_secs(90)).await;
        let (signals, report) = seen(&gateway).await;
        let waiting = signals.waiting.unwrap();
        assert_eq!(waiting.value[1].work.requests, 1.0);
        assert!(waiting.whole && waiting.value[1].oldest >= Span::from_secs(90));
        assert!(signals.replicas.unwrap().value.is_empty(), "that there is none is known");
        assert!(report.gateway.starts_with("gateway-"));
        up(&gateway, 1, &engine.url);
        assert!(!gateway.lane("lane").unwrap().is_held());
    };
    let (answer, ()) = tokio::join!(answer(&gateway, chat(WHOLE)), start);
    assert_eq!(answer, (200, r#"{"fine":true}"#.to_owned()));
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_is_said_so() {
    let check = async |config: GatewayConfig, request: Request<Body>, after: u64| {
        let gateway = gateway(config, &[]);
        let clock = Clock::start();
        let response = send(&gateway, request).await;
        assert_eq!(clock.now_nanos() / 1_000_000_000, after);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"10".parse().unwrap())
        );
        let body = text(response).await;
        assert!(body.contains("model_starting") && body.contains("is being started"), "{body}");
        until_idle(&gateway).await;
    };
    check(resting(), chat(WHOLE), 120).await;
    let mut request = chat(WHOLE);
    request.headers_mut().insert("x-pilotage-deadline-ms", "7000".parse().unwrap());
    check(resting(), request, 7).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_lacks_replicas_and_does_not_rest_is_not_ready() {
    let gateway = gateway(config(), &[]);
    assert_eq!(get(&gateway, "/health/ready").await.0, 503);
    let (status, body) = answer(&gateway, chat(WHOLE)).await;
    assert!(status == 503 && body.contains("no replica was free for 5000 ms"), "{body}");
}

/// A fallback is for models that lack something: one that rests is woken, and only when it does not
/// start the next one is asked.
#[tokio::test(start_paused = true)]
async fn one_that_rests_is_not_passed_over() {
    let mut config = resting();
    config.lanes.push(LaneConfig::named("other", 1000));
    config.routes[0].traffic.fallbacks = vec![LaneId(1)];
    let (engine, other) = (engine().await, engine().await);
    let gateway = gateway(config, &[]);
    let replica =
        pilotage_gateway::Replica::at("other", &other.url, pilotage_core::Capacity::of_requests(1));
    gateway.lane("other").unwrap().replica_up(pilotage_core::ReplicaId(9), replica);
    engine.json(200, r#"{"by":"the first"}"#);
    let start = async {
        until_queued(&gateway, 1).await;
        up(&gateway, 1, &engine.url);
    };
    let (first, ()) = tokio::join!(answer(&gateway, chat(WHOLE)), start);
    assert_eq!(first.1, r#"{"by":"the first"}"#);
    gateway.lane("lane").unwrap().replica_down(pilotage_core::ReplicaId(1));
    other.json(200, r#"{"by":"the other"}"#);
    assert_eq!(answer(&gateway, chat(WHOLE)).await.1, r#"{"by":"the other"}"#);
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_runs_is_told() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    engine.json(
        200,
        r#"{"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":5}}}"#,
    );
    assert_eq!(answer(&gateway, chat(WHOLE)).await.0, 200);
    let (signals, report) = seen(&gateway).await;
    let arrivals = signals.arrivals.unwrap();
    assert!(arrivals.whole && arrivals.value[1].requests > 0.0, "{arrivals:?}");
    assert_eq!(signals.misses.unwrap().value[1].answers, 1.0);
    assert_eq!(signals.running.unwrap().value.requests, 0.0);
    // Answers in one piece tell how fast tokens come, too.
    assert!(signals.speed.unwrap().value.step_seconds < 0.006, "{:?}", signals.speed);
    let told = &report.models["lane"].replicas.as_ref().unwrap().value["replica-1"];
    assert_eq!((told.stage, told.running), (Stage::Ready, Some(0)));
    // One without places gets nothing more, and requests that come wait for the next.
    let lane = gateway.lane("lane").unwrap();
    let capacity = pilotage_core::Capacity::of_requests(0);
    let replica = pilotage_gateway::Replica::at("replica-1", &engine.url, capacity);
    lane.replica_up(pilotage_core::ReplicaId(1), replica);
    lane.replica_took(false, Span::from_millis(1500));
    let (signals, report) = seen(&gateway).await;
    let told = &report.models["lane"].replicas.as_ref().unwrap().value["replica-1"];
    assert_eq!(told.stage, Stage::Draining);
    assert_eq!(signals.start.unwrap().value, Span::from_millis(1500));
    let waiting = async {
        until_queued(&gateway, 1).await;
        assert!(lane.is_held());
    };
    let ((status, _), ()) = tokio::join!(answer(&gateway, chat(WHOLE)), waiting);
    assert_eq!(status, 503);
}
