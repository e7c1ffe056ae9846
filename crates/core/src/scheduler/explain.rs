//! Why a request would go where it would go: what the scheduler would decide about one that arrived
//! now, with all that the decision depends on, and nothing booked. It asks the very functions that
//! decide in earnest, so that it cannot tell another story.

use std::fmt;

pub use super::judge::Apart;
use super::{Scheduler, turn};
use crate::fleet::{Claim, Replica};
use crate::health::{Ruling, Verdict};
use crate::route::{self, Bar, Candidate, Costs, Decision, Knowledge, Placement, Policy, Prompt};
use crate::{Refusal, ReplicaId, Request, Span, Time};

/// What would become of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Why it would be turned away at once, if it would.
    pub refusal: Option<Refusal>,
    /// What is before it in the queue.
    pub line: Line,
    /// Whether the KV tokens that it needs may be taken: those that other tenants' guarantees keep
    /// are not lent.
    pub lent: bool,
    /// What is held against its like, where replicas died under them.
    pub suspicion: Option<Suspicion>,
    /// The lane's policy.
    pub policy: Policy,
    /// Every replica, as it was considered.
    pub replicas: Vec<Considered>,
    /// What each policy would decide if it were the request's turn now.
    pub policies: Vec<(Policy, Decision)>,
}

impl Explanation {
    /// What the lane's policy decides if it is the request's turn.
    pub fn decision(&self) -> Decision {
        let apart = self.suspicion.is_some_and(|suspicion| suspicion.apart.is_some());
        if !self.lent || apart {
            return Decision::Full;
        }
        let own = self.policies.iter().find(|(policy, _)| *policy == self.policy);
        own.map_or(Decision::Full, |(_, decision)| *decision)
    }
}

/// Replicas died under requests with the same body: one that kills must not take a fleet down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    /// What is said of it.
    pub ruling: Ruling,
    /// Why it runs nowhere now, if it does not.
    pub apart: Option<Apart>,
    /// How long it waits for its trial to begin, at least.
    pub wait: Span,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ruling)?;
        match self.apart {
            Some(Apart::Calm { .. }) => {
                write!(f, ", in {} ms if none dies until then", self.wait.as_millis())
            }
            Some(Apart::Copy) => f.write_str(", after one with the same body that has its trial"),
            Some(Apart::Watched) => f.write_str(", and at each replica there is one"),
            Some(Apart::Refused) | None => Ok(()),
        }
    }
}

/// What is before a request in the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line {
    /// Requests that wait.
    pub waiting: u32,
    /// Of those, requests that wait for a replica of their choice while others have room: whoever
    /// comes after them may take that.
    pub held: u32,
    /// The cost that is served before it, as far as the order of now tells.
    pub ahead: u64,
    /// How long that takes, at the speed of the last seconds; none where nothing is known.
    pub wait: Option<Span>,
    /// The queue is full: either it is refused, or it takes the place of somebody with less right.
    pub full: bool,
}

/// A replica, as it was considered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Considered {
    /// Which one.
    pub id: ReplicaId,
    /// Why it does not take the request now, if it does not.
    pub closed: Option<Closed>,
    /// What it would cost; none where it takes no work at all.
    pub costs: Option<Costs>,
    /// Prompt tokens that it is believed to have.
    pub cached: u32,
    /// Of those, tokens in the host's memory.
    pub loaded: u32,
    /// Whether it is as good as the best, where estimates differ by no more than noise.
    pub near: bool,
    /// Requests in flight.
    pub requests: u32,
    /// The most of them.
    pub requests_max: u32,
    /// KV tokens set aside for them.
    pub tokens: u64,
    /// The most of them; `u64::MAX` where there is no limit.
    pub tokens_max: u64,
}

