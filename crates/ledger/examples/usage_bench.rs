//! How long the ledger takes: adding a row on the way of a request, and pages and sums over millions of rows.
//!
//! `cargo run --release -p pilotage-ledger --example usage_bench -- FOLDER ROWS [postgres://…]`

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use pilotage_ledger::{
    Batch, Budget, Entry, Ledger, Looks, Old, Postgres, Settings, Sqlite, Store,
};
use pilotage_lens::usage::{
    Entitled, Entitlement, HOUR_SECONDS, Meters, Reading, Row, Seconds, digest,
};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use tower::ServiceExt as _;

#[path = "../tests/ledger/record.rs"]
mod record;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// 90 days, up to today.
const HOURS: u64 = 90 * 24;
const BATCH: u64 = 5000;
const ASKED: u64 = 200;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(rows)) = (args.next(), args.next().and_then(|rows| rows.parse().ok()))
    else {
        println!("give FOLDER and ROWS");
        return;
    };
    let clock = Clock::start();
    hot_path(clock, &folder).await;
    let store: Arc<dyn Store> = match args.next() {
        Some(url) => Arc::new(Postgres::at(Secret::new(url))),
        None => Arc::new(Sqlite::at(format!("{folder}/bench.db").into())),
    };
    fill(clock, &*store, rows).await;
    let settings = Settings::in_folder(format!("{folder}/asked"));
    let looks = Looks { budgets: Arc::new(move || budgets(clock.unix_ms())), ..Looks::default() };
    let Ok(ledger) = Ledger::open_with(settings, clock, looks, Arc::clone(&store)) else { return };
    ask(clock, &ledger, rows).await;
    forget(clock, &*store).await;
}

/// One of each tenant, by the month.
fn budgets(now: u64) -> Vec<Budget> {
    let budget = |n: u64| Budget {
        tenant: format!("tenant-{n}"),
        tenant_path: format!("org/tenant-{n}"),
        window: "month",
        limit_micros: 1_000_000,
        spent_micros: None,
        from_ms: now / DAY_MS * DAY_MS - 20 * DAY_MS,
        until_ms: now / DAY_MS * DAY_MS + 10 * DAY_MS,
    };
    (0..200).map(budget).collect()
}

/// How long others wait at most while what is old goes: the oldest hundredth, a turn at a time.
async fn forget(clock: Clock, store: &dyn Store) {
    let from = first_ms(clock);
    let old = Old { rows_before_ms: from + HOURS * HOUR_MS / 100, ..Old::default() };
    let (mut spans, mut rows) = (Vec::new(), 0);
    loop {
        let before = clock.now_nanos();
        let Ok(gone) = store.forget(old).await else { return };
        spans.push((clock.now_nanos() - before) / 1000);
        rows += gone.rows;
        if !gone.more {
            break;
        }
    }
    show(&format!("forgetting {rows} rows, each turn of 5,000, microseconds"), &mut spans);
}

fn first_ms(clock: Clock) -> u64 {
    clock.unix_ms() / DAY_MS * DAY_MS - HOURS * HOUR_MS
}

/// What a request pays, while the journal is written beside it.
async fn hot_path(clock: Clock, folder: &str) {
    let settings = Settings::in_folder(format!("{folder}/hot"));
    let Ok(ledger) = Ledger::open(settings, clock, Looks::default()) else { return };
    let record = record::record(7, "tenant-7", clock.unix_ms());
    let mut spans = Vec::new();
    for _ in 0..200 {
        let before = clock.now_nanos();
        (0..50).for_each(|_| {
            ledger.add(&record);
        });
        spans.push((clock.now_nanos() - before) / 50);
        tokio::time::interval(Duration::from_millis(2)).tick().await;
    }
    show("add, nanoseconds", &mut spans);
    let mut written = ledger.written();
    let mut spans = Vec::new();
    for _ in 0..500 {
        let before = clock.now_nanos();
        let sequence = ledger.add(&record);
        let _ = written.wait_for(|written| *written >= sequence).await;
        spans.push((clock.now_nanos() - before) / 1000);
    }
    show("add until written, microseconds", &mut spans);
    ledger.close(Duration::from_secs(30)).await;
}

async fn fill(clock: Clock, store: &dyn Store, rows: u64) {
    let (before, from) = (clock.now_nanos(), first_ms(clock));
    for first in (0..rows).step_by(BATCH as usize) {
        let until = (first + BATCH).min(rows);
        let entries = (first..until).map(|n| (n + 1, Entry::Row(Box::new(row(n, rows, from)))));
        let batch = Batch { instance: "benchbenchbench0".to_owned(), entries: entries.collect() };
        if let Err(error) = store.put(batch).await {
            println!("{error}");
            return;
        }
    }
    fill_meters(store, from).await;
    let seconds = (clock.now_nanos() - before) as f64 / 1e9;
    println!(
        "{}: {rows} rows stored in {seconds:.1} s, {:.0} a second",
        store.kind(),
        rows as f64 / seconds
    );
}

