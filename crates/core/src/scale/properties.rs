//! What holds whatever is seen, and however often it is asked.

use proptest::prelude::*;

use super::tests::{World, counted, quick};
use super::*;
use crate::{ReplicaId, Span, Time};

/// Any number, and those that are none.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![prop::num::f64::ANY, 0.0..1e3_f64, Just(0.0), Just(f64::MAX)]
}

/// Numbers that are wrong, among those that may be.
fn wrong_number() -> impl Strategy<Value = f64> {
    let none = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    prop_oneof![prop::sample::select(none.to_vec()), -1e9..0.0_f64, 0.0..1e3_f64]
}

/// Signals as they are, with numbers that nobody checked.
fn wild(world: &World, numbers: &[f64]) -> Signals {
    let mut signals = world.signals();
    let mut next = numbers.iter().copied().cycle();
    let mut number = || next.next().unwrap_or_default();
    let mut work = || Work { requests: number(), prompt: number(), answer: number() };
    let bands = std::array::from_fn(|_| work());
    let waiting = std::array::from_fn(|_| Waiting { work: work(), oldest: Span::ZERO });
    signals.arrivals.iter_mut().for_each(|seen| seen.value = bands);
    signals.waiting.iter_mut().for_each(|seen| seen.value = waiting);
    let running = Running { requests: number(), tokens: number() };
    signals.running.iter_mut().for_each(|seen| seen.value = running);
    signals.misses = Some(Seen::new(
        world.now,
        std::array::from_fn(|_| Misses { answers: number(), late: number(), slow: number() }),
    ));
    for speed in signals.speed.iter_mut().map(|seen| &mut seen.value) {
        speed.token_seconds = number();
        speed.step_seconds = number();
        speed.sequence_seconds = number();
        speed.sequences_max = number() as u32;
        speed.kv_tokens = Some(number() as u64);
    }
    for one in signals.replicas.iter_mut().flat_map(|seen| seen.value.values_mut()) {
        one.kv_used = Some(Seen::new(world.now, number()));
    }
    signals
}

fn is_finite(why: &Why) -> bool {
    let numbers = [why.arriving, why.waiting, why.expected.map_or(0.0, |(rate, _)| rate)];
    let between = why.between.map_or([0.0; 2], |(low, high)| [low, high]);
    let service = why.service.map_or(0.0, |service| service.seconds);
    numbers.into_iter().chain(between).chain([service]).all(f64::is_finite)
}

/// How often it turns around within those counts.
fn turns(counts: &[u32]) -> usize {
    let steps: Vec<bool> =
        counts.windows(2).filter(|two| two[0] != two[1]).map(|two| two[1] > two[0]).collect();
    steps.windows(2).filter(|two| two[0] != two[1]).count()
}

#[test]
fn one_that_dies_is_missed_and_not_given_up() {
    let mut world = World::new(quick(), 1);
    let before = world.steps(1200, 14.0).awake;
    assert!(before >= 4);
    // Most are gone at once: all of them are wanted back at once, however small a step is.
    world.replicas.retain(|id, _| *id == ReplicaId(0) || id.0 % 4 == 3);
    let left = world.replicas.len() as u32;
    assert!(left < before);
    world.rate = 14.0;
    assert_eq!(world.decide().awake, before);
    // Where fewer would do, none is given up for having died before the time for it has come.
    let mut world = World::new(quick(), 1);
    let before = world.steps(1200, 14.0).awake;
    world.replicas.pop_first();
    world.rate = 1.0;
    let decision = world.decide();
    assert_eq!(decision.awake, before, "{}", decision.why);
}

#[test]
fn some_are_asked_for_in_place_of_those_that_do_not_come() {
    let policy = Policy { max: 20, ..quick() };
    let mut world = World::new(policy, 4);
    let (mut most, mut last) = (0, None);
    // Nothing that starts ever serves.
    world.start = Span::from_secs(1_000_000);
    for _ in 0..720 {
        let decision = world.step(24.0);
        most = most.max(decision.awake);
        last = Some(decision);
    }
    let why = last.unwrap().why;
    let needed = why.terms.iter().filter(|(term, _)| *term != Term::Stuck).map(|one| one.1).max();
    let needed = needed.unwrap();
    assert_eq!(why.bound.0, Term::Stuck, "{why}");
    assert!(most > needed && most <= needed + needed.div_ceil(4), "{most} for {needed}: {why}");
    // They come after all: what is too much goes, as always.
    world.start = Span::from_secs(1);
    world.steps(20, 24.0);
    assert!(world.steps(1800, 24.0).awake < most);
}

#[test]
fn one_alone_that_does_not_come_is_no_reason_for_two() {
    let mut world = World::new(quick(), 0);
    world.start = Span::from_secs(1_000_000);
    assert_eq!(world.steps(3600, 0.0).awake, 1);
}

