//! Requests at a rate that rises or falls in a straight line.

use pilotage_chance::Draws;
use serde::{Deserialize, Serialize};

use super::{RATE_MAX, WorkloadError, positive, within};

/// Arrivals at a changing rate, as even as that allows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ramp {
    /// Requests in a second at the begin.
    pub from_per_second: f64,
    /// Requests in a second at the end.
    pub to_per_second: f64,
}

impl Ramp {
    /// The moments at which the integral of the rate passes a whole number plus a random phase.
    pub(super) fn moments(self, seconds: f64, draws: &mut Draws) -> Vec<f64> {
        let phase = draws.unit();
        let from = self.from_per_second;
        let slope = (self.to_per_second - from) / seconds;
        let numbers = (0_u32..).map(|number| f64::from(number) + phase);
        let numbers = numbers.take_while(|number| *number < self.count(seconds));
        // from·t + slope·t²/2 = number, solved in the form that also holds for a slope of zero.
        let moment = |number: f64| {
            let root = (from * from + 2.0 * slope * number).max(0.0).sqrt();
            if number > 0.0 { (2.0 * number / (from + root)).min(seconds) } else { 0.0 }
        };
        numbers.map(moment).collect()
    }

    pub(super) fn count(self, seconds: f64) -> f64 {
        (self.from_per_second + self.to_per_second) / 2.0 * seconds
    }

    pub(super) fn check(self) -> Result<(), WorkloadError> {
        within("fromPerSecond", self.from_per_second, 0.0, RATE_MAX)?;
        within("toPerSecond", self.to_per_second, 0.0, RATE_MAX)?;
        positive("toPerSecond", self.from_per_second.max(self.to_per_second), RATE_MAX)
    }
}
