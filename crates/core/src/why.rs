//! The reason of a decision, as one value: header, log, metric, trace and simulator all read it.

use std::fmt;

use serde::Serialize;

use crate::preempt::Reason;
use crate::route::Costs;
use crate::{ReplicaId, RequestId, Span};

/// Why a request went where it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Why {
    /// A policy picked it among those with room.
    Placed {
        /// The policy.
        policy: &'static str,
        /// The chosen replica.
        replica: ReplicaId,
        /// What it was expected to cost.
        costs: Costs,
        /// Prompt tokens that were believed to be in its cache.
        cached: u32,
        /// Prompt tokens.
        input: u32,
        /// What the next best would have cost; none where it was the only one.
        next: Option<Span>,
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
            Self::Placed {
                policy,
                replica,
                costs,
                cached,
                input,
                next,
                candidates,
                queued,
                attempt,
            } => {
                write!(f, "{policy} replica={} cost_ms={}", replica.0, costs.total().as_millis())?;
                let parts = [
                    ("queue", costs.queue),
                    ("prefill", costs.prefill),
                    ("decode", costs.decode),
                    ("burden", costs.burden),
                    ("memory", costs.memory),
                    ("network", costs.network),
                    ("adapter", costs.adapter),
                ];
                for (name, part) in parts.into_iter().filter(|(_, part)| part.as_millis() > 0) {
                    write!(f, " {name}_ms={}", part.as_millis())?;
                }
                write!(f, " cached={cached}/{input} candidates={candidates}")?;
                if let Some(next) = next {
                    write!(f, " next_ms={}", next.as_millis())?;
                }
                write!(f, " queued_ms={} attempt={attempt}", queued.as_millis())
            }
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
