//! Quotas and budgets at the door: what stopped a request, by how much, and when to come back, all in
//! the response.

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use pilotage_core::admit::{Budget, Quota, Window};
use pilotage_gateway::{Gateway, GatewayConfig, Price, TenantConfig};
use pilotage_shell::secret::KeyHash;

use crate::support::{Engine, KEY, chat, config, ended, engine, gateway, send, text, until_idle};

const USAGE: &str = r#"{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;

/// A team of an organisation, each with a quota.
fn tenants(organisation: Quota, team: Quota) -> GatewayConfig {
    let mut config = config();
    config.tenants = vec![
        TenantConfig { quota: organisation, ..TenantConfig::named("org") },
        TenantConfig {
            quota: team,
            parent: Some("org".to_owned()),
            keys: vec![KeyHash::of(KEY).into()],
            ..TenantConfig::named("team")
        },
    ];
    config.lanes[0].price = Price { input: 1_000_000, cached: 0, output: 2_000_000 };
    config
}

fn asks(tokens: u32) -> Request<Body> {
    chat(&format!(r#"{{"model":"public","max_tokens":{tokens},"messages":[]}}"#))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn serve(gateway: &Gateway, engine: &Engine, tokens: u32) -> Response<Body> {
    engine.json(200, USAGE);
    send(gateway, asks(tokens)).await
}

#[tokio::test(start_paused = true)]
async fn the_response_says_which_limit_of_whom_by_how_much_and_when() {
    let quota = Quota { requests_per_minute: Some(2), ..Quota::default() };
    let engine = engine().await;
    let gateway = gateway(tenants(quota, Quota::default()), &[&engine]);
    let first = serve(&gateway, &engine, 5).await;
    assert_eq!(header(&first, "x-ratelimit-limit-requests"), "2");
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), "1");
    assert_eq!(header(&first, "x-ratelimit-reset-requests"), "30s");
    drop(first);
    serve(&gateway, &engine, 5).await;
    let refused = send(&gateway, asks(5)).await;
    assert_eq!(refused.status(), 429);
    let limit = "requests_per_minute; tenant=org; limit=2; used=2; asked=1";
    assert_eq!(header(&refused, "x-pilotage-limit"), limit);
    let after: u64 = header(&refused, "retry-after-ms").parse().unwrap();
    assert!((29_000..=37_500).contains(&after), "{after}");
    assert_eq!(header(&refused, "retry-after"), after.div_ceil(1000).to_string());
    let body = text(refused).await;
    assert!(body.contains("rate_limit_exceeded") && body.contains("tenant `org`"), "{body}");
    assert!(body.contains("2 used or reserved") && body.contains("try again in"), "{body}");
    assert_eq!(ended(&gateway, "quota").await, 1);
}

