//! From the requests of a run to its report.

use crate::load::Run;
use crate::record::{Outcome, Sample};
use crate::slo::Slo;
use crate::stats::book::Book;
use crate::stats::flight::Occupancy;
use crate::stats::latency::{Latency, quantile};
use crate::stats::spread::Spread;
use crate::stats::timeline::Timeline;
use crate::verdict::validity::{self, Checks};
use crate::verdict::{Evidence, Severity, Stability, Steady};
use crate::workload::WarmUp;

use super::{
    Counts, Curves, Environment, Goodput, Latencies, Report, SCHEMA, Setting, TenantResult,
    Throughput,
};

/// Points of a curve.
const CURVE_POINTS: usize = 200;

/// The part of the run that counts, in nanoseconds.
#[derive(Clone, Copy)]
struct Window {
    from: u64,
    to: u64,
}

impl Window {
    fn seconds(self) -> f64 {
        (self.to.saturating_sub(self.from) as f64 / 1e9).max(1e-9)
    }
}

/// The report of a run. What the environment knows beforehand is handed in; the rest is filled in.
pub fn report(run: &Run, setting: Setting, environment: Environment, warm_up: WarmUp) -> Report {
    let window = window(run, warm_up);
    let mut samples: Vec<&Sample> = run.book.samples.iter().collect();
    samples.sort_by_key(|sample| sample.intended);
    let measured: Vec<&Sample> = samples.iter().copied().filter(|sample| !sample.warm).collect();
    let stability = Stability::judge(&evidence(&setting, &samples, &measured, window));
    let latencies = latencies(&run.book, &measured);
    let threads = environment.threads.max(1) as f64;
    let environment = Environment {
        started_unix_ms: run.started_unix_ms,
        sending_seconds: run.sent_until as f64 / 1e9,
        total_seconds: run.over as f64 / 1e9,
        warm_up_seconds: window.from as f64 / 1e9,
        client_cpu_seconds: run.cpu_seconds,
        ..environment
    };
    let cpu = run.cpu_seconds / environment.sending_seconds.max(1e-9) / threads;
    let checks = checks(run, &measured, &latencies, (setting.load != "closed", cpu, window));
    let findings = validity::findings(&checks);
    let steady = !matches!(stability.steady, Steady::No | Steady::Ramp);
    Report {
        schema: SCHEMA.to_owned(),
        environment,
        valid: findings.iter().all(|finding| finding.severity < Severity::Invalid),
        findings,
        counts: Counts { reconnects: run.reconnects, ..counts(&run.book) },
        throughput: throughput(&samples, window),
        goodput: setting.slo.map(|slo| goodput(&samples, &measured, slo, window)),
        tenants: tenants(&setting, &samples, window, steady),
        timeline: Timeline::of(&run.book.samples, run.sent_until),
        curves: curves(&run.book, &measured),
        latency: steady.then_some(latencies),
        stability,
        setting,
        requests: None,
    }
}

/// From the end of the warm-up to the end of sending.
fn window(run: &Run, warm_up: WarmUp) -> Window {
    let from = match warm_up {
        WarmUp::Nanos(nanos) => nanos,
        WarmUp::Requests(_) => {
            let counted = run.book.samples.iter().filter(|sample| !sample.warm);
            counted.map(|sample| sample.intended).min().unwrap_or_default()
        }
    };
    Window { from: from.min(run.sent_until), to: run.sent_until }
}

fn evidence(
    setting: &Setting,
    samples: &[&Sample],
    measured: &[&Sample],
    window: Window,
) -> Evidence {
    let over = |stay: fn(&Sample) -> Option<(u64, u64)>| {
        let stays = samples.iter().filter_map(|sample| stay(sample));
        Occupancy::of(stays, window.from, window.to)
    };
    let inside = |at: u64| (window.from..window.to).contains(&at);
    let ended =
        samples.iter().filter(|sample| inside(sample.end) && sample.outcome != Outcome::Unfinished);
    // A rejection is over at once, and says nothing about how long answers take.
    let answered = || measured.iter().filter(|sample| sample.outcome != Outcome::Rejected);
    let latencies = answered().map(|sample| sample.ttft().unwrap_or_else(|| sample.e2e()));
    let stays = measured.iter().map(|sample| sample.e2e()).sum::<f64>();
    Evidence {
        open: setting.load != "closed",
        random: setting.arrivals.as_deref().is_some_and(|kind| kind != "constant"),
        ramp: setting.load == "ramp",
        seconds: window.seconds(),
        due: samples.iter().filter(|sample| inside(sample.intended)).count() as u64,
        ended: ended.count() as u64,
        in_flight: over(|sample| Some((sample.intended, sample.end))),
        decoding: over(|sample| sample.first.map(|first| (first, sample.end))),
        waiting: over(|sample| Some((sample.intended, sample.first.unwrap_or(sample.end)))),
        slots: setting.slots,
        stay_mean: stays / measured.len().max(1) as f64,
        latencies: latencies.collect(),
    }
}