/// Why a replica does not take a request now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Closed {
    /// It is going: what runs there is finished.
    Down,
    /// It is held not to work, or to have no room.
    Judged(Verdict),
    /// Another request runs there that may kill replicas, as this one.
    Watched,
    /// The request may not go there.
    Barred(Bar),
    /// An attempt there failed a moment ago.
    Suspended {
        /// For so long still.
        left: Span,
    },
    /// All its places are taken.
    Places,
    /// Others wait for its next place.
    Wanted {
        /// So many.
        ahead: u32,
    },
    /// As many prompts wait there to be computed as may.
    Prefill,
    /// It has too little KV memory left.
    Memory,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("it is being taken away"),
            Self::Judged(verdict) => write!(f, "{verdict}"),
            Self::Barred(bar) => write!(f, "{bar}"),
            Self::Watched => f.write_str("another request that may kill replicas runs there"),
            Self::Suspended { left } => {
                write!(f, "an attempt there failed, left alone for {} ms", left.as_millis())
            }
            Self::Places => f.write_str("all its places are taken"),
            Self::Wanted { ahead } => write!(f, "{ahead} wait for its next place"),
            Self::Prefill => f.write_str("too many prompts wait there to be computed"),
            Self::Memory => f.write_str("too little KV memory is free"),
        }
    }
}

impl Scheduler {
    /// What would become of a request that arrived now. Who would be stopped to make room for it is
    /// not part of that.
    pub fn explain(&self, now: Time, request: &Request, prompt: &Prompt) -> Explanation {
        let need = self.queue.need_of_new(request.tenant, request.tokens);
        let input = u64::from(request.tokens.input);
        let claim = Claim { need, most: request.tokens.total(), prefill: input };
        let held: Vec<(ReplicaId, u32)> =
            self.wanted.iter().map(|(id, count)| (*id, *count)).collect();
        let known = Knowledge {
            index: &self.index,
            speeds: &self.speeds,
            ahead: &held,
            turn: self.placed,
            wanted: &self.wanted,
            own: None,
            waiting: self.queue.len() + 1,
            shares: self.config.shares_prefixes,
        };
        let suspicion = self.suspicion(now, prompt.fingerprint);
        let apart = suspicion.is_some_and(|suspicion| suspicion.apart.is_some());
        let mut barred = match self.apart(now, prompt.fingerprint) {
            Ok(barred) => barred,
            Err(Apart::Watched) => self.poison.watched_at(),
            Err(Apart::Calm { .. } | Apart::Copy | Apart::Refused) => Vec::new(),
        };
        barred.extend(self.out_of_bounds(now, prompt));
        let placement = Placement {
            barred: &barred,
            id: request.id,
            tokens: request.tokens,
            prompt,
            tried: &[],
            claim,
            queued: Span::ZERO,
            held: Span::ZERO,
            attempt: 1,
        };
        let decide = |policy: Policy| {
            if apart {
                return Decision::Full;
            }
            route::choose(now, &mut *policy.picker(), &self.fleet, known, &placement)
        };
        let usable = |free| self.queue.usable_by(request.tenant, free);
        Explanation {
            refusal: self.refusal(now, request, prompt),
            line: self.line(request),
            lent: turn::is_lent(now, &self.fleet, need, usable),
            suspicion,
            policy: self.config.policy,
            replicas: self.considered(now, &claim, known, &placement),
            policies: Policy::ALL.map(|policy| (policy, decide(policy))).to_vec(),
        }
    }

    fn suspicion(&self, now: Time, fingerprint: u64) -> Option<Suspicion> {
        let ruling = self.ruling(now, fingerprint);
        let apart = self.apart(now, fingerprint).err();
        let wait = match apart {
            Some(Apart::Calm { from }) => from.since(now),
            _ => Span::ZERO,
        };
        (ruling != Ruling::Free).then_some(Suspicion { ruling, apart, wait })
    }

    fn refusal(&self, now: Time, request: &Request, prompt: &Prompt) -> Option<Refusal> {
        let poison = self.is_poison(now, prompt.fingerprint);
        poison.or_else(|| self.is_worth_waiting(now, request).err())
    }

