//! What must hold of every decision, and what a few of them are.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{ReplicaId, Span, Time};

const SPEED: Speed = Speed {
    token_seconds: 0.000_2,
    step_seconds: 0.015,
    sequence_seconds: 0.0,
    sequences_max: 8,
    kv_tokens: Some(65_536),
};

/// What a gateway sees, and how far things are.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) scaler: Scaler,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) waiting: f64,
    pub(super) oldest: Span,
    pub(super) replicas: BTreeMap<ReplicaId, ReplicaSeen>,
    pub(super) next: u32,
    pub(super) start: Span,
}

impl World {
    pub(super) fn new(policy: Policy, ready: u32) -> Self {
        let start = policy.start;
        let one = |id| (ReplicaId(id), ReplicaSeen::new(Stage::Ready, Time::ZERO));
        Self {
            now: Time::ZERO,
            scaler: Scaler::new(policy, Span::ZERO).unwrap(),
            rate: 0.0,
            waiting: 0.0,
            oldest: Span::ZERO,
            replicas: (0..ready).map(one).collect(),
            next: ready,
            start,
        }
    }

    pub(super) fn work(requests: f64) -> Work {
        Work { requests, prompt: requests * 500.0, answer: requests * 100.0 }
    }

    pub(super) fn signals(&self) -> Signals {
        let mut arrivals = [Work::default(); 4];
        arrivals[1] = Self::work(self.rate);
        let mut waiting = [Waiting::default(); 4];
        waiting[1] = Waiting { work: Self::work(self.waiting), oldest: self.oldest };
        let running = Running { requests: self.rate.ceil(), tokens: self.rate * 1000.0 };
        Signals {
            arrivals: Some(Seen::new(self.now, arrivals)),
            waiting: Some(Seen::new(self.now, waiting)),
            running: Some(Seen::new(self.now, running)),
            speed: Some(Seen::new(self.now, SPEED)),
            replicas: Some(Seen::new(self.now, self.replicas.clone())),
            ..Signals::default()
        }
    }

    pub(super) fn decide(&mut self) -> Decision {
        self.scaler.observe(self.now, self.signals());
        self.scaler.decide(self.now).unwrap()
    }

    pub(super) fn count(&self, stage: Stage) -> u32 {
        self.replicas.values().filter(|one| one.stage == stage).count() as u32
    }

    /// Does what was decided: starts take their time, ends do not.
    pub(super) fn obey(&mut self, decision: &Decision) {
        for one in self.replicas.values_mut() {
            if one.stage == Stage::Starting && self.now.since(one.since) >= self.start {
                *one = ReplicaSeen::new(Stage::Ready, self.now);
            }
        }
        while (self.replicas.len() as u32) < decision.replicas() {
            let one = ReplicaSeen::new(Stage::Starting, self.now);
            self.replicas.insert(ReplicaId(self.next), one);
            self.next += 1;
        }
        while self.replicas.len() as u32 > decision.replicas() {
            assert_eq!(self.count(Stage::Starting), 0, "one was taken away while another starts");
            self.replicas.pop_first();
        }
    }

    pub(super) fn step(&mut self, rate: f64) -> Decision {
        self.rate = rate;
        let decision = self.decide();
        self.obey(&decision);
        self.now = self.now + self.scaler.policy().every;
        decision
    }

    pub(super) fn steps(&mut self, seconds: u64, rate: f64) -> Decision {
        let count = seconds * 1_000 / self.scaler.policy().every.as_millis();
        (0..count).map(|_| self.step(rate)).last().unwrap()
    }
}

pub(super) fn quick() -> Policy {
    Policy { max: 40, start: Span::from_secs(60), ..Policy::default() }
}

#[test]
fn a_sentence_with_its_numbers() {
    let mut world = World::new(quick(), 2);
    world.steps(600, 5.0);
    let decision = world.step(5.0);
    assert_eq!(
        decision.why.to_string(),
        "2 awake (2 ready): load asks for 2; 5.00 requests/s come, up to 5.00 in 60 s; one replica ends \
         3.48/s with 8 at once by its engine's limit; fewer below 2.29/s, more above 5.85/s"
    );
    let [wanted, work] = decision.metrics();
    assert_eq!((wanted.replicas(), work.value), (2, 1437));
    assert_eq!(decision.again, world.now);
}

