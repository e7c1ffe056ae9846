//! Requests at equal distances for a while, then none for a while, again and again.

use pilotage_chance::Draws;
use serde::{Deserialize, Serialize};

use super::{RATE_MAX, SECONDS_MAX, Uniform, WorkloadError, positive};

/// Evenly spaced arrivals that pause. It begins with a time in which they come.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OnOff {
    /// Requests in a second while they come.
    pub per_second: f64,
    /// Seconds in which they come.
    pub on_seconds: f64,
    /// Seconds in which none does.
    pub off_seconds: f64,
}

impl OnOff {
    pub(super) fn moments(self, seconds: f64, draws: &mut Draws) -> Vec<f64> {
        let mut moments = Uniform { per_second: self.per_second }.moments(seconds, draws);
        moments.retain(|at| at % (self.on_seconds + self.off_seconds) < self.on_seconds);
        moments
    }

    pub(super) fn check(self) -> Result<(), WorkloadError> {
        positive("perSecond", self.per_second, RATE_MAX)?;
        positive("onSeconds", self.on_seconds, SECONDS_MAX)?;
        positive("offSeconds", self.off_seconds, SECONDS_MAX)
    }
}
