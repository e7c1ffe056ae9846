//! What becomes of a request whose attempt came to nothing: it waits for another turn within a budget,
//! or it ends. Before its first token it begins anew elsewhere; after it, it goes on from what its
//! client has, where the host says that it can.

use super::{Live, Scheduler};
use crate::health::{PoisonConfig, Trail};
use crate::request::{Failure, FailureKind, Outcome, Refusal};
use crate::{ReplicaId, RequestId, Ticket, Time};

/// Tokens by which an attempt shows that it was no bad one: a replica lost after that many is not lost
/// by the request, and a long answer may survive any number of restarts. What dies at once of what it
/// is to go on with brings fewer.
const PROGRESS_MIN: u32 = 16;

impl Scheduler {
    pub(super) fn fail(&mut self, now: Time, id: RequestId, failure: Failure) {
        self.forget_older_failures(id);
        self.note_failed(now, id, failure);
        let Some(replica) = self.release(id) else { return };
        self.suspend(now, replica, failure.kind);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.answered |= failure.answered;
        live.last_failure = failure.kind;
        live.tried.push(replica);
        // Not the turns: one that was stopped for somebody else's sake did not fail.
        let attempts = live.attempts();
        let guarded =
            self.board.is_some() && (live.alone || !live.trail.may_go_on(&PoisonConfig::default()));
        let is_copy = live.is_copy && !live.answered;
        let is_spent =
            is_copy || guarded || attempts >= self.config.attempts_max || self.retry_credit < 100;
        if live.answered {
            if is_spent || !failure.resumable {
                self.queue.settle(now, id, None);
                self.end(id, Outcome::Interrupted { replica, kind: failure.kind });
                return;
            }
            live.resumes += 1;
            live.broken = true;
            self.retry_credit -= 100;
            // A client waits in the middle of its answer: not for long.
            self.queue.go_on(id, Some(now + self.config.retry_wait));
            return;
        }
        if is_spent {
            self.queue.forgive(id);
            let refusal = Refusal::Exhausted { attempts, last: failure.kind };
            self.end(id, Outcome::Refused(refusal));
            return;
        }
        self.retry_credit -= 100;
        // The time that the failed attempt took must not be held against it.
        let deadline =
            live.request.deadline.map(|deadline| deadline.max(now + self.config.retry_wait));
        self.queue.again(id, deadline);
    }

    /// An attempt that brought enough of the answer begins the count of failures anew.
    fn forget_older_failures(&mut self, id: RequestId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(running) = live.running else { return };
        if live.output.saturating_sub(running.from) >= PROGRESS_MIN {
            live.tried.clear();
            live.trail = Trail::default();
        }
    }

    /// An attempt was stopped for somebody else: the request waits for another turn, for as long as
    /// it would have run.
    pub(super) fn stopped(&mut self, id: RequestId) {
        if self.release(id).is_none() {
            return;
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.stops += 1;
            self.queue.put_back(id, None);
        }
    }

    pub(super) fn suspend(&mut self, now: Time, replica: ReplicaId, kind: FailureKind) {
        let span = match kind {
            FailureKind::Connect | FailureKind::Broken => self.config.suspension_broken,
            FailureKind::Overloaded => self.config.suspension_overloaded,
            FailureKind::Server | FailureKind::Timeout => return,
        };
        self.fleet.suspend(replica, now + span);
    }

    /// Ends a request that waited too long. One whose client has a part of its answer was not late:
    /// it was interrupted, and nobody went on.
    pub(super) fn end_late(&mut self, now: Time, ticket: &Ticket) {
        let live = self.live.get(&ticket.id).filter(|live| live.answered);
        let interrupted = live.and_then(|live| Some((*live.tried.last()?, live.last_failure)));
        if let Some((replica, kind)) = interrupted {
            self.end(ticket.id, Outcome::Interrupted { replica, kind });
            return;
        }
        let waited_ms = now.since(ticket.arrived).as_millis();
        let ahead = self.queue.ahead(ticket.tenant, ticket.band);
        let retry_after = self.pace.retry_after(ahead, ticket.id.0);
        self.end(ticket.id, Outcome::Refused(Refusal::DeadlinePassed { waited_ms, retry_after }));
    }

    /// Whether a request waits for a replica that is not there: the only one up fell silent in the
    /// middle of its answer, and whoever asks it again waits as long once more.
    pub(super) fn waits_for_another(&self, id: RequestId) -> bool {
        let silent = |live: &&Live| live.broken && live.last_failure == FailureKind::Timeout;
        self.live.get(&id).filter(silent).is_some_and(|live| {
            let fresh = |replica: ReplicaId| !live.tried.contains(&replica);
            !self.fleet.iter().any(|replica| replica.up && fresh(replica.id))
        })
    }
}

impl Live {
    /// Replicas that failed it.
    fn attempts(&self) -> u32 {
        u32::try_from(self.tried.len()).unwrap_or(u32::MAX)
    }
}
