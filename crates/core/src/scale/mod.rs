//! How many replicas should a model have? The autoscaler's decisions, from what gateways saw.
//!
//! ```text
//! pool.report(gateway, signals)            // what each gateway saw, with when
//! scaler.observe(now, pool.merged())
//! let decision = scaler.decide(now)?       // replicas awake and asleep, when to look again, why
//! ```
//!
//! One decision feeds whoever carries it out: the scale subresource ([`Decision::replicas`]), the
//! external metrics of a horizontal pod autoscaler and of KEDA ([`Decision::metrics`]). What is not
//! known never takes a replica away: absent is not zero, and stale is not fresh.

mod capacity;
pub mod cost;
mod damp;
mod decision;
mod fit;
mod forecast;
mod metric;
mod policy;
#[cfg(test)]
mod properties;
mod report;
mod scaler;
mod signals;
mod sound;
#[cfg(test)]
mod tests;
mod why;

pub use capacity::{Limit, Service};
pub use decision::Decision;
pub use forecast::{Estimate, Forecast};
pub use metric::Metric;
pub use policy::{Foresight, Goal, Pace, Policy, PolicyError, REPLICAS_MAX, Season, Zero};
pub use report::{
    Aged, Bands, ModelReport, Names, ReplicaReport, Report, TrialProgress, TrialReport,
    WaitingReport,
};
pub use scaler::Scaler;
pub use signals::{
    GATEWAYS_MAX, Misses, Pool, ReplicaSeen, Running, Seen, Signals, Speed, Stage, Waiting, Work,
};
pub use why::{Held, Term, Why};
