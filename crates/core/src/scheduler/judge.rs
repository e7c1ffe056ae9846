//! What happens at replicas, told to the lane's health board, and what that makes of it: who gets no
//! work, who gets less, whose requests are given up because nothing comes of them, and which requests
//! kill replicas.

use super::{Live, Output, Running, Scheduler};
use crate::health::{Change, Ruling, Signal};
use crate::{Failure, Refusal, ReplicaId, Request, RequestId, Time};

impl Scheduler {
    /// Tells the board something, where there is one.
    pub(super) fn note(&mut self, now: Time, replica: ReplicaId, signal: Signal) {
        if let Some(board) = &mut self.board {
            board.note(now, replica, signal);
        }
    }

    /// The same of the replica that a request runs on.
    pub(super) fn note_at(
        &mut self,
        now: Time,
        id: RequestId,
        signal: impl Fn(RequestId) -> Signal,
    ) {
        if self.board.is_some()
            && let Some(replica) = self.replica_of(id)
        {
            self.note(now, replica, signal(id));
        }
    }

    /// A request was sent.
    pub(super) fn note_sent(&mut self, now: Time, id: RequestId) {
        let Some(Live { running: Some(Running { replica, prefill, .. }), request, prompt, .. }) =
            self.live.get(&id)
        else {
            return;
        };
        let (replica, prefill, fingerprint) = (*replica, *prefill, prompt.fingerprint);
        // An answer in one piece is silent until its end.
        let silent = if prompt.streams { 0 } else { u64::from(request.tokens.output) };
        self.note(now, replica, Signal::Sent { id, prefill, silent });
        if self.board.is_some() && fingerprint != 0 {
            self.poison.sent(replica, id, fingerprint);
        }
        self.weigh(replica);
    }

    /// A request failed.
    pub(super) fn note_failed(&mut self, now: Time, id: RequestId, failure: Failure) {
        let Some(replica) = self.replica_of(id) else { return };
        let Failure { kind, .. } = failure;
        self.note(now, replica, Signal::Failed { id, kind, retry_after: None });
        self.poison.ended(now, replica, id, Some(kind));
        if let Some(live) = self.live.get_mut(&id) {
            live.trail.note(replica, kind);
        }
    }

    /// A request ended as it should.
    pub(super) fn note_answered(&mut self, now: Time, id: RequestId, output: u64) {
        let Some(replica) = self.replica_of(id) else { return };
        self.note(now, replica, Signal::Answered { id, output });
        self.poison.answered(replica, id);
    }

    /// A request was taken away by its client or by us.
    pub(super) fn note_stopped(&mut self, now: Time, id: RequestId) {
        let Some(replica) = self.replica_of(id) else { return };
        self.note(now, replica, Signal::Stopped { id });
        self.poison.ended(now, replica, id, None);
    }

    /// Whether a request may run, as far as replicas died under its like. What may run alone is not
    /// tried again.
    pub(super) fn rule(
        &self,
        now: Time,
        request: &Request,
        fingerprint: u64,
    ) -> Result<bool, Refusal> {
        if self.board.is_none() || fingerprint == 0 {
            return Ok(false);
        }
        debug_assert!(!self.live.contains_key(&request.id), "C-1: id used twice");
        match self.poison.rule(now, fingerprint) {
            Ruling::Free => Ok(false),
            Ruling::Alone { .. } => Ok(true),
            Ruling::Wait { retry_after } => Err(Refusal::Poison { deaths: 0, retry_after }),
            Ruling::Refuse { deaths, retry_after } => Err(Refusal::Poison { deaths, retry_after }),
        }
    }

    /// Looks at all replicas anew when there is a reason to.
    pub(super) fn judge(&mut self, now: Time) {
        let Some(board) = self.board.as_mut().filter(|board| board.is_due(now)) else { return };
        let changes = board.assess(now);
        let ids: Vec<ReplicaId> = self.fleet.iter().map(|replica| replica.id).collect();
        for id in ids {
            self.weigh(id);
        }
        for change in changes {
            if change.interrupt {
                self.give_up(change.replica);
            }
            self.unlooked = true;
            self.changes.push_back(change);
        }
    }

    /// What changed about replicas since this was asked last: for logs and metrics.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Nothing comes of what runs there: each is to be tried elsewhere.
    fn give_up(&mut self, replica: ReplicaId) {
        let there = self
            .live
            .iter()
            .filter(|(_, live)| live.running.is_some_and(|running| running.replica == replica));
        let there: Vec<RequestId> = there.map(|(id, _)| *id).collect();
        self.outputs.extend(there.into_iter().map(|id| Output::GiveUp { id, replica }));
    }

    fn weigh(&mut self, replica: ReplicaId) {
        let Some(board) = &self.board else { return };
        let weight = board.standing(replica).map_or(1.0, |standing| standing.weight);
        self.fleet.judge(replica, board.takes(replica), weight as f32);
    }

    fn replica_of(&self, id: RequestId) -> Option<ReplicaId> {
        self.live.get(&id)?.running.map(|running| running.replica)
    }
}
