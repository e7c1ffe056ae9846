//! What the end of a request counts: one record into some thirty series of its lane and its tenant, four
//! histograms with native buckets and an example each, and OpenTelemetry's names beside. The budget is 2 µs.

use std::hint::black_box;

use criterion::Criterion;
use pilotage_core::{Band, Span, Tokens};
use pilotage_gateway::Counting;
use pilotage_lens::{Name, Phases, Record};
use pilotage_shell::metrics::{Histogram, Metrics, TTFT_SECONDS};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let histogram = Histogram::new(&TTFT_SECONDS);
    let mut value = 0.01;
    criterion.bench_function("histogram/observe", |bencher| {
        bencher.iter(|| {
            value = if value > 1.0 { 0.01 } else { value * 1.01 };
            histogram.observe(black_box(value));
        });
    });
    let counting = Counting::new(&Metrics::new(), "chat");
    let record = record();
    criterion.bench_function("request/ended", |bencher| {
        bencher.iter(|| counting.ended(black_box(&record)));
    });
    criterion.final_summary();
}

fn record() -> Record {
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
        trace_id: 7,
        span_id: 1,
        sampled: true,
        tenant: Some(Name::from("acme")),
        path: "/v1/chat/completions",
        lane: Some(Name::from("chat")),
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
