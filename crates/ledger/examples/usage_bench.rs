//! How long the ledger takes: adding a row on the way of a request, and pages and sums over millions of rows.
//!
//! `cargo run --release -p pilotage-ledger --example usage_bench -- FOLDER ROWS [postgres://…]`

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::time::Duration;

use pilotage_ledger::{
    Ask, AskRows, Batch, Dimension, Entry, Ledger, Looks, Postgres, Range, Settings, Sqlite, Store,
};
use pilotage_lens::usage::Row;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;

#[path = "../tests/ledger/record.rs"]
mod record;

/// 90 days.
const HOURS: u64 = 90 * 24;
const FIRST_HOUR: u64 = 500_000;
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
    let store: Box<dyn Store> = match args.next() {
        Some(url) => Box::new(Postgres::at(Secret::new(url))),
        None => Box::new(Sqlite::at(format!("{folder}/bench.db").into())),
    };
    fill(clock, &*store, rows).await;
    ask(clock, &*store).await;
}

/// What a request pays, while the journal is written beside it.
async fn hot_path(clock: Clock, folder: &str) {
    let settings = Settings::in_folder(format!("{folder}/hot"));
    let Ok(ledger) = Ledger::open(settings, clock, Looks::default()) else { return };
    let record = record::record(7, "tenant-7", FIRST_HOUR * 3_600_000);
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
    let before = clock.now_nanos();
    for first in (0..rows).step_by(BATCH as usize) {
        let entries = (first..first + BATCH).map(|n| (n + 1, Entry::Row(Box::new(row(n, rows)))));
        let batch = Batch { instance: "benchbenchbench0".to_owned(), entries: entries.collect() };
        if let Err(error) = store.put(batch).await {
            println!("{error}");
            return;
        }
    }
    let seconds = (clock.now_nanos() - before) as f64 / 1e9;
    println!(
        "{}: {rows} rows stored in {seconds:.1} s, {:.0} a second",
        store.kind(),
        rows as f64 / seconds
    );
}

/// 200 tenants, eight models, spread over the hours as they came.
fn row(n: u64, rows: u64) -> Row {
    let unix_ms = FIRST_HOUR * 3_600_000 + n * (HOURS * 3_600_000 / rows.max(1));
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let record = record::record((n % 1000) as u32, &format!("tenant-{}", mixed % 200), unix_ms);
    let model = Some(format!("model-{}", mixed / 200 % 8));
    Row { request_id: format!("{mixed:08x}-{n}"), model, ..Row::of(&record, 1000) }
}

async fn ask(clock: Clock, store: &dyn Store) {
    for (what, tenant, model) in [
        ("all", false, false),
        ("tenant", true, false),
        ("model", false, true),
        ("tenant and model", true, true),
    ] {
        let mut spans = Vec::new();
        for n in 0..ASKED {
            let until_ms = (FIRST_HOUR + HOURS * (n + 1) / ASKED) * 3_600_000;
            let ask = AskRows {
                until_ms,
                tenant: tenant.then(|| format!("tenant-{n}")),
                model: model.then(|| format!("model-{}", n % 8)),
                limit: 100,
                ..AskRows::default()
            };
            let before = clock.now_nanos();
            let page = store.rows(ask).await;
            assert!(page.is_ok_and(|page| !page.rows.is_empty() || n < 20));
            spans.push((clock.now_nanos() - before) / 1000);
        }
        show(&format!("page of 100 rows of {what}, microseconds"), &mut spans);
    }
    let range = Range { from: FIRST_HOUR, until: FIRST_HOUR + HOURS };
    for by in [
        vec![Dimension::Tenant],
        vec![Dimension::Model, Dimension::Day],
        vec![Dimension::Tenant, Dimension::Model],
    ] {
        let mut spans = Vec::new();
        for _ in 0..20 {
            let ask = Ask {
                range,
                by: by.clone(),
                tenant: None,
                below: None,
                model: None,
                groups_max: 10_001,
            };
            let before = clock.now_nanos();
            assert!(store.sums(ask).await.is_ok_and(|sums| !sums.is_empty()));
            spans.push((clock.now_nanos() - before) / 1000);
        }
        show(&format!("sums of 90 days by {by:?}, microseconds"), &mut spans);
    }
}

fn show(what: &str, spans: &mut [u64]) {
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() - 1) * percent / 100];
    println!("{what}: p50 {} p95 {} p99 {}", at(50), at(95), at(99));
}
