//! What the core knows of a request, and the ways one can end.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::preempt::Stop;
use crate::{ReplicaId, RequestId, Span, TenantId, Time};

/// Urgency class, most urgent first. Within a band, order is the queue's matter.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Band {
    /// Somebody is waiting for each word.
    Realtime,
    /// Somebody is waiting for the answer.
    #[default]
    Standard,
    /// A program is waiting.
    Bulk,
    /// Nobody is waiting.
    Batch,
}

impl Band {
    /// Every band, most urgent first.
    pub const ALL: [Self; 4] = [Self::Realtime, Self::Standard, Self::Bulk, Self::Batch];

    /// The name used in headers, manifests and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Standard => "standard",
            Self::Bulk => "bulk",
            Self::Batch => "batch",
        }
    }

    /// The band of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|band| band.name() == name)
    }
}

/// Token counts of one request, estimated before it runs and exact after.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tokens {
    /// Prompt tokens.
    pub input: u32,
    /// Prompt tokens found in the prefix cache; at most `input`.
    pub cached: u32,
    /// Generated tokens; before the request runs, the most it may generate.
    pub output: u32,
}

impl Tokens {
    /// Input and output together: what the request can occupy in a KV cache.
    pub const fn total(self) -> u64 {
        self.input as u64 + self.output as u64
    }
}

/// A request as it arrives at the scheduler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// Its id; the caller never uses one twice.
    pub id: RequestId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How urgent it is.
    pub band: Band,
    /// Estimated tokens.
    pub tokens: Tokens,
    /// When waiting for a turn stops making sense.
    pub deadline: Option<Time>,
    /// When its first token stops being worth anything: it gets no turn when that cannot be met.
    pub answer_by: Option<Time>,
    /// When nobody waits for the whole answer any more.
    pub until: Option<Time>,
    /// What may be done to it once it runs.
    pub stop: Stop,
    /// Whether a copy may be sent to a second replica when its answer takes unusually long to begin.
    pub hedge: bool,
    /// How often it may be tried again; none where only its lane's limits count.
    pub retry: Option<RetryLimit>,
}

/// How often requests may be tried again beside what their lane allows: the stricter of the two counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryLimit {
    /// Whose: requests with the same number share a budget, such as those of one route.
    pub group: u64,
    /// Attempts for one request, the first one included.
    pub attempts_max: u32,
    /// Retries allowed for each hundred of its arrivals.
    pub percent: u32,
}

impl Request {
    /// A request without deadlines that runs to its end once it has its turn.
    pub const fn new(id: RequestId, tenant: TenantId, band: Band, tokens: Tokens) -> Self {
        Self {
            id,
            tenant,
            band,
            tokens,
            deadline: None,
            answer_by: None,
            until: None,
            stop: Stop::Never,
            hedge: false,
            retry: None,
        }
    }
}

/// Why a replica did not finish a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// Whether the client has already been sent a part of the answer.
    pub answered: bool,
    /// Whether another attempt can go on from that part.
    pub resumable: bool,
    /// What the replica told beside it.
    pub told: Told,
}

/// What is heard of a replica with a failure.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// When it has room again, as it says.
    pub retry_after: Option<Span>,
    /// Nobody listens at its address: whoever did is gone.
    pub is_refused: bool,
}

impl Failure {
    /// A failure of which the client has seen nothing.
    pub const fn before_answer(kind: FailureKind) -> Self {
        let told = Told { retry_after: None, is_refused: false };
        Self { kind, answered: false, resumable: false, told }
    }

    /// A failure in the middle of the answer.
    pub const fn in_answer(kind: FailureKind, resumable: bool) -> Self {
        let told = Told { retry_after: None, is_refused: false };
        Self { kind, answered: true, resumable, told }
    }
}

/// The kinds of failure the scheduler tells apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection could be made: the replica saw nothing of the request.
    Connect,
    /// The connection broke, or the replica sent something that is not an answer.
    Broken,
    /// The replica said it has no room.
    Overloaded,
    /// The replica answered with a server error.
    Server,
    /// Nothing came for too long.
    Timeout,
}

/// Why a request was turned away before any replica answered it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// The queue's limit on waiting requests or tokens is reached. Retrying later helps.
    #[error("the queue is full ({requests} requests, {tokens} tokens waiting)")]
    QueueFull {
        /// Requests waiting.
        requests: u32,
        /// Their tokens.
        tokens: u64,
        /// When there will be place, by the speed of the last seconds.
        retry_after: Span,
    },
    /// The queue is full, and the request's tenant has more than its fair part of it. Retrying later
    /// helps.
    #[error("the queue is full, and {waiting} of its requests are the tenant's own")]
    QueueShare {
        /// How many of the tenant's own wait.
        waiting: u32,
        /// When there will be place, by the speed of the last seconds.
        retry_after: Span,
    },
    /// Waiting would take longer than the request has. Nobody is to blame but load; retrying later
    /// or with a longer deadline helps.
    #[error("the wait would take about {} ms, and the deadline is {} ms away", wait.as_millis(), left.as_millis())]
    Unreachable {
        /// The predicted wait.
        wait: Span,
        /// What is left until the deadline.
        left: Span,
    },
    /// Replicas died while they answered requests with this body. The client is to blame, as far as
    /// can be told; another request helps.
    #[error("{deaths} replicas died while they answered this request")]
    Poison {
        /// How many.
        deaths: u32,
        /// When it is forgotten.
        retry_after: Span,
    },
    /// Its tenant was deleted while it waited.
    #[error("its tenant was removed")]
    TenantRemoved,
    /// The deadline passed while the request waited. Nobody is to blame but load.
    #[error("the deadline passed after {waited_ms} ms in the queue")]
    DeadlinePassed {
        /// How long it waited.
        waited_ms: u64,
        /// When a new request of the tenant would have its turn.
        retry_after: Span,
    },
    /// Every attempt failed. Retrying later may help.
    #[error("{attempts} attempts failed, the last one with {last:?}")]
    Exhausted {
        /// How many replicas were tried.
        attempts: u32,
        /// How the last one failed.
        last: FailureKind,
        /// When the first replica has room again, where all say that they have none and until when.
        retry_after: Option<Span>,
    },
    /// The process is shutting down. Retrying elsewhere helps.
    #[error("shutting down")]
    Draining,
}

/// How a request ended. Exactly one for every request that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A replica finished it.
    Finished {
        /// Which one.
        replica: ReplicaId,
    },
    /// It was turned away.
    Refused(Refusal),
    /// A replica failed after the client had been sent a part, and no other went on from there.
    Interrupted {
        /// Which one.
        replica: ReplicaId,
        /// How.
        kind: FailureKind,
    },
    /// The client went away.
    Cancelled,
}