#[tokio::test]
async fn what_was_reserved_is_settled_with_what_was_used() {
    let quota = Quota { output_tokens_per_minute: Some(100), ..Quota::default() };
    let engine = engine().await;
    let gateway = gateway(tenants(Quota::default(), quota), &[&engine]);
    // Each may take 60, and takes 5: three fit, one after the other.
    for _ in 0..3 {
        assert_eq!(serve(&gateway, &engine, 60).await.status(), 200);
    }
    // Both at once would reserve 120 of the 85 that are left.
    engine.json(200, USAGE);
    let (one, other) = tokio::join!(send(&gateway, asks(60)), send(&gateway, asks(60)));
    let mut both = [one.status().as_u16(), other.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [200, 429]);
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_the_body() {
    let quota = Quota { concurrency: Some(1), ..Quota::default() };
    let engine = engine().await;
    let gateway = gateway(tenants(Quota::default(), quota), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n".into()))
        .unwrap();
    let stream = r#"{"model":"public","stream":true}"#;
    let streaming = send(&gateway, chat(stream)).await;
    assert_eq!(streaming.status(), 200);
    let refused = send(&gateway, chat(stream)).await;
    assert_eq!(refused.status(), 429);
    assert!(header(&refused, "x-pilotage-limit").starts_with("concurrency; tenant=team; limit=1"));
    // The client leaves in the middle: the place is free.
    drop(streaming);
    feed.closed().await;
    until_idle(&gateway).await;
    assert_eq!(serve(&gateway, &engine, 5).await.status(), 200);
}

#[tokio::test]
async fn a_budget_is_never_overspent_by_many_at_once() {
    let budget = Budget { window: Window::Month, hard: 1000, soft: Some(100) };
    let quota = Quota { budgets: vec![budget], ..Quota::default() };
    let engine = engine().await;
    let mut config = tenants(quota, Quota::default());
    config.lanes[0].scheduler.queue.requests_max = 2000;
    let gateway = gateway(config, &[&engine]);
    for _ in 0..1000 {
        engine.json(200, USAGE);
    }
    // A thousand clients; each reserves 2 × 50 for its answer, and uses 10 + 2 × 5.
    let all = (0..1000).map(|_| send(&gateway, asks(50)));
    let responses = futures_util::future::join_all(all).await;
    let served = responses.iter().filter(|response| response.status() == 200).count() as u64;
    let refused: Vec<_> = responses.iter().filter(|response| response.status() == 402).collect();
    assert_eq!(served as usize + refused.len(), 1000);
    assert!(served * 20 <= 1000, "{served} served");
    let limit = header(refused[0], "x-pilotage-limit");
    assert!(limit.starts_with("budget_per_month; tenant=org; limit=1000"), "{limit}");
    let spent: u64 = gateway.spent().iter().map(|(.., spent)| spent).sum();
    assert_eq!(spent, served * 20);
    // Over the soft threshold each answer says so.
    let warned = serve(&gateway, &engine, 5).await;
    assert!(header(&warned, "x-pilotage-budget").starts_with("month; spent=0.000"));
}

#[tokio::test]
async fn failures_cost_nothing() {
    let budget = Budget { window: Window::Month, hard: 150, soft: None };
    let quota = Quota { budgets: vec![budget], requests_per_minute: Some(3), ..Quota::default() };
    let engine = engine().await;
    let gateway = gateway(tenants(Quota::default(), quota), &[&engine]);
    for _ in 0..9 {
        engine.json(500, "{}");
    }
    for _ in 0..3 {
        assert_eq!(send(&gateway, asks(50)).await.status(), 502);
    }
    assert_eq!(gateway.spent()[0].3, 0);
    assert_eq!(serve(&gateway, &engine, 50).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waited_for_is_charged_and_not_tried_again() {
    let budget = Budget { window: Window::Month, hard: 1_000_000, soft: None };
    let quota = Quota { budgets: vec![budget], ..Quota::default() };
    let mut engine = engine().await;
    let gateway = gateway(tenants(quota, Quota::default()), &[&engine]);
    let _silent = engine.slow();
    let words = "word ".repeat(80);
    let mut request = chat(&format!(r#"{{"model":"public","messages":"{words}"}}"#));
    request.headers_mut().insert("x-pilotage-deadline-ms", "500".parse().unwrap());
    assert_eq!(send(&gateway, request).await.status(), 504);
    until_idle(&gateway).await;
    engine.seen.recv().await.unwrap();
    assert!(engine.seen.try_recv().is_err(), "one attempt");
    assert!((90..=110).contains(&gateway.spent()[0].3), "{:?}", gateway.spent());
}

#[tokio::test]
async fn several_prompts_reserve_several_answers() {
    let quota = Quota { output_tokens_per_minute: Some(1000), ..Quota::default() };
    let engine = engine().await;
    let gateway = gateway(tenants(Quota::default(), quota), &[&engine]);
    engine.json(200, USAGE);
    let body = r#"{"model":"public","prompt":["a","b","c"],"n":2,"max_tokens":100}"#;
    let mut request = chat(body);
    *request.uri_mut() = "/v1/completions".parse().unwrap();
    let response = send(&gateway, request).await;
    assert_eq!(header(&response, "x-ratelimit-remaining-output-tokens"), "400");
}

#[tokio::test]
async fn what_the_client_got_wrong_counts_as_a_request() {
    let quota = Quota { requests_per_minute: Some(2), ..Quota::default() };
    let engine = engine().await;
    let gateway = gateway(tenants(Quota::default(), quota), &[&engine]);
    for expect in [400, 400, 429] {
        engine.json(400, r#"{"error":{"message":"too long"}}"#);
        assert_eq!(send(&gateway, asks(50)).await.status(), expect);
    }
}

#[tokio::test]
async fn tenants_change_while_requests_wait_and_run() {
    let engine = engine().await;
    let gateway = gateway(tenants(Quota::default(), Quota::default()), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n".into()))
        .unwrap();
    let mut running = send(&gateway, chat(r#"{"model":"public","stream":true}"#)).await;
    running.body_mut().frame().await.unwrap().unwrap();
    let other =
        TenantConfig { keys: vec![KeyHash::of("pk-other").into()], ..TenantConfig::named("other") };
    gateway.set_tenants(std::slice::from_ref(&other)).unwrap();
    assert_eq!(send(&gateway, asks(5)).await.status(), 401, "its key is nobody's now");
    feed.send(Ok("data: [DONE]\n\n".into())).unwrap();
    assert!(text(running).await.ends_with("[DONE]\n\n"), "what runs is finished");
    // What is wrong changes nothing.
    let lost = TenantConfig { parent: Some("nobody".to_owned()), ..TenantConfig::named("lost") };
    let error = gateway.set_tenants(&[lost]).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");
    engine.json(200, USAGE);
    let mut request = asks(5);
    request.headers_mut().insert("authorization", "Bearer pk-other".parse().unwrap());
    assert_eq!(send(&gateway, request).await.status(), 200);
}