fn latencies(book: &Book, measured: &[&Sample]) -> Latencies {
    let itl_ms = Latency::of_spread(&book.gaps);
    if let Some(sums) = &book.sums {
        let of = |spread: &Spread| Latency::of_spread(spread);
        return Latencies {
            ttft_ms: of(&sums.ttft),
            tpot_ms: of(&sums.tpot),
            itl_ms,
            e2e_ms: of(&sums.e2e),
            ttft_from_send_ms: of(&sums.ttft_sent),
            e2e_from_send_ms: of(&sums.e2e_sent),
            client_queue_ms: of(&sums.client_queue),
            schedule_delay_ms: of(&sums.schedule_delay),
        };
    }
    let of = |time: fn(&Sample) -> Option<f64>| {
        let good = measured.iter().filter(|sample| sample.is_good());
        Latency::of(good.filter_map(|sample| time(sample)).collect())
    };
    Latencies {
        ttft_ms: of(Sample::ttft),
        tpot_ms: of(Sample::tpot),
        itl_ms,
        e2e_ms: of(|sample| Some(sample.e2e())),
        ttft_from_send_ms: of(Sample::ttft_sent),
        e2e_from_send_ms: of(|sample| Some(sample.e2e_sent())),
        client_queue_ms: of(|sample| Some(sample.client_queue())),
        schedule_delay_ms: Latency::of(
            measured.iter().map(|sample| sample.schedule_delay()).collect(),
        ),
    }
}

fn checks(
    run: &Run,
    measured: &[&Sample],
    latencies: &Latencies,
    (open, cpu, window): (bool, f64, Window),
) -> Checks {
    let book = &run.book;
    let good = || measured.iter().filter(|sample| sample.is_good());
    // Found even where there are too few values to show it: it only decides whether to warn.
    let tail = |shown: &Latency, time: fn(&Sample) -> f64| {
        let exact = || {
            let mut times: Vec<f64> = measured.iter().map(|sample| time(sample)).collect();
            times.sort_unstable_by(f64::total_cmp);
            quantile(&times, 0.99)
        };
        shown.p99.map_or_else(exact, |millis| millis / 1e3)
    };
    let asked: u64 = good().map(|sample| u64::from(sample.output_asked)).sum();
    let came: u64 = good().map(|sample| u64::from(sample.output_tokens)).sum();
    let streamed = good().any(|sample| sample.events > 0);
    Checks {
        counted: book.counted(),
        answered: book.count(Outcome::Ok),
        failed: book.failed(),
        rejected: book.count(Outcome::Rejected),
        unfinished: book.count(Outcome::Unfinished),
        overflow: book.count(Outcome::Overflow),
        open,
        delay_p99: tail(&latencies.schedule_delay_ms, Sample::schedule_delay),
        ttft_p50: latencies.ttft_ms.p50.unwrap_or_default() / 1e3,
        queue_p99: tail(&latencies.client_queue_ms, Sample::client_queue),
        cpu,
        seconds: window.seconds(),
        stay_mean: latencies.e2e_ms.mean.unwrap_or_default() / 1e3,
        uncounted: good().filter(|sample| streamed && !sample.counted).count() as u64,
        length: if came == 0 { 0.0 } else { came as f64 / asked.max(1) as f64 },
        interrupted: run.interrupted,
    }
}

fn counts(book: &Book) -> Counts {
    Counts {
        total: book.counted(),
        ok: book.count(Outcome::Ok),
        rejected: book.count(Outcome::Rejected),
        failed: book.failed(),
        unfinished: book.count(Outcome::Unfinished),
        warm_up: book.warm,
        outcomes: book.outcomes.clone(),
        reconnects: 0,
    }
}

/// What ended inside the window, whenever it was due: all that were due would be too many, all that
/// were due and ended too few.
fn ended_in<'a>(samples: &'a [&Sample], window: Window) -> impl Iterator<Item = &'a &'a Sample> {
    samples.iter().filter(move |sample| {
        sample.outcome == Outcome::Ok && (window.from..window.to).contains(&sample.end)
    })
}

