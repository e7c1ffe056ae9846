//! What the record of a request says of its time and of what it took of engines, where that is not one attempt by
//! itself: shared answers, second attempts, answers that stop and go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pilotage_core::traffic::Charge;
use pilotage_core::{Capacity, ReplicaId, Span};
use pilotage_gateway::{Gateway, GatewayConfig, Ledger, Merge, Replica, Resume};
use pilotage_lens::usage::Row;
use pilotage_lens::{Phase, Record, Sink};
use pilotage_shell::tasks;
use tokio::sync::watch;

use crate::support::{
    Engine, answer, chat, config, engine, gateway, send, text, until_idle, until_up,
};

const STREAM: &str = r#"{"model":"public","stream":true,"temperature":0,"max_tokens":99,"messages":[{"role":"user","content":"hi"}]}"#;
const WHOLE: &str = r#"{"model":"public","temperature":0,"messages":[]}"#;
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":4,\"total_tokens\":104,\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Takes records.
#[derive(Debug, Default)]
pub(crate) struct Taken(Mutex<Vec<Arc<Record>>>);

impl Sink for Taken {
    fn take(&self, record: &Arc<Record>) {
        self.0.lock().push(Arc::clone(record));
    }
}

impl Taken {
    pub(crate) fn of(gateway: &Gateway) -> Arc<Self> {
        let taken = Arc::new(Self::default());
        gateway.add_sink(taken.clone());
        taken
    }

    /// The record of that request, whose phases are the whole of it.
    pub(crate) fn one(&self, id: &str) -> Arc<Record> {
        let all = self.0.lock();
        let found: Vec<_> = all.iter().filter(|one| one.request_id.as_str() == id).collect();
        assert_eq!(found.len(), 1, "one record of {id}");
        assert_eq!(found[0].phases.total(), found[0].total, "{:?}", found[0].phases);
        assert!(found[0].ttft.is_none_or(|ttft| ttft <= found[0].total), "{:?}", found[0].ttft);
        Arc::clone(found[0])
    }

    /// KV token-milliseconds of all records: of answers, and of what came to nothing.
    fn kv(&self) -> (u64, u64) {
        let rows = self.0.lock().iter().map(|one| Row::of(one, 0)).collect::<Vec<_>>();
        let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum();
        (sum(|row| row.kv_token_ms), sum(|row| row.overhead_kv_token_ms))
    }
}

fn ms(record: &Record, phases: &[Phase]) -> Vec<u64> {
    phases.iter().map(|phase| record.phases.of(*phase).as_millis()).collect()
}

fn merging() -> GatewayConfig {
    let mut config = config();
    config.routes[0].merge = Some(Merge { across_tenants: false, charge: Charge::Each });
    config.lanes[0].scheduler.health = None;
    config
}

pub(crate) fn named(id: &str, body: &str) -> Request<Body> {
    let mut request = chat(body);
    request.headers_mut().insert("x-request-id", id.parse().unwrap());
    request
}

type Pending = std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn begin(gateway: &Gateway, request: Request<Body>) -> Pending {
    let gateway = gateway.clone();
    let mut pending: Pending = Box::pin(async move { send(&gateway, request).await });
    assert!((&mut pending).now_or_never().is_none(), "it waits");
    pending
}

