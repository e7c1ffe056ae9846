//! Engines over loopback, asked byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fault::{When, rule};
use super::model::ModelConfig;
use super::*;

async fn start(config: EngineConfig) -> Engine {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Engine::start(config, listener, None, Clock::start()).unwrap()
}

fn chat(content: &str, more: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{content}"}}]{more}}}"#)
}

/// Everything that comes back for a request on a connection of its own.
async fn ask(engine: &Engine, path: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(engine.addr()).await.unwrap();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The text in an answer, whole or streamed.
fn said(answer: &str) -> String {
    let pieces = answer.split("\"content\":\"").skip(1);
    pieces.map(|piece| piece.split('"').next().unwrap()).collect()
}

fn expected(content: &str, output: usize) -> String {
    let prompt = tokens(format!("u:{content}\n").as_bytes());
    Voice::of(&prompt).answer(prompt.len(), output)
}

fn live() -> EngineConfig {
    EngineConfig { pace: Some(ModelConfig::default()), record: true, ..EngineConfig::default() }
}

async fn until(engine: &Engine, is: impl Fn(&Stats) -> bool) {
    for _ in 0..100_000 {
        if is(&engine.stats()) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {:?}", engine.stats());
}

#[tokio::test]
async fn an_instant_engine_answers_with_prepared_bytes() {
    let answer = AnswerShape { chunks: 5, chunks_per_write: 2, ..AnswerShape::default() };
    let engine = start(EngineConfig { answer, ..EngineConfig::default() }).await;
    let stream = ask(&engine, "/v1/chat/completions", r#"{"stream":true}"#).await;
    assert_eq!(said(&stream), " abc".repeat(5));
    assert!(
        stream.contains("\"completion_tokens\":5")
            && stream.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n")
    );
    let whole = ask(&engine, "/v1/chat/completions", "{}").await;
    assert_eq!(said(&whole), " abc".repeat(5));
    assert!(ask(&engine, "/v1/embeddings", "{}").await.contains("\"embedding\":[0.5"));
    assert!(ask(&engine, "/rerank", "{}").await.contains("relevance_score"));
    assert!(ask(&engine, "/nowhere", "").await.starts_with("HTTP/1.1 404"));
    until(&engine, |stats| stats.open == 0).await;
    let stats = engine.stats();
    assert_eq!((stats.requests, stats.finished, stats.aborted, stats.connections), (4, 4, 0, 5));
}

#[tokio::test]
async fn answers_in_one_connection_one_after_the_other() {
    let engine = start(EngineConfig::default()).await;
    let mut socket = TcpStream::connect(engine.addr()).await.unwrap();
    let one = "POST /v1/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
    let last = "POST /v1/completions HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}";
    socket.write_all((one.repeat(9) + last).as_bytes()).await.unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_modelled_engine_says_what_its_prompt_calls_for() {
    let engine = start(live()).await;
    let prompt = "tell me something that is rather long, so that it fills blocks of the cache";
    let more = r#","stream":true,"max_tokens":20,"stream_options":{"include_usage":true}"#;
    let stream = ask(&engine, "/v1/chat/completions", &chat(prompt, more)).await;
    assert_eq!(said(&stream), expected(prompt, 20));
    assert!(
        stream.contains(r#""finish_reason":"length""#)
            && stream.contains(r#""completion_tokens":20"#)
    );
    let again = ask(&engine, "/v1/chat/completions", &chat(prompt, r#","max_tokens":3"#)).await;
    assert_eq!(said(&again), expected(prompt, 3));
    assert!(again.contains(r#""cached_tokens":16"#), "{again}");
    let metrics = ask(&engine, "/metrics", "").await;
    for line in [
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"scripted\"} 16.0",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"scripted\"} 23.0",
        "vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"scripted\"} 2.0",
        "vllm:iteration_tokens_total_count{engine=\"0\",model_name=\"scripted\"} 23.0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(engine.seen()[0].fingerprint, Fingerprint::of(chat(prompt, more).as_bytes()));
}

#[tokio::test(start_paused = true)]
async fn an_engine_stops_computing_what_nobody_waits_for() {
    let engine = start(live()).await;
    let mut socket = TcpStream::connect(engine.addr()).await.unwrap();
    let body = chat("x", r#","max_tokens":100000"#);
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    until(&engine, |stats| stats.active == 1).await;
    drop(socket);
    until(&engine, |stats| stats.aborted == 1 && stats.active == 0).await;
    while engine.gauges().running > 0 || engine.gauges().aborted == 0 {
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert_eq!(engine.gauges().kv_usage, 0.0);
}

#[tokio::test]
async fn faults_strike_when_they_are_told_to() {
    let engine = start(EngineConfig { record: true, ..EngineConfig::default() }).await;
    engine.set_faults(&[rule("engine-dead", When::Nth(2)).unwrap()]);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = ask(&engine, "/v1/chat/completions", &chat("x", "")).await;
        statuses.push(answer.get(9..12).unwrap().to_owned());
    }
    assert_eq!(statuses, ["200", "500", "200"]);
    let faults: Vec<_> = engine.seen().into_iter().map(|seen| seen.fault).collect();
    assert_eq!(faults, [None, Some("engine-dead"), None]);
}

#[tokio::test]
async fn faults_are_set_over_http() {
    let engine = start(EngineConfig::default()).await;
    let order = r#"{"fault":"crash-mid-stream"}"#;
    assert!(ask(&engine, "/scripted/fault", order).await.starts_with("HTTP/1.1 200"));
    let stream = ask(&engine, "/v1/chat/completions", &chat("x", r#","stream":true"#)).await;
    assert_eq!(said(&stream), expected("x", 3));
    assert!(!stream.contains("[DONE]"));
    assert!(
        ask(&engine, "/scripted/fault", r#"{"fault":"F99"}"#).await.starts_with("HTTP/1.1 400")
    );
    assert!(
        ask(&engine, "/scripted/fault", r#"{"fault":"none"}"#).await.starts_with("HTTP/1.1 200")
    );
    assert!(ask(&engine, "/v1/chat/completions", r#"{"stream":true}"#).await.contains("[DONE]"));
}

#[tokio::test]
async fn several_choices_are_told_apart() {
    let engine = start(EngineConfig { record: true, ..EngineConfig::default() }).await;
    let body = chat("x", r#","n":2,"max_tokens":3,"stream":true"#);
    let stream = ask(&engine, "/v1/chat/completions", &body).await;
    for choice in ["\"index\":0", "\"index\":1"] {
        let own: String = stream.lines().filter(|line| line.contains(choice)).collect();
        assert_eq!(said(&own), expected("x", 3));
        assert_eq!(own.matches("\"finish_reason\":\"length\"").count(), 1);
    }
}
