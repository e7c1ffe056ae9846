//! Answers that are kept: given again to the same tenant byte for byte, until they are too old, too many
//! or of another model.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use pilotage_core::admit::{Budget, Quota, Window};
use pilotage_gateway::{
    CacheConfig, Gateway, GatewayConfig, LaneConfig, Merge, Price, TenantConfig,
};
use pilotage_shell::secret::KeyHash;

use crate::support::{Engine, chat, config, engine, gateway, metrics, send, text, until_idle};

const WHOLE: &str = r#"{"model":"public","temperature":0,"max_tokens":50,"messages":[]}"#;
const STREAM: &str = r#"{"model":"public","temperature":0,"stream":true,"messages":[]}"#;
const ANSWER: &str = r#"{"id":"chatcmpl-1","created":7,"choices":[{"finish_reason":"stop","message":{"content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
const FRESH: &str = r#"{"id":"chatcmpl-2","created":8,"choices":[{"finish_reason":"length","message":{"content":"y"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
const OTHER: &str = "pk-other";

fn keeping(cache: CacheConfig) -> GatewayConfig {
    let mut config = config();
    config.routes[0].cache = Some(cache);
    // Engines that break off or stay silent are asked again all the same.
    config.lanes[0].scheduler.health = None;
    config.lanes[0].price = Price { input: 1_000_000, cached: 100_000, output: 2_000_000 };
    let budget = Budget { window: Window::Month, hard: 100_000, soft: None };
    let quota = Quota { budgets: vec![budget], ..Quota::default() };
    config.tenants[0].quota = quota.clone();
    let keys = vec![KeyHash::of(OTHER).into()];
    config.tenants.push(TenantConfig { keys, quota, ..TenantConfig::named("other") });
    config
}

fn saying(cache_control: &str, body: &str) -> Request<Body> {
    let mut request = chat(body);
    request.headers_mut().insert("cache-control", cache_control.parse().unwrap());
    request
}

fn by_other(body: &str) -> Request<Body> {
    let mut request = chat(body);
    request.headers_mut().insert("authorization", format!("Bearer {OTHER}").parse().unwrap());
    request
}

fn found(response: &Response<Body>) -> &str {
    response.headers().get("x-pilotage-cache").map_or("", |value| value.to_str().unwrap())
}

/// Asks an engine that would give this answer: what was found, and what came.
async fn ask(
    gateway: &Gateway,
    engine: &mut Engine,
    request: Request<Body>,
    answer: &'static str,
) -> (String, String) {
    engine.json(200, answer);
    let response = send(gateway, request).await;
    let found = found(&response).to_owned();
    let body = text(response).await;
    until_idle(gateway).await;
    let asked = engine.seen.try_recv().is_ok();
    assert_eq!(asked, found != "hit", "the engine is asked when there is nothing");
    if !asked {
        // The answer that was not asked for.
        drain(gateway, engine).await;
    }
    (found, body)
}

