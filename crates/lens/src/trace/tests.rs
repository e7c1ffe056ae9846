//! Traces of requests that went well, were tried again, or never had their turn; and which are kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pilotage_core::route::Costs;
use pilotage_core::scale::Policy;
use pilotage_core::{Band, ReplicaId, Span, Tokens, Why};
use proptest::prelude::*;

use super::*;
use crate::{AttemptFault, Itl, Phase, Phases, Record, Termination};

const fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

/// A stream that went well, after 20 ms in the queue.
fn served() -> Record {
    let phases = Phases {
        auth: ms(1),
        read: ms(2),
        route: ms(1),
        queue: ms(20),
        connect: ms(6),
        prefill: ms(90),
        decode: ms(380),
        client_blocked: ms(7),
        other: ms(1),
        ..Phases::default()
    };
    Record {
        unix_ms: 1_800_000_000_508,
        request_id: "req-1".into(),
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        parent_span: Some(0x00f0_67aa_0ba9_02b7),
        span_id: 0xa1,
        sampled: true,
        tenant: Some("ann".into()),
        tenant_path: Some("acme/research/ann".into()),
        path: "/v1/chat/completions",
        route: Some("chat".into()),
        lane: Some("llama-70b".into()),
        version: Some("sha256:12#2".into()),
        runtime: Some("vllm"),
        runtime_version: Some("0.33.0".into()),
        hardware: Some("h100-sxm".into()),
        band: Band::Realtime,
        stream: true,
        status: 200,
        attempts: 1,
        replica: Some("llama-70b-0".into()),
        address: Some("10.0.0.7:8000".into()),
        reused: Some(true),
        queue_depth: 3,
        why: Some(placed()),
        tokens: Tokens { input: 2000, cached: 500, output: 11 },
        reasoning: 4,
        counted: true,
        phases,
        total: phases.total(),
        ttft: Some(ms(120)),
        tpot: Some(Span::from_nanos(38_500_000)),
        itl: Some(Itl {
            p50: ms(30),
            p90: ms(40),
            p99: ms(55),
            max: ms(60),
            stalls: 0,
            stalled: ms(0),
        }),
        stalls: vec![crate::Stall { after: ms(100), gap: ms(60) }],
        ..Record::default()
    }
}

fn placed() -> Why {
    Why::Placed {
        policy: "expected_cost",
        replica: ReplicaId(3),
        costs: Costs { prefill: ms(80), decode: ms(400), ..Costs::default() },
        cached: 512,
        input: 2000,
        next: Some(ms(700)),
        candidates: 2,
        queued: ms(20),
        attempt: 1,
    }
}

/// The same, after two replicas that failed.
fn retried() -> Record {
    let mut record = served();
    record.attempts = 3;
    record.earlier_replicas = vec!["llama-70b-1".into(), "llama-70b-2".into()];
    record.earlier_faults = vec![Some(overloaded()), Some(reset())];
    record.phases.retry = ms(50);
    record.total = record.phases.total();
    record
}

const fn overloaded() -> AttemptFault {
    AttemptFault { what: "overloaded", status: Some(503) }
}

const fn reset() -> AttemptFault {
    AttemptFault { what: "reset", status: None }
}

/// One that never had its turn.
fn waited() -> Record {
    let phases = Phases { auth: ms(1), read: ms(1), queue: ms(2000), ..Phases::default() };
    Record {
        parent_span: None,
        sampled: false,
        stream: false,
        status: 503,
        termination: Termination::Deadline,
        attempts: 0,
        replica: None,
        why: None,
        tokens: Tokens { input: 2000, cached: 0, output: 0 },
        reasoning: 0,
        counted: false,
        phases,
        total: phases.total(),
        ttft: None,
        tpot: None,
        itl: None,
        stalls: Vec::new(),
        address: None,
        reused: None,
        ..served()
    }
}

fn goals() -> Goals {
    Policy::default().goals
}

fn made(record: &Record, convention: Convention) -> Vec<TraceSpan> {
    let mut out = Vec::new();
    spans(record, Reasons::of(record, &goals()), convention, &mut out);
    out
}

/// The tree as text: each span below its parent, with its times in milliseconds from the request's begin.
fn drawn(spans: &[TraceSpan]) -> String {
    let mut out = String::new();
    draw(spans, &spans[0], 0, &mut out);
    out
}

