//! What routes ask for beside a model: an adapter, fewer retries; replicas that are asked in their own way whether they
//! are well; and whose failure it is where another model answers.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use pilotage_core::traffic::LaneId;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{
    CacheConfig, GatewayConfig, HealthCheck, LaneConfig, Merge, Replica, Retries,
};
use tokio::sync::mpsc;

use crate::support::{answer, chat, config, engine, gateway, status};

fn adapted(adapter: Option<&str>) -> GatewayConfig {
    let mut config = config();
    config.lanes[0].adapters = vec!["law".to_owned(), "tax".to_owned()];
    config.routes[0].adapter = adapter.map(str::to_owned);
    config
}

#[tokio::test(start_paused = true)]
async fn a_route_asks_for_its_adapter_unless_the_request_names_one() {
    let check = async |adapter: Option<&str>, model: &str, expect: &str| {
        let mut engine = engine().await;
        let gateway = gateway(adapted(adapter), &[&engine]);
        engine.json(200, "{}");
        let body = format!(r#"{{"model":"{model}"}}"#);
        assert_eq!(answer(&gateway, chat(&body)).await.0, 200, "{model}");
        let sent = engine.seen.recv().await.unwrap().body;
        assert_eq!(sent, format!(r#"{{"model":"{expect}"}}"#));
    };
    check(None, "public", "served").await;
    check(Some("law"), "public", "law").await;
    check(Some("law"), "public:tax", "tax").await;
    check(None, "alias:law", "law").await;
}

const LAW: &str = r#"{"id":"law","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const TAX: &str = r#"{"id":"tax","choices":[{"index":0,"message":{"role":"assistant","content":"y"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_adapter_is_not_given_again() {
    let kept = |adapter: &str| {
        let mut config = adapted(Some(adapter));
        config.routes[0].cache = Some(CacheConfig::default());
        config
    };
    let engine = engine().await;
    let gateway = gateway(kept("law"), &[&engine]);
    let body = r#"{"model":"public","temperature":0}"#;
    let id = async || {
        let (status, text) = answer(&gateway, chat(body)).await;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        (status, value["id"].as_str().unwrap_or_default().to_owned())
    };
    engine.json(200, LAW);
    assert_eq!(id().await, (200, "law".to_owned()));
    assert_eq!(id().await, (200, "law".to_owned()), "there is no second answer at the engine");
    gateway.set_config(&kept("tax")).unwrap();
    engine.json(200, TAX);
    assert_eq!(id().await, (200, "tax".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_route_may_allow_fewer_attempts_than_its_lane() {
    let check = async |attempts_max: Option<u32>, expect: u16| {
        let (broken, good) = (engine().await, engine().await);
        let mut config = config();
        config.routes[0].retries =
            attempts_max.map(|attempts_max| Retries { attempts_max, percent: 20 });
        let gateway = gateway(config, &[&broken, &good]);
        broken.json(500, "{}");
        good.json(200, "{}");
        let body = r#"{"model":"public"}"#;
        assert_eq!(answer(&gateway, chat(body)).await.0, expect, "{attempts_max:?}");
    };
    check(None, 200).await;
    check(Some(2), 200).await;
    check(Some(1), 502).await;
}

/// An engine that says it is well at one path only, and tells what it was asked for.
async fn listening() -> (String, mpsc::UnboundedReceiver<String>) {
    async fn reply(State(asked): State<mpsc::UnboundedSender<String>>, uri: Uri) -> StatusCode {
        let _ = asked.send(uri.path().to_owned());
        if uri.path() == "/well" { StatusCode::OK } else { StatusCode::NOT_FOUND }
    }
    let (asked, paths) = mpsc::unbounded_channel();
    let router = Router::new().fallback(reply).with_state(asked);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = async move { axum::serve(listener, router).await };
    drop(pilotage_shell::tasks::spawn("engine", serving));
    (url, paths)
}

#[tokio::test(start_paused = true)]
async fn replicas_are_asked_where_and_as_often_as_is_said() {
    let (url, mut paths) = listening().await;
    let gateway = gateway(config(), &[]);
    let health = HealthCheck {
        path: "/well".to_owned(),
        interval: Duration::from_secs(60),
        is_strict: true,
        ..HealthCheck::default()
    };
    let replica = Replica { health, ..Replica::at("r", url, Capacity::of_requests(4)) };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(1), replica);
    let mut metrics = 0;
    loop {
        match paths.recv().await.unwrap().as_str() {
            "/metrics" => metrics += 1,
            "/well" => break,
            other => panic!("asked for {other}"),
        }
    }
    assert!(metrics >= 3, "metrics are read every few seconds, whatever the interval: {metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_path_that_was_named_must_answer_well() {
    let check = async |is_strict: bool, expect: bool| {
        let (url, mut paths) = listening().await;
        let gateway = gateway(config(), &[]);
        let path = "/elsewhere".to_owned();
        let named = HealthCheck { path, is_strict, ..HealthCheck::default() };
        for (id, health) in [(1, named), (2, HealthCheck::default())] {
            let name = format!("r{id}");
            let replica = Replica { health, ..Replica::at(name, &url, Capacity::of_requests(4)) };
            gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
        }
        let mut looks = 0;
        while looks < 8 {
            looks += u32::from(paths.recv().await.unwrap() == "/elsewhere");
        }
        let health = status(&gateway).await["lanes"][0]["replicas"][0]["health"].clone();
        assert_eq!(health.as_str().unwrap().starts_with("ejected"), expect, "{health}");
    };
    check(false, false).await;
    check(true, true).await;
}

const SHARED: &str = r#"{"model":"public","temperature":0,"messages":[]}"#;

/// What a model failed is its failure, once, and the answer of the next one that one's: whether callers share or not.
#[tokio::test(start_paused = true)]
async fn a_model_that_fails_what_another_answers_is_told_from_it() {
    for (shares, other_answers) in [(false, true), (true, true), (false, false), (true, false)] {
        let (one, other) = (engine().await, engine().await);
        let mut config = config();
        config.routes[0].merge = shares.then(Merge::default);
        config.lanes[0].scheduler.health = None;
        config.lanes.push(LaneConfig {
            scheduler: config.lanes[0].scheduler,
            ..LaneConfig::named("other", 1000)
        });
        config.routes[0].traffic.fallbacks = vec![LaneId(1)];
        let gateway = gateway(config, &[&one]);
        let replica = Replica::at("replica-2", &other.url, Capacity::of_requests(4));
        gateway.lane("other").unwrap().replica_up(ReplicaId(2), replica);
        for _ in 0..9 {
            one.json(500, "{}");
            let (status, body) = if other_answers { (200, "{}") } else { (500, "{}") };
            other.json(status, body);
        }
        assert_eq!(answer(&gateway, chat(SHARED)).await.0 == 200, other_answers);
        let arms = status(&gateway).await["routes"][0]["arms"].clone();
        let told =
            |arm: &serde_json::Value| ["model", "requests", "failed"].map(|key| arm[key].clone());
        let seen: Vec<_> = arms.as_array().unwrap().iter().map(told).collect();
        let failed = u32::from(!other_answers);
        let expect = serde_json::json!([["lane", 1, 1], ["other", 1, failed]]);
        assert_eq!(serde_json::json!(seen), expect, "{shares} {other_answers}");
    }
}
