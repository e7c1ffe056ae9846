//! Whether a request that was refused by one model goes on to the next, or is told no.
//!
//! It goes on when somebody else may well have what was missing: room, a replica, a larger context.
//! It stays when the reason would come along: its own tenant's share or budget, no time left, a
//! prompt that kills engines, an answer that has begun.

use std::fmt;

use serde::Serialize;

use crate::{FailureKind, Refusal};

/// Why a model did not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Miss {
    /// The lane turned it away.
    Refused(Refusal),
    /// The lane has no replica that takes work.
    NoReplica,
    /// The engine said that the prompt is longer than its context.
    TooSmall,
    /// The engine said that it cannot do what is asked.
    Unsupported,
    /// The tenant's quota or budget is used up.
    Quota,
    /// It is held to have killed replicas.
    Poison,
    /// A replica failed after a part of the answer had been sent.
    Interrupted(FailureKind),
    /// The engine said that the request itself is wrong.
    Invalid,
}

/// Whether the next model is asked, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "next", content = "why")]
pub enum MovesOn {
    /// It goes to the next fallback.
    Yes(&'static str),
    /// The refusal stands.
    No(&'static str),
}

impl MovesOn {
    /// Whether the next model is asked.
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes(_))
    }
}

impl fmt::Display for MovesOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes(why) => write!(f, "goes on to the next model: {why}"),
            Self::No(why) => write!(f, "goes to no other model: {why}"),
        }
    }
}

/// Whether the next model is asked after this.
pub const fn moves_on(miss: &Miss) -> MovesOn {
    match miss {
        Miss::Refused(refusal) => refused(refusal),
        Miss::NoReplica => MovesOn::Yes("the model has no replica that takes work"),
        Miss::TooSmall => MovesOn::Yes("the prompt is longer than the model's context"),
        Miss::Unsupported => MovesOn::Yes("the model cannot do what is asked"),
        Miss::Quota => MovesOn::No("the tenant's quota holds for every model"),
        Miss::Poison => MovesOn::No("it is held to have killed replicas"),
        Miss::Interrupted(_) => MovesOn::No("the client has been sent a part of the answer"),
        Miss::Invalid => MovesOn::No("the request itself is wrong"),
    }
}

const fn refused(refusal: &Refusal) -> MovesOn {
    match refusal {
        Refusal::QueueFull { .. } => MovesOn::Yes("the model's queue is full"),
        Refusal::Unreachable { .. } => MovesOn::Yes("the deadline cannot be met there"),
        Refusal::Exhausted { .. } => MovesOn::Yes("every attempt failed before the first byte"),
        Refusal::QueueShare { .. } => {
            MovesOn::No("the tenant has its fair part of the queue, and would crowd the next one")
        }
        Refusal::DeadlinePassed { .. } => MovesOn::No("there is no time left"),
        Refusal::Poison { .. } => MovesOn::No("it is held to have killed replicas"),
        Refusal::TenantRemoved => MovesOn::No("its tenant was removed"),
        Refusal::Draining => MovesOn::No("the process shuts down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn goes_on_only_where_others_may_have_what_was_missing() {
        let check = |miss: Miss, expect: bool| {
            assert_eq!(moves_on(&miss).is_yes(), expect, "{miss:?}");
        };
        let retry_after = Span::ZERO;
        let full = Refusal::QueueFull { requests: 1, tokens: 1, retry_after };
        check(Miss::Refused(full), true);
        let unreachable = Refusal::Unreachable { wait: Span::from_secs(9), left: Span::ZERO };
        check(Miss::Refused(unreachable), true);
        let exhausted =
            Refusal::Exhausted { attempts: 2, last: FailureKind::Connect, retry_after: None };
        check(Miss::Refused(exhausted), true);
        check(Miss::Refused(Refusal::QueueShare { waiting: 5, retry_after }), false);
        check(Miss::Refused(Refusal::DeadlinePassed { waited_ms: 5, retry_after }), false);
        check(Miss::NoReplica, true);
        check(Miss::TooSmall, true);
        check(Miss::Quota, false);
        check(Miss::Poison, false);
        check(Miss::Interrupted(FailureKind::Broken), false);
        check(Miss::Invalid, false);
    }
}
