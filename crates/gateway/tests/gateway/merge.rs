//! Equal requests that share a generation: the same bytes for all of them, and what is each one's own.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use pilotage_core::admit::{Budget, Quota, Window};
use pilotage_core::traffic::Charge;
use pilotage_gateway::{Gateway, GatewayConfig, Merge, Price, TenantConfig};
use pilotage_shell::secret::KeyHash;
use proptest::prelude::*;

use crate::accounts::{Taken, named};
use crate::support::{
    Engine, KEY, chat, config, ended, engine, gateway, metrics, send, status, text, until_idle,
};

const STREAM: &str = r#"{"model":"public","stream":true,"temperature":0,"messages":[{"role":"user","content":"word word word word word word"}]}"#;
const WHOLE: &str = r#"{"model":"public","temperature":0,"max_tokens":50,"messages":[]}"#;
const ANSWER: &str = r#"{"choices":[{"finish_reason":"stop","message":{"content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
const OTHER: &str = "pk-other";

type Pending = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Two tenants, whose equal requests share.
fn merging(merge: Merge) -> GatewayConfig {
    let mut config = config();
    config.routes[0].merge = Some(merge);
    // Engines that break off or stay silent are asked again all the same.
    config.lanes[0].scheduler.health = None;
    config.lanes[0].price = Price { input: 1_000_000, cached: 0, output: 2_000_000 };
    let budget = Budget { window: Window::Month, hard: 100_000, soft: None };
    let quota = Quota { budgets: vec![budget], concurrency: Some(100), ..Quota::default() };
    config.tenants[0].quota = quota.clone();
    let keys = vec![KeyHash::of(OTHER).into()];
    config.tenants.push(TenantConfig { keys, quota, ..TenantConfig::named("other") });
    config
}

fn within(charge: Charge) -> GatewayConfig {
    merging(Merge { across_tenants: false, charge })
}

fn by(key: &str, body: &str) -> Request<Body> {
    let mut request = chat(body);
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

/// Sends a request, which waits for its answer from now on.
fn begin(gateway: &Gateway, request: Request<Body>) -> Pending {
    let gateway = gateway.clone();
    let mut pending: Pending = Box::pin(async move { send(&gateway, request).await });
    assert!((&mut pending).now_or_never().is_none(), "it waits");
    pending
}

fn spent(gateway: &Gateway) -> [u64; 2] {
    let spent = gateway.spent();
    ["team", "other"].map(|tenant| {
        spent.iter().filter(|(name, ..)| name == tenant).map(|(.., spent)| spent).sum()
    })
}

async fn count(gateway: &Gateway, series: &str) -> u64 {
    let metrics = metrics(gateway).await;
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Everybody holds nothing: a request more is as alone as the first.
async fn until_nothing_is_held(gateway: &Gateway, engine: &Engine) {
    until_idle(gateway).await;
    let before = spent(gateway)[0];
    engine.json(200, ANSWER);
    let lone = send(gateway, chat(r#"{"model":"public","messages":[]}"#)).await;
    assert_eq!(lone.status(), 200);
    assert_eq!(spent(gateway)[0], before + 20);
}

fn chunk(content: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}}}}]}}\n\n")
}

