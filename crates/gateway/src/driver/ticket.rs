//! A request's place in a lane, from its arrival to its end: what is said to it, and what it reports.

use std::fmt;
use std::sync::Arc;

use super::mailbox;
use super::{Door, LaneHandle, Message, Replica};
use pilotage_core::preempt;
use pilotage_core::route::Bounds;
use pilotage_core::traffic::Name;
use pilotage_core::{Failure, FailureKind, Input, Refusal, RequestId, Tokens, Told, Why};
use tokio::sync::Notify;

use crate::metrics::Fault;

/// What the scheduler says to one request.
#[derive(Debug)]
pub(super) enum Turn {
    /// Send it there.
    Go(Go),
    /// The replica it was sent to is gone: no answer will come.
    Lost,
    /// Stop it, keep its tokens, and wait for another turn: somebody else goes first.
    Stop(preempt::Reason),
    /// A second attempt beside it is due.
    Hedge,
    /// It is over.
    Refused(Refusal),
    /// It is over: its replica failed so in the middle of the answer, and nobody goes on.
    Interrupted(FailureKind),
}

/// Where a request is sent.
#[derive(Clone, Debug)]
pub(crate) struct Go {
    pub(crate) replica: Arc<Replica>,
    pub(crate) door: Arc<Door>,
    pub(crate) attempt: u32,
    /// The request whose place it takes.
    pub(crate) displaces: Option<RequestId>,
    pub(crate) why: Reason,
}

/// Why a request goes to a replica, with the region's name where that is known.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(super) why: Why,
    pub(super) replica: Arc<Replica>,
    pub(super) door: Arc<Door>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        let region = self.replica.region.as_ref();
        region.map_or(Ok(()), |region| write!(f, " region={region}"))
    }
}

impl Reason {
    /// Why, in the scheduler's words.
    pub(crate) const fn why(&self) -> Why {
        self.why
    }

    /// Where it goes.
    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Host and port of that.
    pub(crate) fn address(&self) -> Option<&Name> {
        self.door.place()
    }
}

/// What happens to a request while it is at a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Interruption {
    /// The replica is gone.
    Lost,
    /// It has to make room.
    Stop(preempt::Reason),
}

/// A request's place: dropped before its end, it cancels the request wherever it is.
pub(crate) struct Ticket {
    id: RequestId,
    lane: LaneHandle,
    turns: mailbox::Receiver<Turn>,
    /// Attempts that failed.
    failures: u32,
    /// What the replica told beside the failure that is reported next.
    told: Told,
    ended: bool,
    /// It is a second attempt's, and another may win.
    is_copy: bool,
    /// Told when a second attempt is due.
    second: Option<Arc<Notify>>,
}

const NOTHING: Told = Told { retry_after: None, is_refused: false };

impl Ticket {
    /// The place of a request that gets in line.
    pub(super) const fn new(
        id: RequestId,
        lane: LaneHandle,
        turns: mailbox::Receiver<Turn>,
    ) -> Self {
        Self {
            id,
            lane,
            turns,
            failures: 0,
            told: NOTHING,
            ended: false,
            is_copy: false,
            second: None,
        }
    }

    /// The place of a second attempt.
    pub(super) const fn of_copy(
        id: RequestId,
        lane: LaneHandle,
        turns: mailbox::Receiver<Turn>,
    ) -> Self {
        let mut ticket = Self::new(id, lane, turns);
        ticket.is_copy = true;
        ticket
    }

    /// Its request.
    pub(crate) const fn id(&self) -> RequestId {
        self.id
    }

    /// Where it waits.
    pub(crate) const fn lane(&self) -> &LaneHandle {
        &self.lane
    }

    /// What is told when a second attempt beside the one that runs is due, while
    /// [`Self::interruption`] is waited for.
    pub(crate) fn second(&mut self) -> Arc<Notify> {
        Arc::clone(self.second.insert(Arc::default()))
    }

    /// The second attempt's answer began first: it is the request from now on.
    pub(crate) const fn won(&mut self) {
        self.is_copy = false;
    }

