//! A run while it goes on: a bar and a table on a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use pilotage_lab::load::{Bench, Run, Snapshot, Watch};
use pilotage_lab::record::{Outcome, Sample};
use pilotage_lab::report::Setting;
use pilotage_lab::stats::latency::quantile;
use pilotage_lab::workload::Spec;

use crate::output;

/// How often the table changes.
const TICK: Duration = Duration::from_millis(500);

/// Seconds that the table looks back.
const RECENT_SECONDS: f64 = 5.0;

/// Tenants that the table shows.
const ROWS_MAX: usize = 12;

/// A run of which so many requests failed, and none did not, is given up.
const FAILED_MAX: u64 = 100;

/// What of a run is shown.
#[derive(Debug)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    seconds: Option<f64>,
    requests: Option<u64>,
    tenants: Vec<String>,
}

impl Shown {
    pub(super) fn new(spec: &Spec, setting: &Setting) -> Self {
        let seconds = spec.end_nanos.map(|nanos| nanos as f64 / 1e9);
        let load = match (setting.rate, setting.concurrency) {
            (Some(rate), _) => format!("{rate} requests/s"),
            (None, Some(concurrency)) => format!("{concurrency} requests at once"),
            (None, None) => "the trace's requests".to_owned(),
        };
        let bar = if std::io::stderr().is_terminal() {
            Some(bar(seconds.map(|seconds| seconds as u64).or(spec.requests), seconds.is_some()))
        } else {
            let long = seconds.map_or_else(String::new, |seconds| format!(" for {seconds:.0} s"));
            output::note(&format!("sending {load} to {}{long}", setting.url));
            None
        };
        let tenants = setting.tenants.clone();
        Self { bar, seconds, requests: spec.requests, tenants }
    }

    /// Runs it to its end, or until Ctrl-C, whichever is first.
    pub(super) async fn follow(self, bench: Bench) -> anyhow::Result<Run> {
        let watch = bench.watch();
        let mut run = std::pin::pin!(bench.run());
        let mut hopeless = false;
        let run = loop {
            tokio::select! {
                biased;
                run = &mut run => break run,
                _ = tokio::signal::ctrl_c() => watch.stop(),
                () = tokio::time::sleep(TICK) => hopeless |= self.tick(&watch),
            }
        };
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if hopeless {
            let counts: BTreeMap<Outcome, u64> = run.book.outcomes.clone();
            let status = run.book.samples.last().map_or(0, |sample| sample.status);
            bail!("every request failed ({counts:?}, the last with status {status})");
        }
        Ok(run)
    }

    /// Draws it; stops it where there is no hope.
    fn tick(&self, watch: &Watch) -> bool {
        let now = watch.snapshot(RECENT_SECONDS);
        if let Some(bar) = &self.bar {
            let position = if self.seconds.is_some() { now.seconds as u64 } else { now.done };
            bar.set_position(position.min(self.requests.unwrap_or(u64::MAX)));
            bar.set_message(self.table(&now));
        }
        let hopeless = now.done >= FAILED_MAX && now.failed == now.done;
        if hopeless {
            watch.stop();
        }
        hopeless
    }

    fn table(&self, now: &Snapshot) -> String {
        let under_way = now.sent.saturating_sub(now.done);
        let seconds = now.seconds.clamp(1e-3, RECENT_SECONDS);
        let mut lines = vec![
            format!(
                "{:.0} s   sent {}   done {}   under way {under_way}   waiting in the client {}   \
                 rejected {}   failed {}",
                now.seconds, now.sent, now.done, now.queued, now.rejected, now.failed,
            ),
            format!(
                "{:16} {:>9} {:>9} {:>10} {:>10} {:>10}",
                "last 5 s", "req/s", "tok/s", "TTFT p50", "TTFT max", "E2E p50",
            ),
        ];
        let row = |name: &str, samples: &[&Sample]| {
            let good = || samples.iter().filter(|sample| sample.outcome == Outcome::Ok);
            let tokens: u64 = good().map(|sample| u64::from(sample.output_tokens)).sum();
            let ttft = sorted(good().filter_map(|sample| sample.ttft()));
            let e2e = sorted(good().map(|sample| sample.e2e()));
            format!(
                "{:16} {:>9.1} {:>9.0} {:>10} {:>10} {:>10}",
                name.chars().take(16).collect::<String>(),
                good().count() as f64 / seconds,
                tokens as f64 / seconds,
                time(&ttft, 0.5),
                time(&ttft, 1.0),
                time(&e2e, 0.5),
            )
        };
        let all: Vec<&Sample> = now.recent.iter().collect();
        lines.push(row("all", &all));
        if self.tenants.len() > 1 {
            for (at, name) in self.tenants.iter().enumerate().take(ROWS_MAX) {
                let mine = all.iter().copied().filter(|sample| usize::from(sample.tenant) == at);
                lines.push(row(name, &mine.collect::<Vec<_>>()));
            }
        }
        lines.join("\n")
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn time(sorted: &[f64], part: f64) -> String {
    match sorted.is_empty() {
        true => "-".to_owned(),
        false => format!("{:.0} ms", quantile(sorted, part) * 1e3),
    }
}

fn bar(length: Option<u64>, by_time: bool) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let form = match (length, by_time) {
        (Some(_), true) => "{bar:32} {pos} of {len} s\n{msg}",
        (Some(_), false) => "{bar:32} {pos} of {len} requests\n{msg}",
        (None, _) => "{spinner} {elapsed}\n{msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar
}