async fn drain(gateway: &Gateway, engine: &mut Engine) {
    let response = send(gateway, chat(r#"{"model":"public","messages":[]}"#)).await;
    assert_eq!(found(&response), "", "chance is neither looked for nor kept");
    text(response).await;
    engine.seen.recv().await.unwrap();
}

async fn count(gateway: &Gateway, series: &str) -> u64 {
    let metrics = metrics(gateway).await;
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn pair(found: &str, answer: &str) -> (String, String) {
    (found.to_owned(), answer.to_owned())
}

#[tokio::test]
async fn the_same_answer_is_given_again_at_the_price_of_a_cached_prompt() {
    let mut engine = engine().await;
    let gateway = gateway(keeping(CacheConfig::default()), &[&engine]);
    engine.json(200, ANSWER);
    let response = send(&gateway, chat(WHOLE)).await;
    assert_eq!(found(&response), "miss");
    assert_eq!(text(response).await, ANSWER);
    engine.seen.recv().await.unwrap();
    until_idle(&gateway).await;
    assert_eq!(gateway.spent()[0].3, 20);
    let response = send(&gateway, chat(WHOLE)).await;
    assert_eq!((response.status().as_u16(), found(&response)), (200, "hit"));
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(text(response).await, ANSWER);
    assert!(engine.seen.try_recv().is_err());
    assert_eq!(gateway.spent()[0].3, 21, "ten tokens at a tenth");
    let of = |name: &str| format!("pilotage_cache_{name}{{route=\"public\"");
    assert_eq!(count(&gateway, &of("hits_total")).await, 1);
    assert_eq!(count(&gateway, &of("misses_total")).await, 1);
    assert_eq!(count(&gateway, &of("entries")).await, 1);
    assert_eq!(count(&gateway, &of("bytes")).await, 1024 + ANSWER.len() as u64);
    let output = "pilotage_tokens_total{lane=\"lane\",type=\"output\"}";
    assert_eq!(count(&gateway, output).await, 5, "generated once");
}

#[tokio::test]
async fn a_stream_is_given_again_as_a_stream() {
    let mut engine = engine().await;
    let gateway = gateway(keeping(CacheConfig::default()), &[&engine]);
    let events = [
        "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n",
        "data: [DONE]\n\n",
    ];
    let feed = engine.stream();
    for event in events {
        feed.send(Ok(event.into())).unwrap();
    }
    let first = send(&gateway, chat(STREAM)).await;
    assert_eq!(found(&first), "miss");
    let first = text(first).await;
    until_idle(&gateway).await;
    engine.seen.recv().await.unwrap();
    let again = send(&gateway, chat(STREAM)).await;
    assert_eq!(found(&again), "hit");
    assert_eq!(again.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(text(again).await, first);
    assert_eq!(first, [events[0], events[1], events[3]].concat());
    assert!(engine.seen.try_recv().is_err());
}

#[tokio::test]
async fn no_tenant_gets_anothers_answer() {
    let mut engine = engine().await;
    let mut config = keeping(CacheConfig::default());
    // Not even where those who ask at the same time share.
    config.routes[0].merge = Some(Merge { across_tenants: true, ..Merge::default() });
    let gateway = gateway(config, &[&engine]);
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), ANSWER).await, pair("miss", ANSWER));
    assert_eq!(ask(&gateway, &mut engine, by_other(WHOLE), FRESH).await, pair("miss", FRESH));
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("hit", ANSWER));
    assert_eq!(ask(&gateway, &mut engine, by_other(WHOLE), ANSWER).await, pair("hit", FRESH));
}

#[tokio::test]
async fn what_differs_is_not_found() {
    let mut engine = engine().await;
    let gateway = gateway(keeping(CacheConfig::default()), &[&engine]);
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), ANSWER).await.0, "miss");
    for other in [WHOLE.replace("50", "51"), format!("{WHOLE}\n"), WHOLE.replace("public", "alias")]
    {
        assert_eq!(ask(&gateway, &mut engine, chat(&other), FRESH).await, pair("miss", FRESH));
    }
    let mut completion = chat(WHOLE);
    *completion.uri_mut() = "/v1/completions".parse().unwrap();
    assert_eq!(ask(&gateway, &mut engine, completion, FRESH).await, pair("miss", FRESH));
}

#[tokio::test]
async fn clients_say_whether_an_answer_may_be_a_kept_one() {
    let mut engine = engine().await;
    let gateway = gateway(keeping(CacheConfig::default()), &[&engine]);
    let no_store = saying("no-store", WHOLE);
    assert_eq!(ask(&gateway, &mut engine, no_store, ANSWER).await, pair("miss", ANSWER));
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), ANSWER).await.0, "miss", "nothing was kept");
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("hit", ANSWER));
    let no_cache = saying("no-cache", WHOLE);
    assert_eq!(ask(&gateway, &mut engine, no_cache, FRESH).await, pair("miss", FRESH));
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), ANSWER).await, pair("hit", FRESH));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_asked_for_anew() {
    let mut engine = engine().await;
    let cache = CacheConfig { ttl: Duration::from_secs(60), ..CacheConfig::default() };
    let gateway = gateway(keeping(cache), &[&engine]);
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), ANSWER).await.0, "miss");
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("hit", ANSWER));
    let young = saying("max-age=40", WHOLE);
    assert_eq!(ask(&gateway, &mut engine, young, ANSWER).await.0, "miss");
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("miss", FRESH));
    let expired = "pilotage_cache_evictions_total{route=\"public\",reason=\"age\"}";
    assert_eq!(count(&gateway, expired).await, 1);
}