    /// The other attempt's answer began first; this one had failed by then, or not.
    pub(crate) fn outrun(mut self, failed: Option<FailureKind>) {
        self.ended = true;
        let told = std::mem::take(&mut self.told);
        let failed = failed.map(|kind| Failure { told, ..Failure::before_answer(kind) });
        self.lane.send(Message::Happened(Input::Outrun { id: self.id, failed }));
    }

    /// What the scheduler says next: where to go, or that it is over.
    pub(crate) async fn turn(&mut self) -> Result<Go, Refusal> {
        loop {
            match self.turns.recv().await.unwrap_or(Turn::Refused(Refusal::Draining)) {
                Turn::Go(go) => return Ok(go),
                Turn::Refused(refusal) => {
                    self.ended = true;
                    return Err(refusal);
                }
                Turn::Interrupted(last) => {
                    self.ended = true;
                    return Err(Refusal::Exhausted {
                        attempts: self.failures,
                        last,
                        retry_after: None,
                    });
                }
                // It was over there already when the news came.
                Turn::Lost | Turn::Stop(_) | Turn::Hedge => {}
            }
        }
    }

    /// Waits until the attempt has to end before its answer does, for ever if it has not.
    pub(crate) async fn interruption(&mut self) -> Interruption {
        loop {
            match self.turns.recv().await {
                Some(Turn::Lost) => return Interruption::Lost,
                Some(Turn::Stop(reason)) => return Interruption::Stop(reason),
                Some(Turn::Hedge) => {
                    self.second.iter().for_each(|second| second.notify_one());
                }
                // Nothing else is said to a request while it is at a replica.
                Some(Turn::Go(_) | Turn::Refused(_) | Turn::Interrupted(_)) => {}
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// The client was sent the first token.
    pub(crate) fn first_token(&self) {
        self.lane.send(Message::Happened(Input::FirstToken { id: self.id }));
    }

    /// The answer has so many tokens by now.
    pub(crate) fn progress(&self, output: u32) {
        self.lane.send(Message::Happened(Input::Progress { id: self.id, output }));
    }

    /// The answer is complete; with the engine's own counts where it reported them.
    pub(crate) fn finished(&mut self, tokens: Option<Tokens>) {
        self.ended = true;
        self.lane.send(Message::Happened(Input::Finished { id: self.id, tokens }));
    }

    /// Whether it may go to another replica than the one that it is at.
    pub(crate) fn others_may(&self, bounds: &Bounds) -> bool {
        self.lane.others_may(self.id, bounds)
    }

    /// The attempt was stopped to make room; another turn will come.
    pub(crate) fn stopped(&self) {
        self.lane.send(Message::Happened(Input::Stopped { id: self.id }));
    }

    /// The attempt cannot be stopped: its client has seen too much by now.
    pub(crate) fn unstoppable(&self) {
        self.lane.send(Message::Happened(Input::Unstoppable { id: self.id }));
    }

    /// The attempt failed before the client was sent anything; another turn may come.
    pub(crate) fn failed(&mut self, kind: FailureKind) {
        self.fail(Failure::before_answer(kind));
    }

    /// The attempt failed in the middle of the answer; another turn may come where it can go on.
    pub(crate) fn broke(&mut self, kind: FailureKind, resumable: bool) {
        self.ended = !resumable;
        self.fail(Failure::in_answer(kind, resumable));
    }

    /// What a replica told beside the failure of the attempt that is to be reported.
    pub(crate) const fn heard(&mut self, told: Told) {
        self.told = told;
    }

    /// What was wrong with the attempt that is to be reported, or with its answer, is counted.
    pub(crate) fn faulted(&self, fault: Fault) {
        self.lane.faulted(self.id, fault);
    }

    fn fail(&mut self, failure: Failure) {
        let failure = Failure { told: std::mem::take(&mut self.told), ..failure };
        self.failures += 1;
        self.lane.send(Message::Happened(Input::Failed { id: self.id, failure }));
    }

    /// Whether no turn will come any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.ended
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let id = self.id;
        let gone =
            if self.is_copy { Input::Outrun { id, failed: None } } else { Input::Cancel { id } };
        self.lane.send(Message::Happened(gone));
    }
}
