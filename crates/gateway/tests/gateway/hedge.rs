//! Second attempts: whoever begins first answers, the other is stopped, and one of them is paid for.

use axum::body::Bytes;
use pilotage_core::Policy;
use pilotage_core::health::{BoardConfig, HedgeConfig, WarmUp};
use pilotage_core::{SchedulerConfig, Span};
use pilotage_gateway::{Gateway, GatewayConfig};
use tokio::sync::mpsc::UnboundedSender;

use crate::accounts::Taken;
use crate::support::{
    Engine, chat, config, engine, gateway, metrics, send, status, text, until_idle, until_up,
};

const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1,\"total_tokens\":5}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const STREAM: &str =
    r#"{"model":"public","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;

/// First tokens that are known before anything is tried.
const KNOWN: u64 = 10;

fn hedging() -> GatewayConfig {
    let mut config = config();
    let hedge = HedgeConfig { enabled: true, samples_min: KNOWN, ..HedgeConfig::default() };
    let warm_up = WarmUp { span: Span::ZERO, ..WarmUp::default() };
    config.lanes[0].scheduler = SchedulerConfig {
        policy: Policy::LeastTokens,
        health: Some(BoardConfig { hedge, warm_up, ..BoardConfig::default() }),
        ..SchedulerConfig::default()
    };
    config.routes[0].hedge = true;
    config
}

type Feed = UnboundedSender<Result<Bytes, std::io::Error>>;

