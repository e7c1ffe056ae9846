//! How long requests waited: the mean, the middle, and the worst hundredth.

use serde::{Deserialize, Serialize};

use super::Served;

/// A summary of many times, in seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// The average.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
}

impl Quantiles {
    /// Of these values; nothing of none. A quantile is one of the values, the smallest that enough
    /// of them do not exceed.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let at = |quantile: f64| {
            let rank = (quantile * count as f64).ceil() as usize;
            values.get(rank.max(1) - 1).copied()
        };
        let mean = values.iter().sum::<f64>() / count as f64;
        Some(Self { mean, p50: at(0.5)?, p99: at(0.99)? })
    }
}

/// The time from arrival to first token, of the served requests of tenants that one wants.
pub fn time_to_first_token(served: &[Served], wanted: impl Fn(u32) -> bool) -> Option<Quantiles> {
    let served = served.iter().filter(|request| wanted(request.tenant));
    let times = served.filter_map(|request| Some(request.first_token? - request.arrived));
    Quantiles::of(times.collect())
}