/// 16 replicas, up all the time, and 200 tenants that could count on something of them.
async fn fill_meters(store: &dyn Store, from: u64) {
    let entitled: Vec<Entitled> = (0..200)
        .map(|n| Entitled { tenant: format!("tenant-{n}"), guaranteed: 5, weight: 1000 })
        .collect();
    let digest = digest(&entitled);
    let list = Entitlement { digest: digest.clone(), part: 0, hour: from / HOUR_MS, entitled };
    let hours = (0..HOURS).map(|hour| {
        let readings = (0..16).map(|n| Reading {
            replica: format!("replica-{n}"),
            model: format!("model-{}", n % 8),
            hardware: "cpu".to_owned(),
            accelerators: 1,
            micros_per_hour: 2_490_000,
            seconds: Seconds::stretch(0, HOUR_SECONDS),
        });
        let (hour, entitled) = (from / HOUR_MS + hour, digest.clone());
        Entry::Meters(Box::new(Meters { hour, entitled, readings: readings.collect() }))
    });
    let all = std::iter::once(Entry::Entitled(Box::new(list))).chain(hours);
    let entries: Vec<(u64, Entry)> = (1..).zip(all).collect();
    for some in entries.chunks(100) {
        let batch = Batch { instance: "benchmeters00000".to_owned(), entries: some.to_vec() };
        if let Err(error) = store.put(batch).await {
            println!("{error}");
            return;
        }
    }
}

/// 200 tenants, eight models, spread over the hours as they came.
fn row(n: u64, rows: u64, from: u64) -> Row {
    let unix_ms = from + n * (HOURS * HOUR_MS / rows.max(1));
    let mixed = mixed(n);
    let record = record::record((n % 1000) as u32, &format!("tenant-{}", mixed % 200), unix_ms);
    let model = Some(format!("model-{}", mixed / 200 % 8));
    Row { request_id: id(n), model, ..Row::of(&record, 1000) }
}

fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

fn id(n: u64) -> String {
    format!("{:08x}-{n}", mixed(n))
}

/// What is asked, how often, and the path of each time.
type Question = (&'static str, u64, Box<dyn Fn(u64) -> String>);

/// What there is to ask about.
#[derive(Clone, Copy)]
struct Filled {
    from: u64,
    now: u64,
    rows: u64,
}

impl Filled {
    /// Of rows all over; the oldest ones are forgotten by and by.
    fn id(self, n: u64) -> String {
        id(self.rows * (2 * n + ASKED) / (3 * ASKED))
    }

    /// A range that ends at another time every time.
    fn upto(self, n: u64) -> String {
        let until = self.from + (self.now - self.from) * (n % ASKED + 1) / ASKED;
        format!("from={}&to={until}", self.from)
    }

    fn days(self, days: u64) -> String {
        format!("from={}&to={}", self.now - days * DAY_MS, self.now)
    }
}

fn pages(of: Filled) -> Vec<Question> {
    let tenant = |n: u64| format!("tenant=tenant-{n}");
    let model = |n: u64| format!("model=model-{}", n % 8);
    vec![
        ("page of 100 rows", ASKED, Box::new(move |n| format!("/usage/rows?{}", of.upto(n)))),
        (
            "the same of a tenant",
            ASKED,
            Box::new(move |n| format!("/usage/rows?{}&{}", tenant(n), of.upto(n))),
        ),
        (
            "the same of a model",
            ASKED,
            Box::new(move |n| format!("/usage/rows?{}&{}", model(n), of.upto(n))),
        ),
        (
            "the same of both",
            ASKED,
            Box::new(move |n| format!("/usage/rows?{}&{}&{}", tenant(n), model(n), of.upto(n))),
        ),
        (
            "page of 1000 rows",
            40,
            Box::new(move |n| format!("/usage/rows?limit=1000&{}", of.upto(n * 5))),
        ),
        (
            "one request by its id",
            ASKED,
            Box::new(move |n| format!("/usage/rows?id={}&{}", of.id(n), of.upto(ASKED - 1))),
        ),
        ("one request explained", ASKED, Box::new(move |n| format!("/usage/why?id={}", of.id(n)))),
    ]
}

fn sums(of: Filled) -> Vec<Question> {
    let by = |what: &'static str, by: &'static str, days: u64| -> Question {
        (what, 40, Box::new(move |_| format!("/usage?by={by}&{}", of.days(days))))
    };
    vec![
        by("30 days by tenant", "tenant", 30),
        by("30 days by model and day", "model,day", 30),
        by("30 days by tenant and model", "tenant,model", 30),
        by("89 days by tenant", "tenant", 89),
        by("7 days by hour", "hour", 7),
        (
            "89 days of one tenant by model",
            40,
            Box::new(move |n| format!("/usage?by=model&tenant=tenant-{n}&{}", of.days(89))),
        ),
        ("cost of 30 days", 40, Box::new(move |_| format!("/usage/cost?{}", of.days(30)))),
        ("200 budgets", 40, Box::new(|_| "/usage/budgets".to_owned())),
    ]
}

/// Every question of the admin listener, as over HTTP without the network.
async fn ask(clock: Clock, ledger: &Ledger, rows: u64) {
    let of = Filled { from: first_ms(clock), now: clock.unix_ms(), rows };
    for (what, times, path) in pages(of).into_iter().chain(sums(of)) {
        let mut spans = Vec::new();
        for n in 0..times {
            let before = clock.now_nanos();
            let Ok(request) = Request::get(path(n)).body(Body::empty()) else { continue };
            let Ok(response) = ledger.router().oneshot(request).await;
            let status = response.status();
            let body = response.into_body().collect().await;
            spans.push((clock.now_nanos() - before) / 1000);
            let length = body.map_or(0, |body| body.to_bytes().len());
            assert!(status.is_success() && length > 10, "{what}: {status}");
        }
        show(&format!("{what}, microseconds"), &mut spans);
    }
}

fn show(what: &str, spans: &mut [u64]) {
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() - 1) * percent / 100];
    println!("{what}: p50 {} p95 {} p99 {}", at(50), at(95), at(99));
}
