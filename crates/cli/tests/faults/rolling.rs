//! All engines of a lane are replaced, one after the other or together, in order or not, while several tenants
//! ask for streams and whole answers in every API whose answers can go on. No request is lost: each ends
//! with its answer, in which each token is there once, and nothing is left behind of any.
//!
//! A run follows from its seed. One that fails prints the command that plays it again.

mod client;
mod engine;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pilotage_chance::Draws;
use pilotage_core::admit::Quota;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, Replica, Resume, TenantConfig, Timeouts};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::tasks;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::rig::{config, pass, settle};
use client::{Api, Ask};
use engine::{Book, Speaker};

const ENGINES: usize = 3;

/// Requests that each engine takes at once: without one of them, some wait.
const SLOTS: u32 = 8;

const TENANTS: u32 = 3;

/// Requests that each tenant may have at once: a lease that is not given back is missed.
const AT_ONCE: u64 = 7;

/// Odd ones go on over ids, even ones over text.
const SEEDS: std::ops::Range<u64> = 1..3;

/// The variable that has one seed played instead of all.
const SEED: &str = "ROLLING_SEED";

const TIMEOUTS: Timeouts = Timeouts {
    queue: Duration::from_secs(30),
    first_token: Duration::from_secs(10),
    idle: Duration::from_secs(10),
    total: Duration::from_secs(120),
};

/// How engines are replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// Another comes up elsewhere; the old one gets nothing new, and stops when it is done.
    Moved,
    /// It is told to end, finishes what it can within this time, and is back at its address.
    Terminated(Duration),
    /// The same while the gateway is told in the same moment that it goes, and then where the new one is.
    Replaced(Duration),
    /// It is killed in the middle, and is back at its address a moment later.
    Killed,
    /// All but one are killed in the same moment.
    ButOne,
    /// All are, and they are back after this time.
    All(Duration),
}

/// Whether whoever starts engines tells the gateway that one died, as the supervisor of processes
/// does and nobody does of engines elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deaths {
    Told,
    Untold,
}

/// One place in the lane, where one engine after the other is.
struct Slot {
    id: ReplicaId,
    at: SocketAddr,
    engine: Option<Speaker>,
}

/// A gateway, its engines, and what is known of them.
struct House {
    gateway: Gateway,
    slots: Vec<Slot>,
    book: Arc<Book>,
    draws: Draws,
    deaths: Deaths,
    next: u32,
    leaving: Vec<JoinHandle<Option<()>>>,
}

fn key(tenant: u32) -> String {
    format!("pk-rolling-{tenant}")
}

/// A port of its own at an address that no client connects from: it is free when an engine is back.
fn anywhere(draws: &mut Draws) -> SocketAddr {
    let process = std::process::id().to_le_bytes();
    let host = [127, 64 + process[0] % 64, process[1], 1 + draws.below(250) as u8];
    SocketAddr::from((host, 0))
}

impl House {
    async fn new(resume: Resume, deaths: Deaths, seed: u64) -> Self {
        let mut config = config();
        let lane = &mut config.lanes[0];
        lane.resume = resume;
        // As `pilotage up` has it for its own engines, and for others.
        lane.resume_from = if resume == Resume::Tokens { 0 } else { 2 };
        lane.scheduler.deaths_told = deaths == Deaths::Told;
        config.routes[0].timeouts = TIMEOUTS;
        config.tenants = (0..TENANTS).map(tenant).collect();
        let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
        let draws = Draws::of_part(seed, "house");
        let book = Arc::new(Book::default());
        let mut house =
            Self { gateway, slots: Vec::new(), book, draws, deaths, next: 0, leaving: Vec::new() };
        for _ in 0..ENGINES {
            let at = anywhere(&mut house.draws);
            let engine = house.engine(at).await;
            let slot = Slot { id: house.id(), at: engine.addr, engine: Some(engine) };
            house.up(&slot, SLOTS);
            house.slots.push(slot);
        }
        house
    }

    fn id(&mut self) -> ReplicaId {
        self.next += 1;
        ReplicaId(self.next)
    }

    async fn engine(&mut self, at: SocketAddr) -> Speaker {
        let gap = Duration::from_millis(10 + self.draws.below(20) as u64);
        Speaker::start(at, gap, Arc::clone(&self.book)).await
    }