fn throughput(samples: &[&Sample], window: Window) -> Throughput {
    let seconds = window.seconds();
    let sum = |tokens: fn(&Sample) -> u32| {
        let all = ended_in(samples, window).map(|sample| u64::from(tokens(sample)));
        all.sum::<u64>() as f64 / seconds
    };
    let due = samples.iter().filter(|sample| (window.from..window.to).contains(&sample.intended));
    Throughput {
        seconds,
        due: due.count() as f64 / seconds,
        requests: ended_in(samples, window).count() as f64 / seconds,
        input_tokens: sum(|sample| sample.input_tokens),
        output_tokens: sum(|sample| sample.output_tokens),
    }
}

/// The rate is of what ended inside the window, as throughput is; the part is of what was due.
fn goodput(samples: &[&Sample], measured: &[&Sample], slo: Slo, window: Window) -> Goodput {
    let good = measured.iter().filter(|sample| sample.is_good() && slo.holds(sample)).count();
    let fraction = good as f64 / measured.len().max(1) as f64;
    let ended = ended_in(samples, window).filter(|sample| slo.holds(sample)).count();
    Goodput { requests: ended as f64 / window.seconds(), fraction }
}

fn tenants(
    setting: &Setting,
    samples: &[&Sample],
    window: Window,
    steady: bool,
) -> Vec<TenantResult> {
    let one = |(at, name): (usize, &String)| {
        let mine = samples.iter().copied().filter(|sample| usize::from(sample.tenant) == at);
        let mine: Vec<&Sample> = mine.collect();
        let measured: Vec<&Sample> = mine.iter().copied().filter(|sample| !sample.warm).collect();
        let count = |ended: fn(Outcome) -> bool| {
            measured.iter().filter(|sample| ended(sample.outcome)).count() as u64
        };
        let of = |time: fn(&Sample) -> Option<f64>| {
            let good = measured.iter().filter(|sample| sample.is_good());
            steady.then(|| Latency::of(good.filter_map(|sample| time(sample)).collect()))
        };
        let Throughput { requests, output_tokens, .. } = throughput(&mine, window);
        TenantResult {
            name: name.clone(),
            total: measured.len() as u64,
            ok: count(|outcome| outcome == Outcome::Ok),
            rejected: count(|outcome| outcome == Outcome::Rejected),
            failed: count(Outcome::is_failure),
            requests,
            output_tokens,
            ttft_ms: of(Sample::ttft),
            tpot_ms: of(Sample::tpot),
            e2e_ms: of(|sample| Some(sample.e2e())),
            goodput: setting.slo.map(|slo| goodput(&mine, &measured, slo, window)),
        }
    };
    setting.tenants.iter().enumerate().map(one).collect()
}

