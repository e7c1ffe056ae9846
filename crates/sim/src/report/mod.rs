//! What a run came to, as a value that programs read and as a page that people do.
//!
//! The page is one file without scripts that needs nothing from elsewhere, and every plot has its
//! numbers beside it. Numbers are rounded before they are kept, so that equal runs give equal bytes.

mod bars;
mod compared;
mod page;
mod plot;
mod tables;
mod text;
mod tuned;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::metrics::{Fairness, Quantiles, Service, Ticks};

pub use compared::compared;
pub use page::html;
pub use tuned::{Tuned, tuned};

/// Decimals that are kept: a tenth of a millisecond, where a number is a time in seconds.
const SCALE: f64 = 1e4;

/// A number that was rounded to four decimals, so that it is written the same wherever it is reckoned.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Rounded(f64);

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// What it is about, in a sentence or two; may be empty.
    pub description: String,
    /// What was run: the scheduler and the hardware it was run on, as one line.
    pub setting: String,
    /// The seed of everything that happens by chance.
    pub seed: u64,
    /// The command that gives this report again.
    pub replay: String,
    /// Seconds from the start to the last token.
    pub seconds: Rounded,
    /// Every tenant, in the scenario's order. Series have the same order.
    pub tenants: Vec<Tenant>,
    /// The paper's measures.
    pub fairness: Measures,
    /// Weighted tokens a second by tenant, over time.
    pub service_rate: Series,
    /// Weighted tokens so far by tenant, over time.
    pub service_total: Series,
    /// How far apart the counters of waiting tenants were, over time, where the scheduler counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter_gap: Option<CounterGap>,
    /// How often running work was stopped or paused for other work.
    pub stops: u64,
    /// What a reader should know besides, such as what the scenario left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One tenant's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: Rounded,
    /// Requests that came.
    pub requests: u64,
    /// Those whose last token came.
    pub served: u64,
    /// Those that were turned away, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Tokens of prompts that were read.
    pub input_tokens: u64,
    /// Tokens of answers that came.
    pub output_tokens: u64,
    /// Weighted tokens.
    pub service: Rounded,
    /// Its part of all service: from zero to one.
    pub share: Rounded,
    /// The part that its weight gives it, or as much as it asked for where that is less.
    pub entitlement: Rounded,
    /// Time to the first token, where one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Latency>,
    /// Time in the queue, where a request left it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Latency>,
}

/// A summary of times, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The average.
    pub mean: Rounded,
    /// The middle.
    pub p50: Rounded,
    /// The worst hundredth.
    pub p99: Rounded,
}

/// The paper's measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measures {
    /// Distance of rates of service, in weighted tokens a second: the widest over all ticks.
    pub difference_max: Rounded,
    /// The average.
    pub difference_mean: Rounded,
    /// Its variance.
    pub difference_variance: Rounded,
    /// The widest that accumulated services came apart, in weighted tokens.
    pub accumulated_max: Rounded,
    /// Jain's index of services.
    pub jain: Rounded,
    /// Tokens a second.
    pub tokens_per_second: Rounded,
}

/// Values of every tenant at the same moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The moments, in seconds.
    pub at: Vec<Rounded>,
    /// For each tenant as many values.
    pub tenants: Vec<Vec<Rounded>>,
}

/// The distance between the largest and the smallest counter of tenants that wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CounterGap {
    /// What it must not exceed.
    pub bound: Rounded,
    /// The widest.
    pub max: Rounded,
    /// Moments in seconds, and the distance then.
    pub points: Vec<(Rounded, Rounded)>,
}

impl Rounded {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl From<f64> for Rounded {
    /// What is not a number, or endless, counts as zero: a report holds nothing that JSON cannot.
    fn from(number: f64) -> Self {
        let scaled = (number * SCALE).round() / SCALE;
        // Adding zero turns a negative zero into the other one.
        Self(if scaled.is_finite() { scaled + 0.0 } else { 0.0 })
    }
}

impl Serialize for Rounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl From<Quantiles> for Latency {
    fn from(Quantiles { mean, p50, p99 }: Quantiles) -> Self {
        Self { mean: mean.into(), p50: p50.into(), p99: p99.into() }
    }
}

impl From<Fairness> for Measures {
    fn from(fairness: Fairness) -> Self {
        Self {
            difference_max: fairness.difference.max.into(),
            difference_mean: fairness.difference.mean.into(),
            difference_variance: fairness.difference.variance.into(),
            accumulated_max: fairness.accumulated_max.into(),
            jain: fairness.jain.into(),
            tokens_per_second: fairness.tokens_per_second.into(),
        }
    }
}

impl Series {
    /// Rates of service of so many tenants.
    pub fn rates(service: &Service, ticks: Ticks, tenants: u32) -> Self {
        Self::of(ticks, tenants, |tenant| ticks.rates(service, tenant))
    }

    /// Accumulated services of so many tenants.
    pub fn totals(service: &Service, ticks: Ticks, tenants: u32) -> Self {
        Self::of(ticks, tenants, |tenant| ticks.totals(service, tenant))
    }

    fn of(ticks: Ticks, tenants: u32, values: impl Fn(u32) -> Vec<f64>) -> Self {
        let rounded = |values: Vec<f64>| values.into_iter().map(Rounded::from).collect();
        Self {
            at: rounded(ticks.moments().collect()),
            tenants: (0..tenants).map(|tenant| rounded(values(tenant))).collect(),
        }
    }
}

impl CounterGap {
    /// From all points at which the distance changed. Where there are more than `points_max`,
    /// neighbours become one, which keeps their widest.
    pub fn new(bound: f64, points: &[(f64, f64)], points_max: usize) -> Self {
        let size = points.len().div_ceil(points_max.max(1)).max(1);
        let widest = |points: &[(f64, f64)]| {
            let widest = points.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1));
            widest.map(|(at, gap)| (at.into(), gap.into()))
        };
        let max = points.iter().map(|(_, gap)| *gap).fold(0.0, f64::max);
        Self {
            bound: bound.into(),
            max: max.into(),
            points: points.chunks(size).filter_map(widest).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
