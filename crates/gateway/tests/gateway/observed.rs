//! What the operator sees: counters that are there from the start, times that mean what they say,
//! and logs without a word of anybody's keys, prompts or answers.

use std::io::Write;
use std::sync::Arc;

use crate::support::{KEY, answer, chat, config, engine, gateway, metrics, send, text, up};
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

/// Where an engine's answer comes from.
type Feed = tokio::sync::mpsc::UnboundedSender<Result<Bytes, std::io::Error>>;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_and_metrics_hold_no_keys_prompts_or_answers() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let prompt = r#"{"model":"public","messages":[{"role":"user","content":"SECRET-PROMPT"}]}"#;
    engine.json(200, r#"{"choices":[{"message":{"content":"SECRET-ANSWER"}}]}"#);
    assert_eq!(answer(&gateway, chat(prompt)).await.0, 200);
    for _ in 0..3 {
        engine.json(500, r#"{"error":"SECRET-ANSWER"}"#);
    }
    assert_eq!(answer(&gateway, chat(prompt)).await.0, 502);
    let feed = engine.stream();
    feed.send(Ok("data: {\"choices\":[{\"delta\":{\"content\":\"SECRET-ANSWER\"}}]}\n\n".into()))
        .unwrap();
    drop(feed);
    let body =
        text(send(&gateway, chat(&prompt.replacen('{', "{\"stream\":true,", 1))).await).await;
    assert!(body.contains("SECRET-ANSWER") && body.contains("upstream_disconnected"), "{body}");
    assert_eq!(answer(&gateway, chat(r#"{"model":"SECRET-PROMPT"}"#)).await.0, 404);
    assert_eq!(answer(&gateway, chat(r#"{"messages":"SECRET-PROMPT""#)).await.0, 400);
    let mut wrong = chat(prompt);
    wrong.headers_mut().insert("authorization", "Bearer pk-SECRET-WRONG".parse().unwrap());
    let (status, body) = answer(&gateway, wrong).await;
    assert!(status == 401 && !body.contains("SECRET"), "{body}");

    let log = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert_eq!(log.matches(" access: ").count(), 6, "one record each: {log}");
    assert!(log.contains("an attempt failed"), "{log}");
    for text in [&log, &metrics(&gateway).await] {
        for secret in ["SECRET", KEY, "engine-key", "pk-"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn counters_are_there_before_they_count() {
    let metrics = metrics(&gateway(config(), &[])).await;
    for (termination, class) in
        [("ok", "2xx"), ("quota", "4xx"), ("queue_full", "5xx"), ("timeout", "5xx")]
    {
        for lane in ["lane", "_other"] {
            let line = format!(
                "pilotage_requests_total{{lane=\"{lane}\",termination=\"{termination}\",status_class=\"{class}\"}} 0"
            );
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
    }
    assert!(metrics.contains("pilotage_time_to_first_token_seconds_count{lane=\"lane\"} 0"));
}

#[tokio::test(start_paused = true)]
async fn only_streams_have_a_first_token_that_may_be_late() {
    let engine = engine().await;
    let mut config = config();
    config.lanes[0].scheduler.health = None;
    let gateway = gateway(config, &[&engine]);
    let series = ["pilotage_slo_requests_total", "pilotage_slo_misses_total"]
        .map(|name| format!("{name}{{lane=\"lane\",band=\"standard\",objective=\"ttft\"}}"));
    let times = "pilotage_time_to_first_token_seconds_count{lane=\"lane\"}".to_owned();
    let prompt = r#"{"model":"public","messages":[]}"#;
    let whole = r#"{"choices":[{"finish_reason":"stop","message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":5}}"#;
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let check = async |request: &str, feed: Feed, piece: &'static str, expect: u32| {
        let late = async {
            tokio::time::sleep(std::time::Duration::from_secs(8)).await;
            feed.send(Ok(piece.into())).unwrap();
            drop(feed);
        };
        let read = async { text(send(&gateway, chat(request)).await).await };
        let (body, ()) = tokio::join!(read, late);
        assert!(body.contains("choices"), "{body}");
        let metrics = metrics(&gateway).await;
        for series in series.iter().chain([&times]) {
            let line = format!("{series} {expect}\n");
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
    };
    check(prompt, engine.slow(), whole, 0).await;
    check(&prompt.replacen('{', "{\"stream\":true,", 1), engine.stream(), stream, 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_time_is_without_the_clients_sending_and_the_queue() {
    let engine = engine().await;
    let gateway = gateway(config(), &[]);
    engine.json(200, "{}");
    let pieces = stream::iter([r#"{"model":"#, r#""public"}"#]).then(|piece| async move {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes()))
    });
    let request = Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from_stream(pieces))
        .unwrap();
    let late = async {
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        up(&gateway, 1, &engine.url);
    };
    let (answer, ()) = tokio::join!(answer(&gateway, request), late);
    assert_eq!(answer.0, 200);
    let metrics = metrics(&gateway).await;
    // The clock stands still while the gateway works: all of its four and two seconds were waits.
    assert!(metrics.contains("pilotage_overhead_seconds_sum 0\n"), "{metrics}");
    assert!(metrics.contains("pilotage_overhead_seconds_count 1\n"), "{metrics}");
    assert!(metrics.contains("pilotage_queue_time_seconds_sum{lane=\"lane\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn the_reason_comes_only_when_asked_for_and_a_405_names_the_methods() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    for (asked, expect) in [("1", true), ("0", false)] {
        engine.json(200, "{}");
        let mut request = chat(r#"{"model":"public"}"#);
        request.headers_mut().insert("x-pilotage-why", asked.parse().unwrap());
        let response = send(&gateway, request).await;
        assert_eq!(response.headers().contains_key("x-pilotage-why"), expect, "{asked}");
    }
    let request = Request::get("/v1/chat/completions").body(Body::empty()).unwrap();
    let response = send(&gateway, request).await;
    assert_eq!(response.headers()["allow"], "POST");
}