#[test]
fn who_knows_no_replicas_says_nothing() {
    let mut scaler = Scaler::new(Policy::default(), Span::ZERO).unwrap();
    assert_eq!(scaler.decide(Time::ZERO), None);
    scaler.observe(Time::ZERO, Signals::default());
    assert_eq!(scaler.decide(Time::ZERO), None);
}

#[test]
fn what_is_missing_takes_nothing_away() {
    let whole = {
        let mut world = World::new(quick(), 0);
        world.steps(1200, 10.0);
        world
    };
    let most = whole.replicas.len() as u32;
    assert!(most >= 4);
    let check = |spoil: &dyn Fn(&mut Signals), signal: &str| {
        let mut world = whole.clone();
        // Half an hour without requests, half-seen.
        for _ in 0..180 {
            world.rate = 0.0;
            let mut signals = world.signals();
            spoil(&mut signals);
            world.scaler.observe(world.now, signals);
            let decision = world.scaler.decide(world.now).unwrap();
            assert_eq!(decision.awake, most, "{signal}: {}", decision.why);
            world.now = world.now + Span::from_secs(10);
        }
        let why = world.scaler.decide(world.now).unwrap().why.to_string();
        assert!(why.contains(signal), "{why}");
        // It goes on as soon as everything is seen again, after the usual wait.
        let before = world.steps(290, 0.0).awake;
        assert_eq!((before, world.steps(600, 0.0).awake), (most, 1));
    };
    check(&|it| it.arrivals = None, "what comes is missing or old");
    check(&|it| it.waiting = None, "what waits is missing or old");
    check(&|it| it.running = None, "what runs is missing or old");
    check(&|it| it.replicas = None, "the list of replicas is missing or old");
    check(&|it| it.arrivals.as_mut().unwrap().whole = false, "what comes is missing or old");
    check(&|it| it.waiting.as_mut().unwrap().at = Time::ZERO, "what waits is missing or old");
}

#[test]
fn the_first_held_request_starts_one_at_once() {
    for zero in [Zero::WarmZero, Zero::HotZero, Zero::ColdZero] {
        let up = Pace { window: Span::from_secs(60), ..Policy::default().up };
        let mut world = World::new(Policy { min: 0, zero, up, ..quick() }, 0);
        world.decide();
        world.now = world.now + Span::from_secs(30);
        let decision = world.decide();
        assert_eq!(decision.awake, 0);
        assert_eq!(decision.asleep, u32::from(zero == Zero::WarmZero));
        assert_eq!(decision.is_active(), zero == Zero::WarmZero);
        (world.waiting, world.oldest) = (1.0, Span::from_millis(1));
        assert_eq!(world.decide().awake, 1);
    }
}

/// Where gateways of other regions answer, nobody waits, and nobody knows how fast replicas are here.
#[test]
fn who_is_answered_elsewhere_wakes_one_here() {
    for zero in [Zero::WarmZero, Zero::HotZero, Zero::ColdZero] {
        let mut world = World::new(Policy { min: 0, zero, ..quick() }, 0);
        let asked = |world: &mut World, rate: f64| {
            world.rate = rate;
            world.scaler.observe(world.now, Signals { speed: None, ..world.signals() });
            world.now = world.now + Span::from_secs(10);
            world.scaler.decide(world.now).unwrap()
        };
        assert_eq!(asked(&mut world, 0.0).awake, 0);
        let decision = asked(&mut world, 0.1);
        assert_eq!((decision.awake, decision.why.bound), (1, (Term::Elsewhere, 1)));
    }
}

