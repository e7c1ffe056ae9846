//! How a request gets out: finished, cancelled, or taken off its replica for another turn, and what its
//! end says about the replica.

use super::Output;
use super::{Running, Scheduler};
use crate::prefix;
use crate::request::Outcome;
use crate::{ReplicaId, RequestId, Time, Tokens};

impl Scheduler {
    pub(super) fn finish(&mut self, now: Time, id: RequestId, tokens: Option<Tokens>) {
        self.measure(now, id, tokens);
        self.note_answered(now, id, tokens.map_or(0, |tokens| tokens.output.into()));
        if let Some(replica) = self.release(id) {
            self.queue.settle(now, id, tokens);
            self.end(id, Outcome::Finished { replica });
        }
    }

    /// What a finished request says about how fast its replica is, and what its cache had.
    fn measure(&mut self, now: Time, id: RequestId, tokens: Option<Tokens>) {
        let Some(live) = self.live.get(&id) else { return };
        let (Some(running), Some(tokens)) = (live.running, tokens) else { return };
        // The tokens are those of all attempts, the time is that of the last.
        if live.resumes > 0 {
            return;
        }
        let replica = running.replica;
        let there = self.fleet.get(replica).map_or(1, |replica| replica.requests.max(1));
        if let Some(begun) = running.begun.filter(|_| tokens.output > 1 && live.stops == 0) {
            let each = now.since(begun).as_secs_f64() / f64::from(tokens.output - 1);
            self.speeds.stepped(replica, f64::from(there), each);
        }
        self.speeds.finished(replica, now.since(running.since).as_secs_f64(), tokens.output);
        let named = u64::try_from(live.prompt.blocks().len()).unwrap_or(u64::MAX);
        let unnamed = u64::from(tokens.input)
            .saturating_sub(named.saturating_mul(u64::from(prefix::BLOCK_TOKENS)));
        let unnamed = u32::try_from(unnamed).unwrap_or(u32::MAX);
        self.index.fill(replica, unnamed.saturating_add(tokens.output));
        if running.cached > 0 {
            let blocks = |tokens: u32| tokens / prefix::BLOCK_TOKENS;
            self.index.learn(replica, blocks(running.cached), blocks(tokens.cached));
        }
    }

    pub(super) fn cancel(&mut self, now: Time, id: RequestId) {
        if !self.live.contains_key(&id) {
            return;
        }
        self.queue.remove(id);
        self.note_stopped(now, id);
        if let Some(replica) = self.release(id) {
            // What was computed for it was computed.
            self.queue.settle(now, id, None);
            self.outputs.push_back(Output::Abort { id, replica });
        }
        self.end(id, Outcome::Cancelled);
    }

    /// Takes the request off its replica's ledger. The place it had goes to the one that was paused
    /// first.
    pub(super) fn release(&mut self, id: RequestId) -> Option<ReplicaId> {
        let live = self.live.get_mut(&id)?;
        let running = live.running.take()?;
        let Running { replica, tokens, prefill, paused, stopping, copy_at, .. } = running;
        self.index.release(replica, live.prompt.blocks());
        self.stoppable.remove(&(live.request.band, id));
        if let Some(at) = copy_at {
            self.copies_due.remove(&(at, id));
        }
        self.stopping -= u32::from(stopping);
        if let Some(since) = paused {
            self.paused.remove(&(replica, since, id));
            self.fleet.pause(replica, false);
        } else {
            self.unpause_one(replica);
        }
        self.fleet.unbook(replica, id, tokens, prefill);
        self.note_shared(replica);
        self.looked = None;
        Some(replica)
    }

    fn unpause_one(&mut self, replica: ReplicaId) {
        let mut paused = self.paused.range((replica, Time::ZERO, RequestId(0))..);
        let Some(first) = paused.next().copied().filter(|(at, ..)| *at == replica) else { return };
        self.paused.remove(&first);
        self.fleet.pause(replica, false);
        if let Some(running) = self.live.get_mut(&first.2).and_then(|live| live.running.as_mut()) {
            running.paused = None;
        }
    }

    pub(super) fn end(&mut self, id: RequestId, outcome: Outcome) {
        self.unhold(id);
        let live = self.live.remove(&id);
        if let Some(until) = live.and_then(|live| live.doubt) {
            self.doubts.remove(&(until, id));
        }
        self.outputs.push_back(Output::End { id, outcome });
    }
}
