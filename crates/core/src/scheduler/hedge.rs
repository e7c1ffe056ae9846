//! Second attempts: where the answer of a request has not begun by the time by which those of nearly all
//! like it have, the host sends a copy to another replica, and whichever begins first is the answer.
//!
//! A copy is a request of its own here, under an id of its own, so that ledger, caches and health know
//! where it runs. It never waits, and is not tried again before its answer begins: from then on it is a
//! request like any other. The one that was outrun is taken back, and its tenant pays for one of them.

use super::arrive::ticket;
use super::turn::Placed;
use super::{Live, Output, Scheduler};
use crate::fleet::Replica;
use crate::health::{Budget, HedgeConfig, Hedgeable};
use crate::request::{Failure, Outcome, Request};
use crate::{ReplicaId, RequestId, Span, Time};

/// Copies that may be sent however few requests there are, and how soon one of them comes back.
const COPIES_MIN: u32 = 1;
const REFILL: Span = Span::from_secs(60);

/// The budget for copies of a lane that is judged so.
pub(super) fn budget(config: Option<HedgeConfig>) -> Budget {
    Budget::new(config.unwrap_or_default().percent, COPIES_MIN, REFILL)
}

impl Scheduler {
    /// A request came that may be copied.
    pub(super) fn earn_copies(&mut self, now: Time, request: &Request) {
        if request.hedge {
            self.copies.earn(now);
        }
    }

    /// Notes when a copy of a request that was sent is due.
    pub(super) fn plan_copy(&mut self, now: Time, id: RequestId) {
        let Some((_, request)) = self.copied(now, id) else { return };
        let due = self.board.as_ref().and_then(|board| board.hedge_due(&request).ok());
        let running = self.live.get_mut(&id).and_then(|live| live.running.as_mut());
        if let (Some(due), Some(running)) = (due, running) {
            running.copy_at = Some(due);
            self.copies_due.insert((due, id));
        }
    }

    /// When the next copy is due.
    pub(super) fn next_copy(&self) -> Option<Time> {
        self.copies_due.first().map(|(at, _)| *at)
    }

    /// Asks the host for the copies that are due. What they cost is spent when they are sent: of several
    /// that were asked for, those are, for which there is enough.
    pub(super) fn ask_for_copies(&mut self, now: Time) {
        while let Some((_, id)) = self.copies_due.first().copied().filter(|(at, _)| *at <= now) {
            self.copies_due.pop_first();
            if self.may_copy(now, id) {
                if let Some(live) = self.live.get_mut(&id) {
                    live.copied = true;
                }
                self.outputs.push_back(Output::Hedge { id });
            }
        }
    }

    /// Nobody waits, another replica has a place, and the budgets allow it.
    fn may_copy(&self, now: Time, id: RequestId) -> bool {
        let Some((replica, request)) = self.copied(now, id) else { return false };
        let limit = self.live.get(&id).and_then(|live| live.request.retry);
        let bounds = self.live.get(&id).map(|live| &live.prompt.bounds);
        let free = |other: ReplicaId| {
            let other = self.fleet.get(other).filter(|other| other.is_open(now));
            let may = |other: &Replica| bounds.is_none_or(|to| to.bar(now, other).is_none());
            other.is_some_and(|other| other.has_place() && may(other))
        };
        let due =
            self.board.as_ref().map(|board| board.hedge_at(replica, &request, free, &self.copies));
        self.queue.is_empty()
            && self.retries.has_one(limit.as_ref())
            && due.is_some_and(|due| due.is_ok())
    }

    /// A request that runs, as far as a copy of it is concerned, and where it does.
    fn copied(&self, now: Time, id: RequestId) -> Option<(ReplicaId, Hedgeable)> {
        let live = self.live.get(&id).filter(|live| live.request.hedge)?;
        let running = live.running?;
        let request = Hedgeable {
            sent: running.since,
            prefill: running.prefill,
            began: live.answered || running.begun.is_some(),
            copied: live.copied,
            safe: live.tried.is_empty() && !self.is_suspected(now, live) && !running.stopping,
        };
        Some((running.replica, request))
    }

    /// Sends a copy of a request under that id, if it may still be of use and there is a place.
    pub(super) fn copy(&mut self, now: Time, of: RequestId, id: RequestId) {
        debug_assert!(!self.live.contains_key(&id), "C-1: id used twice");
        if !self.place_copy(now, of, id) {
            self.queue.remove(id);
            self.end(id, Outcome::Cancelled);
        }
    }

