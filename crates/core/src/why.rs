//! The reason of a decision, as one value: header, log, metric, trace and simulator all read it.

use std::fmt;

use serde::Serialize;

use crate::preempt::Reason;
use crate::{ReplicaId, RequestId, Span};

/// Why a request went where it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum Why {
    /// The replica with the fewest tokens in flight that had room.
    LeastLoaded {
        /// The chosen replica.
        replica: ReplicaId,
        /// Its tokens in flight before this request.
        tokens_in_flight: u64,
        /// How many replicas had room.
        candidates: u32,
        /// How long the request waited for its turn.
        queued: Span,
        /// One for the first attempt.
        attempt: u32,
    },
    /// No replica had room, and this one pauses somebody for it.
    Displaces {
        /// The chosen replica.
        replica: ReplicaId,
        /// Who stands aside.
        victim: RequestId,
        /// Why that one.
        reason: Reason,
        /// How long the request waited for its turn.
        queued: Span,
        /// One for the first attempt.
        attempt: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeastLoaded { replica, tokens_in_flight, candidates, queued, attempt } => write!(
                f,
                "least_loaded replica={} tokens_in_flight={tokens_in_flight} \
                 candidates={candidates} queued_ms={} attempt={attempt}",
                replica.0,
                queued.as_millis(),
            ),
            Self::Displaces { replica, reason, queued, attempt, .. } => write!(
                f,
                "displaces reason={} replica={} queued_ms={} attempt={attempt}",
                reason.name(),
                replica.0,
                queued.as_millis(),
            ),
        }
    }
}