fn chunk(content: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}}}}]}}\n\n")
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Reads until the client has this text.
async fn read_until(response: &mut Response<Body>, what: &str) {
    let mut seen = String::new();
    while !seen.contains(what) {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_answer_is_told_as_one_of_ones_own_and_is_on_one_account() {
    let mut engine = engine().await;
    let gateway = gateway(merging(), &[&engine]);
    let taken = Taken::of(&gateway);
    let feed = engine.stream();
    let both = ["one", "two"].map(|id| begin(&gateway, named(id, STREAM)));
    engine.seen.recv().await.unwrap();
    pass(50).await;
    feed.send(Ok(chunk("a").into())).unwrap();
    let [mut first, second] = both;
    let (mut one, two) = tokio::join!(&mut first, second);
    let two = tasks::spawn("client", text(two));
    read_until(&mut one, "\"a\"").await;
    for content in ["b", "c", "d"] {
        pass(100).await;
        feed.send(Ok(chunk(content).into())).unwrap();
    }
    pass(100).await;
    feed.send(Ok(format!("{USAGE}{DONE}").into())).unwrap();
    assert!(two.await.unwrap().unwrap().ends_with(DONE));
    // This one takes nothing all the while.
    pass(600).await;
    assert!(text(one).await.ends_with(DONE));
    let (one, two) = (taken.one("one"), taken.one("two"));
    assert_eq!((one.merged, two.merged), (false, true));
    for record in [&one, &two] {
        assert_eq!((record.tokens.input, record.tokens.output, record.reasoning), (100, 4, 2));
        assert!(record.counted);
    }
    let itl = two.itl.unwrap();
    assert!((90..=110).contains(&itl.p50.as_millis()), "{itl:?}");
    assert!(one.itl.is_some());
    assert_eq!(ms(&two, &[Phase::Decode, Phase::ClientBlocked, Phase::Other]), [300, 0, 100]);
    assert!(one.phases.client_blocked >= Span::from_millis(900), "{:?}", one.phases);
    // 100 tokens for 50 ms, and 102 in the mean for 300, once.
    assert_eq!(taken.kv(), (100 * 50 + 102 * 300, 0));
    assert_eq!(Row::of(&one, 0).kv_token_ms, 100 * 50 + 102 * 300);
}

#[tokio::test(start_paused = true)]
async fn who_stays_has_a_shared_answer_on_its_account_and_else_who_leaves_last() {
    for all_leave in [false, true] {
        let mut engine = engine().await;
        let gateway = gateway(merging(), &[&engine]);
        let taken = Taken::of(&gateway);
        let feed = engine.stream();
        let first = begin(&gateway, named("one", STREAM));
        engine.seen.recv().await.unwrap();
        pass(30).await;
        let second = begin(&gateway, named("two", STREAM));
        pass(20).await;
        feed.send(Ok(chunk("a").into())).unwrap();
        let mut one = first.await;
        read_until(&mut one, "\"a\"").await;
        let mut two = second.await;
        read_until(&mut two, "\"a\"").await;
        drop(one);
        assert_eq!(Row::of(&taken.one("one"), 0).kv_token_ms, 0, "another stays");
        pass(400).await;
        if all_leave {
            drop(two);
            feed.closed().await;
        } else {
            let rest = format!("{}{USAGE}{DONE}", ["b", "c", "d"].map(chunk).concat());
            feed.send(Ok(rest.into())).unwrap();
            assert!(text(two).await.ends_with(DONE));
        }
        until_idle(&gateway).await;
        let two = taken.one("two");
        let (input, output) = (u64::from(two.tokens.input), u64::from(two.tokens.output));
        assert_eq!(output, if all_leave { 1 } else { 4 });
        // From the dispatch on, which was before it came.
        let kv = input * 50 + (2 * input + output) * 400 / 2;
        assert_eq!(taken.kv(), (kv, 0), "{two:?}");
        assert_eq!(Row::of(&two, 0).kv_token_ms, kv);
        let pieces = &two.ran.as_ref().unwrap().pieces;
        let ago = |span: Span| span.as_millis();
        assert_eq!(
            pieces.iter().map(|one| (ago(one.from_ago), ago(one.until_ago))).collect::<Vec<_>>(),
            [(450, 0)]
        );
    }
}

/// A ledger whose rows are written when the test says.
fn ledger(gateway: &Gateway) -> watch::Sender<u64> {
    let (written, receiver) = watch::channel(0);
    let rows = AtomicU64::new(0);
    let add = Arc::new(move |_: &Arc<Record>| rows.fetch_add(1, Ordering::Relaxed) + 1);
    assert!(gateway.set_ledger(Ledger {
        add,
        written: receiver,
        patience: Duration::from_secs(3600)
    }));
    written
}

#[tokio::test]
async fn the_end_of_a_shared_answer_and_of_a_refusal_waits_for_its_row() {
    let mut engine = engine().await;
    let gateway = gateway(merging(), &[&engine]);
    let written = ledger(&gateway);
    let feed = engine.stream();
    let pending = begin(&gateway, chat(STREAM));
    engine.seen.recv().await.unwrap();
    feed.send(Ok(chunk("a").into())).unwrap();
    let mut response = pending.await;
    read_until(&mut response, "\"a\"").await;
    feed.send(Ok(format!("{}{USAGE}", chunk("b")).into())).unwrap();
    read_until(&mut response, "\"b\"").await;
    feed.send(Ok(DONE.into())).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), response.body_mut().frame()).await;
    assert!(early.is_err(), "{early:?}");
    written.send(1).unwrap();
    assert!(text(response).await.ends_with(DONE));
    let mut refused = Box::pin(answer(&gateway, chat(r#"{"model":"nobody"}"#)));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut refused).await;
    assert!(early.is_err(), "{early:?}");
    written.send(2).unwrap();
    assert_eq!(refused.await.0, 404);
}

fn with_ids(content: &str, ids: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"served\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":null{ids}}}]}}\n\n"
    )
}

fn rest() -> String {
    let text = "data: {\"id\":\"x\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"two\",\
                \"token_ids\":[2,3],\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
    format!("{text}{usage}{DONE}")
}

