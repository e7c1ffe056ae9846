//! Is the second run worse than the first? Ratios with bounds, and a verdict that chance alone gives
//! in one of twenty comparisons at most, all numbers of a comparison together.

pub mod bootstrap;

use serde::Serialize;
use thiserror::Error;

use crate::record::Outcome;
use crate::report::{Report, Requests};
use crate::stats::latency::BEYOND_MIN;

use bootstrap::{Statistic, ratios};

/// The form of this JSON.
pub const SCHEMA: &str = "pilotage.bench.diff/v1";

/// How often chance alone may make a comparison say that something differs.
const CHANCE: f64 = 0.05;

/// Slices of time whose throughput is compared.
const SLICES: usize = 50;

/// Why two runs cannot be compared.
#[derive(Debug, Error, PartialEq)]
pub enum DiffError {
    /// The single requests were not kept.
    #[error("the {0} run was kept without its requests: make it with `bench run … --save FILE`")]
    Requests(&'static str),
    /// Nothing was answered.
    #[error("the {0} run has no answers to compare")]
    Empty(&'static str),
}

/// What one number says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The second is better by more than what is tolerated.
    Better,
    /// No difference beyond that can be told.
    Same,
    /// The second is worse by more than what is tolerated.
    Worse,
}

/// One number of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub metric: String,
    /// Its unit.
    pub unit: &'static str,
    /// In the first run.
    pub first: f64,
    /// In the second.
    pub second: f64,
    /// The second against the first.
    pub ratio: f64,
    /// The bounds of that, such that all lines' together hold 19 times of 20.
    pub between: (f64, f64),
    /// What it says.
    pub verdict: Verdict,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// The part by which numbers may be worse.
    pub tolerance: f64,
    /// Whether the second run is worse.
    pub worse: bool,
    /// Each number.
    pub lines: Vec<Line>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// A column of values with the statistics that they are compared by.
struct Compared {
    name: &'static str,
    unit: &'static str,
    lower_is_better: bool,
    values: (Vec<f64>, Vec<f64>),
    statistics: Vec<(&'static str, Statistic)>,
}

/// Compares two runs whose requests were kept.
///
/// # Errors
/// [`DiffError`].
pub fn diff(first: &Report, second: &Report, tolerance: f64) -> Result<Diff, DiffError> {
    let one = first.requests.as_ref().ok_or(DiffError::Requests("first"))?;
    let other = second.requests.as_ref().ok_or(DiffError::Requests("second"))?;
    let answered = |all: &Requests| all.outcome.contains(&Outcome::Ok);
    (answered(one)).then_some(()).ok_or(DiffError::Empty("first"))?;
    (answered(other)).then_some(()).ok_or(DiffError::Empty("second"))?;
    let steady = (first.latency.is_some(), second.latency.is_some());
    let mut columns = throughputs(one, other);
    if steady == (true, true) {
        columns.extend(latencies(one, other));
    }
    let count: usize = columns.iter().map(|column| column.statistics.len()).sum();
    let miss = CHANCE / 2.0 / count.max(1) as f64;
    let lines: Vec<Line> =
        columns.iter().flat_map(|column| lines(column, miss, tolerance)).collect();
    let worse = lines.iter().any(|line| line.verdict == Verdict::Worse);
    Ok(Diff {
        schema: SCHEMA,
        tolerance,
        worse: worse || steady == (true, false),
        lines,
        notes: notes(first, second),
    })
}

/// Times are those of answered requests, in the order in which they were due.
fn latencies(one: &Requests, other: &Requests) -> Vec<Compared> {
    type Column = fn(&Requests, usize) -> Option<f64>;
    let columns: [(&'static str, Column); 3] = [
        ("TTFT", |all, at| *all.ttft_ms.get(at)?),
        ("TPOT", |all, at| *all.tpot_ms.get(at)?),
        ("E2E", |all, at| all.e2e_ms.get(at).copied()),
    ];
    let values = |all: &Requests, column: Column| -> Vec<f64> {
        let ok = (0..all.len()).filter(|at| all.outcome[*at] == Outcome::Ok);
        ok.filter_map(|at| column(all, at)).collect()
    };
    let compared = columns.into_iter().map(|(name, column)| {
        let values = (values(one, column), values(other, column));
        let least = values.0.len().min(values.1.len()) as f64;
        let tail = [("p99", 0.99), ("p90", 0.9)];
        let tail = tail.into_iter().find(|(_, part)| least * (1.0 - part) >= BEYOND_MIN);
        let mut statistics = Vec::new();
        if least >= 2.0 * BEYOND_MIN {
            statistics.push(("p50", Statistic::Quantile(0.5)));
        }
        statistics.extend(tail.map(|(name, part)| (name, Statistic::Quantile(part))));
        Compared { name, unit: "ms", lower_is_better: true, values, statistics }
    });
    compared.filter(|column| !column.statistics.is_empty()).collect()
}

/// Throughput over slices of time, and the part of requests that were answered.
fn throughputs(one: &Requests, other: &Requests) -> Vec<Compared> {
    let column = |name, unit, values| Compared {
        name,
        unit,
        lower_is_better: false,
        values,
        statistics: vec![("", Statistic::Mean)],
    };
    let answered = |all: &Requests| -> Vec<f64> {
        all.outcome.iter().map(|outcome| f64::from(u8::from(*outcome == Outcome::Ok))).collect()
    };
    let both = |of: &dyn Fn(&Requests) -> Vec<f64>| (of(one), of(other));
    vec![
        column("requests", "requests/s", both(&|all| slices(all, |_, _| 1.0))),
        column(
            "output tokens",
            "tokens/s",
            both(&|all| slices(all, |all, at| f64::from(all.output_tokens[at]))),
        ),
        column("answered", "part", both(&answered)),
    ]
}

/// Sums over slices of the time in which requests were due, for each second.
fn slices(all: &Requests, weight: fn(&Requests, usize) -> f64) -> Vec<f64> {
    let from = all.intended_s.first().copied().unwrap_or_default();
    let to = all.intended_s.last().copied().unwrap_or_default();
    let step = ((to - from) / SLICES as f64).max(1e-9);
    let mut sums = vec![0.0; SLICES];
    for at in (0..all.len()).filter(|at| all.outcome[*at] == Outcome::Ok) {
        let end = all.intended_s[at] + all.e2e_ms[at] / 1e3;
        // What ends after sending has ended came under another load.
        if let Some(sum) = sums.get_mut(((end - from) / step) as usize) {
            *sum += weight(all, at) / step;
        }
    }
    sums
}

fn lines(column: &Compared, miss: f64, tolerance: f64) -> Vec<Line> {
    let statistics: Vec<Statistic> = column.statistics.iter().map(|(_, one)| *one).collect();
    let (first, second) = &column.values;
    let ratios = ratios((first, second), &statistics, miss, 1);
    let line = |((name, statistic), found): (&(&'static str, Statistic), &bootstrap::Ratio)| {
        let (low, high) = (found.low, found.high);
        let (above, below) = (low > 1.0 + tolerance, high < 1.0 / (1.0 + tolerance));
        let verdict = match (above, below, column.lower_is_better) {
            (true, _, true) | (_, true, false) => Verdict::Worse,
            (_, true, true) | (true, _, false) => Verdict::Better,
            _ => Verdict::Same,
        };
        Line {
            metric: format!("{} {name}", column.name).trim_end().to_owned(),
            unit: column.unit,
            first: statistic.of(&mut first.clone()),
            second: statistic.of(&mut second.clone()),
            ratio: found.ratio,
            between: (low, high),
            verdict,
        }
    };
    column.statistics.iter().zip(&ratios).map(line).collect()
}

fn notes(first: &Report, second: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, report) in [("first", first), ("second", second)] {
        if let Some(why) = report.refused() {
            notes.push(format!("the {name} run: {why}"));
        }
        if !report.valid {
            let what = report.findings.first().map_or("", |finding| finding.what.as_str());
            notes.push(format!("the {name} run is not valid: {what}"));
        }
    }
    let (one, other) = (&first.setting, &second.setting);
    let differ = [
        ("rate", one.rate != other.rate),
        ("concurrency", one.concurrency != other.concurrency),
        ("arrivals", one.arrivals != other.arrivals),
        ("prompts", one.input_tokens != other.input_tokens),
        ("answers", one.output_tokens != other.output_tokens),
        ("shared prefix", one.shared_prefix != other.shared_prefix),
        ("turns", one.turns != other.turns),
        ("endpoint", one.endpoint != other.endpoint),
        ("model", one.model != other.model),
    ];
    let differ: Vec<&str> =
        differ.iter().filter(|(_, differ)| *differ).map(|(name, _)| *name).collect();
    if !differ.is_empty() {
        notes.push(format!("the runs were asked for different things: {}", differ.join(", ")));
    }
    notes
}

#[cfg(test)]
mod tests;
