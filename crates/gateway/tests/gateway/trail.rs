//! What requests leave behind: records for sinks and for who asks, those under way, a ledger that is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{KEY, answer, chat, config, engine, gateway, send, text};
use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use pilotage_core::traffic::Charge;
use pilotage_gateway::{Gateway, GatewayConfig, Ledger, Merge, TenantConfig};
use pilotage_lens::trace::Sampler;
use pilotage_lens::{Record, Sink};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

const PROMPT: &str = r#"{"model":"public","messages":[{"role":"user","content":"x"}]}"#;
const ANSWER: &str = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#;

#[derive(Debug, Default)]
struct Taken(Mutex<Vec<Arc<Record>>>);

impl Sink for Taken {
    fn take(&self, record: &Arc<Record>) {
        self.0.lock().push(Arc::clone(record));
    }
}

fn taking(gateway: &Gateway) -> Arc<Taken> {
    let taken = Arc::new(Taken::default());
    gateway.add_sink(taken.clone());
    taken
}

async fn asked(gateway: &Gateway, path: &str) -> (u16, Value) {
    let request =
        Request::get(path).header("authorization", "Bearer pk-admin").body(Body::empty()).unwrap();
    let response = gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

/// The client's tenant belongs to another one.
fn nested() -> GatewayConfig {
    let mut config = config();
    let above =
        TenantConfig { name: "company".to_owned(), keys: Vec::new(), ..config.tenants[0].clone() };
    config.tenants[0].parent = Some("company".to_owned());
    config.tenants.push(above);
    config
}

#[tokio::test]
async fn a_record_tells_all_of_a_request_and_its_phases_are_the_whole() {
    let engine = engine().await;
    let gateway = gateway(nested(), &[&engine]);
    let taken = taking(&gateway);
    engine.json(200, ANSWER);
    let mut request = chat(PROMPT);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.headers_mut().insert("traceparent", trace.parse().unwrap());
    request.headers_mut().insert("tracestate", "vendor=1,other=a:b".parse().unwrap());
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    assert_eq!(answer(&gateway, request).await.0, 200);
    let record = Arc::clone(&taken.0.lock()[0]);
    assert_eq!(record.request_id.as_str(), "mine");
    assert_eq!(record.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!(record.parent_span, Some(0x00f0_67aa_0ba9_02b7));
    assert!(record.sampled);
    assert_ne!(record.span_id, 0x00f0_67aa_0ba9_02b7);
    let path = record.tenant_path.as_deref().unwrap();
    assert_eq!(path, format!("company/{}", record.tenant.as_deref().unwrap()));
    assert_eq!((record.tokens.input, record.tokens.cached, record.tokens.output), (10, 4, 3));
    assert_eq!((record.reasoning, record.counted), (2, true));
    assert!(record.route.is_some() && record.lane.is_some() && record.replica.is_some());
    assert_eq!(record.phases.total(), record.total);
    // What the engine gets goes on from there: the span of the first attempt.
    let mut engine = engine;
    let seen = engine.seen.recv().await.unwrap();
    let span = pilotage_lens::attempt_span(record.span_id, 1);
    let expect = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span:016x}-01");
    assert_eq!(seen.headers["traceparent"], expect.as_str());
    assert_eq!(seen.headers["tracestate"], "vendor=1,other=a:b");
}

#[tokio::test]
async fn an_answer_that_may_be_shared_is_in_the_trace_of_who_asked_first() {
    let mut engine = engine().await;
    let mut config = config();
    config.routes[0].merge = Some(Merge { across_tenants: false, charge: Charge::Each });
    let gateway = gateway(config, &[&engine]);
    let taken = taking(&gateway);
    engine.json(200, ANSWER);
    let body = PROMPT.replacen('{', "{\"temperature\":0,", 1);
    assert_eq!(answer(&gateway, chat(&body)).await.0, 200);
    let record = Arc::clone(&taken.0.lock()[0]);
    assert_eq!((record.attempts, record.merged), (1, false));
    let seen = engine.seen.recv().await.unwrap();
    let span = pilotage_lens::attempt_span(record.span_id, 1);
    let expect = format!("00-{:032x}-{span:016x}-00", record.trace_id);
    assert_eq!(seen.headers["traceparent"], expect.as_str());
}

#[tokio::test]
async fn traces_are_sampled_as_the_sampler_says() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let taken = taking(&gateway);
    let check = async |sampler: Option<(&str, &str)>, flags: Option<&str>, expect: bool| {
        if let Some((name, part)) = sampler {
            let sampler = Sampler::parse(Some(name), Some(part)).unwrap();
            gateway.set_tracer(Arc::new(sampler));
        }
        let mut request = chat(PROMPT);
        if let Some(flags) = flags {
            let trace = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            request.headers_mut().insert("traceparent", trace.parse().unwrap());
        }
        engine.json(200, ANSWER);
        assert_eq!(answer(&gateway, request).await.0, 200);
        let sampled = taken.0.lock().last().unwrap().sampled;
        assert_eq!(sampled, expect, "{sampler:?} {flags:?}");
    };
    // Without a sampler nothing begins a trace, and what clients say goes on.
    check(None, None, false).await;
    check(None, Some("01"), true).await;
    check(Some(("parentbased_traceidratio", "0")), None, false).await;
    check(Some(("parentbased_traceidratio", "0")), Some("01"), true).await;
    check(Some(("parentbased_traceidratio", "1")), None, true).await;
    check(Some(("parentbased_traceidratio", "1")), Some("00"), false).await;
    // One that heeds no client is not made to record by any.
    check(Some(("traceidratio", "0")), Some("01"), false).await;
}

