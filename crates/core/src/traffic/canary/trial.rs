//! The samples of one step of a canary, and what they say against it.

use serde::{Deserialize, Serialize};

use super::plan::Tolerance;
use crate::hash::mix;
use crate::health::size_class;
use crate::traffic::stats::{Bet, RankTest, median_ratio, ranks_above, spent_at};
use crate::traffic::tally::Sample;

/// Values kept for each size class, arm and metric.
const RESERVOIR: usize = 256;

/// Size classes.
const CLASSES: usize = 24;

/// Samples of each arm before times are looked at.
const LOOK_MIN: u32 = 20;

/// Times as many samples as at the last look before the next one: looks are few, and each may use more.
const LOOK_GROWTH: f64 = 1.3;

/// Failures of the canary before they can roll it back, however unlikely they are.
pub(super) const FAILURES_MIN: u32 = 3;

/// How much the planned share weighs beside what was seen, in requests.
const SHARE_PRIOR: f64 = 20.0;

/// Whose sample it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The model on trial.
    Canary,
    /// What it is compared with.
    Baseline,
}

/// Values of both arms by size class, each a fair choice of all that came (Vitter's algorithm R, 1985).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Values {
    classes: Vec<(Reservoir, Reservoir)>,
    canary: u32,
    baseline: u32,
    /// Looks so far, and the canary's values at the last one.
    looks: u32,
    looked_at: u32,
    /// What the last look found.
    last: Option<Slower>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Reservoir {
    seen: u64,
    kept: Vec<f64>,
}

impl Reservoir {
    fn add(&mut self, value: f64, seed: u64) {
        self.seen += 1;
        if self.kept.len() < RESERVOIR {
            self.kept.push(value);
            return;
        }
        let at = mix(seed ^ self.seen.wrapping_mul(0x9e37_79b9)) % self.seen;
        let place = usize::try_from(at).ok().and_then(|at| self.kept.get_mut(at));
        if let Some(place) = place {
            *place = value;
        }
    }
}

/// What a look at times found.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Slower {
    /// Times as long as the baseline's, median by median of each size.
    pub ratio: f64,
    /// The test of whether it is more than what is borne.
    pub test: RankTest,
    /// Below this the test is sure enough at this look.
    pub needed: f64,
}

impl Values {
    fn add(&mut self, arm: Arm, class: usize, value: f64, seed: u64) {
        if self.classes.is_empty() {
            self.classes.resize_with(CLASSES, Default::default);
        }
        let Some((canary, baseline)) = self.classes.get_mut(class) else { return };
        match arm {
            Arm::Canary => {
                canary.add(value, seed);
                self.canary = self.canary.saturating_add(1);
            }
            Arm::Baseline => {
                baseline.add(value, !seed);
                self.baseline = self.baseline.saturating_add(1);
            }
        }
    }

    /// Looks, when enough has come since the last time.
    fn look(&mut self, ratio_borne: f64, alpha: f64) {
        let due = f64::from(self.looked_at) * LOOK_GROWTH;
        let few = self.canary < LOOK_MIN || self.baseline < LOOK_MIN;
        if few || f64::from(self.canary) < due {
            return;
        }
        let strata = |divisor: f64| -> Vec<(Vec<f64>, Vec<f64>)> {
            let one = |(canary, baseline): &(Reservoir, Reservoir)| {
                let canary = canary.kept.iter().map(|value| value / divisor).collect();
                (canary, baseline.kept.clone())
            };
            self.classes.iter().map(one).collect()
        };
        let Some(test) = ranks_above(&strata(ratio_borne.max(1e-6))) else { return };
        self.looks += 1;
        self.looked_at = self.canary;
        let ratio = median_ratio(&strata(1.0));
        self.last = Some(Slower { ratio, test, needed: spent_at(self.looks, alpha) });
    }
}

/// Requests and failures of an arm.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Count {
    /// Requests that ended.
    pub requests: u32,
    /// Of those, how many failed.
    pub failed: u32,
}

impl Count {
    /// The part that failed.
    pub fn rate(self) -> f64 {
        f64::from(self.failed) / f64::from(self.requests.max(1))
    }
}

/// One step's samples.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Trial {
    pub(super) canary: Count,
    pub(super) baseline: Count,
    bet: Bet,
    ttft: Values,
    tpot: Values,
}

impl Trial {
    pub(super) fn note(
        &mut self,
        arm: Arm,
        sample: &Sample,
        share: f64,
        tolerance: &Tolerance,
        seed: u64,
    ) {
        if sample.failed {
            // The share as it was before this one: a bet is made before its outcome is known.
            let (canary, baseline) =
                (f64::from(self.canary.requests), f64::from(self.baseline.requests));
            let seen = (canary + SHARE_PRIOR * share) / (canary + baseline + SHARE_PRIOR);
            self.bet.note(arm == Arm::Canary, seen, tolerance.error_ratio);
        }
        let count = match arm {
            Arm::Canary => &mut self.canary,
            Arm::Baseline => &mut self.baseline,
        };
        count.requests = count.requests.saturating_add(1);
        count.failed = count.failed.saturating_add(u32::from(sample.failed));
        let class = size_class(sample.prefill);
        if let Some(ttft) = sample.ttft {
            self.ttft.add(arm, class, ttft.as_secs_f64(), seed);
        }
        if let Some(tpot) = sample.tpot {
            // What slows further tokens down is the whole prompt, cached or not.
            self.tpot.add(arm, size_class(sample.input), tpot.as_secs_f64(), !seed);
        }
    }

    /// How much the bet on its failures is worth.
    pub(super) fn worth(&self) -> f64 {
        self.bet.worth()
    }

    /// Times until the first token, and then for each further one: what the last look found.
    pub(super) fn look(&mut self, tolerance: &Tolerance, alpha: f64) -> [Option<Slower>; 2] {
        self.ttft.look(tolerance.ttft_ratio, alpha);
        self.tpot.look(tolerance.tpot_ratio, alpha);
        [self.ttft.last, self.tpot.last]
    }
}