    /// It takes so many requests; none where it is about to go.
    fn up(&self, slot: &Slot, requests: u32) {
        let name = format!("replica-{}", slot.id.0);
        let replica =
            Replica::at(name, format!("http://{}", slot.at), Capacity::of_requests(requests));
        self.gateway.lane("lane").unwrap().replica_up(slot.id, replica);
    }

    /// It is killed; whoever starts engines notices a moment later.
    async fn kill(&mut self, which: &[usize]) {
        for index in which {
            self.slots[*index].engine = None;
        }
        let moment = Duration::from_millis(self.draws.below(30) as u64);
        pass(moment).await;
        if self.deaths == Deaths::Told {
            for index in which {
                self.gateway.lane("lane").unwrap().replica_died(self.slots[*index].id);
            }
        }
    }

    /// It is back where it was.
    async fn back(&mut self, index: usize) {
        let engine = self.engine(self.slots[index].at).await;
        self.slots[index].engine = Some(engine);
        if self.deaths == Deaths::Told {
            self.slots[index].id = self.id();
            self.up(&self.slots[index], SLOTS);
        }
    }

    /// What a reload does when the plan has another address: see `Fleet::set_endpoints` of `pilotage up`.
    async fn replace(&mut self, index: usize, grace: Option<Duration>) {
        let at = anywhere(&mut self.draws);
        let engine = self.engine(at).await;
        let new = Slot { id: self.id(), at: engine.addr, engine: Some(engine) };
        let mut old = std::mem::replace(&mut self.slots[index], new);
        self.up(&old, 0);
        if let (Some(engine), Some(grace)) = (old.engine.take_if(|_| grace.is_some()), grace) {
            self.leaving.push(tasks::spawn("leaving", engine.terminate(grace)));
        }
        self.up(&self.slots[index], SLOTS);
        while self.in_flight(old.id).await > 0 {
            pass(Duration::from_millis(20)).await;
        }
        self.gateway.lane("lane").unwrap().replica_down(old.id);
    }

    /// All engines are replaced.
    async fn roll(&mut self, how: How) {
        match how {
            How::Moved => self.each_replaced(None).await,
            How::Replaced(grace) => self.each_replaced(Some(grace)).await,
            How::Terminated(grace) => self.each_restarted(Some(grace)).await,
            How::Killed => self.each_restarted(None).await,
            How::ButOne => {
                let down = self.while_down();
                self.together(1, down).await;
            }
            How::All(down) => self.together(0, down).await,
        }
    }

    async fn each_replaced(&mut self, grace: Option<Duration>) {
        for index in 0..ENGINES {
            self.replace(index, grace).await;
        }
    }

    /// Each is told to end, or killed, and is back where it was.
    async fn each_restarted(&mut self, grace: Option<Duration>) {
        for index in 0..ENGINES {
            if let Some(grace) = grace {
                self.slots[index].engine.take().unwrap().terminate(grace).await;
            } else {
                self.kill(&[index]).await;
            }
            pass(self.while_down()).await;
            self.back(index).await;
            self.settle().await;
        }
    }

    /// Those from the first on are killed at once, and are back after this time.
    async fn together(&mut self, first: usize, down: Duration) {
        let which: Vec<usize> = (first..ENGINES).collect();
        self.kill(&which).await;
        pass(down).await;
        for index in which {
            self.back(index).await;
        }
    }

    fn while_down(&mut self) -> Duration {
        Duration::from_millis(200 + self.draws.below(800) as u64)
    }

    /// Time for the next one to be a restart of its own: work goes on everywhere again.
    async fn settle(&self) {
        let before = self.book.begun.load(Relaxed);
        pass(Duration::from_secs(4)).await;
        assert!(self.book.begun.load(Relaxed) > before, "no work goes on");
    }

    async fn status(&self) -> Value {
        let text = self.admin("/status").await;
        serde_json::from_str::<Value>(&text).unwrap()["lanes"][0].take()
    }

