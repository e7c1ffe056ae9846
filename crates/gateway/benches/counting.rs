//! What the end of a request costs, on its way: the record itself; some thirty series of its lane and its tenant, with
//! four native histograms and an example each; a row for the ledger, whose journal is written to disk beside it; the
//! decision about its trace, of which one in a hundred is drawn, and a place in the exporter's queue; and what the
//! gateway remembers. The budget is 15 µs and two allocations for all of it.
//!
//! Prints a table before criterion's own figures: the median and the best of runs of 200 requests with a moment between
//! them, as requests come. Allocations are those of the whole process, so that the least of all runs is what requests
//! make by themselves, while nobody writes or sends.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program whose output is its result"
)]

use std::alloc::System;
use std::hint::black_box;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::Criterion;
use pilotage_core::scale::Policy;
use pilotage_core::{Band, Span, Tokens};
use pilotage_gateway::{Gateway, GatewayConfig, LaneConfig, Leaving, Ledger, TenantConfig};
use pilotage_ledger::{Ledger as Book, Looks, Settings};
use pilotage_lens::trace::{self, Convention, Kept, Reasons, Sampler, Tail};
use pilotage_lens::{Gaps, Name, Phases, Record, Sink};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::{Histogram, Metrics, TTFT_SECONDS};
use pilotage_shell::otlp::{Config, Counts, Exporter, Protocol, Scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests of a run, and runs.
const REQUESTS: u64 = 200;
const RUNS: usize = 400;

/// Takes records as a front with a collector does.
#[derive(Debug)]
struct Keep {
    exporter: Exporter<(Arc<Record>, Reasons)>,
    tail: Tail,
}

impl Sink for Keep {
    fn take(&self, record: &Arc<Record>) {
        let reasons = Reasons::of(record, &Policy::default().goals);
        if reasons.any() && (reasons.has(Kept::Sampled) || self.tail.admits(record.unix_ms)) {
            self.exporter.offer((Arc::clone(record), reasons));
        }
    }
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let bare = Leaving::new(gateway(clock));
    let with_ledger = gateway(clock);
    let book = follow(&with_ledger, folder.path().join("one"), clock);
    let with_ledger = Leaving::new(with_ledger);
    let whole = gateway(clock);
    let other = follow(&whole, folder.path().join("two"), clock);
    whole.add_sink(Arc::new(keep(clock)));
    let whole = Leaving::new(whole);
    let sampler = Sampler::parse(Some("traceidratio"), Some("0.01")).unwrap();
    let next = AtomicU64::new(1);
    let record = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        // Spread over all traces, as random ones are.
        let trace_id = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Record { trace_id, sampled: sampler.samples(trace_id, None), ..template() }
    };
    println!("{:<42}{:>10}{:>10}{:>14}{:>14}", "", "median µs", "best µs", "allocations", "median");
    let gaps = || {
        let mut gaps = Gaps::default();
        (0..200).for_each(|gap| gaps.add(Span::from_nanos(12_000_000 + gap * 5000)));
        black_box(gaps.itl());
    };
    table(clock, "gaps of 200 tokens, added and summed up", gaps);
    table(clock, "the record alone", || drop(black_box(record())));
    table(clock, "and metrics", || bare.count(black_box(&record())));
    table(clock, "and what the gateway remembers", || bare.ended(black_box(&record())));
    table(clock, "and the ledger", || with_ledger.ended(black_box(&record())));
    table(clock, "and traces: all of it", || whole.ended(black_box(&record())));

    let mut criterion = Criterion::default().configure_from_args();
    let histogram = Histogram::new(&TTFT_SECONDS);
    let mut value = 0.01;
    criterion.bench_function("histogram/observe", |bencher| {
        bencher.iter(|| {
            value = if value > 1.0 { 0.01 } else { value * 1.01 };
            histogram.observe(black_box(value));
        });
    });
    let one = record();
    criterion
        .bench_function("request/counted", |bencher| bencher.iter(|| bare.count(black_box(&one))));
    criterion.final_summary();
    for book in [book, other] {
        runtime.block_on(book.close(Duration::from_secs(30)));
    }
}

