//! What is to be done with a canary, and the evidence, as one value and one sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::trial::{Count, Slower};
use super::{SUSPICIOUS, SUSPICIOUS_WORTH};
use crate::Span;

/// What is to be done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// It gets all requests.
    Promote,
    /// It gets none.
    Rollback,
    /// It stays at its share, though its step's time is over.
    Hold,
}

/// A verdict, the share that follows from it, and why.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Judgement {
    /// What is to be done.
    pub verdict: Verdict,
    /// The canary's share from now on, in percent.
    pub percent: f64,
    /// Why.
    pub evidence: Evidence,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Continue => write!(f, "the canary goes on at {} %: ", self.percent)?,
            Verdict::Promote => f.write_str("the canary is promoted: ")?,
            Verdict::Rollback => f.write_str("the canary is rolled back: ")?,
            Verdict::Hold => write!(f, "the canary is held at {} %: ", self.percent)?,
        }
        self.evidence.fmt(f)
    }
}

/// Why something is to be done.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The step's time is not over.
    Gathering {
        /// What came of it.
        count: Count,
        /// Requests that are needed.
        samples_min: u32,
        /// What is left of the step.
        left: Span,
    },
    /// Its time is over, and there are too few requests to say anything.
    TooFew {
        /// Requests of the canary.
        canary: u32,
        /// Requests of the others.
        baseline: u32,
        /// Requests of the canary that are needed.
        samples_min: u32,
    },
    /// It may be worse, and more requests will show.
    Suspicious(Finding),
    /// It is worse.
    Worse(Finding),
    /// It is not worse, by so many requests.
    Done {
        /// What came of it.
        count: Count,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gathering { count, samples_min, left } => write!(
                f,
                "{} requests of {samples_min} and {} failures so far, {} s left of the step",
                count.requests,
                count.failed,
                left.as_nanos().div_ceil(1_000_000_000)
            ),
            Self::TooFew { canary, baseline, samples_min } => write!(
                f,
                "{canary} requests of {samples_min}, beside {baseline} of the others, are too few"
            ),
            Self::Suspicious(finding) => write!(f, "{finding}, which is not sure yet"),
            Self::Worse(finding) => finding.fmt(f),
            Self::Done { count } => write!(
                f,
                "{} requests with {} failures were not worse than the others",
                count.requests, count.failed
            ),
        }
    }
}

/// A time that is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Until the first token.
    Ttft,
    /// For each further token.
    Tpot,
}

/// What speaks against a canary.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It fails more often.
    Errors {
        /// Its requests.
        canary: Count,
        /// The others'.
        baseline: Count,
        /// What a bet on that is worth, by how many times its stake.
        worth: f64,
        /// From this it is sure.
        needed: f64,
    },
    /// It is slower.
    Slower {
        /// At what.
        metric: Metric,
        /// By how much, and how sure.
        found: Slower,
    },
}

impl Finding {
    /// Whether it is sure enough to roll back.
    pub fn is_sure(&self) -> bool {
        match self {
            Self::Errors { worth, needed, .. } => worth >= needed,
            Self::Slower { found, .. } => found.test.p <= found.needed,
        }
    }

    /// Whether it is reason enough to wait.
    pub fn is_suspicious(&self) -> bool {
        match self {
            Self::Errors { worth, .. } => *worth >= SUSPICIOUS_WORTH,
            Self::Slower { found, .. } => found.test.p <= SUSPICIOUS,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors { canary, baseline, worth, needed } => write!(
                f,
                "{:.2} % of its {} requests failed, of the others' {} it was {:.2} % (evidence \
                 {worth:.1}, sure from {needed:.0})",
                canary.rate() * 100.0,
                canary.requests,
                baseline.requests,
                baseline.rate() * 100.0
            ),
            Self::Slower { metric, found } => {
                let what = match metric {
                    Metric::Ttft => "its first tokens take",
                    Metric::Tpot => "its further tokens take",
                };
                write!(
                    f,
                    "{what} {:.2} times as long as the others' for prompts of the same size \
                     (p = {:.2e} by {} beside {} requests, sure below {:.2e})",
                    found.ratio, found.test.p, found.test.first, found.test.second, found.needed
                )
            }
        }
    }
}