#[tokio::test]
async fn the_last_records_are_listed_in_pages_and_each_is_explained() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    for id in ["a", "b", "c"] {
        engine.json(200, ANSWER);
        let mut request = chat(PROMPT);
        request.headers_mut().insert("x-request-id", id.parse().unwrap());
        assert_eq!(answer(&gateway, request).await.0, 200);
    }
    let ids = |page: &Value| -> Vec<String> {
        let records = page["records"].as_array().unwrap().iter();
        records.map(|record| record["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let (status, page) = asked(&gateway, "/records?limit=2").await;
    assert_eq!((status, ids(&page)), (200, vec!["c".to_owned(), "b".to_owned()]));
    let next = page["next"].as_u64().unwrap();
    let (_, page) = asked(&gateway, &format!("/records?limit=2&before={next}")).await;
    assert_eq!((ids(&page), &page["next"]), (vec!["a".to_owned()], &Value::Null));
    assert_eq!(ids(&asked(&gateway, "/records?id=b").await.1), ["b"]);
    assert!(ids(&asked(&gateway, "/records?tenant=nobody").await.1).is_empty());
    assert!(ids(&asked(&gateway, "/records?min_ms=60000").await.1).is_empty());
    for wrong in ["limit=0", "limit=1001", "limit=x", "termination=nonsense", "unknown=1"] {
        let (status, body) = asked(&gateway, &format!("/records?{wrong}")).await;
        assert_eq!((status, body["error"]["message"].is_string()), (400, true), "{wrong}");
    }
    let (status, one) = asked(&gateway, "/records/b").await;
    assert_eq!((status, &one["record"]["request_id"]), (200, &json!("b")));
    assert_eq!(one["explanation"]["compared_with"], 2, "{one}");
    assert!(one["explanation"]["verdict"].as_str().unwrap().starts_with("It took "), "{one}");
    let (status, body) = asked(&gateway, "/records/nobody").await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn a_request_is_seen_while_it_is_under_way() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let feed = engine.stream();
    feed.send(Ok("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".into())).unwrap();
    let mut request = chat(&PROMPT.replacen('{', "{\"stream\":true,", 1));
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    let response = send(&gateway, request).await;
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().is_ok());
    let (_, live) = asked(&gateway, "/live").await;
    assert_eq!((&live["total"], &live["requests"][0]["request_id"]), (&json!(1), &json!("mine")));
    assert_eq!(live["requests"][0]["phase"], "decode", "{live}");
    assert!(live["requests"][0]["replica"].is_string(), "{live}");
    assert_eq!(asked(&gateway, "/live?tenant=nobody").await.1["total"], 0);
    assert_eq!(asked(&gateway, "/records/mine").await.1["live"]["request_id"], "mine");
    drop(body);
    assert_eq!(asked(&gateway, "/live").await.1["total"], 0);
    let (_, page) = asked(&gateway, "/records").await;
    assert_eq!(page["records"][0]["termination"], "client_cancel", "{page}");
}

#[tokio::test]
async fn records_come_as_a_stream_of_lines() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let request = Request::get("/records/stream?termination=ok")
        .header("authorization", "Bearer pk-admin")
        .body(Body::empty())
        .unwrap();
    let response = gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut lines = response.into_body().into_data_stream();
    assert_eq!(answer(&gateway, chat("{\"model\":\"nobody\"}")).await.0, 404);
    engine.json(200, ANSWER);
    assert_eq!(answer(&gateway, chat(PROMPT)).await.0, 200);
    let line = lines.next().await.unwrap().unwrap();
    let record: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!((&record["termination"], &record["input"]), (&json!("ok"), &json!(10)));
}