    fn line(&self, request: &Request) -> Line {
        let idle = self.queue.is_empty();
        Line {
            waiting: self.queue.len(),
            held: self.wanted.values().sum(),
            ahead: if idle { 0 } else { self.queue.ahead(request.tenant, request.band) },
            wait: self.predicted_wait(request.tenant, request.band),
            full: self.queue.is_full_for(request.tokens),
        }
    }

    fn considered(
        &self,
        now: Time,
        claim: &Claim,
        known: Knowledge<'_>,
        placement: &Placement<'_>,
    ) -> Vec<Considered> {
        let candidates = route::candidates(now, &self.fleet, known, placement);
        let most = route::near_most(&candidates);
        let all = self.fleet.iter().map(|replica| {
            let seen = candidates.iter().find(|candidate| candidate.replica.id == replica.id);
            let near = |one: &Candidate<'_>| Some(one.costs.total()) <= most && one.open;
            Considered {
                id: replica.id,
                closed: match seen {
                    Some(candidate) => no_room(candidate, claim),
                    None => Some(self.closed(now, replica, placement)),
                },
                costs: seen.map(|candidate| candidate.costs),
                cached: seen.map_or(0, |candidate| candidate.cached),
                loaded: seen.map_or(0, |candidate| candidate.loaded),
                near: seen.is_some_and(near),
                requests: replica.requests,
                requests_max: replica.capacity.requests_max,
                tokens: replica.tokens,
                tokens_max: replica.capacity.tokens_max,
            }
        });
        all.collect()
    }

    /// Why a replica takes no work.
    fn closed(&self, now: Time, replica: &Replica, placement: &Placement<'_>) -> Closed {
        if !replica.up {
            return Closed::Down;
        }
        if let Some(bar) = placement.prompt.bounds.bar(now, replica) {
            return Closed::Barred(bar);
        }
        let standing = self.standings().find(|standing| standing.replica == replica.id);
        let left = replica.suspended_until.since(now);
        match standing {
            Some(standing) if !standing.verdict.is_open() => Closed::Judged(standing.verdict),
            _ if placement.barred.contains(&replica.id) => Closed::Watched,
            // Its trial runs.
            Some(standing) if left == Span::ZERO => Closed::Judged(standing.verdict),
            _ => Closed::Suspended { left },
        }
    }
}