/// As many requests, with forty times the tokens.
#[test]
fn what_waits_is_counted_in_tokens() {
    let world = {
        let mut world = World::new(quick(), 2);
        world.steps(600, 4.0);
        world
    };
    let backlog = |prompt: f64| {
        let mut world = world.clone();
        (world.rate, world.waiting, world.oldest) = (4.0, 40.0, Span::from_secs(1));
        let mut signals = world.signals();
        signals.waiting.iter_mut().for_each(|seen| seen.value[1].work.prompt *= prompt);
        world.scaler.observe(world.now, signals);
        let why = world.scaler.decide(world.now).unwrap().why;
        why.terms.iter().find(|(term, _)| *term == Term::Backlog).unwrap().1
    };
    // Twelve seconds of work: the two have 51 to spare in the minute that a start takes.
    assert_eq!(backlog(1.0), 0);
    // 40 · 20,000 tokens of 0.2 ms and 40 answers are 168 s.
    assert_eq!(backlog(40.0), 4);
}

#[test]
fn the_last_one_goes_when_nobody_came_for_long() {
    let mut world = World::new(Policy { min: 0, zero: Zero::ColdZero, ..quick() }, 1);
    world.steps(60, 0.5);
    assert_eq!(world.steps(590, 0.0).awake, 1);
    assert_eq!(world.steps(20, 0.0).awake, 0);
    let always = Policy { min: 0, ..quick() };
    let mut world = World::new(always, 1);
    assert_eq!(world.steps(3600, 0.0).awake, 1);
}

#[test]
fn sleepers_wake_first_and_the_surplus_sleeps() {
    let policy = Policy { min: 0, zero: Zero::WarmZero, asleep_max: 2, ..quick() };
    let mut world = World::new(policy, 1);
    for id in 10..12 {
        world.replicas.insert(ReplicaId(id), ReplicaSeen::new(Stage::Asleep, Time::ZERO));
    }
    let decision = (0..3)
        .map(|_| {
            world.rate = 8.0;
            let it = world.decide();
            world.now = world.now + Span::from_secs(10);
            it
        })
        .last()
        .unwrap();
    assert_eq!((decision.awake, decision.asleep), (3, 0), "{}", decision.why);
    let policy = world.scaler.policy().clone();
    let mut world = World::new(policy, 5);
    world.steps(10, 1.0);
    for _ in 0..40 {
        world.rate = 1.0;
        let decision = world.decide();
        assert!(decision.asleep <= 2 && decision.replicas() <= 5);
        world.now = world.now + Span::from_secs(10);
    }
    let decision = world.decide();
    assert_eq!((decision.awake, decision.asleep), (4, 1), "{}", decision.why);
}

#[test]
fn starting_replicas_are_not_asked_for_again() {
    let mut world = World::new(Policy { start: Span::from_secs(300), ..quick() }, 1);
    world.waiting = 200.0;
    world.oldest = Span::from_secs(30);
    let first = world.step(12.0).awake;
    assert!(first > 4);
    let asked: Vec<u32> = (0..25).map(|_| world.step(12.0).awake).collect();
    // The queue does not shrink while they start, and that is no reason to start more every time.
    assert!(asked.iter().all(|count| *count <= first + 8), "{first} {asked:?}");
    assert!(asked.is_sorted());
}

#[test]
fn draining_replicas_are_neither_counted_nor_missed() {
    let mut world = World::new(quick(), 3);
    let drains = ReplicaSeen::new(Stage::Draining, Time::ZERO);
    world.replicas.insert(ReplicaId(9), drains);
    world.rate = 8.0;
    for _ in 0..60 {
        let decision = world.decide();
        assert_eq!((decision.awake, decision.why.ready), (3, 3), "{}", decision.why);
        world.now = world.now + Span::from_secs(10);
    }
}

#[test]
fn full_caches_ask_for_more() {
    let mut world = World::new(quick(), 4);
    let full = Seen::new(Time::ZERO, 0.99);
    for one in world.replicas.values_mut() {
        one.kv_used = Some(full);
    }
    world.rate = 1.0;
    let decision = world.decide();
    assert_eq!((decision.awake, decision.why.bound.0), (5, Term::Kv));
    world.now = world.now + Span::from_secs(60);
    let decision = world.decide();
    assert_ne!(decision.why.bound.0, Term::Kv, "what was said a minute ago counts no more");
}