fn draw(spans: &[TraceSpan], span: &TraceSpan, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    let at = |nanos: u64| (nanos - spans[0].begin_nanos) as f64 / 1e6;
    let (begin, end) = (at(span.begin_nanos), at(span.end_nanos));
    let _ =
        writeln!(out, "{pad}{:?} {} [{begin} – {end}] {:?}", span.kind, span.name, span.outcome);
    for (name, value) in &span.attributes {
        let value = match value {
            Value::Word(word) => (*word).to_owned(),
            Value::Text(text) => text.to_string(),
            Value::Count(count) => count.to_string(),
            Value::Number(number) => format!("{number:.3}"),
            Value::Flag(flag) => flag.to_string(),
            Value::Words(words) => words.join(","),
        };
        let _ = writeln!(out, "{pad}  · {name} = {value}");
    }
    for event in &span.events {
        let _ = writeln!(
            out,
            "{pad}  ! {} at {} {:?}",
            event.name,
            at(event.at_nanos),
            event.attributes
        );
    }
    for child in spans.iter().filter(|child| child.parent == Some(span.span_id)) {
        draw(spans, child, depth + 1, out);
    }
}

#[test]
fn a_request_is_a_tree() {
    insta::assert_snapshot!("served", drawn(&made(&served(), Convention::Settled)));
    insta::assert_snapshot!("retried", drawn(&made(&retried(), Convention::Latest)));
    insta::assert_snapshot!("waited", drawn(&made(&waited(), Convention::Settled)));
}

#[test]
fn engines_are_told_the_attempt_that_is_shown() {
    let record = retried();
    let attempts: Vec<u64> =
        (1..=3).map(|number| crate::attempt_span(record.span_id, number)).collect();
    let made = made(&record, Convention::Settled);
    let clients = made.iter().filter(|span| span.kind == Kind::Client);
    assert_eq!(clients.map(|span| span.span_id).collect::<Vec<_>>(), attempts);
    assert_eq!(made[0].span_id, record.span_id);
    assert_eq!(made[0].parent, record.parent_span);
    assert!(made[0].parent_is_remote);
}

#[test]
fn names_differ_and_the_table_is_in_order() {
    for convention in Convention::ALL {
        let names: BTreeSet<&str> = TABLE.iter().filter_map(|row| row.name(convention)).collect();
        let count = TABLE.iter().filter(|row| row.name(convention).is_some()).count();
        assert_eq!(names.len(), count);
    }
    assert!(TABLE.iter().enumerate().all(|(at, row)| row.key as usize == at));
}

#[test]
fn attempts_say_how_they_failed() {
    let check =
        |change: &dyn Fn(&mut Record), number: usize, expect: &[(&str, &str)], error: bool| {
            let mut record = retried();
            change(&mut record);
            let made = made(&record, Convention::Settled);
            let attempt = made.iter().filter(|span| span.kind == Kind::Client).nth(number).unwrap();
            assert_eq!(matches!(attempt.outcome, Outcome::Error(_)), error);
            for name in ["http.response.status_code", "error.type", "pilotage.fault"] {
                let found = attempt.attributes.iter().find(|(known, _)| *known == name);
                let found = found.map(|(_, value)| match value {
                    Value::Word(word) => (*word).to_owned(),
                    Value::Text(text) => text.to_string(),
                    Value::Count(count) => count.to_string(),
                    _ => String::new(),
                });
                let expect = expect.iter().find(|(known, _)| *known == name);
                assert_eq!(found.as_deref(), expect.map(|(_, value)| *value), "{name} of {number}");
            }
        };
    let status = "http.response.status_code";
    let busy = [(status, "503"), ("error.type", "503"), ("pilotage.fault", "overloaded")];
    check(&|_| {}, 0, &busy, true);
    check(&|_| {}, 1, &[("error.type", "reset"), ("pilotage.fault", "reset")], true);
    check(&|_| {}, 2, &[(status, "200")], false);
    // It made room for somebody else, which is no failure.
    let stopped = |record: &mut Record| record.earlier_faults[1] = None;
    check(&stopped, 1, &[("pilotage.fault", "stopped")], false);
    let broke = |record: &mut Record| {
        record.termination = Termination::UpstreamInterrupted;
        record.fault = Some(AttemptFault { what: "truncated", status: None });
    };
    check(&broke, 2, &[("error.type", "truncated"), ("pilotage.fault", "truncated")], true);
    let too_long = |record: &mut Record| {
        record.status = 400;
        record.fault = Some(AttemptFault { what: "too_long", status: Some(400) });
    };
    let expect = [(status, "400"), ("error.type", "400"), ("pilotage.fault", "too_long")];
    check(&too_long, 2, &expect, false);
}

