//! Whose turn it is: shares, deadlines, and work that makes room for more urgent work.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, GatewayConfig, Replica, Resume, TenantConfig};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::tasks;

use crate::support::{
    Engine, answer, chat, config, engine, gateway, post, send, text, until_idle, until_queued,
};

fn one_place(gateway: &Gateway, engine: &Engine, pauses_max: u32) {
    let capacity = Capacity { pauses_max, ..Capacity::of_requests(1) };
    let replica = Replica::at("one", &engine.url, capacity);
    gateway.lane("lane").unwrap().replica_up(ReplicaId(9), replica);
}

fn in_band(body: &str, band: &str) -> Request<Body> {
    let mut request = chat(body);
    request.headers_mut().insert("x-pilotage-band", band.parse().unwrap());
    request
}

fn open(token_ids: bool) -> GatewayConfig {
    let mut config = config();
    config.tenants[0].highest_band = pilotage_core::Band::Realtime;
    config.lanes[0].resume = if token_ids { Resume::Tokens } else { Resume::Off };
    config.lanes[0].resume_from = 0;
    config
}

const STREAM: &str =
    r#"{"model":"public","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const WHOLE: &str = r#"{"model":"public"}"#;

fn chunk(text: &str, ids: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"served\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null{ids}}}]}}\n\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_pauses_is_told_whom() {
    let mut engine = engine().await;
    let gateway = gateway(open(false), &[]);
    one_place(&gateway, &engine, 1);
    let (bulk, urgent) = (engine.stream(), engine.stream());
    bulk.send(Ok(chunk("a", "").into())).unwrap();
    let running = send(&gateway, in_band(STREAM, "bulk")).await;
    let origin = engine.seen.recv().await.unwrap().headers["x-pilotage-origin"].clone();
    urgent.send(Ok(chunk("b", "").into())).unwrap();
    urgent.send(Ok("data: [DONE]\n\n".into())).unwrap();
    let response = send(&gateway, in_band(STREAM, "realtime")).await;
    assert!(text(response).await.contains("\"b\""));
    assert_eq!(engine.seen.recv().await.unwrap().headers["x-pilotage-displaces"], origin);
    bulk.send(Ok("data: [DONE]\n\n".into())).unwrap();
    assert!(text(running).await.ends_with("[DONE]\n\n"));
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_not_begun_makes_room_and_comes_back() {
    let mut engine = engine().await;
    let gateway = gateway(open(false), &[]);
    one_place(&gateway, &engine, 0);
    let silent = engine.stream();
    let bulk = tasks::spawn("client", {
        let gateway = gateway.clone();
        async move { answer(&gateway, in_band(WHOLE, "bulk")).await }
    });
    engine.seen.recv().await.unwrap();
    engine.json(200, r#"{"urgent":true}"#);
    engine.json(200, r#"{"bulk":true}"#);
    let urgent = answer(&gateway, in_band(WHOLE, "realtime")).await;
    assert_eq!(urgent, (200, r#"{"urgent":true}"#.to_owned()));
    silent.closed().await;
    assert_eq!(bulk.await.unwrap().unwrap(), (200, r#"{"bulk":true}"#.to_owned()));
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_stopped_and_goes_on_over_token_ids_as_if_nothing_had_been() {
    let mut engine = engine().await;
    let gateway = gateway(open(true), &[]);
    one_place(&gateway, &engine, 0);
    let first = engine.stream();
    first.send(Ok(chunk("", ",\"prompt_token_ids\":[7,8],\"token_ids\":[]").into())).unwrap();
    first.send(Ok(chunk("one ", ",\"token_ids\":[1]").into())).unwrap();
    first.send(Ok(chunk("", ",\"token_ids\":[2]").into())).unwrap();
    let mut running = send(&gateway, in_band(STREAM, "bulk")).await;
    let mut seen = String::new();
    while !seen.contains("one ") {
        let frame = running.body_mut().frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert!(engine.seen.recv().await.unwrap().body.contains("\"return_token_ids\":true"));
    let rest = tasks::spawn("client", text(running));
    engine.json(200, r#"{"urgent":true}"#);
    let second = engine.stream();
    let text_chunk = "data: {\"id\":\"x\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"two\",\
                      \"token_ids\":[2,3],\"finish_reason\":\"stop\"}]}\n\n";
    second.send(Ok(text_chunk.into())).unwrap();
    let usage = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
    second.send(Ok(usage.into())).unwrap();
    second.send(Ok("data: [DONE]\n\n".into())).unwrap();
    let urgent = answer(&gateway, in_band(WHOLE, "realtime")).await;
    assert_eq!(urgent.0, 200);
    first.closed().await;
    let mut continuation = engine.seen.recv().await.unwrap().body;
    if !continuation.contains("prompt") {
        continuation = engine.seen.recv().await.unwrap().body;
    }
    let body: serde_json::Value = serde_json::from_str(&continuation).unwrap();
    assert_eq!(body["prompt"], serde_json::json!([7, 8, 1]), "{body}");
    seen.push_str(&rest.await.unwrap().unwrap());
    assert!(seen.contains("\"two\"") && seen.ends_with("data: [DONE]\n\n"), "{seen}");
    assert!(!seen.contains("token_ids") && !seen.contains("text_completion"), "{seen}");
    assert_eq!(seen.matches("\"id\":\"c1\"").count(), seen.matches("data: {").count(), "{seen}");
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_stopped_and_goes_on_as_well() {
    let mut engine = engine().await;
    let gateway = gateway(open(true), &[]);
    one_place(&gateway, &engine, 0);
    let first = engine.stream();
    first.send(Ok(chunk("", ",\"prompt_token_ids\":[7,8],\"token_ids\":[]").into())).unwrap();
    first.send(Ok(chunk("one ", ",\"token_ids\":[1]").into())).unwrap();
    let asked = r#"{"model":"public","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut request = post("/v1/messages", asked);
    request.headers_mut().insert("x-pilotage-band", "bulk".parse().unwrap());
    let mut running = send(&gateway, request).await;
    let mut seen = String::new();
    while !seen.contains("one ") {
        let frame = running.body_mut().frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    let rest = tasks::spawn("client", text(running));
    engine.seen.recv().await.unwrap();
    engine.json(200, "{}");
    let second = engine.stream();
    let end = "data: {\"id\":\"x\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"two\",\
               \"token_ids\":[2,3],\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    second.send(Ok(end.into())).unwrap();
    assert_eq!(answer(&gateway, in_band(WHOLE, "realtime")).await.0, 200);
    first.closed().await;
    seen.push_str(&rest.await.unwrap().unwrap());
    assert!(seen.contains(r#"{"type":"text_delta","text":"two"}"#), "{seen}");
    assert_eq!(seen.matches("event: message_start").count(), 1, "{seen}");
    assert_eq!(seen.matches("event: content_block_start").count(), 1, "{seen}");
    assert!(seen.contains("event: message_stop") && !seen.contains("error"), "{seen}");
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_go_on_runs_to_its_end() {
    let engine = engine().await;
    let gateway = gateway(open(true), &[]);
    one_place(&gateway, &engine, 0);
    let first = engine.stream();
    // Without ids there is nothing to go on from.
    first.send(Ok(chunk("one", "").into())).unwrap();
    let running = send(&gateway, in_band(STREAM, "bulk")).await;
    let running = tasks::spawn("client", text(running));
    let urgent = tasks::spawn("client", {
        let gateway = gateway.clone();
        async move { answer(&gateway, in_band(WHOLE, "realtime")).await }
    });
    until_queued(&gateway, 1).await;
    engine.json(200, "{}");
    first.send(Ok("data: [DONE]\n\n".into())).unwrap();
    assert!(running.await.unwrap().unwrap().ends_with("[DONE]\n\n"));
    assert_eq!(urgent.await.unwrap().unwrap().0, 200);
}

#[tokio::test(start_paused = true)]
async fn deadlines_count_from_the_first_byte_and_are_checked() {
    let engine = engine().await;
    let gateway = gateway(open(false), &[&engine]);
    let with = |deadline: &str| {
        let mut request = chat(WHOLE);
        request.headers_mut().insert("x-pilotage-deadline-ms", deadline.parse().unwrap());
        request
    };
    for wrong in ["soon", "-5", "0", "1.5"] {
        let (status, body) = answer(&gateway, with(wrong)).await;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("x-pilotage-deadline-ms"), "{body}");
    }
    let _silent = engine.stream();
    let clock = Clock::start();
    let (status, body) = answer(&gateway, with("700")).await;
    assert_eq!(status, 504, "{body}");
    assert!(clock.now_nanos() < 2_000_000_000, "{}", clock.now_nanos());
    let (status, body) = answer(&gateway, in_band(WHOLE, "sometime")).await;
    assert!(status == 400 && body.contains("`realtime`"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn turns_follow_weights() {
    let mut engine = engine().await;
    let mut config = open(false);
    let tenant = |name: &str, weight| TenantConfig {
        weight,
        keys: vec![KeyHash::of(name).into()],
        ..TenantConfig::named(name)
    };
    config.tenants = vec![tenant("one", 1000), tenant("three", 3000)];
    let gateway = gateway(config, &[]);
    let ask = |key: &'static str| {
        let mut request = chat(WHOLE);
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let gateway = gateway.clone();
        tasks::spawn(
            "client",
            async move { (key, send(&gateway, request).await.status().as_u16()) },
        )
    };
    let all: Vec<_> = (0..40).flat_map(|_| [ask("one"), ask("three")]).collect();
    until_queued(&gateway, 80).await;
    one_place(&gateway, &engine, 0);
    let mut served = [0, 0];
    for _ in 0..40 {
        engine.json(
            200,
            "{\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":10,\"total_tokens\":20}}",
        );
        let tenant = engine.seen.recv().await.unwrap().headers["x-pilotage-tenant"].clone();
        served[tenant.to_str().unwrap().parse::<usize>().unwrap()] += 1;
    }
    assert!((29..=31).contains(&served[1]), "{served:?}");
    for task in all {
        task.abort();
    }
}