#[test]
fn missed_goals_are_believed_within_bounds() {
    let mut world = World::new(quick(), 4);
    let mut most = 0;
    for _ in 0..360 {
        world.rate = 8.0;
        let mut signals = world.signals();
        let mut misses = [Misses::default(); 4];
        misses[1] = Misses { answers: 100.0, late: 50.0, slow: 0.0 };
        signals.misses = Some(Seen::new(world.now, misses));
        world.scaler.observe(world.now, signals);
        let decision = world.scaler.decide(world.now).unwrap();
        world.obey(&decision);
        most = most.max(decision.awake);
        world.now = world.now + Span::from_secs(10);
    }
    // 8 requests/s are 2.3 replicas' work; one and a half times that is 3.45.
    assert_eq!(most, 5);
}

#[test]
fn a_day_known_is_a_day_prepared() {
    let foresight = Foresight { seasons: vec![Season::DAY], ..Foresight::default() };
    let policy = Policy { start: Span::from_secs(600), foresight, ..quick() };
    let mut world = World::new(policy, 1);
    let at_eight = |world: &mut World| {
        let mut counts = Vec::new();
        for step in 0..8640 {
            let hour = step / 360;
            let awake = world.step(if (8..18).contains(&hour) { 16.0 } else { 1.0 }).awake;
            if step == 8 * 360 - 6 {
                counts.push(awake);
            }
        }
        counts
    };
    assert_eq!(at_eight(&mut world), [1]);
    let prepared = at_eight(&mut world)[0];
    assert!(prepared >= 3, "a minute before it begins: {prepared}");
}

/// Noise as of counting so many requests a second for ten seconds, from a seed.
pub(super) fn counted(rate: f64, seed: u64, step: u64) -> f64 {
    let bits =
        (seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let unit = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    let deviation = (rate / 10.0).sqrt();
    // Evenly spread with the same variance.
    (rate + (unit - 0.5) * 12.0_f64.sqrt() * deviation).max(0.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn never_below_the_least_nor_above_the_most(
        min in 0_u32..4, more in 1_u32..6, rates in prop::collection::vec(0.0..400.0_f64, 1..80),
        waiting in 0.0..1e5_f64, ready in 0_u32..12, zero in 0..4,
    ) {
        let zero = [Zero::AlwaysWarm, Zero::WarmZero, Zero::HotZero, Zero::ColdZero][zero as usize];
        let policy = Policy { min, max: min + more, zero, ..quick() };
        let mut world = World::new(policy, ready);
        world.waiting = waiting;
        for rate in rates {
            let decision = world.step(rate);
            let floor = if zero == Zero::AlwaysWarm { min.max(1) } else { min };
            prop_assert!(decision.awake >= floor && decision.awake <= min + more, "{}", decision.why);
            prop_assert!(decision.asleep <= 1);
            for metric in decision.metrics().into_iter().take(1) {
                prop_assert_eq!(metric.replicas(), u64::from(decision.replicas()));
            }
            // What is beyond the most was taken away at once: nothing may be starting then.
            if decision.replicas() < world.replicas.len() as u32 {
                break;
            }
        }
    }

    #[test]
    fn noise_moves_little(rate in 0.5..60.0_f64, seed: u64) {
        let mut world = World::new(quick(), 1);
        world.steps(900, rate);
        let mut changes = 0;
        let mut before = world.replicas.len();
        for step in 0..4 * 360 {
            world.step(counted(rate, seed, step));
            changes += u32::from(world.replicas.len() != before);
            before = world.replicas.len();
        }
        prop_assert!(changes <= 4 * 4, "{changes} changes in four hours");
    }

    #[test]
    fn down_only_after_the_window(before in 4.0..60.0_f64, after in 0.0..1.0_f64) {
        let mut world = World::new(quick(), 1);
        world.steps(1200, before);
        let most = world.steps(10, before).awake;
        let steps = (0..29).map(|_| world.step(after).awake).collect::<Vec<_>>();
        prop_assert!(steps.iter().all(|count| *count >= most), "{most}: {steps:?}");
        prop_assert!(world.steps(900, after).awake < most);
    }
}
