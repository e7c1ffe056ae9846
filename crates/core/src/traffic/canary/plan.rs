//! How a model on trial gets its share, and what it may do worse.

use serde::{Deserialize, Serialize};

use crate::Span;

/// How a target of the role `canary` gets its share.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CanaryPlan {
    /// Shares, in order; after the last, or at one of a hundred percent, the canary is promoted.
    pub steps: Vec<Step>,
    /// How sure a rollback must be that the canary is worse: all looks of all tests together roll a
    /// canary back that is not with a probability of at most one minus this.
    pub confidence: f64,
    /// How much worse it may be.
    pub tolerance: Tolerance,
    /// What happens when it is worse.
    pub on_fail: OnFail,
}

/// What happens to a canary that is worse.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// It gets nothing from then on.
    #[default]
    Rollback,
    /// It stays at its share.
    Pause,
}

/// A share and what it takes to go on from it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// The canary's share of the requests, in percent.
    pub percent: f64,
    /// How long at least.
    pub duration_min: Span,
    /// How many requests of the canary have ended at least.
    pub samples_min: u32,
}

/// How much worse than its baseline a canary may be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tolerance {
    /// Times as many errors: 1.1 for a tenth more.
    pub error_ratio: f64,
    /// An error rate below which nobody minds, whatever the baseline's.
    pub error_rate: f64,
    /// Times as long until the first token.
    pub ttft_ratio: f64,
    /// Times as long for each further token.
    pub tpot_ratio: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { error_ratio: 1.1, error_rate: 0.001, ttft_ratio: 1.1, tpot_ratio: 1.1 }
    }
}

impl Default for CanaryPlan {
    fn default() -> Self {
        let step = |percent: f64, minutes: u64, samples_min: u32| Step {
            percent,
            duration_min: Span::from_secs(minutes * 60),
            samples_min,
        };
        Self {
            steps: vec![step(5.0, 5, 100), step(25.0, 10, 500), step(50.0, 10, 1000)],
            confidence: 0.95,
            tolerance: Tolerance::default(),
            on_fail: OnFail::Rollback,
        }
    }
}
