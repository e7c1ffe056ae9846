//! How many replicas there are to be, and when to ask again: the same value for whoever carries it out.

use serde::Serialize;

use super::metric::Metric;
use super::why::Why;
use crate::Time;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Replicas that serve, or are on their way to.
    pub awake: u32,
    /// Replicas that sleep.
    pub asleep: u32,
    /// When to decide again, if nothing happens before.
    pub again: Time,
    /// Why.
    pub why: Why,
}

impl Decision {
    /// Processes there are to be: what a scale subresource says.
    pub const fn replicas(&self) -> u32 {
        self.awake.saturating_add(self.asleep)
    }

    /// Whether there is to be any: what KEDA asks to go from and to zero.
    pub const fn is_active(&self) -> bool {
        self.replicas() > 0
    }

    /// The same as numbers. The first says the decision, whatever it came from; the second only what
    /// comes, in replicas' work, for who wants to decide by himself.
    pub fn metrics(&self) -> [Metric; 2] {
        let work = self.why.service.map_or(0.0, |service| self.why.arriving * service.seconds);
        [
            Metric {
                name: "pilotage_replicas_wanted",
                value: u64::from(self.replicas()) * 1000,
                target: 1000,
            },
            Metric { name: "pilotage_replicas_work", value: (work * 1000.0) as u64, target: 1000 },
        ]
    }
}
