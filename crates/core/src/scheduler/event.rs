//! What goes into the scheduler, and what comes out of it.

use crate::fleet::{Capacity, Report, Site};
use crate::health::Probe;
use crate::preempt::Reason;
use crate::request::{Failure, Outcome, Request};
use crate::{ReplicaId, RequestId, Tokens, Why};

/// Everything that can happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// A replica may take work.
    ReplicaUp {
        /// Which one.
        replica: ReplicaId,
        /// How much.
        capacity: Capacity,
    },
    /// A replica takes no new work, as it was meant to. What is in flight there is reported one by one.
    ReplicaDown {
        /// Which one.
        replica: ReplicaId,
    },
    /// The same of one that died: what ran there may be why.
    ReplicaDied {
        /// Which one.
        replica: ReplicaId,
    },
    /// Nobody listens at a replica's address, as was found beside the requests.
    Refused {
        /// Which one.
        replica: ReplicaId,
    },
    /// A request came in.
    Arrive(Request),
    /// The first token of an answer was sent to the client: from here on there is no retry.
    FirstToken {
        /// Whose.
        id: RequestId,
    },
    /// An answer grew.
    Progress {
        /// Whose.
        id: RequestId,
        /// Tokens it has by now.
        output: u32,
    },
    /// A replica finished the answer.
    Finished {
        /// Whose.
        id: RequestId,
        /// The engine's own counts, where it reported them.
        tokens: Option<Tokens>,
    },
    /// An attempt was stopped as [`Output::Stop`] asked.
    Stopped {
        /// Whose.
        id: RequestId,
    },
    /// An attempt cannot be stopped as [`Output::Stop`] asked: its client has seen too much by now.
    Unstoppable {
        /// Whose.
        id: RequestId,
    },
    /// Where a replica is; zero distance for one of which nothing is said.
    Located {
        /// Which one.
        replica: ReplicaId,
        /// Where.
        site: Site,
    },
    /// An engine says something about itself.
    Reported {
        /// Which one.
        replica: ReplicaId,
        /// What.
        report: Report,
    },
    /// A health check of a replica ended.
    Checked {
        /// Which one.
        replica: ReplicaId,
        /// How.
        probe: Probe,
    },
    /// An engine says that it dropped so many tokens from its prefix cache.
    Evicted {
        /// Which one.
        replica: ReplicaId,
        /// How many; `u64::MAX` for all.
        tokens: u64,
    },
    /// An engine shows how many tokens its prefix cache holds when it is full.
    CacheSize {
        /// Which one.
        replica: ReplicaId,
        /// In the accelerator's memory, where that is known.
        device: Option<u64>,
        /// In the host's.
        host: Option<u64>,
    },
    /// A replica did not finish the answer.
    Failed {
        /// Whose.
        id: RequestId,
        /// How.
        failure: Failure,
    },
    /// A copy goes out, as [`Output::Hedge`] asked. It is sent at once, or ends as cancelled.
    Hedge {
        /// Of which request.
        of: RequestId,
        /// The copy's own id.
        id: RequestId,
    },
    /// Of a request and its copy, the other one's answer began first.
    Outrun {
        /// The one that was late, which costs its tenant nothing.
        id: RequestId,
        /// How it had failed by then, if it had.
        failed: Option<Failure>,
    },
    /// The client went away.
    Cancel {
        /// Whose request.
        id: RequestId,
    },
    /// The process shuts down: nothing new is let in, what is here is finished.
    Drain,
    /// Nothing happened but time.
    Tick,
}

/// Everything the host has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send the request to this replica.
    Dispatch {
        /// Which request.
        id: RequestId,
        /// Where.
        replica: ReplicaId,
        /// One for the first attempt.
        attempt: u32,
        /// The request that the replica pauses to make place.
        displaces: Option<RequestId>,
        /// The reason.
        why: Why,
    },
    /// Stop the attempt on this replica, keep its tokens, and report [`Input::Stopped`]: somebody
    /// else goes first.
    Stop {
        /// Which request.
        id: RequestId,
        /// Where it runs.
        replica: ReplicaId,
        /// For whom.
        urgent: RequestId,
        /// Why.
        reason: Reason,
    },
    /// The answer takes unusually long to begin: report [`Input::Hedge`] with an id of its own for a
    /// copy, and take whichever answers first.
    Hedge {
        /// Which request.
        id: RequestId,
    },
    /// Nothing comes from this replica: break the attempt off and report [`Input::Failed`], so that it
    /// is tried elsewhere.
    GiveUp {
        /// Which request.
        id: RequestId,
        /// Where it runs.
        replica: ReplicaId,
    },
    /// Stop the attempt on this replica: nobody wants the answer.
    Abort {
        /// Which request.
        id: RequestId,
        /// Where it runs.
        replica: ReplicaId,
    },
    /// The request ended. The last word on it, and exactly one for each that arrived.
    End {
        /// Which request.
        id: RequestId,
        /// How.
        outcome: Outcome,
    },
}
