//! Requests at equal distances, the first at a random moment of the first gap.

use pilotage_chance::Draws;
use serde::{Deserialize, Serialize};

/// A product such as 0.6 · 360 may come out a hair below the whole number it is.
const ROUNDING: f64 = 1e-9;

/// Evenly spaced arrivals.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Uniform {
    /// Requests in a second.
    pub per_second: f64,
}

impl Uniform {
    pub(super) fn moments(self, seconds: f64, draws: &mut Draws) -> Vec<f64> {
        let count = (self.per_second * seconds + ROUNDING) as u32;
        let phase = draws.unit();
        (0..count).map(|number| (f64::from(number) + phase) / self.per_second).collect()
    }
}
