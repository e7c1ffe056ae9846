//! What is said of bodies, death by death; then whole lanes in which a request kills every replica that it
//! runs on, or in which replicas are killed from outside.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::health::BoardConfig;
use crate::{
    Band, Capacity, Failure, Input, Outcome, Output, Prompt, Refusal, Request, Scheduler,
    SchedulerConfig, TenantId, Tokens, invariant,
};

const BODY: u64 = 99;

fn at(secs: u64) -> Time {
    Time::from_millis(secs * 1000)
}

/// One death of a replica with these bodies.
fn death(poison: &mut Poison, secs: u64, replica: u32, bodies: &[u64]) {
    for (body, id) in bodies.iter().zip(secs * 1000..) {
        poison.sent(at(secs), ReplicaId(replica), RequestId(id), *body);
    }
    for id in (secs * 1000..).take(bodies.len()) {
        poison.ended(at(secs), ReplicaId(replica), RequestId(id), Some(FailureKind::Broken));
    }
    poison.died(at(secs + 1), ReplicaId(replica), |_| true);
}

#[test]
fn a_request_is_not_tried_on_a_third_replica_of_which_nobody_says_that_it_died() {
    let config = PoisonConfig::default();
    let check = |failures: &[(u32, FailureKind)], expect: bool| {
        let mut trail = Trail::default();
        failures.iter().for_each(|(replica, kind)| trail.note(ReplicaId(*replica), *kind));
        assert_eq!(trail.may_go_on(&config, |_| false), expect, "{failures:?}");
        assert!(trail.may_go_on(&config, |replica| replica == ReplicaId(1)));
    };
    use FailureKind::{Broken, Connect, Overloaded, Server, Timeout};
    check(&[(1, Broken), (2, Server)], false);
    check(&[(1, Broken), (1, Broken)], true);
    check(&[(1, Connect), (2, Overloaded), (3, Timeout), (4, Broken)], true);
}

#[test]
fn a_body_that_kills_alone_is_refused_after_three() {
    let mut poison = Poison::new(PoisonConfig::default());
    assert_eq!(poison.rule(at(0), BODY), Ruling::Free);
    death(&mut poison, 1, 1, &[BODY]);
    assert_eq!(poison.rule(at(2), BODY), Ruling::Free);
    death(&mut poison, 3, 2, &[BODY]);
    assert_eq!(poison.rule(at(4), BODY), Ruling::Trial { deaths: 2, from: at(9) });
    poison.sent(at(9), ReplicaId(3), RequestId(5), BODY);
    assert_eq!((poison.running(BODY), poison.watched_at()), (1, vec![ReplicaId(3)]));
    poison.ended(at(9), ReplicaId(3), RequestId(5), None);
    assert_eq!((poison.running(BODY), poison.watched_at()), (0, vec![]));
    death(&mut poison, 10, 3, &[BODY]);
    assert_eq!(
        poison.rule(at(11), BODY).to_string(),
        "3 replicas died while they answered this request; it is refused for 300 s, change it to \
         have it answered"
    );
    assert!(matches!(poison.rule(at(310), BODY), Ruling::Refuse { .. }));
    assert_eq!(poison.rule(at(311), BODY), Ruling::Free);
}

#[test]
fn in_a_crowd_the_one_that_is_always_there_is_found() {
    let mut poison = Poison::new(PoisonConfig::default());
    let config = PoisonConfig::default();
    for turn in 0..config.sole_max + 1 {
        let others = (0..20).map(|other| u64::from(1000 * turn + other));
        let bodies: Vec<u64> = others.chain([BODY]).collect();
        death(&mut poison, 10 * u64::from(turn), turn, &bodies);
    }
    assert!(matches!(poison.rule(at(40), BODY), Ruling::Refuse { deaths: 4, .. }));
    for other in [0, 1005, 2010, 3010] {
        assert_eq!(poison.rule(at(40), other), Ruling::Free, "{other}");
    }
    assert_eq!(poison.len(), (20 * 4 + 1, 0));
}

#[test]
fn an_answer_clears_all_copies() {
    let mut poison = Poison::new(PoisonConfig::default());
    (0..2).for_each(|turn| death(&mut poison, turn, turn as u32, &[BODY, 5]));
    assert_eq!(poison.rule(at(3), BODY), Ruling::Watched { deaths: 2 });
    poison.sent(at(0), ReplicaId(8), RequestId(1), BODY);
    poison.sent(at(0), ReplicaId(9), RequestId(2), BODY);
    poison.answered(ReplicaId(8), RequestId(1));
    assert_eq!((poison.rule(at(3), BODY), poison.watched_at()), (Ruling::Free, vec![]));
}