fn whole_stream(words: usize) -> String {
    let mut stream: String = (0..words).map(|word| chunk(&format!("w{word}"))).collect();
    stream.push_str("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    stream.push_str("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\ndata: [DONE]\n\n");
    stream
}

/// What clients get of a stream whose usage they did not ask for.
fn shown(stream: &str) -> String {
    let from = stream.find("data: {\"choices\":[],").unwrap();
    let to = from + stream[from..].find("\n\n").unwrap() + 2;
    format!("{}{}", &stream[..from], &stream[to..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the network cuts the stream, and whenever callers come, all get the same bytes.
    #[test]
    fn all_get_the_stream_byte_for_byte(
        words in 1usize..20,
        size in 1usize..200,
        joins in prop::collection::vec(0usize..40, 1..6),
        reads in prop::collection::vec(any::<bool>(), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut engine = engine().await;
            let gateway = gateway(within(Charge::Each), &[&engine]);
            let feed = engine.stream();
            let first = begin(&gateway, chat(STREAM));
            engine.seen.recv().await.unwrap();
            let stream = whole_stream(words);
            let (last, before) = { let bytes = stream.as_bytes(); bytes.split_last().unwrap() };
            let mut followers: Vec<Pending> = Vec::new();
            for (at, piece) in before.chunks(size).enumerate() {
                for _ in joins.iter().filter(|join| **join == at) {
                    let gateway = gateway.clone();
                    followers.push(Box::pin(async move { send(&gateway, chat(STREAM)).await }));
                }
                // Polled once they are there: some wait for the begin, some get it at once.
                if reads[at % reads.len()] {
                    tokio::task::yield_now().await;
                }
                feed.send(Ok(Bytes::copy_from_slice(piece))).unwrap();
            }
            let late = joins.iter().filter(|join| **join >= before.chunks(size).count());
            for _ in late {
                followers.push(begin_or_not(&gateway));
            }
            let mut responses = vec![first.await];
            for follower in followers {
                responses.push(follower.await);
            }
            feed.send(Ok(Bytes::copy_from_slice(&[*last]))).unwrap();
            drop(feed);
            let expect = shown(&stream);
            let bodies = futures_util::future::join_all(responses.into_iter().map(text)).await;
            for body in bodies {
                assert_eq!(body, expect);
            }
            assert!(engine.seen.try_recv().is_err(), "one generation");
            let followers = joins.len() as u64;
            assert_eq!(count(&gateway, "pilotage_merged_requests_total{lane=\"lane\"}").await, followers);
            assert_eq!(spent(&gateway), [20 * (1 + followers), 0]);
            assert_eq!(count(&gateway, "pilotage_tokens_total{lane=\"lane\",type=\"output\"}").await, 5);
            until_nothing_is_held(&gateway, &engine).await;
        });
    }
}

fn begin_or_not(gateway: &Gateway) -> Pending {
    let gateway = gateway.clone();
    Box::pin(async move { send(&gateway, chat(STREAM)).await })
}

#[tokio::test]
async fn each_answer_has_its_own_id_and_limits() {
    let mut engine = engine().await;
    let gateway = gateway(within(Charge::Each), &[&engine]);
    let named = |id: &str| {
        let mut request = chat(WHOLE);
        request.headers_mut().insert("x-request-id", id.parse().unwrap());
        request.headers_mut().insert("x-pilotage-why", "1".parse().unwrap());
        request
    };
    let all = ["one", "two", "three"].map(|id| begin(&gateway, named(id)));
    engine.seen.recv().await.unwrap();
    engine.json(200, ANSWER);
    for (pending, id) in all.into_iter().zip(["one", "two", "three"]) {
        let response = pending.await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-request-id"]),
            (200, &id.parse().unwrap())
        );
        assert!(response.headers().contains_key("x-pilotage-why"));
        assert_eq!(text(response).await, ANSWER);
    }
    assert_eq!(spent(&gateway), [60, 0]);
    assert!(engine.seen.try_recv().is_err());
    until_nothing_is_held(&gateway, &engine).await;
    assert_eq!(ended(&gateway, "ok").await, 4);
}

/// What three callers pay, the first of them of one tenant and the others of another.
async fn paid(charge: Charge) -> [u64; 2] {
    let mut engine = engine().await;
    let gateway = gateway(merging(Merge { across_tenants: true, charge }), &[&engine]);
    let all = [KEY, OTHER, OTHER].map(|key| begin(&gateway, by(key, WHOLE)));
    engine.seen.recv().await.unwrap();
    engine.json(200, ANSWER);
    for pending in all {
        assert_eq!(text(pending.await).await, ANSWER);
    }
    assert!(engine.seen.try_recv().is_err());
    let paid = spent(&gateway);
    until_nothing_is_held(&gateway, &engine).await;
    paid
}

#[tokio::test]
async fn tenants_pay_as_the_route_says() {
    assert_eq!(paid(Charge::Each).await, [20, 40]);
    assert_eq!(paid(Charge::First).await, [20, 0]);
    // 20 for three: six each, and two more for the first.
    assert_eq!(paid(Charge::Split).await, [8, 12]);
}

#[tokio::test]
async fn one_that_leaves_does_not_stop_the_others() {
    for (charge, expect) in [(Charge::Each, 20), (Charge::First, 20), (Charge::Split, 20)] {
        let mut engine = engine().await;
        let gateway = gateway(within(charge), &[&engine]);
        let records = Taken::of(&gateway);
        let feed = engine.stream();
        let first = begin(&gateway, named("first", STREAM));
        engine.seen.recv().await.unwrap();
        let second = begin(&gateway, named("second", STREAM));
        drop(first);
        let stream = whole_stream(5);
        feed.send(Ok(stream.clone().into())).unwrap();
        assert_eq!(text(second.await).await, shown(&stream));
        assert_eq!((ended(&gateway, "client_cancel").await, ended(&gateway, "ok").await), (1, 1));
        // Who left before the first token pays the prompt, where everybody pays as if alone.
        let prompt = if charge == Charge::Each { spent(&gateway)[0] - expect } else { 0 };
        assert_eq!(spent(&gateway)[0], expect + prompt, "{charge:?}");
        assert!(charge != Charge::Each || (5..25).contains(&prompt), "{prompt}");
        let charged = ["first", "second"].map(|id| records.one(id).charged);
        let parts = match charge {
            Charge::Each => [prompt, 20],
            Charge::First => [20, 0],
            Charge::Split => [10, 10],
        };
        assert_eq!(charged, parts, "{charge:?}");
        until_nothing_is_held(&gateway, &engine).await;
    }
}

#[tokio::test]
async fn the_last_one_that_leaves_stops_the_generation() {
    for charge in [Charge::Each, Charge::First, Charge::Split] {
        let mut engine = engine().await;
        let mut config = within(charge);
        // Silence would end it as well.
        config.routes[0].timeouts.idle = Duration::from_secs(600);
        config.routes[0].timeouts.total = Duration::from_secs(600);
        let gateway = gateway(config, &[&engine]);
        let records = Taken::of(&gateway);
        let feed = engine.stream();
        let first = begin(&gateway, named("first", STREAM));
        engine.seen.recv().await.unwrap();
        let second = begin(&gateway, named("second", STREAM));
        feed.send(Ok(chunk("a").into())).unwrap();
        let mut second = second.await;
        second.body_mut().frame().await.unwrap().unwrap();
        drop(first);
        tokio::task::yield_now().await;
        assert!(!feed.is_closed(), "one is there still");
        drop(second);
        feed.closed().await;
        until_idle(&gateway).await;
        assert_eq!(ended(&gateway, "client_cancel").await, 2);
        assert!(spent(&gateway)[0] > 2, "{charge:?}: what was begun is paid");
        let [first, second] = ["first", "second"].map(|id| records.one(id).charged);
        assert_eq!(first + second, spent(&gateway)[0], "{charge:?}");
        assert_eq!(charge == Charge::First, second == 0, "{charge:?}");
        until_nothing_is_held(&gateway, &engine).await;
    }
}

/// Who pays a part has it in its record, whichever of them leaves and whoever is the last to go.
#[tokio::test]
async fn records_of_those_who_left_say_what_their_own_tenant_paid() {
    for leaves in 0..3 {
        let mut engine = engine().await;
        let config = merging(Merge { across_tenants: true, charge: Charge::Split });
        let gateway = gateway(config, &[&engine]);
        let records = Taken::of(&gateway);
        let feed = engine.stream();
        let of = |key: &str, id: &str| {
            let mut request = by(key, STREAM);
            request.headers_mut().insert("x-request-id", id.parse().unwrap());
            request
        };
        let ids = ["a", "b", "c"];
        let mut all: Vec<Pending> = vec![begin(&gateway, of(KEY, ids[0]))];
        engine.seen.recv().await.unwrap();
        all.extend(ids[1..].iter().map(|id| begin(&gateway, of(OTHER, id))));
        drop(all.remove(leaves));
        feed.send(Ok(whole_stream(5).into())).unwrap();
        drop(feed);
        for pending in all {
            text(pending.await).await;
        }
        let charged = ids.map(|id| records.one(id).charged);
        assert_eq!(charged, [8, 6, 6], "{leaves} leaves");
        assert_eq!(spent(&gateway), [8, 12]);
    }
}

/// A trial hears of a generation once, whoever of its callers leaves; of one that nobody waited for nothing.
#[tokio::test]
async fn a_shared_answer_counts_once_for_its_model() {
    for leaves in [None, Some(0), Some(1)] {
        let mut engine = engine().await;
        let gateway = gateway(within(Charge::Each), &[&engine]);
        let feed = engine.stream();
        let mut all: Vec<Pending> = vec![begin(&gateway, chat(STREAM))];
        engine.seen.recv().await.unwrap();
        all.push(begin(&gateway, chat(STREAM)));
        if let Some(leaves) = leaves {
            drop(all.remove(leaves));
        }
        feed.send(Ok(whole_stream(5).into())).unwrap();
        drop(feed);
        for pending in all {
            text(pending.await).await;
        }
        let arm = &status(&gateway).await["routes"][0]["arms"][0];
        let seen = ["requests", "failed", "input_tokens", "output_tokens"].map(|key| &arm[key]);
        assert_eq!(seen, [1, 0, 10, 5], "{leaves:?} leaves: {arm}");
        let gaps = "pilotage_inter_token_latency_seconds_count{lane=\"lane\"}";
        // Between six events: five words, and why there are no more.
        assert_eq!(count(&gateway, gaps).await, 5, "{leaves:?} leaves");
    }
}

#[tokio::test]
async fn a_lone_client_that_closes_its_stream_is_charged_in_its_record() {
    for charge in [Charge::Each, Charge::First, Charge::Split] {
        let mut engine = engine().await;
        let gateway = gateway(within(charge), &[&engine]);
        let records = Taken::of(&gateway);
        let feed = engine.stream();
        let alone = begin(&gateway, named("alone", STREAM));
        engine.seen.recv().await.unwrap();
        feed.send(Ok(chunk("a").into())).unwrap();
        let mut alone = alone.await;
        alone.body_mut().frame().await.unwrap().unwrap();
        drop(alone);
        feed.closed().await;
        until_idle(&gateway).await;
        let charged = records.one("alone").charged;
        assert!(charged > 2, "{charge:?}: {charged}");
        assert_eq!([charged, 0], spent(&gateway), "{charge:?}");
    }
}

/// Whether the two share.
async fn share(config: GatewayConfig, one: Request<Body>, other: Request<Body>) -> bool {
    let mut engine = engine().await;
    let gateway = gateway(config, &[&engine]);
    let both = [begin(&gateway, one), begin(&gateway, other)];
    engine.json(200, ANSWER);
    engine.json(200, ANSWER);
    for pending in both {
        assert_eq!(text(pending.await).await, ANSWER);
    }
    engine.seen.recv().await.unwrap();
    until_idle(&gateway).await;
    engine.seen.try_recv().is_err()
}

#[tokio::test]
async fn only_what_is_equal_and_has_no_chance_in_it_shares() {
    let each = || within(Charge::Each);
    let check = async |one: &str, other: &str, expect: bool| {
        let shared = share(each(), chat(one), chat(other)).await;
        assert_eq!(shared, expect, "{one} and {other}");
    };
    check(WHOLE, WHOLE, true).await;
    check(WHOLE, &WHOLE.replace("50", "51"), false).await;
    check(WHOLE, &format!("{WHOLE} "), false).await;
    check(WHOLE, &WHOLE.replace("public", "alias"), false).await;
    let warm = &WHOLE.replace("\"temperature\":0", "\"temperature\":0.5");
    check(warm, warm, false).await;
    let silent = &WHOLE.replace("\"temperature\":0,", "");
    check(silent, silent, false).await;
    let seeded = &WHOLE.replace("\"temperature\":0", "\"seed\":7");
    check(seeded, seeded, true).await;
    let several = &WHOLE.replace("{\"model\"", "{\"n\":2,\"model\"");
    check(several, several, false).await;
    // Not where the route does not say so.
    assert!(!share(config(), chat(WHOLE), chat(WHOLE)).await);
    // Another path is another request.
    let mut completion = chat(WHOLE);
    *completion.uri_mut() = "/v1/completions".parse().unwrap();
    assert!(!share(each(), chat(WHOLE), completion).await);
    // Somebody in a hurry does not wait with somebody who is not.
    let mut patient = chat(WHOLE);
    patient.headers_mut().insert("x-pilotage-band", "batch".parse().unwrap());
    assert!(!share(each(), patient, chat(WHOLE)).await);
    // What embeds has no chance in it.
    let embed = || {
        let mut request = chat(r#"{"model":"public","input":"a"}"#);
        *request.uri_mut() = "/v1/embeddings".parse().unwrap();
        request
    };
    assert!(share(each(), embed(), embed()).await);
}

#[tokio::test]
async fn tenants_share_only_where_the_route_says_so() {
    let both = |across_tenants| {
        let config = merging(Merge { across_tenants, charge: Charge::Each });
        share(config, by(KEY, WHOLE), by(OTHER, WHOLE))
    };
    assert!(!both(false).await);
    assert!(both(true).await);
}

#[tokio::test]
async fn a_failure_is_everybodys() {
    let mut engine = engine().await;
    let gateway = gateway(within(Charge::Split), &[&engine]);
    let both = [(); 2].map(|()| begin(&gateway, chat(WHOLE)));
    for _ in 0..3 {
        engine.json(500, "{}");
    }
    let mut bodies = Vec::new();
    for pending in both {
        let response = pending.await;
        assert_eq!(response.status(), 502);
        bodies.push(text(response).await);
    }
    assert_eq!(bodies[0], bodies[1]);
    let attempts = std::iter::from_fn(|| engine.seen.try_recv().ok()).count();
    assert_eq!(attempts as u64, 1 + count(&gateway, "pilotage_retries_total{lane=\"lane\"}").await);
    assert_eq!((spent(&gateway), ended(&gateway, "upstream_error").await), ([0, 0], 2));
}

#[tokio::test]
async fn a_break_in_the_middle_is_everybodys() {
    let mut engine = engine().await;
    let gateway = gateway(within(Charge::Split), &[&engine]);
    let feed = engine.stream();
    let both = [(); 2].map(|()| begin(&gateway, chat(STREAM)));
    engine.seen.recv().await.unwrap();
    feed.send(Ok(chunk("a").into())).unwrap();
    drop(feed);
    for pending in both {
        let body = text(pending.await).await;
        assert!(body.starts_with(&chunk("a")) && body.contains("upstream_disconnected"), "{body}");
    }
    assert_eq!(ended(&gateway, "upstream_interrupted").await, 2);
    until_nothing_is_held(&gateway, &engine).await;
}

#[tokio::test(start_paused = true)]
async fn everybody_has_a_deadline_of_its_own() {
    let mut engine = engine().await;
    let gateway = gateway(within(Charge::Each), &[&engine]);
    let mut hasty = chat(STREAM);
    hasty.headers_mut().insert("x-pilotage-deadline-ms", "2000".parse().unwrap());
    let feed = engine.stream();
    let first = begin(&gateway, hasty);
    let second = begin(&gateway, chat(STREAM));
    engine.seen.recv().await.unwrap();
    feed.send(Ok(chunk("a").into())).unwrap();
    let (first, second) = (first.await, second.await);
    let body = text(first).await;
    assert!(body.starts_with(&chunk("a")) && body.contains("not complete in the time"), "{body}");
    let rest = whole_stream(2);
    feed.send(Ok(rest.clone().into())).unwrap();
    assert_eq!(text(second).await, format!("{}{}", chunk("a"), shown(&rest)));
    assert_eq!((ended(&gateway, "timeout").await, ended(&gateway, "ok").await), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_is_too_far_behind_is_cut_off_and_the_others_go_on() {
    let mut engine = engine().await;
    let mut config = within(Charge::Each);
    config.limits.merge_bytes_max = 300;
    config.routes[0].timeouts.total = Duration::from_secs(30);
    let gateway = gateway(config, &[&engine]);
    let feed = engine.stream();
    let both = [(); 2].map(|()| begin(&gateway, chat(STREAM)));
    engine.seen.recv().await.unwrap();
    let stream = whole_stream(20);
    for event in stream.split_inclusive("\n\n") {
        feed.send(Ok(event.to_owned().into())).unwrap();
        // What comes at once is one piece.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let [slow, quick] = both;
    let (slow, quick) = (slow.await, quick.await);
    assert_eq!(text(quick).await, shown(&stream));
    let slow = text(slow).await;
    assert!(slow.starts_with("data: {\"error\"") && slow.contains("too slowly"), "{slow}");
    assert_eq!(
        (ended(&gateway, "upstream_interrupted").await, ended(&gateway, "ok").await),
        (1, 1)
    );
}

#[tokio::test]
async fn one_alone_is_waited_for_however_slow() {
    let mut config = within(Charge::Each);
    config.limits.merge_bytes_max = 300;
    let engine = engine().await;
    let gateway = gateway(config, &[&engine]);
    let feed = engine.stream();
    let stream = whole_stream(50);
    for event in stream.split_inclusive("\n\n") {
        feed.send(Ok(event.to_owned().into())).unwrap();
    }
    let alone = send(&gateway, chat(STREAM)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(text(alone).await, shown(&stream));
    until_nothing_is_held(&gateway, &engine).await;
}

#[tokio::test]
async fn who_follows_needs_no_budget_where_the_first_pays() {
    let mut engine = engine().await;
    let mut config = merging(Merge { across_tenants: true, charge: Charge::First });
    config.tenants[1].quota.budgets[0].hard = 1;
    let gateway = gateway(config, &[&engine]);
    let first = begin(&gateway, by(KEY, WHOLE));
    let second = begin(&gateway, by(OTHER, WHOLE));
    engine.seen.recv().await.unwrap();
    engine.json(200, ANSWER);
    assert_eq!(
        (first.await.status(), second.await.status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(send(&gateway, by(OTHER, WHOLE)).await.status(), 402, "alone it is the first");
}