#[test]
fn addresses_are_told_in_parts() {
    let check = |address: &str, host: &str, port: u64| {
        let record = Record { address: Some(address.into()), ..served() };
        let made = made(&record, Convention::Settled);
        let attempt = made.iter().find(|span| span.kind == Kind::Client).unwrap();
        let said = |name| &attempt.attributes.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(*said("server.address"), Value::Text(host.into()));
        assert_eq!(*said("server.port"), Value::Count(port));
    };
    check("engine.example:443", "engine.example", 443);
    check("[::1]:8000", "::1", 8000);
}

#[test]
fn what_is_asked_for_and_unknown_is_refused() {
    let check = |opt_in: Option<&str>, expect: Option<Convention>| {
        assert_eq!(Convention::parse(opt_in).ok(), expect, "{opt_in:?}");
    };
    check(None, Some(Convention::Settled));
    check(Some(""), Some(Convention::Settled));
    check(Some("http"), Some(Convention::Settled));
    check(Some("http, gen_ai_latest_experimental"), Some(Convention::Latest));
    check(Some("http/dup"), None);
    check(Some("gen_ai_latest_experimantal"), None);
}

#[test]
fn samplers_are_opentelemetrys() {
    let check = |name: Option<&str>,
                 argument: Option<&str>,
                 trace: u128,
                 parent: Option<bool>,
                 expect: bool| {
        let sampler = Sampler::parse(name, argument).unwrap();
        assert_eq!(
            sampler.samples(trace, parent),
            expect,
            "{name:?} {argument:?} {trace:x} {parent:?}"
        );
    };
    let (low, high) = (0x00ff_u128 << 56, 0x00ff_ffff_ffff_ffff_u128);
    check(None, None, high, None, true);
    check(None, None, low, None, false);
    check(None, None, low, Some(true), true);
    check(None, None, high, Some(false), false);
    check(Some("traceidratio"), Some("0.5"), low, Some(true), false);
    check(Some("traceidratio"), Some("0.5"), 0x007f_ffff_ffff_ffff, None, false);
    check(Some("traceidratio"), Some("0.5"), 0x0080_0000_0000_0000, None, true);
    check(Some("parentbased_traceidratio"), Some("0"), high, None, false);
    check(Some("traceidratio"), None, low, None, true);
    check(Some("always_on"), None, low, Some(false), true);
    check(Some("always_off"), None, high, Some(true), false);
    check(Some("parentbased_always_on"), None, low, Some(false), false);
    let refused = |name: &str, argument: &str| Sampler::parse(Some(name), Some(argument)).is_err();
    assert!(refused("jaeger_remote", ""));
    assert!(refused("traceidratio", "1.5"));
    assert!(refused("traceidratio", "NaN"));
    assert!(refused("traceidratio", "a tenth"));
}

#[test]
fn what_went_wrong_or_slowly_is_kept() {
    let check = |change: &dyn Fn(&mut Record), expect: &[&str]| {
        let mut record = Record { sampled: false, ..served() };
        change(&mut record);
        let reasons = Reasons::of(&record, &goals());
        assert_eq!(reasons.names().collect::<Vec<_>>(), expect);
        assert_eq!(reasons.any(), !expect.is_empty());
    };
    check(&|_| {}, &[]);
    check(&|record| record.sampled = true, &["sampled"]);
    check(&|record| record.status = 502, &["error"]);
    check(&|record| record.termination = Termination::QueueFull, &["error"]);
    // Refusals that are no failures.
    check(&|record| (record.termination, record.status) = (Termination::Quota, 429), &[]);
    check(&|record| (record.termination, record.status) = (Termination::BadRequest, 400), &[]);
    check(&|record| record.termination = Termination::ClientCancel, &[]);
    // Goals are the band's.
    check(&|record| record.ttft = Some(ms(1001)), &["slow"]);
    check(&|record| (record.ttft, record.band) = (Some(ms(1001)), Band::Standard), &[]);
    check(&|record| record.tpot = Some(ms(51)), &["slow"]);
    check(&|record| (record.tpot, record.band) = (Some(ms(5100)), Band::Batch), &[]);
    // No stream: 1 s for the first of 11 tokens and 50 ms for each.
    check(&|record| (record.ttft, record.total) = (None, ms(1549)), &[]);
    check(&|record| (record.ttft, record.total) = (None, ms(1551)), &["slow"]);
    check(&|record| record.earlier_replicas = vec!["one".into()], &["retried"]);
    check(&|record| (record.stops, record.resumed) = (1, 1), &["preempted", "resumed"]);
    check(&|record| record.itl.as_mut().unwrap().stalls = 1, &["stalled"]);
    check(&|record| record.corrupted = true, &["corrupted"]);
    // Nobody waits for a copy.
    check(&|record| (record.mirror, record.status) = (true, 502), &[]);
}

