//! What happens at replicas, told to the lane's health board, and what that makes of it: who gets no
//! work, who gets less, whose requests are given up because nothing comes of them, and which requests
//! kill replicas.

use super::{Live, Output, Running, Scheduler};
use crate::fleet::Replica;
use crate::health::{Change, Ruling, Signal};
use crate::route::Prompt;
use crate::{Failure, FailureKind, Refusal, ReplicaId, RequestId, Span, Time};

/// Why a request whose like may have killed replicas runs nowhere now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Apart {
    /// Its trial begins once no replica has died for a while: then.
    Calm {
        /// When that is, if none dies until then.
        from: Time,
    },
    /// Another request with the same body has its trial.
    Copy,
    /// At each replica another suspect runs.
    Watched,
    /// It is refused.
    Refused,
}

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
        let patience = request.until.map(|until| Span::from_nanos(until.since(now).as_nanos() / 2));
        self.note(now, replica, Signal::Sent { id, prefill, silent, patience });
        if self.board.is_some() && fingerprint != 0 {
            self.poison.sent(now, replica, id, fingerprint);
        }
        self.weigh(now, replica);
    }

    /// A request failed.
    pub(super) fn note_failed(&mut self, now: Time, id: RequestId, failure: Failure) {
        let running = self.live.get(&id).and_then(|live| live.running);
        let Some(Running { replica, since, .. }) = running else { return };
        let Failure { kind, told, .. } = failure;
        self.note(now, replica, Signal::Failed { id, kind, retry_after: told.retry_after });
        self.poison.ended(now, replica, id, Some(kind));
        if kind == FailureKind::Broken {
            self.note_broke(now, replica, since);
        } else if told.is_refused {
            self.note_refused(now, replica);
        }
        let replica = self.as_remembered(replica, since);
        if let Some(live) = self.live.get_mut(&id) {
            live.trail.note(replica, kind);
            if kind == FailureKind::Broken {
                live.broke.push(replica);
            }
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

    /// Why a request with this body is refused, if replicas died under its like.
    pub(super) fn is_poison(&self, now: Time, fingerprint: u64) -> Option<Refusal> {
        match self.ruling(now, fingerprint) {
            Ruling::Refuse { deaths, retry_after } => Some(Refusal::Poison { deaths, retry_after }),
            Ruling::Free | Ruling::Watched { .. } | Ruling::Trial { .. } => None,
        }
    }

    /// Where a request may not run now, because replicas died under its like or it may only go to others;
    /// none where it may not run at all until something happens, or at that time.
    pub(super) fn barred(&mut self, now: Time, id: RequestId) -> Option<Vec<ReplicaId>> {
        let live = self.live.get(&id)?;
        if live.doubt.is_some() {
            return None;
        }
        match self.apart(now, live.prompt.fingerprint) {
            Ok(mut barred) => {
                barred.extend(self.out_of_bounds(now, &live.prompt));
                Some(barred)
            }
            Err(Apart::Calm { from }) => {
                self.be_patient(from);
                None
            }
            Err(Apart::Copy | Apart::Watched | Apart::Refused) => None,
        }
    }

    /// Where a request may not go, whatever others run there.
    pub(super) fn out_of_bounds<'a>(
        &'a self,
        now: Time,
        prompt: &'a Prompt,
    ) -> impl Iterator<Item = ReplicaId> + 'a {
        let barred = move |one: &&Replica| prompt.bounds.bar(now, one).is_some();
        self.fleet.iter().filter(barred).map(|replica| replica.id)
    }

    /// Where a request with this body does not run now, as others are watched there.
    ///
    /// # Errors
    /// Why it runs nowhere now, though it may be its turn.
    pub(super) fn apart(&self, now: Time, fingerprint: u64) -> Result<Vec<ReplicaId>, Apart> {
        let (from, alone) = match self.ruling(now, fingerprint) {
            Ruling::Free => return Ok(Vec::new()),
            Ruling::Watched { .. } => (now, false),
            Ruling::Trial { from, .. } => (from, true),
            // It ends when its turn comes.
            Ruling::Refuse { .. } => return Err(Apart::Refused),
        };
        if from > now {
            return Err(Apart::Calm { from });
        }
        if alone && self.poison.running(fingerprint) > 0 {
            return Err(Apart::Copy);
        }
        let barred = self.poison.watched_at();
        let some = self.fleet.iter().any(|replica| replica.up && !barred.contains(&replica.id));
        if some { Ok(barred) } else { Err(Apart::Watched) }
    }

    /// Whether its like may have killed replicas.
    pub(super) fn is_suspected(&self, now: Time, live: &Live) -> bool {
        !matches!(self.ruling(now, live.prompt.fingerprint), Ruling::Free)
    }

    pub(super) fn ruling(&self, now: Time, fingerprint: u64) -> Ruling {
        if self.board.is_none() || fingerprint == 0 {
            return Ruling::Free;
        }
        self.poison.rule(now, fingerprint)
    }

    /// A replica died. Its attempts are held against nobody who did not kill it: they are given back.
    pub(super) fn died(&mut self, now: Time, replica: ReplicaId) {
        self.poison.died(now, replica, |_| true);
        self.lower(now, replica);
        self.give_back(replica);
        let doubts: Vec<RequestId> = self.doubts.iter().map(|(_, id)| *id).collect();
        for id in doubts {
            self.doubt_less(id);
        }
    }

    /// Looks at all replicas anew when there is a reason to.
    pub(super) fn judge(&mut self, now: Time) {
        let Some(board) = self.board.as_mut().filter(|board| board.is_due(now)) else { return };
        let changes = board.assess(now);
        let ids: Vec<ReplicaId> = self.fleet.iter().map(|replica| replica.id).collect();
        for id in ids {
            self.weigh(now, id);
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

    fn weigh(&mut self, now: Time, replica: ReplicaId) {
        let Some(board) = &self.board else { return };
        let weight = board.standing(replica).map_or(1.0, |standing| standing.weight);
        let works = (board.takes(replica), board.takes_soon(now, replica));
        self.fleet.judge(replica, works, weight as f32);
    }

    fn replica_of(&self, id: RequestId) -> Option<ReplicaId> {
        self.live.get(&id)?.running.map(|running| running.replica)
    }
}
