//! Copies of requests for a model on trial: whatever becomes of them, the client sees nothing of it.

use axum::body::Body;
use axum::http::Request;
use pilotage_core::admit::{Budget, Quota, Window};
use pilotage_core::traffic::{LaneId, Mirror};
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, GatewayConfig, LaneConfig, Price, Replica};
use pilotage_shell::secret::Secret;

use crate::support::{Engine, answer, chat, config, ended, engine, gateway, metrics, send, text};

const WHOLE: &str = r#"{"model":"public","messages":[]}"#;
const STREAM: &str = r#"{"model":"public","stream":true,"messages":[]}"#;
const ANSWER: &str = r#"{"choices":[{"finish_reason":"stop","message":{"content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Every request has a copy, which goes to a second lane.
fn mirroring() -> GatewayConfig {
    let mut config = config();
    config.lanes.push(LaneConfig {
        served_model: "candidate".to_owned(),
        price: Price { input: 7_000_000, cached: 0, output: 7_000_000 },
        ..LaneConfig::named("trial", 1000)
    });
    config.routes[0].traffic.mirror = Some(Mirror { lane: LaneId(1), basis_points: 10_000 });
    // Engines that break off or stay silent are asked again all the same.
    config.lanes[0].scheduler.health = None;
    config.lanes[0].price = Price { input: 1_000_000, cached: 0, output: 2_000_000 };
    let budget = Budget { window: Window::Month, hard: 100_000, soft: None };
    config.tenants[0].quota = Quota { budgets: vec![budget], ..Quota::default() };
    config
}

/// A gateway with an engine behind each of its lanes.
fn both(config: GatewayConfig, stable: &Engine, trial: &Engine) -> Gateway {
    let gateway = gateway(config, &[stable]);
    let replica = Replica {
        key: Some(Secret::new("engine-key".to_owned())),
        ..Replica::at("trial-1", &trial.url, Capacity::of_requests(4))
    };
    gateway.lane("trial").unwrap().replica_up(ReplicaId(1), replica);
    gateway
}