#[test]
fn an_outage_blames_nobody() {
    let mut poison = Poison::new(PoisonConfig::default());
    let bodies: Vec<u64> = (0..20).collect();
    (0..8).for_each(|turn| death(&mut poison, 10 * turn, turn as u32, &bodies));
    for body in bodies {
        assert_eq!(poison.rule(at(80), body), Ruling::Watched { deaths: 8 });
    }
}

#[test]
fn only_what_ran_there_is_blamed() {
    let mut poison = Poison::new(PoisonConfig::default());
    poison.sent(at(0), ReplicaId(1), RequestId(1), 11);
    poison.sent(at(0), ReplicaId(2), RequestId(2), 12);
    poison.sent(at(0), ReplicaId(1), RequestId(3), 13);
    poison.ended(at(0), ReplicaId(1), RequestId(3), Some(FailureKind::Broken));
    poison.sent(at(0), ReplicaId(1), RequestId(4), 14);
    poison.ended(at(9), ReplicaId(1), RequestId(4), Some(FailureKind::Timeout));
    poison.died(at(10), ReplicaId(1), |_| true);
    assert_eq!(poison.suspects.keys().copied().collect::<Vec<_>>(), [11]);
}

#[test]
fn memory_is_bounded() {
    let config = PoisonConfig { bodies_max: 10, ..PoisonConfig::default() };
    let mut poison = Poison::new(config);
    for turn in 0..100 {
        death(&mut poison, turn, 1, &[turn * 2, turn * 2 + 1]);
    }
    assert_eq!(poison.len(), (10, 0));
    assert!(poison.suspects.contains_key(&198) && !poison.suspects.contains_key(&1));
}

const REPLICAS: u32 = 3;
const STEP: Span = Span::from_millis(100);

/// How many steps a replica that died needs to come back.
const RESTART_STEPS: u64 = 10;

/// A lane whose requests need some steps; one of them may kill the replica that it runs on.
struct World {
    scheduler: Scheduler,
    now: Time,
    step: u64,
    /// By place: its present id, or the step at which it is back.
    places: Vec<Result<ReplicaId, u64>>,
    next: u32,
    /// Where each runs, and at which step it is over.
    running: BTreeMap<RequestId, (ReplicaId, u64)>,
    needs: BTreeMap<RequestId, u64>,
    poison: Option<RequestId>,
    deaths: u32,
    ends: BTreeMap<RequestId, Outcome>,
    /// Whether the news of a death comes before the broken connections.
    news_first: bool,
}

impl World {
    fn new(news_first: bool) -> Self {
        let config =
            SchedulerConfig { health: Some(BoardConfig::default()), ..SchedulerConfig::default() };
        let mut world = Self {
            scheduler: Scheduler::new(config),
            now: Time::ZERO,
            step: 0,
            places: vec![Err(0); REPLICAS as usize],
            next: 0,
            running: BTreeMap::new(),
            needs: BTreeMap::new(),
            poison: None,
            deaths: 0,
            ends: BTreeMap::new(),
            news_first,
        };
        (0..REPLICAS as usize).for_each(|place| world.start(place));
        world
    }

    fn start(&mut self, place: usize) {
        self.next += 1;
        let replica = ReplicaId(self.next);
        self.places[place] = Ok(replica);
        self.feed(Input::ReplicaUp { replica, capacity: Capacity::of_requests(16) });
    }

    fn arrive(&mut self, id: u64, steps: u64) {
        let tokens = Tokens { input: 10, cached: 0, output: 10 };
        let request = Request::new(RequestId(id), TenantId(0), Band::Standard, tokens);
        let prompt = Prompt { fingerprint: 1000 + id, streams: true, ..Prompt::default() };
        self.needs.insert(RequestId(id), steps);
        self.scheduler.arrive_with(self.now, request, prompt);
        self.drain();
    }

    fn feed(&mut self, input: Input) {
        self.scheduler.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.scheduler.poll(self.now) {
            match output {
                Output::Dispatch { id, replica, .. } => {
                    let needs = if self.poison == Some(id) { 2 } else { self.needs[&id] };
                    self.running.insert(id, (replica, self.step + needs));
                }
                Output::End { id, outcome } => assert_eq!(self.ends.insert(id, outcome), None),
                Output::GiveUp { .. }
                | Output::Stop { .. }
                | Output::Abort { .. }
                | Output::Hedge { .. } => {}
            }
        }
        assert_eq!(invariant::check(&self.scheduler), []);
    }