    fn place_copy(&mut self, now: Time, of: RequestId, id: RequestId) -> bool {
        let Some(live) = self.live.get(&of).filter(|live| !live.answered) else { return false };
        let Some(running) = live.running.filter(|running| running.begun.is_none()) else {
            return false;
        };
        let limit = live.request.retry;
        self.copies.refill(now);
        if !self.copies.allows() || !self.retries.has_one(limit.as_ref()) {
            return false;
        }
        let may = |one: &Replica| {
            let other = one.id != running.replica && one.is_open(now);
            other && live.prompt.bounds.bar(now, one).is_none()
        };
        if !self.queue.is_empty() || !self.fleet.iter().any(may) {
            return false;
        }
        let request = Request { id, deadline: None, answer_by: None, hedge: false, ..live.request };
        let ticket = ticket(&request, now);
        let copy = Live {
            attempt: live.attempt,
            tried: vec![running.replica],
            last_failure: live.last_failure,
            copied: true,
            is_copy: true,
            ..Live::new(now, request, live.prompt.clone())
        };
        if self.queue.push(ticket).is_err() {
            return false;
        }
        self.live.insert(id, copy);
        match self.place(now, &ticket, &[]) {
            Placed::Sent(output) => {
                self.copies.spend(now);
                self.retries.spend(limit.as_ref());
                self.outputs.push_back(output);
                true
            }
            Placed::Waits(_) | Placed::Apart | Placed::Kept(_) | Placed::Full => false,
        }
    }

    /// The answer of a copy begins: it is the request from now on.
    pub(super) fn adopt_copy(&mut self, id: RequestId) {
        if let Some(live) = self.live.get_mut(&id).filter(|live| live.is_copy) {
            live.is_copy = false;
            live.tried.clear();
        }
    }