/// Why a replica that takes work has no room for a request, if it has none.
fn no_room(candidate: &Candidate<'_>, claim: &Claim) -> Option<Closed> {
    let prefill = claim.prefill.saturating_sub(u64::from(candidate.cached));
    if candidate.open {
        return None;
    }
    Some(match candidate.replica {
        replica if !replica.has_place() => Closed::Places,
        _ if candidate.ahead > 0 => Closed::Wanted { ahead: candidate.ahead },
        replica if !replica.can_prefill(prefill) => Closed::Prefill,
        _ => Closed::Memory,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::preempt::PreemptConfig;
    use crate::{
        Band, Capacity, Failure, FailureKind, Input, Output, RequestId, SchedulerConfig, Site,
        TenantId, TenantShare, TenantTree, Tokens,
    };

    /// A replica: its places, its KV tokens, and milliseconds of distance.
    type There = (u32, u64, u64);

    /// A request: its tenant, whose prompt it begins with, blocks of that, tokens of its answer, and
    /// what happens to it before the next comes.
    type Wish = (u32, u64, u64, u32, u8);

    struct World {
        scheduler: Scheduler,
        now: Time,
        running: Vec<RequestId>,
    }

    impl World {
        fn new(policy: Policy, replicas: &[There]) -> Self {
            let preempt = PreemptConfig { enabled: false, ..PreemptConfig::default() };
            let config = SchedulerConfig { policy, preempt, ..SchedulerConfig::default() };
            let mut scheduler = Scheduler::new(config);
            let share = |id| TenantShare { guaranteed: 30 * id, ..TenantShare::top(TenantId(id)) };
            let tree = TenantTree::new((0..3).map(share)).unwrap();
            scheduler.set_tenants(Time::ZERO, tree);
            for (id, (places, tokens_max, network_ms)) in (0..).map(ReplicaId).zip(replicas) {
                let capacity = Capacity {
                    tokens_max: *tokens_max,
                    prefill_max: 600,
                    ..Capacity::of_requests(*places)
                };
                let site = Site { network: Span::from_millis(*network_ms), ..Site::default() };
                scheduler.handle(Time::ZERO, Input::ReplicaUp { replica: id, capacity });
                scheduler.handle(Time::ZERO, Input::Located { replica: id, site });
            }
            Self { scheduler, now: Time::ZERO, running: Vec::new() }
        }

        fn arrive(&mut self, id: u64, wish: &Wish) -> Vec<Output> {
            let (request, prompt) = asked(id, wish);
            self.scheduler.arrive_with(self.now, request, prompt);
            self.drain()
        }

        fn drain(&mut self) -> Vec<Output> {
            let outputs: Vec<Output> =
                std::iter::from_fn(|| self.scheduler.poll(self.now)).collect();
            self.running.extend(outputs.iter().filter_map(|output| match output {
                Output::Dispatch { id, .. } => Some(*id),
                _ => None,
            }));
            outputs
        }

        /// Something happens to one that runs.
        fn happen(&mut self, what: u8) {
            self.now = self.now + Span::from_millis(u64::from(what));
            if self.running.is_empty() {
                return;
            }
            let id = self.running[usize::from(what) % self.running.len()];
            let input = match what % 4 {
                0 => Input::FirstToken { id },
                1 | 2 => Input::Finished { id, tokens: None },
                _ => {
                    let failure = Failure::before_answer(FailureKind::Overloaded);
                    Input::Failed { id, failure }
                }
            };
            if !what.is_multiple_of(4) {
                self.running.retain(|other| *other != id);
            }
            self.scheduler.handle(self.now, input);
            self.drain();
        }
    }

    fn asked(id: u64, (tenant, whose, blocks, output, _): &Wish) -> (Request, Prompt) {
        let input = u32::try_from(*blocks).unwrap() * crate::prefix::BLOCK_TOKENS + 5;
        let tokens = Tokens { input, cached: 0, output: *output };
        let request = Request::new(RequestId(id), TenantId(*tenant), Band::Standard, tokens);
        let names: Arc<[u64]> = (0..*blocks).map(|at| whose * 1000 + at + 1).collect();
        let prompt = Prompt { blocks: Some(names), session: whose + 1, ..Prompt::default() };
        (request, prompt)
    }

    proptest! {
        #[test]
        fn what_is_explained_happens(
            before in prop::sample::select(&Policy::ALL[..]),
            policy in prop::sample::select(&Policy::ALL[..]),
            replicas in prop::collection::vec((1u32..5, 150u64..4000, 0u64..80), 1..6),
            wishes in prop::collection::vec((0u32..5, 0u64..4, 0u64..12, 1u32..200, 0u8..90), 0..24),
            last in (0u32..5, 0u64..4, 0u64..12, 1u32..200, 0u8..90),
            gone in prop::option::of(0u32..6),
        ) {
            let mut world = World::new(before, &replicas);
            for (id, wish) in (1..).zip(&wishes) {
                world.arrive(id, wish);
                world.happen(wish.4);
            }
            if let Some(gone) = gone {
                world.scheduler.handle(world.now, Input::ReplicaDown { replica: ReplicaId(gone) });
                world.drain();
            }
            let (request, prompt) = asked(1000, &last);
            let told = world.scheduler.explain(world.now, &request, &prompt);
            let config = SchedulerConfig { policy, ..world.scheduler.config };
            world.scheduler.set_config(world.now, config);
            prop_assume!(world.scheduler.queue().is_empty());
            prop_assert_eq!(told.refusal, None);
            prop_assert_eq!(told.line.wait, Some(Span::ZERO));
            let again = world.scheduler.explain(world.now, &request, &prompt);
            prop_assert_eq!(&again.policies, &told.policies);
            let happened = world.arrive(1000, &last);
            let held = world.scheduler.live[&request.id].held.map(|held| held.replica);
            let sent = happened.iter().find_map(|output| match output {
                Output::Dispatch { id, replica, why, .. } if *id == request.id => {
                    Some((*replica, *why))
                }
                _ => None,
            });
            match again.decision() {
                Decision::Go(choice) => {
                    prop_assert_eq!(sent, Some((choice.replica, choice.why)));
                    let there = again.replicas.iter().find(|one| one.id == choice.replica);
                    prop_assert_eq!(there.map(|one| one.closed), Some(None));
                    let near = there.is_some_and(|one| one.near);
                    prop_assert!(near || policy != Policy::Cost || again.replicas.iter().all(|one| !one.near));
                }
                Decision::Wait { replica, .. } => prop_assert_eq!((sent, held), (None, Some(replica))),
                Decision::Full => prop_assert_eq!((sent, held), (None, None)),
            }
        }
    }

    #[test]
    fn why_a_replica_is_closed_is_said() {
        let mut world = World::new(Policy::RoundRobin, &[(1, 4000, 0), (4, 300, 0), (4, 4000, 0)]);
        let check = |world: &mut World, wish: Wish, expect: [Option<&str>; 3]| {
            let (request, prompt) = asked(99, &wish);
            let told = world.scheduler.explain(world.now, &request, &prompt);
            let closed =
                told.replicas.iter().map(|one| one.closed.map(|closed| closed.to_string()));
            assert_eq!(closed.collect::<Vec<_>>(), expect.map(|one| one.map(str::to_owned)));
        };
        check(&mut world, (0, 0, 1, 9, 0), [None, None, None]);
        for id in 1..=3 {
            world.arrive(id, &(0, id, 1, 9, 0));
        }
        let places = Some("all its places are taken");
        let memory = Some("too little KV memory is free");
        check(&mut world, (0, 9, 1, 9, 0), [places, None, None]);
        check(&mut world, (0, 9, 8, 9, 0), [places, memory, None]);
        let prefill = Some("too many prompts wait there to be computed");
        check(&mut world, (0, 9, 60, 9, 0), [places, prefill, prefill]);
        let down = Input::ReplicaDown { replica: ReplicaId(2) };
        world.scheduler.handle(world.now, down);
        let gone = Some("it is being taken away");
        check(&mut world, (0, 9, 1, 9, 0), [places, None, gone]);
        let failed = world.running.iter().copied().find(|id| {
            world.scheduler.live[id].running.is_some_and(|at| at.replica == ReplicaId(1))
        });
        let failure = Failure::before_answer(FailureKind::Overloaded);
        world.scheduler.handle(world.now, Input::Failed { id: failed.unwrap(), failure });
        let alone = Some("an attempt there failed, left alone for 100 ms");
        check(&mut world, (0, 9, 1, 9, 0), [places, alone, gone]);
    }

    /// Two replicas died of a body, alone; the request is gone, and two replicas are left.
    fn suspected() -> World {
        let mut world = World::new(Policy::RoundRobin, &[(4, 4000, 0); 4]);
        let health = Some(crate::health::BoardConfig::default());
        let config = SchedulerConfig { health, ..world.scheduler.config };
        world.scheduler.set_config(world.now, config);
        for id in [1, 2] {
            let (request, prompt) = killing(id);
            world.scheduler.arrive_with(world.now, request, prompt);
            world.drain();
            let replica = world.scheduler.live[&request.id].running.unwrap().replica;
            world.scheduler.handle(world.now, Input::ReplicaDied { replica });
            world.scheduler.handle(world.now, Input::Cancel { id: request.id });
            world.drain();
        }
        world
    }

    fn killing(id: u64) -> (Request, Prompt) {
        let (request, _) = asked(id, &(0, id, 1, 9, 0));
        (request, Prompt { fingerprint: 7, ..Prompt::default() })
    }

    #[test]
    fn a_suspect_that_waits_for_its_trial_is_said_to() {
        let mut world = suspected();
        let check = |world: &World, id: u64, apart: Option<Apart>, said: Option<&str>| {
            let (request, prompt) = killing(id);
            let told = world.scheduler.explain(world.now, &request, &prompt);
            let suspicion = told.suspicion;
            assert_eq!(suspicion.and_then(|suspicion| suspicion.apart), apart);
            assert_eq!(suspicion.map(|one| one.to_string()).as_deref(), said);
            assert_eq!(told.decision() == Decision::Full, apart.is_some());
            let decided =
                told.policies.iter().all(|(_, one)| (*one == Decision::Full) == apart.is_some());
            assert!(decided, "{:?}", told.policies);
        };
        let from = Time::from_millis(5000);
        let trial = "2 replicas died under this request; it is tried once more when all is calm";
        let soon = format!("{trial}, in 5000 ms if none dies until then");
        check(&world, 9, Some(Apart::Calm { from }), Some(&soon));
        // What is told is what happens.
        let (request, prompt) = killing(3);
        world.scheduler.arrive_with(world.now, request, prompt);
        assert_eq!(world.drain(), []);
        world.now = from;
        check(&world, 9, None, Some(trial));
        world.scheduler.handle(world.now, Input::Tick);
        assert!(matches!(world.drain()[..], [Output::Dispatch { id: RequestId(3), .. }]));
        let after = format!("{trial}, after one with the same body that has its trial");
        check(&world, 9, Some(Apart::Copy), Some(&after));
        // Others are free to go, and an answer clears of all.
        let (request, prompt) = asked(10, &(0, 10, 1, 9, 0));
        assert_eq!(world.scheduler.explain(world.now, &request, &prompt).suspicion, None);
        world.scheduler.handle(world.now, Input::Finished { id: RequestId(3), tokens: None });
        check(&world, 9, None, None);
    }

    #[test]
    fn where_another_suspect_runs_is_said() {
        let mut world = suspected();
        let other = |id: u64| {
            let (request, _) = killing(id);
            (request, Prompt { fingerprint: id, ..Prompt::default() })
        };
        world.now = Time::from_millis(5000);
        let (request, prompt) = killing(3);
        world.scheduler.arrive_with(world.now, request, prompt);
        world.drain();
        let there = world.scheduler.live[&request.id].running.unwrap().replica;
        // Another body that was there twice among others is watched, and nothing more.
        for turn in [20, 21] {
            for (id, body) in [(turn * 10, 50), (turn * 10 + 1, turn)] {
                world.scheduler.poison.sent(world.now, ReplicaId(99), RequestId(id), body);
            }
            world.scheduler.poison.sent(world.now, ReplicaId(99), RequestId(turn * 10 + 2), 51);
            world.scheduler.poison.died(world.now, ReplicaId(99), |_| true);
        }
        let (request, prompt) = other(50);
        let told = world.scheduler.explain(world.now, &request, &prompt);
        let closed: Vec<_> = told.replicas.iter().map(|one| (one.id, one.closed)).collect();
        let expect = |id| (id == there).then_some(Closed::Watched);
        assert!(closed.iter().all(|(id, closed)| *closed == expect(*id)), "{closed:?}");
        assert!(matches!(told.decision(), Decision::Go(choice) if choice.replica != there));
        assert_eq!(
            told.suspicion.unwrap().to_string(),
            "2 replicas died under this request; it runs apart from the like"
        );
    }
}