#[test]
fn a_storm_keeps_so_many_a_second() {
    let tail = Tail::new(2);
    let admitted = |unix_ms| tail.admits(unix_ms);
    assert_eq!(
        [1000, 1500, 1999, 2000, 2000, 2001].map(admitted),
        [true, true, false, true, true, false]
    );
    // The clock was set back.
    assert!(admitted(500));
    assert!(!Tail::new(0).admits(0));
}

/// What traces may hold of a record's texts: all of them, which are names. This test says which ones they are,
/// so that whoever adds a field has to think about it.
#[test]
fn texts_of_traces_are_names() {
    let record = retried();
    let json = serde_json::to_value(&record).unwrap();
    let known: BTreeSet<String> = json
        .as_object()
        .unwrap()
        .values()
        .flat_map(|value| match value {
            serde_json::Value::String(text) => vec![text.clone()],
            serde_json::Value::Array(all) => {
                all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    for span in made(&record, Convention::Latest) {
        for (name, value) in &span.attributes {
            if let Value::Text(text) = value {
                let is_part = || known.iter().any(|known| known.starts_with(&format!("{text}:")));
                let is_status = *name == "error.type" && text.as_str().parse::<u16>().is_ok();
                let is_known = known.contains(text.as_str()) || is_part() || is_status;
                assert!(is_known, "{name} = {text}");
            }
        }
    }
}

proptest! {
    #[test]
    fn phases_and_spans_add_up(
        took in prop::array::uniform10(0_u64..3_000_000),
        attempts in 0_u32..4,
        output in 0_u32..50,
        answered: bool,
        unix_ms in 100_u64..2_000_000_000_000,
    ) {
        let [auth, read, route, queue, retry, connect, prefill, decode, client_blocked, other] =
            took.map(Span::from_nanos);
        let phases = Phases { auth, read, route, queue, retry, connect, prefill, decode, client_blocked, other };
        let mut record = retried();
        (record.phases, record.total, record.unix_ms) = (phases, phases.total(), unix_ms);
        (record.attempts, record.tokens.output) = (attempts, output);
        record.earlier_replicas.truncate(attempts.saturating_sub(1) as usize);
        if !answered {
            (record.ttft, record.tpot) = (None, None);
        }
        let made = made(&record, Convention::Settled);
        let root = &made[0];
        prop_assert_eq!(root.end_nanos, unix_ms * 1_000_000);
        prop_assert_eq!(root.end_nanos - root.begin_nanos, phases.total().as_nanos());
        let ids: BTreeSet<u64> = made.iter().map(|span| span.span_id).collect();
        prop_assert_eq!(ids.len(), made.len());
        prop_assert!(!ids.contains(&0));
        for span in &made {
            let parent = made.iter().find(|one| Some(one.span_id) == span.parent).unwrap_or(root);
            prop_assert!(parent.begin_nanos <= span.begin_nanos && span.begin_nanos <= span.end_nanos);
            prop_assert!(span.end_nanos <= parent.end_nanos);
            prop_assert_eq!(span.trace_id, record.trace_id);
            let moments: Vec<u64> = span.events.iter().map(|event| event.at_nanos).collect();
            prop_assert!(moments.iter().all(|at| (span.begin_nanos..=span.end_nanos).contains(at)));
        }
        let summed: f64 = Phase::ALL.iter().map(|phase| {
            let name = format!("pilotage.phase.{}_ms", phase.name());
            let found = root.attributes.iter().find(|(key, _)| *key == name);
            match found {
                Some((_, Value::Number(number))) => *number,
                _ => f64::NAN,
            }
        }).sum();
        prop_assert!((summed - phases.total().as_nanos() as f64 / 1e6).abs() < 1e-6);
    }
}