async fn count(gateway: &Gateway, series: &str) -> u64 {
    let metrics = metrics(gateway).await;
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Waits until that many copies ended so.
async fn until_copied(gateway: &Gateway, outcome: &str, copies: u64) {
    let series =
        format!("pilotage_mirrored_requests_total{{lane=\"trial\",outcome=\"{outcome}\"}}");
    while count(gateway, &series).await != copies {
        tokio::task::yield_now().await;
    }
}

fn asks(body: &str) -> Request<Body> {
    let mut request = chat(body);
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    request
}

#[tokio::test]
async fn a_copy_is_the_same_request_for_another_model() {
    let (mut stable, mut trial) = (engine().await, engine().await);
    let gateway = both(mirroring(), &stable, &trial);
    stable.json(200, ANSWER);
    trial.json(200, ANSWER);
    assert_eq!(answer(&gateway, asks(WHOLE)).await, (200, ANSWER.to_owned()));
    until_copied(&gateway, "ok", 1).await;
    let (original, copy) = (stable.seen.recv().await.unwrap(), trial.seen.recv().await.unwrap());
    assert_eq!(original.body, WHOLE.replace("public", "served"));
    assert_eq!(copy.body, WHOLE.replace("public", "candidate"));
    assert!(!original.headers.contains_key("x-pilotage-mirror"));
    assert_eq!(copy.headers["x-pilotage-mirror"], "1");
    assert_eq!(copy.headers["x-pilotage-band"], "batch");
    assert_eq!(copy.headers["x-request-id"], "mine");
    // Nobody pays for it, and it is no request that a client sent.
    assert_eq!(gateway.spent()[0].3, 20);
    assert_eq!(ended(&gateway, "ok").await, 1);
    let output = |prefix: &str, lane: &str| {
        format!("pilotage_{prefix}tokens_total{{lane=\"{lane}\",type=\"output\"}}")
    };
    assert_eq!(count(&gateway, &output("mirrored_", "trial")).await, 5);
    assert_eq!(count(&gateway, &output("", "trial")).await, 0);
    // It came in one piece: nobody saw its first token.
    assert_eq!(first_tokens(&gateway).await, [0, 0]);
}

/// Answers of the trial that showed when they began: of copies, and of requests.
async fn first_tokens(gateway: &Gateway) -> [u64; 2] {
    let ttft = "time_to_first_token_seconds_count{lane=\"trial\"}";
    let copies = count(gateway, &format!("pilotage_mirrored_{ttft}")).await;
    [copies, count(gateway, &format!("pilotage_{ttft}")).await]
}

#[tokio::test]
async fn a_stream_is_copied_as_a_stream() {
    let (stable, trial) = (engine().await, engine().await);
    let gateway = both(mirroring(), &stable, &trial);
    let (feed, copied) = (stable.stream(), trial.stream());
    for part in [HI, USAGE, DONE] {
        feed.send(Ok(part.into())).unwrap();
    }
    assert_eq!(text(send(&gateway, asks(STREAM)).await).await, format!("{HI}{DONE}"));
    // The client has everything, and the copy nothing yet.
    for part in [HI, HI, USAGE, DONE] {
        copied.send(Ok(part.into())).unwrap();
    }
    until_copied(&gateway, "ok", 1).await;
    let tpot = "pilotage_mirrored_time_per_output_token_seconds_count{lane=\"trial\"}";
    assert_eq!(count(&gateway, tpot).await, 1);
    assert_eq!(first_tokens(&gateway).await, [1, 0]);
}

#[tokio::test]
async fn its_failures_are_nobodys_and_tried_once() {
    let (stable, mut trial) = (engine().await, engine().await);
    let gateway = both(mirroring(), &stable, &trial);
    for status in [500, 503, 400] {
        stable.json(200, ANSWER);
        trial.json(status, "{}");
        assert_eq!(answer(&gateway, asks(WHOLE)).await, (200, ANSWER.to_owned()));
        trial.seen.recv().await.unwrap();
    }
    until_copied(&gateway, "upstream_error", 2).await;
    until_copied(&gateway, "bad_request", 1).await;
    assert!(trial.seen.try_recv().is_err(), "once each");
    // One that breaks off in the middle.
    let (feed, copied) = (stable.stream(), trial.stream());
    copied.send(Ok(HI.into())).unwrap();
    drop(copied);
    feed.send(Ok(HI.into())).unwrap();
    feed.send(Ok(DONE.into())).unwrap();
    assert_eq!(text(send(&gateway, asks(STREAM)).await).await, format!("{HI}{DONE}"));
    until_copied(&gateway, "upstream_interrupted", 1).await;
    assert_eq!(ended(&gateway, "ok").await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_there_is_not_waited_for() {
    let stable = engine().await;
    // No replica behind the second lane: copies wait, and nobody with them.
    let gateway = gateway(mirroring(), &[&stable]);
    stable.json(200, ANSWER);
    assert_eq!(answer(&gateway, asks(WHOLE)).await, (200, ANSWER.to_owned()));
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    until_copied(&gateway, "deadline", 1).await;
}

#[tokio::test]
async fn more_copies_than_the_limit_are_dropped() {
    let (stable, mut trial) = (engine().await, engine().await);
    let mut config = mirroring();
    config.limits.mirrors_max = 2;
    let gateway = both(config, &stable, &trial);
    let slow = [trial.slow(), trial.slow()];
    for _ in 0..5 {
        stable.json(200, ANSWER);
        assert_eq!(answer(&gateway, asks(WHOLE)).await.0, 200);
    }
    until_copied(&gateway, "dropped", 3).await;
    for feed in &slow {
        trial.seen.recv().await.unwrap();
        feed.send(Ok(ANSWER.into())).unwrap();
    }
    drop(slow);
    until_copied(&gateway, "ok", 2).await;
    // There is room again.
    stable.json(200, ANSWER);
    trial.json(200, ANSWER);
    assert_eq!(answer(&gateway, asks(WHOLE)).await.0, 200);
    until_copied(&gateway, "ok", 3).await;
    until_copied(&gateway, "dropped", 3).await;
}

#[tokio::test]
async fn a_client_that_leaves_leaves_its_copy_be() {
    let (mut stable, trial) = (engine().await, engine().await);
    let gateway = both(mirroring(), &stable, &trial);
    let (feed, copied) = (stable.stream(), trial.stream());
    feed.send(Ok(HI.into())).unwrap();
    let response = send(&gateway, asks(STREAM)).await;
    stable.seen.recv().await.unwrap();
    drop(response);
    feed.closed().await;
    for part in [HI, DONE] {
        copied.send(Ok(part.into())).unwrap();
    }
    until_copied(&gateway, "ok", 1).await;
    assert_eq!(ended(&gateway, "client_cancel").await, 1);
}

#[tokio::test]
async fn what_is_refused_at_the_door_is_not_copied() {
    let (stable, mut trial) = (engine().await, engine().await);
    let mut config = mirroring();
    config.tenants[0].quota.requests_per_minute = Some(0);
    let gateway = both(config, &stable, &trial);
    assert_eq!(answer(&gateway, asks(WHOLE)).await.0, 429);
    assert!(trial.seen.try_recv().is_err());
    let counted = metrics(&gateway).await;
    let mut copies =
        counted.lines().filter(|line| line.starts_with("pilotage_mirrored_requests_total{"));
    assert!(copies.all(|line| line.ends_with(" 0")), "{counted}");
}
