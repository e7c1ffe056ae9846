//! What becomes of a request whose attempt came to nothing: it waits for another turn within a budget,
//! or it ends. Before its first token it begins anew elsewhere; after it, it goes on from what its
//! client has, where the host says that it can.

use super::retries::attempts_max;
use super::{Live, Scheduler};
use crate::health::{GRACE, PoisonConfig, Trail};
use crate::request::{Failure, FailureKind, Outcome, Refusal};
use crate::{ReplicaId, RequestId, Span, Ticket, Time};

/// Tokens by which an attempt shows that it was no bad one: a replica lost after that many is not lost
/// by the request, and a long answer may survive any number of restarts. What dies at once of what it
/// is to go on with brings fewer.
const PROGRESS_MIN: u32 = 16;

/// Replicas that one request may have failed at, those that died under it among them.
const TRIED_MAX: usize = 8;

impl Scheduler {
    pub(super) fn fail(&mut self, now: Time, id: RequestId, failure: Failure) {
        self.forget_older_failures(id);
        let since = self.live.get(&id).and_then(|live| live.running).map(|running| running.since);
        self.note_failed(now, id, failure);
        let Some((there, since)) = self.release(id).zip(since) else { return };
        self.suspend(now, there, failure.kind);
        let replica = self.as_remembered(there, since);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.answered |= failure.answered;
        live.last_failure = failure.kind;
        live.tried.push(replica);
        let is_copy = live.is_copy && !live.answered;
        if live.answered && !failure.resumable {
            self.finish_failed(now, id);
            return;
        }
        let is_spent = is_copy || self.is_spent(id) || self.is_sent_away(now, id, failure);
        if is_spent && (is_copy || !self.may_be_dead(id)) {
            self.finish_failed(now, id);
            return;
        }
        let dead = self.is_dead(replica);
        let Some(live) = self.live.get_mut(&id) else { return };
        let limit = live.request.retry;
        if live.answered {
            live.resumes += 1;
            live.broken = true;
            // A client waits in the middle of its answer: not for long.
            self.queue.go_on(id, Some(now + self.config.retry_wait));
        } else {
            // The time that the failed attempt took must not be held against it.
            let deadline =
                live.request.deadline.map(|deadline| deadline.max(now + self.config.retry_wait));
            self.queue.again(id, deadline);
        }
        if is_spent {
            let until = now + GRACE;
            live.doubt = Some(until);
            self.doubts.insert((until, id));
        } else if !dead {
            // What a death costs is given back, so that of a known one nothing is taken.
            live.paid.push(replica);
            self.retries.spend(limit.as_ref());
        }
    }

    /// Ends a request that runs nowhere, whose last attempt came to nothing.
    fn finish_failed(&mut self, now: Time, id: RequestId) {
        let Some(live) = self.live.get(&id) else { return };
        let (kind, attempts) = (live.last_failure, live.attempts());
        let interrupted = live.tried.last().copied().filter(|_| live.answered);
        let Some(replica) = interrupted else {
            self.queue.forgive(id);
            let retry_after = self.retry_after(now).filter(|_| kind == FailureKind::Overloaded);
            let refusal = Refusal::Exhausted { attempts, last: kind, retry_after };
            self.end(id, Outcome::Refused(refusal));
            return;
        };
        self.queue.settle(now, id, None);
        self.end(id, Outcome::Interrupted { replica, kind });
    }

    /// Whether a request has had its attempts. Not the turns: one that was stopped for somebody
    /// else's sake did not fail; and, where deaths are judged, not what died under it: of that the
    /// guard against requests that kill keeps account.
    fn is_spent(&self, id: RequestId) -> bool {
        let Some(live) = self.live.get(&id) else { return true };
        let judged = self.board.is_some();
        let died = |replica: ReplicaId| judged && self.is_dead(replica);
        let alive = live.tried.iter().filter(|replica| !died(**replica)).count();
        let guarded = judged && !live.trail.may_go_on(&PoisonConfig::default(), died);
        let last_died = live.tried.last().is_some_and(|last| died(*last));
        let limit = live.request.retry.as_ref();
        let most = attempts_max(&self.config, limit) as usize;
        guarded
            || alive >= most
            || live.tried.len() >= TRIED_MAX.max(most)
            // Who allows one attempt means it, whatever became of it.
            || (most == 1 && !live.tried.is_empty())
            || (!self.retries.has_one(limit) && !last_died)
    }

