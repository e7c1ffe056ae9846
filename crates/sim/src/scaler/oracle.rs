//! Who knows every request that will come: starts replicas so that they are ready when they are needed,
//! and keeps those that will be needed again before another could be. By load in each half minute, so it
//! is a measure to lay others beside, and not the best there is.

use pilotage_core::scale::{Policy, Service, Speed, Work, Zero};
use pilotage_core::{Span, Time};

use super::{Look, Scale, Wanted};
use crate::scenario::{Scaling, Scenario};

const SLOT_SECONDS: f64 = 30.0;

/// The part of what replicas can do that it asks of them.
const UTILISATION: f64 = 0.8;

#[derive(Debug)]
pub(super) struct Oracle {
    /// Replicas needed in each slot of time.
    needs: Vec<u32>,
    start: f64,
    min: u32,
    max: u32,
}

impl Oracle {
    pub(super) fn new(scenario: &Scenario, scaling: &Scaling) -> Self {
        let engine = &scenario.engine;
        let speed = Speed {
            token_seconds: engine.prefill_ms_per_token / 1e3,
            step_seconds: engine.step_ms / 1e3,
            sequence_seconds: engine.step_ms_per_sequence / 1e3,
            sequences_max: engine.sequences_max,
            kv_tokens: None,
        };
        let mut work: Vec<f64> = Vec::new();
        for arrival in &scenario.arrivals {
            let slot = (crate::arrival::seconds(arrival.at) / SLOT_SECONDS) as usize;
            if work.len() <= slot {
                work.resize(slot + 1, 0.0);
            }
            let one = Work {
                requests: 1.0,
                prompt: f64::from(arrival.input),
                answer: f64::from(arrival.output),
            };
            let service = Service::of(&speed, one, None);
            work[slot] += service.map_or(0.0, |service| service.seconds);
        }
        let policy: &Policy = &scaling.policy;
        let count = |seconds: &f64| (seconds / SLOT_SECONDS / UTILISATION).ceil() as u32;
        Self {
            needs: work.iter().map(count).collect(),
            start: policy.start.as_secs_f64(),
            min: if policy.zero == Zero::AlwaysWarm { policy.min.max(1) } else { policy.min },
            max: policy.max,
        }
    }
}

impl Scale for Oracle {
    fn every(&self) -> Span {
        Span::from_secs(5)
    }

    fn decide(&mut self, now: Time, look: &Look) -> Wanted {
        let from = now.as_nanos() as f64 / 1e9;
        let first = ((from / SLOT_SECONDS) as usize).min(self.needs.len());
        let last = (((from + self.start + 10.0) / SLOT_SECONDS) as usize + 1).min(self.needs.len());
        let soon = self.needs[first..last].iter().copied().max().unwrap_or(0);
        let left = u32::from(look.waiting + look.running > 0.0);
        Wanted::awake(soon.max(left).clamp(self.min, self.max))
    }
}