fn curves(book: &Book, measured: &[&Sample]) -> Curves {
    let of = |time: fn(&Sample) -> Option<f64>| {
        let good = measured.iter().filter(|sample| sample.is_good());
        let mut values: Vec<f64> = good.filter_map(|sample| time(sample)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let points = if values.is_empty() { 0 } else { CURVE_POINTS };
        curve(points, |part| quantile(&values, part))
    };
    let gaps = if book.gaps.count() == 0 { 0 } else { CURVE_POINTS };
    Curves {
        ttft: of(Sample::ttft),
        tpot: of(Sample::tpot),
        itl: curve(gaps, |part| book.gaps.quantile(part)),
        e2e: of(|sample| Some(sample.e2e())),
    }
}

fn curve(points: usize, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let part = |at: usize| at as f64 / (CURVE_POINTS - 1) as f64;
    (0..points).map(|at| (value(part(at)) * 1e3, part(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::answered;

    const SECOND: u64 = 1_000_000_000;

    fn setting(slo: &str) -> Setting {
        Setting {
            load: "open".to_owned(),
            arrivals: Some("constant".to_owned()),
            tenants: vec!["a".to_owned(), "b".to_owned()],
            slo: Some(slo.parse().unwrap()),
            ..Setting::default()
        }
    }

    fn run(samples: Vec<Sample>, sent_until: u64) -> Run {
        let mut book = Book::default();
        samples.into_iter().for_each(|sample| book.add(sample, &[]));
        let over = sent_until + SECOND;
        Run {
            book,
            sent_until,
            over,
            started_unix_ms: 0,
            cpu_seconds: 1.0,
            interrupted: false,
            reconnects: 0,
        }
    }

    fn made(run: &Run, slo: &str) -> Report {
        let environment = Environment { threads: 1, ..Environment::default() };
        report(run, setting(slo), environment, WarmUp::Nanos(10 * SECOND))
    }

    /// Ten requests a second for a hundred seconds, the first ten of which are warm-up.
    fn steady() -> Vec<Sample> {
        let sample = |number: u64| {
            let at = number * 100;
            let tenant = u16::from(number.is_multiple_of(4));
            Sample { tenant, warm: at < 10_000, ..answered(at, at + 30, at + 120) }
        };
        (0..1_000).map(sample).collect()
    }

    #[test]
    fn a_steady_run_has_its_numbers() {
        let report = made(&run(steady(), 100 * SECOND), "ttft=30ms");
        assert!(report.valid, "{:?}", report.findings);
        assert_eq!(report.stability.steady, Steady::Yes);
        assert_eq!((report.counts.ok, report.counts.warm_up), (900, 100));
        assert!((report.throughput.requests - 10.0).abs() < 0.05);
        assert!((report.throughput.output_tokens - 100.0).abs() < 0.5);
        let latency = report.latency.as_ref().unwrap();
        assert_eq!((latency.ttft_ms.p50, latency.ttft_ms.p99), (Some(30.0), Some(30.0)));
        assert_eq!(latency.tpot_ms.p50, Some(10.0));
        assert_eq!(report.goodput.unwrap().fraction, 1.0);
        assert!((report.stability.in_flight - 1.2).abs() < 0.01);
        assert!(report.stability.little_residual.unwrap() < 0.01);
        assert_eq!((report.tenants[0].total, report.tenants[1].total), (675, 225));
        assert!((report.tenants[1].requests - 2.5).abs() < 0.05);
        assert!(report.holds(0.99) && !report.is_client_bound());
    }

    #[test]
    fn a_growing_queue_has_no_percentiles() {
        // Ten a second arrive, five are served: each waits longer than the one before.
        let sample = |number: u64| {
            let (at, turn) = (number * 100, number * 200);
            Sample { warm: at < 10_000, ..answered(at, turn + 30, turn + 200) }
        };
        let report = made(&run((0..1_000).map(sample).collect(), 100 * SECOND), "ttft=1s");
        assert_eq!(report.stability.steady, Steady::No);
        assert!(report.latency.is_none() && !report.holds(0.0));
        assert!(report.refused().unwrap().contains("grows"), "{:?}", report.refused());
        assert!(report.tenants.iter().all(|tenant| tenant.ttft_ms.is_none()));
    }

    #[test]
    fn a_stall_shows_in_those_who_were_due_in_it() {
        // One connection, and the server stands still from 50 to 51 s: the client sends nothing in
        // that second, but ten were due.
        let mut samples = steady();
        for sample in samples
            .iter_mut()
            .filter(|sample| (500..510).contains(&(sample.intended / 100_000_000)))
        {
            let over = 51 * SECOND;
            (sample.sent, sample.first) = (over, Some(over + 30_000_000));
            (sample.last, sample.end) = (Some(over + 120_000_000), over + 120_000_000);
        }
        let report = made(&run(samples, 100 * SECOND), "ttft=100ms");
        let latency = report.latency.as_ref().unwrap();
        assert_eq!(latency.ttft_ms.max, Some(1_030.0));
        assert!(latency.ttft_ms.p99.unwrap() > 4.0 * 30.0);
        assert_eq!(latency.ttft_from_send_ms.p99, Some(30.0));
        assert_eq!(latency.client_queue_ms.max, Some(1_000.0));
        assert!((report.goodput.unwrap().fraction - 890.0 / 900.0).abs() < 1e-9);
    }

    #[test]
    fn failures_are_in_no_latency_but_in_goodput() {
        let mut samples = steady();
        samples
            .iter_mut()
            .skip(100)
            .step_by(10)
            .for_each(|sample| sample.outcome = Outcome::Rejected);
        let report = made(&run(samples, 100 * SECOND), "ttft=1s");
        assert_eq!((report.counts.ok, report.counts.rejected), (810, 90));
        assert_eq!(report.latency.as_ref().unwrap().ttft_ms.count, 810);
        assert!((report.goodput.unwrap().fraction - 0.9).abs() < 1e-9);
        assert!(report.findings.iter().any(|finding| finding.id == "rejected"));
    }

    #[test]
    fn a_report_is_read_back() {
        let mut report = made(&run(steady(), 100 * SECOND), "e2e=1s");
        report.requests = Some(super::super::Requests::of(&run(steady(), SECOND).book.samples));
        let text = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(back.counts, report.counts);
        assert_eq!(back.setting, report.setting);
        assert_eq!(back.requests.unwrap().len(), 900);
        let p50 = |report: &Report| report.latency.as_ref().unwrap().e2e_ms.p50.unwrap();
        assert!((p50(&serde_json::from_str(&text).unwrap()) - p50(&report)).abs() < 1e-9);
        assert!(text.starts_with("{\"schema\":\"pilotage.bench/v1\""));
    }
}