/// Runs of requests, a millisecond apart so that what follows them in the background keeps up.
fn table(clock: Clock, what: &str, mut request: impl FnMut()) {
    (0..REQUESTS).for_each(|_| request());
    let mut nanos = Vec::with_capacity(RUNS);
    let mut allocations = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let region = Region::new(ALLOCATOR);
        let begun = clock.now_nanos();
        (0..REQUESTS).for_each(|_| request());
        nanos.push((clock.now_nanos() - begun) / REQUESTS);
        let made = region.change();
        allocations.push((made.allocations + made.reallocations) as f64 / REQUESTS as f64);
        std::thread::park_timeout(Duration::from_millis(1));
    }
    nanos.sort_unstable();
    allocations.sort_unstable_by(f64::total_cmp);
    let (median, best) = (nanos[RUNS / 2] as f64 / 1000.0, nanos[0] as f64 / 1000.0);
    let (least, usual) = (allocations[0], allocations[RUNS / 2]);
    println!("{what:<42}{median:>10.2}{best:>10.2}{least:>14.2}{usual:>14.2}");
}

fn gateway(clock: Clock) -> Gateway {
    let config = GatewayConfig {
        lanes: vec![LaneConfig::named("chat", 1000)],
        routes: Vec::new(),
        tenants: vec![TenantConfig::named("acme")],
        open: false,
        admin_key: pilotage_shell::secret::KeyHash::of("pk-admin"),
        limits: pilotage_gateway::Limits::default(),
        media_hosts: Vec::new(),
    };
    Gateway::new(config, clock, Metrics::new()).unwrap()
}

/// A ledger with a real journal and a database behind it.
fn follow(gateway: &Gateway, folder: std::path::PathBuf, clock: Clock) -> Book {
    let book = Book::open(Settings::in_folder(folder), clock, Looks::default()).unwrap();
    let (adds, written) = (book.clone(), book.written());
    let add = Arc::new(move |record: &Arc<Record>| adds.add(record));
    assert!(gateway.set_ledger(Ledger { add, written, patience: Duration::from_millis(20) }));
    book
}

/// The traces of a front, for a collector that takes whatever comes.
fn keep(clock: Clock) -> Keep {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::TcpListener::from_std(socket).unwrap();
    let takes = axum::Router::new().fallback(async || "");
    drop(pilotage_shell::tasks::spawn(
        "collector",
        async move { axum::serve(socket, takes).await },
    ));
    let config = Config {
        protocol: Protocol::Http,
        endpoint: format!("http://{at}/v1/traces").parse().unwrap(),
        headers: http::HeaderMap::new(),
        timeout: Duration::from_secs(10),
        certificate: None,
        gzip: false,
        attributes: Vec::new(),
        queue_max: 2048,
        delay: Duration::from_secs(5),
        batch_max: 512,
    };
    let scope =
        Scope { name: "pilotage", version: "0", schema_url: Convention::default().schema_url() };
    let counts = Counts::register(&Metrics::new());
    let exporter = Exporter::start(
        config,
        scope,
        counts,
        clock,
        |(record, reasons): &(Arc<Record>, Reasons), _| {
            let mut spans = Vec::new();
            trace::spans(record, *reasons, Convention::default(), &mut spans);
            black_box(spans);
        },
    );
    Keep { exporter: exporter.unwrap(), tail: Tail::new(100) }
}

fn template() -> Record {
    thread_local! {
        static RECORD: Record = first();
    }
    RECORD.with(Clone::clone)
}

fn first() -> Record {
    let phases = Phases {
        auth: Span::from_nanos(2_000),
        read: Span::from_nanos(20_000),
        route: Span::from_nanos(9_000),
        queue: Span::from_millis(3),
        connect: Span::from_millis(2),
        prefill: Span::from_millis(180),
        decode: Span::from_millis(2_500),
        client_blocked: Span::from_millis(1),
        other: Span::from_nanos(30_000),
        ..Phases::default()
    };
    Record {
        unix_ms: 1_700_000_000_000,
        request_id: Name::from("req-0123456789abcdef"),
        span_id: 1,
        tenant: Some(Name::from("acme")),
        tenant_path: Some(Name::from("acme")),
        path: "/v1/chat/completions",
        lane: Some(Name::from("chat")),
        replica: Some(Name::from("chat-0")),
        band: Band::Standard,
        stream: true,
        status: 200,
        attempts: 1,
        tokens: Tokens { input: 900, cached: 500, output: 200 },
        reasoning: 20,
        counted: true,
        charged: 12,
        phases,
        total: phases.total(),
        ttft: Some(Span::from_millis(190)),
        tpot: Some(Span::from_millis(12)),
        ..Record::default()
    }
}
