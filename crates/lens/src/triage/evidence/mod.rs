//! What is known about a system while it was slow, as shells gather it: a plain value that can be
//! written down and triaged again elsewhere.
//!
//! Every measure is an [`Option`]: a metric that nobody exposes is unknown, not zero. Taking the one
//! for the other has sent people after queues that were not there. Gauges are means over the window,
//! counters what they grew by in it, shares are 0 to 1, times are seconds, sizes bytes.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::Span;
use serde::{Deserialize, Serialize};

/// A struct of measures, each of which may be unknown.
macro_rules! group {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$what])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        impl $name {
            /// The same, with what is unknown here as it is there.
            pub fn or(&self, other: &Self) -> Self {
                Self { $($field: self.$field.clone().or_else(|| other.$field.clone()),)* }
            }
        }
    };
}
pub(super) use group;

mod gateway;
mod machine;
mod planned;
mod replica;
mod run;

pub use gateway::{Gateway, PhaseSeconds, Traffic};
pub use machine::{Accelerator, Gpu, Host};
pub use planned::Planned;
pub use replica::{Config, Deltas, Dims, Gauges, Replica, Role, Runtime, Start, Times};
pub use run::Run;

/// All that is known.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Evidence {
    /// The time that counters were watched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// How well it was seen.
    pub sight: Sight,
    /// What was promised.
    pub goals: Goals,
    /// The replicas of one model.
    pub replicas: Vec<Replica>,
    /// The gateway in front of them.
    pub gateway: Gateway,
    /// What a cluster says of their pods.
    pub cluster: Cluster,
    /// Benchmarks, in the order of their rates.
    pub runs: Vec<Run>,
    /// Alert rules, to be held against what is exposed; none where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Alerts>,
    /// The same system when all was well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Box<Self>>,
}

group! {
    /// How well the system was seen.
    Sight {
        /// Age of the newest sample.
        age_s: f64,
        /// Time between two samples.
        interval_s: f64,
        /// Looks that failed.
        failures: f64,
        /// Counters that fell, as they do when a process starts again.
        resets: f64,
        /// Difference of clocks between who measured and who is measured.
        skew_s: f64,
    }
}

group! {
    /// What was promised.
    Goals {
        /// Time to the first token.
        ttft_s: f64,
        /// Time for each further one.
        tpot_s: f64,
    }
}

group! {
    /// What a cluster says of the pods.
    Cluster {
        /// Replicas wanted.
        desired: f64,
        /// Replicas ready.
        ready: f64,
        /// Pods that are not scheduled.
        pending: f64,
        /// Seconds for which there have been fewer ready than wanted.
        short_s: f64,
        /// Longest pull of an image.
        image_pull_s: f64,
        /// Longest load of weights.
        weights_s: f64,
        /// Starts again, in the window.
        restarts: f64,
        /// Reasons of pods that are not scheduled, with their number.
        reasons: BTreeMap<String, f64>,
    }
}

group! {
    /// Times that were added up. Buckets are of little use below the first boundary (300 ms for
    /// vLLM's queue times), sums are exact.
    Lasted {
        /// Their sum.
        seconds: f64,
        /// Their number.
        count: f64,
    }
}

/// Alert rules and what they could see.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Alerts {
    /// The rules.
    pub rules: Vec<AlertRule>,
    /// Every series name that is exposed.
    pub exposed: BTreeSet<String>,
}

/// An alert rule.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct AlertRule {
    /// Its name.
    pub name: String,
    /// The series names that it refers to.
    pub refers_to: BTreeSet<String>,
}

impl Evidence {
    /// The window's length in seconds; none where it is unknown or empty.
    pub fn window_s(&self) -> Option<f64> {
        self.window.map(Span::as_secs_f64).filter(|seconds| *seconds > 0.0)
    }
}

impl Lasted {
    /// So much time, so often.
    pub const fn new(seconds: f64, count: f64) -> Self {
        Self { seconds: Some(seconds), count: Some(count) }
    }

    /// The mean; none where nothing was timed.
    pub fn mean(&self) -> Option<f64> {
        ratio(self.seconds, self.count)
    }
}

/// One by the other; none where either is unknown or the result is no number.
pub fn ratio(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    let ratio = part? / whole?;
    ratio.is_finite().then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_needs_something_to_be_taken_of() {
        assert_eq!(Lasted::new(6.0, 3.0).mean(), Some(2.0));
        assert_eq!(Lasted::new(0.0, 0.0).mean(), None);
        assert_eq!(Lasted { seconds: Some(1.0), count: None }.mean(), None);
    }

    #[test]
    fn what_is_unknown_is_not_written_and_stays_unknown() {
        let evidence: Evidence = serde_json::from_str(r#"{"sight":{"age_s":0.0}}"#).unwrap();
        assert_eq!(evidence.sight.age_s, Some(0.0));
        assert_eq!(evidence.sight.interval_s, None);
        let text = serde_json::to_string(&evidence).unwrap();
        assert!(!text.contains("interval_s"), "{text}");
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    }
}