#[tokio::test]
async fn what_is_too_much_makes_room() {
    let mut engine = engine().await;
    let bytes_max = 2 * (1024 + ANSWER.len());
    for cache in [
        CacheConfig { entries_max: 2, ..CacheConfig::default() },
        CacheConfig { bytes_max, ..CacheConfig::default() },
    ] {
        let gateway = gateway(keeping(cache), &[&engine]);
        let of = |seed: u32| format!("{{\"seed\":{seed},{}", &WHOLE[1..]);
        for seed in 0..3 {
            assert_eq!(ask(&gateway, &mut engine, chat(&of(seed)), ANSWER).await.0, "miss");
        }
        for (seed, expect) in [(2, "hit"), (1, "hit"), (0, "miss"), (2, "miss")] {
            let asked = ask(&gateway, &mut engine, chat(&of(seed)), ANSWER).await;
            assert_eq!(asked.0, expect, "{seed}");
        }
        let displaced = "pilotage_cache_evictions_total{route=\"public\",reason=\"room\"}";
        assert_eq!(count(&gateway, displaced).await, 3);
    }
}

#[tokio::test]
async fn only_complete_answers_are_kept() {
    let mut engine = engine().await;
    let gateway = gateway(keeping(CacheConfig::default()), &[&engine]);
    let calls = r#"{"choices":[{"finish_reason":"tool_calls","message":{}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
    for _ in 0..2 {
        assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), calls).await, pair("miss", calls));
    }
    for _ in 0..2 {
        engine.json(400, r#"{"error":{"message":"no"}}"#);
        let response = send(&gateway, chat(WHOLE)).await;
        assert_eq!((response.status().as_u16(), found(&response)), (400, "miss"));
        engine.seen.recv().await.unwrap();
    }
    for _ in 0..2 {
        let feed = engine.stream();
        let hi = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        feed.send(Ok(hi.into())).unwrap();
        drop(feed);
        let response = send(&gateway, chat(STREAM)).await;
        assert_eq!(found(&response), "miss");
        assert!(text(response).await.contains("upstream_disconnected"));
        engine.seen.recv().await.unwrap();
    }
    assert_eq!(count(&gateway, "pilotage_cache_entries{route=\"public\"}").await, 0);
}

#[tokio::test]
async fn another_model_behind_the_name_is_asked() {
    let mut engine = engine().await;
    let config = keeping(CacheConfig::default());
    let gateway = gateway(config.clone(), &[&engine]);
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), ANSWER).await.0, "miss");
    let mut same = config.clone();
    same.routes[0].timeouts.idle = Duration::from_secs(7);
    gateway.set_config(&same).unwrap();
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("hit", ANSWER));
    let mut other = config.clone();
    let identity = "sha256:1".to_owned();
    other.lanes[0] = LaneConfig { identity, ..other.lanes[0].clone() };
    gateway.set_config(&other).unwrap();
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("miss", FRESH));
    // A route that keeps none forgets what it kept, and its series.
    let mut without = config.clone();
    without.routes[0].cache = None;
    gateway.set_config(&without).unwrap();
    assert!(!metrics(&gateway).await.contains("pilotage_cache_bytes{route=\"public\"}"));
    gateway.set_config(&config).unwrap();
    assert_eq!(ask(&gateway, &mut engine, chat(WHOLE), FRESH).await, pair("miss", FRESH));
}

#[tokio::test]
async fn a_client_that_left_leaves_nothing_behind() {
    let mut engine = engine().await;
    let gateway = gateway(keeping(CacheConfig::default()), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".into())).unwrap();
    let response = send(&gateway, chat(STREAM)).await;
    engine.seen.recv().await.unwrap();
    drop(response);
    feed.closed().await;
    until_idle(&gateway).await;
    assert_eq!(count(&gateway, "pilotage_cache_entries{route=\"public\"}").await, 0);
}

#[tokio::test]
async fn a_quota_holds_for_what_was_kept_as_well() {
    let mut engine = engine().await;
    let mut config = keeping(CacheConfig::default());
    config.tenants[0].quota.requests_per_minute = Some(2);
    let gateway = gateway(config, &[&engine]);
    engine.json(200, ANSWER);
    for expect in ["miss", "hit"] {
        assert_eq!(found(&send(&gateway, chat(WHOLE)).await), expect);
        until_idle(&gateway).await;
        let _ = engine.seen.try_recv();
    }
    assert_eq!(send(&gateway, chat(WHOLE)).await.status(), 429);
}