#[tokio::test]
async fn the_last_minutes_are_kept_in_steps() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    engine.json(200, ANSWER);
    assert_eq!(answer(&gateway, chat(PROMPT)).await.0, 200);
    let (_, history) = asked(&gateway, "/history?seconds=60").await;
    let lane = history["lanes"].as_object().unwrap().values().next().unwrap().clone();
    let sum =
        |row: &Value| -> u64 { row.as_array().unwrap().iter().filter_map(Value::as_u64).sum() };
    assert_eq!((sum(&lane["requests"]), sum(&lane["output_tokens"])), (1, 3), "{history}");
    let tenant = history["tenants"].as_object().unwrap().values().next().unwrap().clone();
    assert_eq!(sum(&tenant["tokens"]), 13);
}

/// A ledger whose rows are written when the test says.
fn ledger(gateway: &Gateway, patience: Duration) -> watch::Sender<u64> {
    let (written, receiver) = watch::channel(0);
    let rows = AtomicU64::new(0);
    let add = Arc::new(move |_: &Arc<Record>| rows.fetch_add(1, Ordering::Relaxed) + 1);
    assert!(gateway.set_ledger(Ledger { add, written: receiver, patience }));
    written
}

#[tokio::test]
async fn an_answers_end_waits_for_its_row() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let written = ledger(&gateway, Duration::from_secs(3600));
    engine.json(200, ANSWER);
    let mut whole = Box::pin(answer(&gateway, chat(PROMPT)));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut whole).await;
    assert!(early.is_err(), "{early:?}");
    written.send(1).unwrap();
    assert_eq!(whole.await.0, 200);
    // Of a stream everything comes at once but its end.
    let feed = engine.stream();
    feed.send(Ok("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".into())).unwrap();
    let response = send(&gateway, chat(&PROMPT.replacen('{', "{\"stream\":true,", 1))).await;
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().is_ok());
    feed.send(Ok("data: [DONE]\n\n".into())).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), body.next()).await;
    assert!(early.is_err(), "{early:?}");
    written.send(2).unwrap();
    let mut rest = Vec::new();
    while let Some(piece) = body.next().await {
        rest.extend_from_slice(&piece.unwrap());
    }
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{rest:?}");
}

#[tokio::test]
async fn a_ledger_that_is_late_or_gone_holds_up_nobody_for_long() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let written = ledger(&gateway, Duration::from_millis(20));
    engine.json(200, ANSWER);
    assert_eq!(answer(&gateway, chat(PROMPT)).await.0, 200);
    drop(written);
    engine.json(200, ANSWER);
    assert_eq!(answer(&gateway, chat(PROMPT)).await.0, 200);
}

#[tokio::test]
async fn who_has_no_key_sees_nothing() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    for path in ["/records", "/records/x", "/records/stream", "/live", "/history"] {
        for key in [None, Some(KEY)] {
            let mut request = Request::get(path);
            if let Some(key) = key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let request = request.body(Body::empty()).unwrap();
            let response = gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), 401, "{path} {key:?}");
        }
    }
}
