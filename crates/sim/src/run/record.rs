//! What became of each request.

use pilotage_core::{FailureKind, Outcome, Refusal, Span, Time};

use crate::arrival::{Arrival, seconds};
use crate::metrics::Served;

/// One request's history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// When it came.
    pub came: Option<Time>,
    /// When it had its first turn.
    pub dispatched: Option<Time>,
    /// When its first token came.
    pub first_token: Option<Time>,
    /// When it ended, however it did.
    pub end: Option<Time>,
    /// Tokens of its answer so far.
    pub generated: u32,
    /// Tokens of its prompt that were found in a cache.
    pub cached: u32,
    /// Where it was sent last, by place.
    pub replica: Option<u32>,
    /// Tokens of its prompt that were believed to be in that one's cache.
    pub hoped: u32,
    /// How often it was stopped or paused for somebody else.
    pub stops: u32,
    /// How it ended; none where it never did.
    pub fate: Option<Fate>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Its answer is complete.
    Served,
    /// It was turned away, for this reason.
    Refused(&'static str),
    /// Its replica failed in the middle of its answer.
    Interrupted,
    /// Its client went away.
    Cancelled,
}

impl Fate {
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Finished { .. } => Self::Served,
            Outcome::Refused(refusal) => Self::Refused(reason(refusal)),
            Outcome::Interrupted { .. } => Self::Interrupted,
            Outcome::Cancelled => Self::Cancelled,
        }
    }

    /// The name of an end that left the request without its answer.
    pub fn failure(self) -> Option<&'static str> {
        match self {
            Self::Served => None,
            Self::Refused(reason) => Some(reason),
            Self::Interrupted => Some("interrupted"),
            Self::Cancelled => Some("cancelled"),
        }
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::QueueFull { .. } => "queue_full",
        Refusal::QueueShare { .. } => "queue_share",
        Refusal::Unreachable { .. } => "unreachable",
        Refusal::Poison { .. } => "poison",
        Refusal::TenantRemoved => "tenant_removed",
        Refusal::DeadlinePassed { .. } => "deadline_passed",
        Refusal::Exhausted { last: FailureKind::Overloaded, .. } => "overloaded",
        Refusal::Exhausted { .. } => "exhausted",
        Refusal::Draining => "draining",
    }
}

impl Record {
    /// How long it waited for its first turn.
    pub fn wait(&self, arrival: &Arrival) -> Option<Span> {
        self.dispatched.map(|at| at.since(arrival.at))
    }

    /// As the measures of fairness want it. What was not answered in full counts as rejected.
    pub fn served(&self, arrival: &Arrival) -> Served {
        let whole = self.fate == Some(Fate::Served);
        Served {
            arrived: seconds(arrival.at),
            tenant: arrival.tenant,
            input: arrival.input,
            output: arrival.output,
            first_token: self.first_token.filter(|_| whole).map(seconds),
            end: seconds(self.end.unwrap_or(arrival.at)),
        }
    }
}
