//! Requests in bursts, or more evenly than by chance: gaps that vary as much as one says.

use pilotage_chance::Draws;
use serde::{Deserialize, Serialize};

use super::poisson::renewal;
use super::{RATE_MAX, WorkloadError, positive, within};

/// Arrivals with gamma distributed gaps.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gamma {
    /// Requests in a second, on average.
    pub per_second: f64,
    /// How much gaps vary: their standard deviation as a multiple of their mean. One is Poisson,
    /// more is in bursts, less is more even.
    pub cv: f64,
}

impl Gamma {
    pub(super) fn moments(self, seconds: f64, draws: &mut Draws) -> Vec<f64> {
        let shape = 1.0 / (self.cv * self.cv);
        renewal(seconds, || draws.gamma(shape) / shape / self.per_second)
    }

    pub(super) fn check(self) -> Result<(), WorkloadError> {
        positive("perSecond", self.per_second, RATE_MAX)?;
        within("cv", self.cv, 0.01, 10.0)
    }
}