fn in_band(id: &str, body: &str, band: &str) -> Request<Body> {
    let mut request = named(id, body);
    request.headers_mut().insert("x-pilotage-band", band.parse().unwrap());
    request
}

/// One place, which urgent requests take from others.
fn one_place(engine: &Engine) -> (Gateway, Arc<Taken>) {
    let mut config = config();
    config.tenants[0].highest_band = pilotage_core::Band::Realtime;
    config.lanes[0].resume = Resume::Tokens;
    config.lanes[0].resume_from = 0;
    let gateway = gateway(config, &[]);
    let capacity = Capacity { pauses_max: 0, ..Capacity::of_requests(1) };
    let replica = Replica::at("one", &engine.url, capacity);
    gateway.lane("lane").unwrap().replica_up(ReplicaId(9), replica);
    let taken = Taken::of(&gateway);
    (gateway, taken)
}

#[tokio::test(start_paused = true)]
async fn who_stands_aside_in_the_middle_waits_in_line_and_decodes_no_longer() {
    let mut engine = engine().await;
    let (gateway, taken) = one_place(&engine);
    let (first, urgent, second) = (engine.stream(), engine.slow(), engine.stream());
    let opening = with_ids("", ",\"prompt_token_ids\":[7,8],\"token_ids\":[]");
    first.send(Ok(format!("{opening}{}", with_ids("one ", ",\"token_ids\":[1]")).into())).unwrap();
    let mut running = send(&gateway, in_band("bulk", STREAM, "bulk")).await;
    read_until(&mut running, "one ").await;
    engine.seen.recv().await.unwrap();
    let running = tasks::spawn("client", text(running));
    pass(200).await;
    let other = begin(&gateway, in_band("urgent", WHOLE, "realtime"));
    let other = tasks::spawn("client", other);
    engine.seen.recv().await.unwrap();
    pass(1000).await;
    urgent.send(Ok("{}".into())).unwrap();
    drop(urgent);
    assert_eq!(other.await.unwrap().unwrap().status(), 200);
    engine.seen.recv().await.unwrap();
    pass(300).await;
    second.send(Ok(rest().into())).unwrap();
    assert!(running.await.unwrap().unwrap().contains("two"));
    let record = taken.one("bulk");
    assert_eq!((record.stops, record.attempts), (1, 1));
    assert_eq!(ms(&record, &[Phase::Queue, Phase::Retry, Phase::Decode]), [1000, 300, 200]);
    let ran = record.ran.as_ref().unwrap();
    // Two tokens of the prompt, and one of the answer when it stopped: 2.5 for 200 ms; 3 for 300 ms, again.
    assert_eq!((ran.used_token_ms, ran.lost_token_ms), (500, 900), "{record:?}");
    assert_eq!(taken.one("urgent").phases.queue.as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_stands_aside_before_its_first_token_waits_in_line() {
    let mut engine = engine().await;
    let (gateway, taken) = one_place(&engine);
    let (_silent, urgent, second) = (engine.slow(), engine.slow(), engine.slow());
    let bulk = tasks::spawn("client", begin(&gateway, in_band("bulk", WHOLE, "bulk")));
    engine.seen.recv().await.unwrap();
    pass(200).await;
    let other = tasks::spawn("client", begin(&gateway, in_band("urgent", WHOLE, "realtime")));
    engine.seen.recv().await.unwrap();
    pass(1000).await;
    urgent.send(Ok("{}".into())).unwrap();
    drop(urgent);
    other.await.unwrap().unwrap();
    engine.seen.recv().await.unwrap();
    pass(300).await;
    second
        .send(
            Ok(r#"{"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}"#.into()),
        )
        .unwrap();
    drop(second);
    assert_eq!(bulk.await.unwrap().unwrap().status(), 200);
    let record = taken.one("bulk");
    assert_eq!(ms(&record, &[Phase::Queue, Phase::Retry]), [1000, 200], "{record:?}");
    let ran = record.ran.as_ref().unwrap();
    assert_eq!((ran.used_token_ms, ran.lost_token_ms), (11 * 300, 10 * 200));
}

#[tokio::test(start_paused = true)]
async fn of_an_answer_that_breaks_the_time_without_one_is_lost() {
    let (mut one, mut other) = (engine().await, engine().await);
    let mut config = config();
    config.lanes[0].resume = Resume::Tokens;
    let gateway = gateway(config, &[&one, &other]);
    until_up(&gateway, 2).await;
    let taken = Taken::of(&gateway);
    let (first, second) = (one.stream(), other.stream());
    let opening = with_ids("", ",\"prompt_token_ids\":[7,8],\"token_ids\":[]");
    first.send(Ok(format!("{opening}{}", with_ids("one ", ",\"token_ids\":[1]")).into())).unwrap();
    let mut response = send(&gateway, named("mine", STREAM)).await;
    read_until(&mut response, "one ").await;
    one.seen.recv().await.unwrap();
    let running = tasks::spawn("client", text(response));
    pass(200).await;
    first.send(Err(std::io::Error::other("gone"))).unwrap();
    other.seen.recv().await.unwrap();
    pass(300).await;
    second.send(Ok(rest().into())).unwrap();
    assert!(running.await.unwrap().unwrap().contains("two"));
    let record = taken.one("mine");
    assert_eq!(record.resumed, 1);
    let [queue, retry, decode] = ms(&record, &[Phase::Queue, Phase::Retry, Phase::Decode])[..]
    else {
        panic!("three")
    };
    assert_eq!((queue, decode), (0, 200), "{record:?}");
    assert!(retry >= 300, "{record:?}");
    let pieces = &record.ran.as_ref().unwrap().pieces;
    let names: Vec<&str> = pieces.iter().map(|piece| piece.at.replica.as_str()).collect();
    assert_eq!(names, ["replica-1", "replica-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_is_nobodys() {
    let (mut one, mut other) = (engine().await, engine().await);
    let gateway = gateway(config(), &[&one, &other]);
    until_up(&gateway, 2).await;
    let taken = Taken::of(&gateway);
    let (first, second) = (one.slow(), other.slow());
    let asked = tasks::spawn("client", begin(&gateway, named("mine", WHOLE)));
    one.seen.recv().await.unwrap();
    pass(400).await;
    first.send(Err(std::io::Error::other("gone"))).unwrap();
    other.seen.recv().await.unwrap();
    pass(100).await;
    second
        .send(
            Ok(r#"{"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}"#.into()),
        )
        .unwrap();
    drop(second);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    let record = taken.one("mine");
    assert!(record.phases.retry.as_millis() >= 400, "{record:?}");
    assert_eq!(taken.kv(), (11 * 100, 10 * 400));
    // One that has no answer at all took something, too.
    for engine in [&one, &other] {
        for _ in 0..9 {
            engine.json(500, "{}");
        }
    }
    assert_eq!(send(&gateway, named("lost", WHOLE)).await.status(), 502);
    let lost = taken.one("lost");
    assert_eq!(Row::of(&lost, 0).kv_token_ms, 0, "{lost:?}");
    assert_eq!(lost.ran.as_ref().unwrap().pieces.len(), lost.attempts as usize);
}

/// A Model that failed a request pays for that, not the one that answered it in the end.
#[tokio::test(start_paused = true)]
async fn what_a_model_failed_is_its_own_after_a_fallback() {
    let (mut one, mut other) = (engine().await, engine().await);
    let mut config = config();
    config.lanes[0].scheduler.health = None;
    config.lanes.push(pilotage_gateway::LaneConfig::named("other", 1000));
    config.routes[0].traffic.fallbacks = vec![pilotage_core::traffic::LaneId(1)];
    let gateway = gateway(config, &[]);
    let up = |lane: &str, id: u32, url: &str, hardware: &str| {
        let replica = Replica::at(format!("replica-{id}"), url, Capacity::of_requests(4));
        let replica = Replica { hardware: Some(hardware.into()), ..replica };
        gateway.lane(lane).unwrap().replica_up(ReplicaId(id), replica);
    };
    up("lane", 1, &one.url, "h100");
    up("other", 2, &other.url, "l4");
    let taken = Taken::of(&gateway);
    let first = one.slow();
    for _ in 0..9 {
        one.json(500, "{}");
    }
    let second = other.slow();
    let asked = tasks::spawn("client", begin(&gateway, named("mine", WHOLE)));
    one.seen.recv().await.unwrap();
    pass(400).await;
    first.send(Err(std::io::Error::other("gone"))).unwrap();
    other.seen.recv().await.unwrap();
    pass(100).await;
    second
        .send(
            Ok(r#"{"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}"#.into()),
        )
        .unwrap();
    drop(second);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    let record = taken.one("mine");
    let busy = vec![7; record.ran.as_ref().unwrap().pieces.len()];
    let row = Row::of_attempts(&record, &busy);
    assert_eq!((row.model.as_deref(), row.hardware.as_deref()), (Some("other"), Some("l4")));
    let [elsewhere] = &row.elsewhere[..] else { panic!("{row:?}") };
    assert_eq!((elsewhere.model.as_str(), elsewhere.hardware.as_str()), ("lane", "h100"));
    assert_eq!(elsewhere.overhead_kv_token_ms, row.overhead_kv_token_ms);
    assert!(row.overhead_kv_token_ms >= 10 * 400, "{row:?}");
    assert_eq!(elsewhere.busy_us, row.busy_us - 7, "all but the last");
}
