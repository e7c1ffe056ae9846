//! Whether a replica gets work, and the reason, as one value that status, logs and metrics read.

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;

use crate::{FailureKind, ReplicaId, Span, Time};

/// Whether a replica gets work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// It gets its part.
    Healthy,
    /// It came up or came back a short time ago, and its part grows.
    Warming,
    /// It is slower than its peers, and gets less.
    Slow {
        /// Times as long until the first token as the peers' median.
        ratio: f64,
    },
    /// It may show with a few requests that it works again.
    Trial {
        /// Why it was ejected.
        reason: Reason,
    },
    /// It said that it has no room.
    Busy {
        /// Until then it is left alone.
        until: Time,
    },
    /// It gets nothing.
    Ejected {
        /// Why.
        reason: Reason,
        /// When it may show that it works again; none where only a sign of life brings it back.
        until: Option<Time>,
    },
    /// It would be ejected, but too few others are left: it counts like all.
    Panic {
        /// Why it would be.
        reason: Reason,
    },
    /// The host took it away.
    Down,
}

impl Verdict {
    /// Its name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warming => "warming",
            Self::Slow { .. } => "slow",
            Self::Trial { .. } => "trial",
            Self::Busy { .. } => "busy",
            Self::Ejected { .. } => "ejected",
            Self::Panic { .. } => "panic",
            Self::Down => "down",
        }
    }

    /// Whether it gets any work.
    pub const fn is_open(&self) -> bool {
        !matches!(self, Self::Busy { .. } | Self::Ejected { .. } | Self::Down)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Warming => f.write_str("warming: it came up a short time ago"),
            Self::Slow { ratio } => {
                write!(f, "slow: first tokens take {ratio:.1} times as long as its peers'")
            }
            Self::Trial { reason } => write!(f, "on trial after: {reason}"),
            Self::Busy { .. } => f.write_str("busy: it said that it has no room"),
            Self::Ejected { reason, .. } => write!(f, "ejected: {reason}"),
            Self::Panic { reason } => {
                write!(f, "counts although: {reason}; too few others are left")
            }
            Self::Down => f.write_str("down"),
        }
    }
}

/// What speaks against a replica, the weakest evidence first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// Its `/health` fails, and nothing has come from it.
    Probes {
        /// Probes that failed.
        failed: u32,
        /// Of so many.
        of: u32,
    },
    /// It is much slower than its peers.
    Slow {
        /// Times as long until the first token as the peers' median.
        ratio: f64,
    },
    /// It fails more often than its peers.
    Errors {
        /// Percent of its attempts that failed.
        percent: f64,
        /// Percent of the peers' attempts that failed.
        peers_percent: f64,
    },
    /// Too many of its attempts failed.
    Rate {
        /// Percent that failed.
        percent: f64,
        /// Of so many attempts.
        of: u32,
    },
    /// Attempts failed one after another.
    Failures {
        /// How many.
        count: u32,
        /// How the last one did.
        last: FailureKind,
    },
    /// It has work and nothing comes from it.
    Hung {
        /// For so long.
        quiet: Span,
        /// More than it may take.
        limit: Span,
    },
}

impl Reason {
    /// Its name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Probes { .. } => "probes",
            Self::Slow { .. } => "slow",
            Self::Errors { .. } => "errors",
            Self::Rate { .. } => "rate",
            Self::Failures { .. } => "failures",
            Self::Hung { .. } => "hung",
        }
    }

    /// The order of evidence, the weakest first.
    pub fn cmp_strength(&self, other: &Self) -> Ordering {
        let (a, b) = (self.strength(), other.strength());
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    }

    fn strength(&self) -> (u8, f64) {
        match self {
            Self::Probes { failed, .. } => (0, f64::from(*failed)),
            Self::Slow { ratio } => (1, *ratio),
            Self::Errors { percent, .. } => (2, *percent),
            Self::Rate { percent, .. } => (3, *percent),
            Self::Failures { count, .. } => (4, f64::from(*count)),
            Self::Hung { quiet, .. } => (5, quiet.as_secs_f64()),
        }
    }

    /// Whether it only looks bad beside others, or by signs that may be wrong: of these, no more than
    /// a part of a lane is ejected.
    pub const fn is_soft(&self) -> bool {
        matches!(self, Self::Probes { .. } | Self::Slow { .. } | Self::Errors { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probes { failed, of } => {
                write!(f, "{failed} of {of} health checks failed and nothing comes from it")
            }
            Self::Slow { ratio } => {
                write!(f, "first tokens take {ratio:.1} times as long as its peers'")
            }
            Self::Errors { percent, peers_percent } => {
                write!(f, "{percent:.0} % of its attempts failed, {peers_percent:.0} % elsewhere")
            }
            Self::Rate { percent, of } => write!(f, "{percent:.0} % of {of} attempts failed"),
            Self::Failures { count: 1, last } => write!(f, "an attempt failed with {last:?}"),
            Self::Failures { count, last } => {
                write!(f, "{count} attempts failed in a row, the last with {last:?}")
            }
            Self::Hung { quiet, limit } => write!(
                f,
                "hung: it has work, and nothing came for {} ms, of {} ms that are borne",
                quiet.as_millis(),
                limit.as_millis()
            ),
        }
    }
}

/// A replica's verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which one.
    pub replica: ReplicaId,
    /// What it was.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
    /// Whether what runs there should be interrupted, and go on elsewhere: it hangs.
    pub interrupt: bool,
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Which one.
    pub replica: ReplicaId,
    /// Whether it gets work, and why.
    pub verdict: Verdict,
    /// Its part beside a healthy one's, 0 to 1; zero where it gets nothing.
    pub weight: f64,
}