    /// Whether all replicas have said that they have no room until then, which is too late for it.
    fn is_sent_away(&self, now: Time, id: RequestId, failure: Failure) -> bool {
        let Some(live) = self.live.get(&id).filter(|_| failure.told.retry_after.is_some()) else {
            return false;
        };
        let deadline = live.request.deadline.filter(|_| !live.answered);
        let left = self.retry_after(now).zip(deadline);
        left.is_some_and(|(left, deadline)| now + left > deadline.max(now + self.config.retry_wait))
    }

    /// When the first replica has room again, where all say that they have none and until when.
    fn retry_after(&self, now: Time) -> Option<Span> {
        self.board.as_ref()?.retry_after(now)
    }

    fn is_dead(&self, replica: ReplicaId) -> bool {
        !self.fleet.get(replica).is_some_and(|replica| replica.up)
    }

    /// Whether some replica broke off under a request and is not known to have died: the news of a death
    /// comes a moment after it.
    fn may_be_dead(&self, id: RequestId) -> bool {
        let live = self.live.get(&id).filter(|live| live.tried.len() < TRIED_MAX);
        let broke = |live: &Live| live.broke.iter().any(|replica| !self.is_dead(*replica));
        self.board.is_some() && live.is_some_and(broke)
    }

    /// A replica died: a request whose attempts seemed to be over may have another one.
    pub(super) fn doubt_less(&mut self, id: RequestId) {
        if self.is_spent(id) {
            return;
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(until) = live.doubt.take() else { return };
        self.doubts.remove(&(until, id));
        let last = live.tried.last().copied();
        let alive = |replica: &ReplicaId| self.fleet.get(*replica).is_some_and(|one| one.up);
        if let Some(replica) = last.filter(alive) {
            live.paid.push(replica);
            self.retries.spend(live.request.retry.as_ref());
        }
    }

    /// What the attempts at a replica that died have cost is held against nobody.
    pub(super) fn give_back(&mut self, replica: ReplicaId) {
        for live in self.live.values_mut() {
            let before = live.paid.len();
            live.paid.retain(|paid| *paid != replica);
            for _ in live.paid.len()..before {
                self.retries.give_back(&self.config, live.request.retry.as_ref());
            }
        }
    }

    /// Ends those of whose replicas no death was told.
    pub(super) fn end_doubts(&mut self, now: Time) {
        while let Some((until, id)) =
            self.doubts.first().copied().filter(|(until, _)| *until <= now)
        {
            self.doubts.remove(&(until, id));
            self.queue.remove(id);
            self.finish_failed(now, id);
        }
    }

    /// An attempt that brought enough of the answer begins the count of failures anew.
    fn forget_older_failures(&mut self, id: RequestId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(running) = live.running else { return };
        if live.output.saturating_sub(running.from) >= PROGRESS_MIN {
            live.tried.clear();
            live.paid.clear();
            live.broke.clear();
            live.trail = Trail::default();
        }
    }

    /// An attempt was stopped for somebody else: the request waits for another turn, for as long as
    /// it would have run. One that was not asked to stop, and has no answer yet, found that its replica cannot serve
    /// it: it waits as long as before.
    pub(super) fn stopped(&mut self, id: RequestId) {
        let running = self.live.get(&id).and_then(|live| live.running);
        if self.release(id).is_none() {
            return;
        }
        let was_asked = running.is_some_and(|running| running.stopping);
        if let Some(live) = self.live.get_mut(&id) {
            let moves_on = !was_asked && !live.answered;
            live.stops += u32::from(!moves_on);
            self.queue.put_back(id, live.request.deadline.filter(|_| moves_on));
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

    /// Ends a request that waits: it kills replicas, or it waited too long.
    pub(super) fn end_waiting(&mut self, now: Time, ticket: &Ticket, poison: Option<Refusal>) {
        let answered = self.live.get(&ticket.id).is_some_and(|live| live.answered);
        match poison.filter(|_| !answered) {
            Some(refusal) => self.end(ticket.id, Outcome::Refused(refusal)),
            None => self.end_late(now, ticket),
        }
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
        let retry_after = self.retry_after(now).map_or(retry_after, |told| told.max(retry_after));
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
