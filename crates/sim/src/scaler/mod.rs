//! Who decides how many replicas there are: the autoscaler of `core`, others by their documented
//! formulas and defaults, and some that nobody has.
//!
//! What rivals are given is what is true at that moment: no scrape is late, and no adapter is down. All
//! of them have our gateway in front, which holds requests while nothing runs.

mod fixed;
mod hpa;
mod keda;
mod knative;
mod oracle;
mod pilotage;
#[cfg(test)]
mod tests;

use std::fmt;

use pilotage_core::scale::Signals;
use pilotage_core::{Span, Time};

use crate::scenario::{Scaling, Scenario};

/// One way to decide.
#[derive(Clone, Copy)]
pub struct Autoscaler {
    /// What it is called.
    pub name: &'static str,
    /// What it is, and with which constants.
    pub about: &'static str,
    make: fn(&Scenario, &Scaling) -> Box<dyn Scale>,
}

impl fmt::Debug for Autoscaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Autoscaler {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const ALL: &[Autoscaler] = &[
    Autoscaler {
        name: "pilotage",
        about: "the scaler of pilotage: queueing model, forecast, backlog, damped",
        make: |_, scaling| Box::new(pilotage::Ours::new(&scaling.policy)),
    },
    Autoscaler {
        name: "pilotage-no-forecast",
        about: "the same without looking ahead",
        make: |_, scaling| {
            let mut policy = scaling.policy.clone();
            policy.foresight.enabled = false;
            Box::new(pilotage::Ours::new(&policy))
        },
    },
    Autoscaler {
        name: "oracle",
        about: "knows every request that will come, and has a replica ready when it does",
        make: |scenario, scaling| Box::new(oracle::Oracle::new(scenario, scaling)),
    },
    Autoscaler {
        name: "hpa-gpu",
        about: "horizontal pod autoscaler on the part of time that GPUs compute, target 70 %; every 15 s, tolerance 0.1, 300 s down",
        make: |_, scaling| Box::new(hpa::Pods::new(&scaling.policy, |look| look.busy, 0.7)),
    },
    Autoscaler {
        name: "hpa-kv",
        about: "horizontal pod autoscaler on used KV cache, target 70 %",
        make: |_, scaling| Box::new(hpa::Pods::new(&scaling.policy, |look| look.kv_used, 0.7)),
    },
    Autoscaler {
        name: "hpa-waiting",
        about: "horizontal pod autoscaler on waiting requests, 5 for each replica",
        make: |_, scaling| Box::new(hpa::External::new(&scaling.policy, |look| look.waiting, 5.0)),
    },
    Autoscaler {
        name: "hpa-requests",
        about: "horizontal pod autoscaler on waiting and running requests, 70 % of an engine's places for each replica",
        make: |scenario, scaling| {
            let each = 0.7 * f64::from(scenario.engine.sequences_max);
            Box::new(hpa::External::new(&scaling.policy, |look| look.waiting + look.running, each))
        },
    },
    Autoscaler {
        name: "keda-waiting",
        about: "KEDA on waiting requests, 5 for each replica; polls every 30 s, cools down for 300 s",
        make: |_, scaling| Box::new(keda::Keda::new(&scaling.policy, |look| look.waiting, 5.0)),
    },
    Autoscaler {
        name: "knative",
        about: "Knative on concurrency, 70 % of an engine's places; windows of 60 s and 6 s, panic at 200 %",
        make: |scenario, scaling| {
            Box::new(knative::Knative::new(&scaling.policy, scenario.engine.sequences_max))
        },
    },
    Autoscaler {
        name: "fixed-max",
        about: "as many as there may be",
        make: |_, scaling| Box::new(fixed::Fixed(scaling.policy.max)),
    },
    Autoscaler {
        name: "fixed-half",
        about: "half as many as there may be",
        make: |_, scaling| Box::new(fixed::Fixed(scaling.policy.max.div_ceil(2))),
    },
];

impl Autoscaler {
    /// Ours.
    pub fn ours() -> Self {
        ALL[0]
    }

    /// All of them, ours first.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
    }

    /// Their names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|one| one.name)
    }

    /// The one of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|one| one.name == name)
    }

    pub(crate) fn start(&self, scenario: &Scenario, scaling: &Scaling) -> Box<dyn Scale> {
        (self.make)(scenario, scaling)
    }
}

/// Something that decides how many replicas there are.
pub(crate) trait Scale: fmt::Debug {
    /// How often it looks.
    fn every(&self) -> Span;

    /// Whether it is told at once of a request that nobody can serve.
    fn hears(&self) -> bool {
        false
    }

    /// What it wants, and why where it says so.
    fn decide(&mut self, now: Time, look: &Look) -> Wanted;
}

/// What is to be seen of a fleet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// As gateways see it.
    pub(crate) signals: Signals,
    /// Replicas awake that were wanted last: what a scale subresource says.
    pub(crate) wanted: u32,
    pub(crate) ready: u32,
    /// On their way.
    pub(crate) starting: u32,
    /// Requests that wait, in the gateway or in engines.
    pub(crate) waiting: f64,
    /// Requests in batches.
    pub(crate) running: f64,
    /// The part of the time since the last look that the ready computed, in the mean.
    pub(crate) busy: f64,
    /// The part of their KV caches that is used, in the mean.
    pub(crate) kv_used: f64,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) awake: u32,
    pub(crate) asleep: u32,
    pub(crate) why: Option<String>,
}

impl Wanted {
    pub(crate) const fn awake(awake: u32) -> Self {
        Self { awake, asleep: 0, why: None }
    }
}