    async fn admin(&self, path: &str) -> String {
        let request = Request::get(path).header("authorization", "Bearer pk-admin");
        let request = request.body(Body::empty()).unwrap();
        let response =
            self.gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn in_flight(&self, id: ReplicaId) -> u64 {
        let status = self.status().await;
        let replicas = status["replicas"].as_array().unwrap();
        let found = replicas.iter().find(|replica| replica["id"] == id.0);
        found.map_or(0, |replica| replica["in_flight"].as_u64().unwrap())
    }

    /// The sum of a metric's series with all these labels.
    async fn counted(&self, name: &str, labels: &[&str]) -> u64 {
        let page = self.admin("/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }
}

fn tenant(number: u32) -> TenantConfig {
    TenantConfig {
        keys: vec![KeyHash::of(&key(number)).into()],
        weight: 1000 * (number + 1),
        quota: Quota { concurrency: Some(AT_ONCE), ..Quota::default() },
        ..TenantConfig::named(format!("team-{number}"))
    }
}

/// What clients saw.
#[derive(Debug, Default)]
struct Seen {
    next: AtomicU64,
    over: AtomicBool,
    done: AtomicU64,
    tokens: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Asks again as soon as there is an answer, until it is over.
async fn client(gateway: Gateway, tenant: u32, mut draws: Draws, seen: Arc<Seen>) {
    while !seen.over.load(Relaxed) {
        let ask = Ask {
            number: seen.next.fetch_add(1, Relaxed),
            api: Api::ALL[draws.below(Api::ALL.len())],
            stream: draws.below(3) > 0,
            usage: draws.below(2) > 0,
            tokens: u64::from(draws.within(2, 60)),
        };
        match ask.send(&gateway, &key(tenant)).await {
            Ok(()) => {
                seen.done.fetch_add(1, Relaxed);
                seen.tokens.fetch_add(ask.tokens, Relaxed);
            }
            Err(wrong) => seen.wrong.lock().push(wrong),
        }
        pass(Duration::from_millis(draws.below(20) as u64)).await;
    }
}

/// Plays one run; what is wrong.
async fn play(how: How, deaths: Deaths, resume: Resume, seed: u64) -> Vec<String> {
    let mut house = House::new(resume, deaths, seed).await;
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..TENANTS * AT_ONCE as u32)
        .map(|index| {
            let draws = Draws::of_part(seed, &format!("client-{index}"));
            let asks = client(house.gateway.clone(), index % TENANTS, draws, Arc::clone(&seen));
            tasks::spawn("client", asks)
        })
        .collect();
    pass(Duration::from_millis(400 + house.draws.below(400) as u64)).await;
    house.roll(how).await;
    pass(Duration::from_secs(3)).await;
    seen.over.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let mut wrong = std::mem::take(&mut *seen.wrong.lock());
    wrong.append(&mut house.book.wrong.lock());
    if wrong.is_empty() {
        wrong.extend(uncounted(&house, &seen, how).await);
        wrong.extend(left(&mut house).await);
    }
    wrong
}

/// Counters that do not add up.
async fn uncounted(house: &House, seen: &Seen, how: How) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, found: u64, expect: u64| {
        if found != expect {
            wrong.push(format!("{what}: {found}, not {expect}"));
        }
    };
    let done = seen.done.load(Relaxed);
    check("requests", house.counted("pilotage_requests_total", &[]).await, done);
    let ok = house.counted("pilotage_requests_total", &["\"ok\""]).await;
    check("requests that ended well", ok, done);
    let tokens = house.counted("pilotage_tokens_total", &["\"output\""]).await;
    check("tokens", tokens, seen.tokens.load(Relaxed));
    let failed = house.counted("pilotage_resumes_total", &["\"failed\""]).await;
    check("answers that could not go on", failed, 0);
    let resumed = house.counted("pilotage_resumes_total", &["\"resumed\""]).await;
    let continued = house.book.continued.load(Relaxed);
    if how == How::Moved {
        let retries = house.counted("pilotage_retries_total", &[]).await;
        check("second attempts in an orderly replacement", retries + resumed, 0);
        check("answers cut in an orderly replacement", house.book.cut.load(Relaxed), 0);
    } else if !matches!(how, How::Terminated(_) | How::Replaced(_)) {
        check("runs in which no answer goes on", u64::from(continued == 0 || resumed == 0), 0);
    }
    wrong
}

/// What is in flight, taken or open though all is over.
async fn left(house: &mut House) -> Vec<String> {
    for leaving in house.leaving.drain(..) {
        leaving.await.unwrap();
    }
    let mut wrong = Vec::new();
    let status = house.status().await;
    let replicas = status["replicas"].as_array().unwrap();
    let idle = status["queue"]["requests"] == 0 && status["queue"]["tokens"] == 0;
    let done = |replica: &Value| replica["in_flight"] == 0 && replica["tokens_in_flight"] == 0;
    let nobody = |tenant: &Value| tenant["queued"] == 0 && tenant["usage"] == 0;
    if !idle
        || replicas.iter().filter(|replica| replica["up"] == true).count() != ENGINES
        || !replicas.iter().all(done)
        || !status["tenants"].as_array().unwrap().iter().all(nobody)
    {
        wrong.push(format!("the lane is not as it was: {status}"));
    }
    for gauge in ["pilotage_requests_in_flight", "pilotage_queue_requests", "pilotage_queue_tokens"]
    {
        if house.counted(gauge, &[]).await != 0 {
            wrong.push(format!("{gauge} is not 0"));
        }
    }
    wrong.extend(leased(house).await);
    // Idle connections are closed in time, but for the one over which metrics are asked for.
    pass(pilotage_shell::client::IDLE_TIMEOUT * 3).await;
    let counted = || -> Vec<u64> {
        house.slots.iter().map(|slot| slot.engine.as_ref().unwrap().open()).collect()
    };
    let mut open = counted();
    for _ in 0..200 {
        if open.iter().all(|open| *open <= 1) {
            break;
        }
        pass(Duration::from_millis(50)).await;
        settle().await;
        open = counted();
    }
    if open.iter().any(|open| *open > 1) {
        wrong.push(format!("connections stay open: {open:?}"));
    }
    wrong
}

/// Whether each tenant may have as many requests at once as it may, and no more.
async fn leased(house: &House) -> Vec<String> {
    let mut sent = Vec::new();
    for tenant in 0..TENANTS {
        for number in 0..=AT_ONCE {
            let ask = Ask { number, api: Api::Chat, stream: true, usage: false, tokens: 40 };
            let gateway = house.gateway.clone();
            let asking = async move { ask.send(&gateway, &key(tenant)).await };
            sent.push((tenant, tasks::spawn("one of all", asking)));
        }
    }
    let mut answered = [0; TENANTS as usize];
    for (tenant, asked) in sent {
        answered[tenant as usize] += u64::from(asked.await.unwrap().is_some_and(|end| end.is_ok()));
    }
    if answered.iter().all(|answers| *answers == AT_ONCE) {
        Vec::new()
    } else {
        vec![format!("so many at once are answered: {answered:?}, not {AT_ONCE}")]
    }
}

/// Time stands still while anybody has something to do, and nobody hears of others before all have done it: what
/// is killed at once is dead before the gateway notices the first of it.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).event_interval(100_000).build().unwrap()
}

/// Plays all seeds, or the one that is asked for.
#[expect(clippy::disallowed_methods, clippy::panic, reason = "a test that can be played again")]
fn check(test: &str, how: How, deaths: Deaths) {
    let asked: Option<u64> = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let seeds = asked.map_or(SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let resume = if seed.is_multiple_of(2) { Resume::Text } else { Resume::Tokens };
        let wrong = runtime().block_on(play(how, deaths, resume, seed));
        if !wrong.is_empty() {
            let (count, some) = (wrong.len(), wrong[..wrong.len().min(6)].join("\n  "));
            panic!(
                "{how:?}, deaths {deaths:?}, over {resume:?}: {count} wrong\n  {some}\n\
                 again: {SEED}={seed} cargo nextest run -p pilotage-cli {test}"
            );
        }
    }
}

#[test]
fn engines_that_move_in_order_cost_not_even_a_second_attempt() {
    check("engines_that_move_in_order", How::Moved, Deaths::Untold);
}

#[test]
fn engines_that_end_within_their_grace_lose_nothing() {
    for grace in [100, 2000] {
        let how = How::Terminated(Duration::from_millis(grace));
        check("engines_that_end_within_their_grace", how, Deaths::Untold);
    }
}

#[test]
fn engines_that_are_replaced_while_they_end_lose_nothing() {
    for grace in [100, 2000] {
        let how = How::Replaced(Duration::from_millis(grace));
        check("engines_that_are_replaced_while_they_end", how, Deaths::Untold);
    }
}

#[test]
fn engines_killed_one_after_the_other_lose_nothing() {
    for deaths in [Deaths::Told, Deaths::Untold] {
        check("engines_killed_one_after_the_other", How::Killed, deaths);
    }
}

#[test]
fn all_engines_but_one_killed_lose_nothing() {
    for deaths in [Deaths::Told, Deaths::Untold] {
        check("all_engines_but_one_killed", How::ButOne, deaths);
    }
}

#[test]
fn all_engines_killed_at_once_are_waited_for() {
    for seconds in [1, 4] {
        for deaths in [Deaths::Told, Deaths::Untold] {
            check("all_engines_killed_at_once", How::All(Duration::from_secs(seconds)), deaths);
        }
    }
}