    /// The other attempt's answer began first, and this one had failed by then or had not: what it
    /// has cost is given back.
    pub(super) fn outrun(&mut self, now: Time, id: RequestId, failed: Option<Failure>) {
        if !self.live.contains_key(&id) {
            return;
        }
        self.queue.remove(id);
        match failed {
            Some(failure) => self.note_failed(now, id, failure),
            None => self.note_stopped(now, id),
        }
        if let Some(replica) = self.release(id) {
            self.queue.forgive(id);
            match failed {
                Some(failure) => self.suspend(now, replica, failure.kind),
                None => self.outputs.push_back(Output::Abort { id, replica }),
            }
        }
        self.end(id, Outcome::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{BoardConfig, Verdict};
    use crate::preempt::PreemptConfig;
    use crate::{
        Band, Capacity, FailureKind, Input, SchedulerConfig, TenantId, Tokens, Told, invariant,
    };

    const TENANT: TenantId = TenantId(0);

    struct World {
        scheduler: Scheduler,
        now: Time,
    }

    impl World {
        /// So many replicas with one place each, warm, where a first token usually takes 100 ms.
        fn new(replicas: u32) -> Self {
            let hedge = HedgeConfig { enabled: true, samples_min: 10, ..HedgeConfig::default() };
            let health = Some(BoardConfig { hedge, ..BoardConfig::default() });
            let preempt = PreemptConfig { enabled: false, ..PreemptConfig::default() };
            let config = SchedulerConfig { health, preempt, ..SchedulerConfig::default() };
            let mut world = Self { scheduler: Scheduler::new(config), now: Time::ZERO };
            for id in (0..replicas).map(ReplicaId) {
                let capacity = Capacity { tokens_max: 10_000, ..Capacity::of_requests(1) };
                world.feed(Input::ReplicaUp { replica: id, capacity });
            }
            for id in 1000..1100 {
                world.arrive(id);
                world.wait(100);
                world.feed(Input::FirstToken { id: RequestId(id) });
                world.feed(Input::Finished { id: RequestId(id), tokens: None });
                world.wait(10_000);
            }
            world
        }

        fn feed(&mut self, input: Input) -> Vec<Output> {
            self.scheduler.handle(self.now, input);
            let outputs = std::iter::from_fn(|| self.scheduler.poll(self.now)).collect();
            assert_eq!(invariant::check(&self.scheduler), []);
            outputs
        }

        fn arrive(&mut self, id: u64) -> Option<ReplicaId> {
            let tokens = Tokens { input: 100, cached: 0, output: 50 };
            let request = Request::new(RequestId(id), TENANT, Band::Standard, tokens);
            to(&self.feed(Input::Arrive(Request { hedge: true, ..request })), id)
        }

        /// Lets time pass, as the scheduler wants to be woken, and says whose copies were asked for.
        fn wait(&mut self, ms: u64) -> Vec<u64> {
            let until = self.now + Span::from_millis(ms);
            let mut asked = Vec::new();
            loop {
                let next = self.scheduler.next_wakeup(self.now).filter(|at| *at <= until);
                self.now = next.unwrap_or(until).max(self.now + Span::from_millis(1)).min(until);
                asked.extend(self.feed(Input::Tick).iter().filter_map(|output| match output {
                    Output::Hedge { id } => Some(id.0),
                    _ => None,
                }));
                if self.now == until {
                    return asked;
                }
            }
        }

        fn copy(&mut self, of: u64, id: u64) -> Option<ReplicaId> {
            to(&self.feed(Input::Hedge { of: RequestId(of), id: RequestId(id) }), id)
        }

        fn service(&self) -> u64 {
            self.scheduler.queue().entitlements().iter().map(|one| one.service).max().unwrap()
        }
    }

    fn to(outputs: &[Output], whose: u64) -> Option<ReplicaId> {
        outputs.iter().find_map(|output| match output {
            Output::Dispatch { id, replica, .. } if id.0 == whose => Some(*replica),
            _ => None,
        })
    }

    #[test]
    fn the_first_answer_counts_and_is_paid_for_once() {
        for copy_wins in [true, false] {
            let mut world = World::new(3);
            let before = world.service();
            let first = world.arrive(1).unwrap();
            assert_eq!(world.wait(190), [] as [u64; 0]);
            assert_eq!(world.wait(100), [1]);
            let second = world.copy(1, 2).unwrap();
            assert_ne!(first, second);
            assert_eq!(world.wait(5000), [] as [u64; 0], "copied once");
            let (winner, loser) = if copy_wins { (2, 1) } else { (1, 2) };
            world.feed(Input::FirstToken { id: RequestId(winner) });
            let (id, failed) = (RequestId(loser), None);
            let outputs = world.feed(Input::Outrun { id, failed });
            let replica = if copy_wins { first } else { second };
            assert_eq!(outputs[0], Output::Abort { id, replica });
            assert_eq!(outputs[1], Output::End { id, outcome: Outcome::Cancelled });
            let tokens = Some(Tokens { input: 100, cached: 0, output: 7 });
            world.feed(Input::Finished { id: RequestId(winner), tokens });
            assert_eq!(world.scheduler.live(), 0);
            assert!(world.scheduler.fleet().iter().all(|one| (one.requests, one.tokens) == (0, 0)));
            let mut alone = World::new(3);
            alone.arrive(1).unwrap();
            alone.wait(100);
            alone.feed(Input::FirstToken { id: RequestId(1) });
            alone.feed(Input::Finished { id: RequestId(1), tokens });
            assert_eq!(world.service() - before, alone.service() - before);
        }
    }

    #[test]
    fn copies_are_not_made_where_they_would_be_load() {
        // Nobody else is there, or has a place.
        let mut world = World::new(1);
        world.arrive(1).unwrap();
        assert_eq!(world.wait(5000), [] as [u64; 0]);
        let mut world = World::new(2);
        world.arrive(1).unwrap();
        world.arrive(2).unwrap();
        assert_eq!(world.wait(5000), [] as [u64; 0]);
        // An answer that has begun, and one that failed before, are left alone.
        let mut world = World::new(2);
        world.arrive(1).unwrap();
        world.feed(Input::FirstToken { id: RequestId(1) });
        assert_eq!(world.wait(5000), [] as [u64; 0]);
        let mut world = World::new(3);
        world.arrive(1).unwrap();
        let failure = Failure::before_answer(FailureKind::Server);
        assert!(to(&world.feed(Input::Failed { id: RequestId(1), failure }), 1).is_some());
        assert_eq!(world.wait(5000), [] as [u64; 0]);
        // Who may not be copied is not.
        let mut world = World::new(2);
        let tokens = Tokens { input: 100, cached: 0, output: 50 };
        world.feed(Input::Arrive(Request::new(RequestId(1), TENANT, Band::Standard, tokens)));
        assert_eq!(world.wait(5000), [] as [u64; 0]);
        // The place was taken meanwhile, or the answer began: nothing is sent.
        let mut world = World::new(2);
        world.arrive(1).unwrap();
        assert_eq!(world.wait(1000), [1]);
        world.arrive(2).unwrap();
        assert_eq!(world.copy(1, 3), None);
        world.feed(Input::Finished { id: RequestId(2), tokens: None });
        world.feed(Input::FirstToken { id: RequestId(1) });
        assert_eq!(world.copy(1, 4), None);
        assert_eq!(world.scheduler.live(), 1);
    }

    #[test]
    fn copies_stay_within_their_budget() {
        let mut world = World::new(2);
        world.scheduler.copies = Budget::new(10, 1, Span::from_secs(10_000));
        let copied = (0..30).filter(|at| {
            let id = 1 + at * 2;
            world.arrive(id).unwrap();
            let sent = !world.wait(1000).is_empty() && world.copy(id, id + 1).is_some();
            for id in [id, id + 1] {
                world.feed(Input::Outrun { id: RequestId(id), failed: None });
            }
            sent
        });
        // One is there at the beginning, and ten percent of thirty come.
        assert_eq!(copied.count(), 4);
    }

    #[test]
    fn what_is_asked_for_and_not_sent_costs_nothing() {
        let mut world = World::new(2);
        world.scheduler.copies = Budget::new(0, 1, Span::from_secs(10_000));
        world.scheduler.config.retry_percent = 0;
        let retries = format!("{:?}", world.scheduler.retries);
        world.arrive(1).unwrap();
        assert_eq!(world.wait(1000), [1]);
        // The place was taken meanwhile.
        world.arrive(2).unwrap();
        assert_eq!(world.copy(1, 3), None);
        assert!(world.scheduler.copies.allows());
        assert_eq!(format!("{:?}", world.scheduler.retries), retries);
        for id in [1, 2] {
            world.feed(Input::Finished { id: RequestId(id), tokens: None });
        }
        // What is sent does.
        world.arrive(4).unwrap();
        assert_eq!(world.wait(1000), [4]);
        assert!(world.copy(4, 5).is_some() && !world.scheduler.copies.allows());
        assert_ne!(format!("{:?}", world.scheduler.retries), retries);
    }

    #[test]
    fn of_those_that_are_asked_for_at_once_as_many_are_sent_as_may() {
        let mut world = World::new(4);
        world.scheduler.copies = Budget::new(0, 1, Span::from_secs(10_000));
        world.arrive(1).unwrap();
        world.arrive(2).unwrap();
        let mut asked = world.wait(1000);
        asked.sort_unstable();
        assert_eq!(asked, [1, 2]);
        assert!(world.copy(1, 3).is_some());
        assert_eq!(world.copy(2, 4), None);
        world.feed(Input::Finished { id: RequestId(2), tokens: None });
        assert_eq!(world.scheduler.live(), 2);
    }

    #[test]
    fn what_a_replica_told_one_that_was_outrun_counts() {
        let mut world = World::new(2);
        let first = world.arrive(1).unwrap();
        world.wait(1000);
        world.copy(1, 2).unwrap();
        world.feed(Input::FirstToken { id: RequestId(2) });
        let told = Told { retry_after: Some(Span::from_secs(20)), is_refused: false };
        let failure = Failure { told, ..Failure::before_answer(FailureKind::Overloaded) };
        world.feed(Input::Outrun { id: RequestId(1), failed: Some(failure) });
        world.feed(Input::Finished { id: RequestId(2), tokens: None });
        world.wait(15_000);
        let standing = world.scheduler.standings().find(|one| one.replica == first).unwrap();
        assert!(matches!(standing.verdict, Verdict::Busy { .. }), "{standing:?}");
    }

    #[test]
    fn a_copy_that_fails_is_not_tried_again_and_one_that_won_is() {
        let mut world = World::new(3);
        world.arrive(1).unwrap();
        world.wait(1000);
        world.copy(1, 2).unwrap();
        let before = Failure::before_answer(FailureKind::Server);
        let outputs = world.feed(Input::Failed { id: RequestId(2), failure: before });
        let ended =
            |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::End { .. }));
        assert!(ended(&outputs) && to(&outputs, 2).is_none(), "{outputs:?}");
        let mut world = World::new(3);
        let first = world.arrive(1).unwrap();
        world.wait(1000);
        world.copy(1, 2).unwrap();
        world.feed(Input::FirstToken { id: RequestId(2) });
        let failed = Some(Failure::before_answer(FailureKind::Server));
        world.feed(Input::Outrun { id: RequestId(1), failed });
        let broken = Failure::in_answer(FailureKind::Server, true);
        let outputs = world.feed(Input::Failed { id: RequestId(2), failure: broken });
        assert!(!ended(&outputs) && to(&outputs, 2).is_some(), "{outputs:?} {first:?}");
    }
}
