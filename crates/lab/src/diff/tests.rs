//! Comparisons of made-up runs.

use pilotage_chance::Draws;

use super::*;
use crate::load::Run;
use crate::record::Sample;
use crate::record::tests::answered;
use crate::report::{Environment, Setting, report};
use crate::stats::book::Book;
use crate::workload::WarmUp;

/// Ten requests a second for a minute whose latency is about `scale` times 50 ms to the first token.
fn run(seed: u64, scale: f64, lost: f64) -> Report {
    let mut draws = Draws::of_part(seed, "run");
    let mut book = Book::default();
    let (mut now, mut until) = (0.0, 0);
    while now < 60_000.0 {
        now += draws.exponential() * 100.0;
        let first = now + scale * 50.0 * (0.3 * draws.normal()).exp();
        let end = first + scale * 9.0 * 10.0 * (0.1 * draws.normal()).exp();
        let mut sample = answered(now as u64, first as u64, end as u64);
        if draws.unit() < lost {
            sample.outcome = Outcome::Rejected;
        }
        until = sample.intended;
        book.add(Sample { warm: false, ..sample }, &[]);
    }
    let requests = Requests::of(&book.samples);
    let run = Run {
        book,
        sent_until: until,
        over: until,
        started_unix_ms: 0,
        cpu_seconds: 0.1,
        interrupted: false,
        reconnects: 0,
    };
    let setting = Setting { load: "open".to_owned(), rate: Some(10.0), ..Setting::default() };
    let made = report(&run, setting, Environment::default(), WarmUp::Nanos(0));
    Report { requests: Some(requests), ..made }
}

#[test]
fn equal_runs_are_seldom_worse() {
    let worse = (0..20)
        .filter(|seed| diff(&run(*seed, 1.0, 0.0), &run(seed + 500, 1.0, 0.0), 0.0).unwrap().worse);
    // One of forty may be worse, and one of forty better: by chance some more.
    assert!(worse.count() <= 3);
}

#[test]
fn what_differs_is_found_and_what_is_tolerated_is_not() {
    let first = run(1, 1.0, 0.0);
    let check =
        |scale: f64, lost: f64, tolerance: f64, worse: bool, metric: &str, verdict: Verdict| {
            let diff = diff(&first, &run(2, scale, lost), tolerance).unwrap();
            assert_eq!(diff.worse, worse, "{scale} {lost} {:?}", diff.lines);
            let line = diff.lines.iter().find(|line| line.metric == metric).unwrap();
            assert_eq!(line.verdict, verdict, "{line:?}");
        };
    check(1.3, 0.0, 0.05, true, "TTFT p50", Verdict::Worse);
    check(1.3, 0.0, 0.5, false, "TTFT p50", Verdict::Same);
    check(0.7, 0.0, 0.05, false, "TPOT p50", Verdict::Better);
    check(1.0, 0.0, 0.05, false, "E2E p99", Verdict::Same);
    check(1.0, 0.3, 0.05, true, "answered", Verdict::Worse);
}

#[test]
fn runs_without_a_steady_state_are_compared_by_throughput_alone() {
    let first = run(1, 1.0, 0.0);
    let unsteady = Report { latency: None, ..run(2, 1.0, 0.0) };
    let found = diff(&first, &unsteady, 0.05).unwrap();
    assert!(found.worse, "it had a steady state before");
    assert!(found.lines.iter().all(|line| !line.unit.eq("ms")));
    assert!(found.notes[0].contains("the second run: no steady state"));
    assert!(!diff(&unsteady, &unsteady, 0.05).unwrap().worse);
}

#[test]
fn what_cannot_be_compared_says_so() {
    let first = run(1, 1.0, 0.0);
    let without = Report { requests: None, ..first.clone() };
    assert_eq!(diff(&first, &without, 0.0).unwrap_err(), DiffError::Requests("second"));
    let empty = Report { requests: Some(Requests::default()), ..first.clone() };
    assert_eq!(diff(&empty, &first, 0.0).unwrap_err(), DiffError::Empty("first"));
    let mut other = first.clone();
    other.setting.rate = Some(20.0);
    assert!(diff(&first, &other, 0.0).unwrap().notes[0].contains("rate"));
}