    fn kill(&mut self, place: usize) {
        let Ok(replica) = self.places[place] else { return };
        self.deaths += 1;
        self.places[place] = Err(self.step + RESTART_STEPS);
        let lost: Vec<RequestId> =
            self.running.extract_if(.., |_, (at, _)| *at == replica).map(|(id, _)| id).collect();
        if self.news_first {
            self.feed(Input::ReplicaDied { replica });
        }
        for id in lost {
            let failure = Failure::before_answer(FailureKind::Broken);
            self.feed(Input::Failed { id, failure });
        }
        if !self.news_first {
            self.feed(Input::ReplicaDied { replica });
        }
    }

    fn pass(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step += 1;
            self.now = self.now + STEP;
            for place in 0..self.places.len() {
                if self.places[place].is_err_and(|back| back <= self.step) {
                    self.start(place);
                }
            }
            let step = self.step;
            let over: Vec<(RequestId, ReplicaId)> = self
                .running
                .iter()
                .filter(|(_, (_, over))| *over <= step)
                .map(|(id, (replica, _))| (*id, *replica))
                .collect();
            for (id, replica) in over {
                if self.poison == Some(id) {
                    let place = self.places.iter().position(|at| *at == Ok(replica)).unwrap();
                    self.kill(place);
                } else if self.running.remove(&id).is_some() {
                    self.feed(Input::Finished { id, tokens: None });
                }
            }
            self.feed(Input::Tick);
        }
    }
}

/// Steps until everything has ended, whatever happened.
const LONG: u64 = 1500;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_kills_is_stopped_and_nobody_else_pays(
        steps in prop::collection::vec(1u64..40, 0..30),
        before in 0usize..30,
        news_first: bool,
    ) {
        let mut world = World::new(news_first);
        let poison = RequestId(999);
        world.poison = Some(poison);
        let before = before.min(steps.len());
        for (id, needed) in steps.iter().enumerate() {
            if id == before {
                world.arrive(poison.0, 2);
            }
            world.arrive(id as u64, *needed);
        }
        if before == steps.len() {
            world.arrive(poison.0, 2);
        }
        world.pass(LONG);
        let most = PoisonConfig::default().deaths_most();
        prop_assert!(world.deaths <= most, "{} deaths", world.deaths);
        if steps.is_empty() {
            prop_assert!(world.deaths <= PoisonConfig::default().sole_max);
        }
        let refused = matches!(world.ends[&poison], Outcome::Refused(Refusal::Poison { .. }));
        prop_assert!(refused, "{:?}", world.ends[&poison]);
        for (id, outcome) in &world.ends {
            prop_assert!(*id == poison || matches!(outcome, Outcome::Finished { .. }), "{id:?} {outcome:?}");
        }
        // Nor does it kill when it is sent again.
        let again = Request::new(RequestId(1000), TenantId(0), Band::Standard, Tokens::default());
        let prompt = Prompt { fingerprint: 1000 + poison.0, ..Prompt::default() };
        world.scheduler.arrive_with(world.now, again, prompt);
        world.drain();
        let refused = matches!(world.ends[&again.id], Outcome::Refused(Refusal::Poison { .. }));
        prop_assert!(refused, "{:?}", world.ends[&again.id]);
    }

    #[test]
    fn kills_back_to_back_refuse_nobody(
        steps in prop::collection::vec(1u64..60, 1..40),
        kills in prop::collection::vec((0usize..3, 0u64..20), 1..12),
        news_first: bool,
    ) {
        let mut world = World::new(news_first);
        for (id, steps) in steps.iter().enumerate() {
            world.arrive(id as u64, *steps);
        }
        let mut kills_of = [0; 3];
        for (place, pause) in kills {
            // As many as one request may lose.
            if kills_of.iter().sum::<u32>() < 7 {
                kills_of[place] += 1;
                world.kill(place);
            }
            world.pass(pause);
        }
        world.pass(LONG);
        prop_assert_eq!(world.ends.len(), steps.len());
        for (id, outcome) in &world.ends {
            prop_assert!(matches!(outcome, Outcome::Finished { .. }), "{id:?} {outcome:?}");
        }
    }
}