#[test]
fn who_takes_over_goes_on_where_another_ended() {
    let mut world = World::new(Policy { max: 20, ..quick() }, 3);
    world.scaler.resume(8, 0);
    assert_eq!(world.decide().awake, 8, "what was wanted is wanted still");
    assert!(world.steps(280, 0.0).awake >= 8);
    assert_eq!(world.steps(3600, 0.0).awake, 1);
    let mut world = World::new(Policy { max: 5, ..quick() }, 3);
    world.scaler.resume(800, 0);
    assert_eq!(world.decide().awake, 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_number_has_a_finite_answer(
        all in prop::collection::vec(prop::collection::vec(any_number(), 1..60), 1..20),
        start in any::<u64>(), ready in 0_u32..6,
    ) {
        let mut world = World::new(Policy { min: 0, zero: Zero::ColdZero, ..quick() }, ready);
        for numbers in all {
            let mut signals = wild(&world, &numbers);
            signals.start = Some(Seen::new(world.now, Span::from_millis(start)));
            world.scaler.observe(world.now, signals);
            let decision = world.scaler.decide(world.now).unwrap();
            prop_assert!(decision.awake <= 40 && is_finite(&decision.why), "{:?}", decision.why);
            world.now = world.now + Span::from_secs(10);
        }
    }

    #[test]
    fn a_wrong_number_does_no_lasting_harm(
        numbers in prop::collection::vec(wrong_number(), 1..60), at in 0_usize..20,
        zero in 0..4, ready in 0_u32..6, rate in 0.5..12.0_f64,
    ) {
        let zero = [Zero::AlwaysWarm, Zero::WarmZero, Zero::HotZero, Zero::ColdZero][zero as usize];
        let mut world = World::new(Policy { min: 0, zero, ..quick() }, ready);
        let mut calm = world.clone();
        for step in 0..20 {
            let mut signals = world.signals();
            if step == at {
                signals = wild(&world, &numbers);
            }
            world.rate = rate;
            world.scaler.observe(world.now, signals);
            let decision = world.scaler.decide(world.now).unwrap();
            let floor = u32::from(zero == Zero::AlwaysWarm);
            prop_assert!(decision.awake >= floor && decision.awake <= 40, "{}", decision.why);
            world.now = world.now + Span::from_secs(10);
        }
        world.replicas.clear();
        let harmed = world.steps(7200, rate).awake;
        // Whoever comes from above stays where one less would soon be too few.
        let mut above = calm.clone();
        above.scaler.resume(40, 0);
        let (low, high) = (calm.steps(7200, rate).awake, above.steps(7200, rate).awake);
        let near = low.saturating_sub(1)..=high.max(low) + 1;
        prop_assert!(near.contains(&harmed), "{harmed}, not {low} to {high}");
    }

    #[test]
    fn more_load_never_wants_fewer(
        rates in prop::collection::vec(0.0..20.0_f64, 1..40), times in 1.0..4.0_f64,
        waiting in 0.0..400.0_f64, ready in 0_u32..10, asleep in 0_u32..6, sleeps: bool,
    ) {
        let warm = Policy { min: 0, zero: Zero::WarmZero, asleep_max: 6, ..quick() };
        let mut less = World::new(if sleeps { warm } else { quick() }, ready);
        for id in (100..100 + asleep).filter(|_| sleeps) {
            less.replicas.insert(ReplicaId(id), ReplicaSeen::new(Stage::Asleep, Time::ZERO));
        }
        let mut more = less.clone();
        (less.waiting, more.waiting) = (waiting, waiting * times);
        for rate in rates {
            (less.rate, more.rate) = (rate, rate * times);
            let (low, high) = (less.decide(), more.decide());
            prop_assert!(low.awake <= high.awake, "{}\n{}", low.why, high.why);
            less.now = less.now + Span::from_secs(10);
            more.now = less.now;
        }
    }

    #[test]
    fn noise_turns_it_around_seldom(rate in 0.5..60.0_f64, seed: u64) {
        let mut world = World::new(quick(), 1);
        world.steps(900, rate);
        let counts: Vec<u32> =
            (0..6 * 360).map(|step| world.step(counted(rate, seed, step)).awake).collect();
        // Down takes five minutes without a need, so that there is time for six in an hour at most.
        prop_assert!(turns(&counts) <= 4 * 6, "{} in six hours", turns(&counts));
    }

    #[test]
    fn what_one_gateway_does_not_say_takes_nothing_away(
        rates in prop::collection::vec((0.0..10.0_f64, any::<bool>()), 1..120), ready in 1_u32..10,
    ) {
        let mut world = World::new(quick(), ready);
        let mut least = ready;
        for (rate, says) in rates {
            world.rate = rate;
            let mut pool = Pool::default();
            let own = world.signals();
            pool.report(1, own);
            // The other one says what it sees, or nothing, or what cannot be.
            let mut other = Signals { replicas: None, speed: None, ..world.signals() };
            if says {
                other.arrivals.iter_mut().for_each(|seen| seen.value[0].requests = f64::NAN);
            } else {
                other = Signals::default();
            }
            pool.report(2, other);
            world.scaler.observe(world.now, pool.merged());
            let decision = world.scaler.decide(world.now).unwrap();
            prop_assert!(decision.awake >= least, "{}", decision.why);
            least = decision.awake;
            world.obey(&decision);
            world.now = world.now + Span::from_secs(30);
        }
    }
}
