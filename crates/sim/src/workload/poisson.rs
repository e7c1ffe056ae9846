//! Requests that know nothing of each other: exponential gaps at a steady rate.

use pilotage_chance::Draws;
use serde::{Deserialize, Serialize};

use super::ARRIVALS_MAX;

/// Independent arrivals.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Poisson {
    /// Requests in a second, on average.
    pub per_second: f64,
}

impl Poisson {
    pub(super) fn moments(self, seconds: f64, draws: &mut Draws) -> Vec<f64> {
        renewal(seconds, || draws.exponential() / self.per_second)
    }
}

/// Moments that lie independent gaps apart.
pub(super) fn renewal(seconds: f64, mut gap: impl FnMut() -> f64) -> Vec<f64> {
    let mut at = 0.0;
    let moments = std::iter::from_fn(|| {
        at += gap();
        (at < seconds).then_some(at)
    });
    moments.take(ARRIVALS_MAX as usize).collect()
}