fn say(feed: &Feed, pieces: &[&'static str]) {
    for piece in pieces {
        feed.send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
    }
}

/// A lane whose first replica has answered often enough, at once.
async fn known(config: GatewayConfig, engines: &mut [&mut Engine]) -> Gateway {
    let all: Vec<&Engine> = engines.iter().map(|engine| &**engine).collect();
    let gateway = gateway(config, &all);
    until_up(&gateway, all.len()).await;
    for _ in 0..KNOWN {
        say(&all[0].stream(), &[HI, USAGE, DONE]);
        assert!(text(send(&gateway, chat(STREAM)).await).await.ends_with(DONE));
        until_idle(&gateway).await;
    }
    for engine in engines {
        while engine.seen.try_recv().is_ok() {}
    }
    gateway
}

async fn hedges(gateway: &Gateway) -> Vec<(String, u64)> {
    let metrics = metrics(gateway).await;
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("pilotage_hedges_total{"));
    let counts = lines.map(|line| {
        let (labels, count) = line.rsplit_once("} ").unwrap();
        let outcome = labels.rsplit('"').nth(1).unwrap();
        (outcome.to_owned(), count.parse().unwrap())
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

async fn service(gateway: &Gateway) -> u64 {
    let tenants = status(gateway).await["lanes"][0]["tenants"].clone();
    let service = |tenant: &serde_json::Value| tenant["service"].as_u64().unwrap();
    tenants.as_array().unwrap().iter().map(service).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_answer_that_begins_first_counts() {
    for second_wins in [true, false] {
        let (mut slow, mut other) = (engine().await, engine().await);
        let gateway = known(hedging(), &mut [&mut slow, &mut other]).await;
        let before = service(&gateway).await;
        let taken = Taken::of(&gateway);
        let (first, second) = (slow.stream(), other.stream());
        let mut request = chat(STREAM);
        request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
        request.headers_mut().insert("x-pilotage-why", "1".parse().unwrap());
        let script = async {
            slow.seen.recv().await.unwrap();
            // Nobody says anything: time passes until the second attempt.
            other.seen.recv().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(70)).await;
            let feed = if second_wins { &second } else { &first };
            say(feed, &[HI, USAGE, DONE]);
        };
        let (response, ()) = tokio::join!(send(&gateway, request), script);
        let why = response.headers()["x-pilotage-why"].to_str().unwrap().to_owned();
        let expect = if second_wins { ("won", 2) } else { ("lost", 1) };
        let (outcome, replica) = expect;
        assert!(why.ends_with(&format!("second_attempt={outcome}")), "{why}");
        assert!(why.contains(&format!(" replica={replica} ")), "{why}");
        let body = text(response).await;
        assert!(body.starts_with(HI) && body.ends_with(DONE), "{body}");
        // The other one is stopped.
        let loser = if second_wins { &first } else { &second };
        loser.closed().await;
        until_idle(&gateway).await;
        assert_eq!(hedges(&gateway).await, [(outcome.to_owned(), 1)]);
        let once = (service(&gateway).await, before);
        assert_eq!(once.0 - once.1, before / KNOWN, "paid for once");
        // Time is told as who answered saw it, and what the other took is nobody's.
        let record = taken.one("mine");
        let (computed, before) =
            (record.phases.connect + record.phases.prefill, record.phases.retry);
        let (of_answer, total) = (computed.as_millis(), record.total.as_millis());
        assert!(total > 100, "{record:?}");
        if second_wins {
            assert_eq!((of_answer, before.as_millis()), (70, total - 70), "{record:?}");
        } else {
            assert_eq!((of_answer, before.as_millis()), (total, 0), "{record:?}");
        }
        let ran = record.ran.as_ref().unwrap();
        // Four tokens of the prompt.
        let lost = 4 * if second_wins { total } else { 70 };
        assert_eq!((ran.used_token_ms, ran.lost_token_ms), (4 * of_answer, lost), "{record:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_leaves_the_answer_to_the_other() {
    for first_fails in [true, false] {
        let (mut slow, mut other) = (engine().await, engine().await);
        let gateway = known(hedging(), &mut [&mut slow, &mut other]).await;
        let (first, second) = (slow.stream(), other.stream());
        let script = async {
            slow.seen.recv().await.unwrap();
            other.seen.recv().await.unwrap();
            let (bad, good) = if first_fails { (first, second) } else { (second, first) };
            drop(bad);
            tokio::task::yield_now().await;
            say(&good, &[HI, USAGE, DONE]);
        };
        let (response, ()) = tokio::join!(send(&gateway, chat(STREAM)), script);
        assert_eq!(response.status(), 200);
        assert!(text(response).await.ends_with(DONE));
        until_idle(&gateway).await;
        assert!(slow.seen.try_recv().is_err() && other.seen.try_recv().is_err(), "asked again");
        let [(outcome, 1)] = &hedges(&gateway).await[..] else { panic!("one") };
        let may = if first_fails { &["won"][..] } else { &["failed", "lost"] };
        assert!(may.contains(&outcome.as_str()), "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_both_along() {
    let (mut slow, mut other) = (engine().await, engine().await);
    let gateway = known(hedging(), &mut [&mut slow, &mut other]).await;
    let (first, second) = (slow.stream(), other.stream());
    let script = async {
        slow.seen.recv().await.unwrap();
        other.seen.recv().await.unwrap();
    };
    tokio::select! {
        _ = send(&gateway, chat(STREAM)) => panic!("answered"),
        () = script => {}
    }
    first.closed().await;
    second.closed().await;
    until_idle(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_sent_twice_is_not() {
    let whole = STREAM.replace(",\"stream\":true", "");
    let mut off = hedging();
    off.routes[0].hedge = false;
    for (config, body) in [(off, STREAM), (hedging(), whole.as_str())] {
        let (mut slow, mut other) = (engine().await, engine().await);
        let gateway = known(config, &mut [&mut slow, &mut other]).await;
        let is_stream = body == STREAM;
        let feed = if is_stream { slow.stream() } else { slow.slow() };
        let script = async {
            slow.seen.recv().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            match is_stream {
                true => say(&feed, &[HI, USAGE, DONE]),
                false => feed.send(Ok("{}".into())).unwrap(),
            }
            drop(feed);
        };
        let (response, ()) = tokio::join!(send(&gateway, chat(body)), script);
        assert_eq!(response.status(), 200);
        drop(response);
        until_idle(&gateway).await;
        assert!(other.seen.try_recv().is_err());
        assert_eq!(hedges(&gateway).await, []);
    }
}
