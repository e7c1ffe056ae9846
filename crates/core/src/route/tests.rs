//! What is chosen, policy by policy, and when a request rather waits.

use super::*;
use crate::{Capacity, Gate};

/// A fleet whose replicas have so many requests of so many tokens, four places each.
struct World {
    fleet: Fleet,
    index: Index,
    speeds: Speeds,
}

impl World {
    fn new(loads: &[(u32, u64)]) -> Self {
        let mut world = Self {
            fleet: Fleet::new(Gate::Sum),
            index: Index::default(),
            speeds: Speeds::default(),
        };
        for (id, (requests, tokens)) in (0..).zip(loads) {
            let replica = ReplicaId(id);
            let capacity = Capacity { tokens_max: 100_000, ..Capacity::of_requests(4) };
            world.fleet.raise(replica, capacity);
            world.index.add(replica, capacity.tokens_max);
            for at in 0..*requests {
                let claim = Claim { need: *tokens, most: *tokens, prefill: 0 };
                world.fleet.book(replica, RequestId(u64::from(id * 100 + at)), &claim);
            }
            for at in 0..100_u32 {
                let tokens = f64::from(at * 20);
                world.speeds.prefilled(replica, tokens, tokens * 200e-6);
                world.speeds.stepped(replica, f64::from(at % 4), 0.015);
                world.speeds.finished(replica, 1.0, 64);
            }
        }
        world
    }

    fn decide(&self, policy: Policy, request: u64, prompt: &Prompt) -> Decision {
        self.decide_after(policy, request, prompt, Span::ZERO)
    }

    fn decide_after(&self, policy: Policy, id: u64, prompt: &Prompt, held: Span) -> Decision {
        let input = u32::try_from(prompt.blocks().len()).unwrap() * BLOCK_TOKENS + 10;
        let placement = Placement {
            id: RequestId(id),
            tokens: Tokens { input, cached: 0, output: 64 },
            prompt,
            tried: &[],
            barred: &[],
            claim: Claim { need: u64::from(input) + 64, most: 0, prefill: u64::from(input) },
            queued: Span::ZERO,
            held,
            attempt: 1,
        };
        let known = Knowledge {
            index: &self.index,
            speeds: &self.speeds,
            ahead: &[],
            wanted: &BTreeMap::new(),
            own: None,
            waiting: 1,
            turn: id,
            shares: false,
        };
        choose(Time::from_millis(1), &mut *policy.picker(), &self.fleet, known, &placement)
    }

    fn replica(&self, policy: Policy, request: u64, prompt: &Prompt) -> Option<u32> {
        match self.decide(policy, request, prompt) {
            Decision::Go(choice) => Some(choice.replica.0),
            Decision::Wait { .. } | Decision::Full => None,
        }
    }
}

fn prompt(blocks: std::ops::Range<u64>) -> Prompt {
    Prompt { blocks: Some(blocks.collect()), ..Prompt::default() }
}

#[test]
fn policies_pick_by_what_their_names_say() {
    let world = World::new(&[(1, 900), (2, 10), (4, 1), (3, 400)]);
    let none = Prompt::default();
    let check = |policy: Policy, expect: u32| {
        assert_eq!(world.replica(policy, 5, &none), Some(expect), "{policy:?}");
    };
    check(Policy::LeastRequests, 0);
    check(Policy::LeastTokens, 1);
    // Without a begin or a session there is nothing to hash.
    check(Policy::PrefixHash, 0);
    check(Policy::Session, 0);
    let turns: Vec<_> =
        (0..6).map(|turn| world.replica(Policy::RoundRobin, turn, &none).unwrap()).collect();
    assert_eq!(turns, [0, 1, 3, 3, 0, 1], "the full one is passed over");
    for request in 0..50 {
        // The worst of all is never the better of two.
        assert_ne!(world.replica(Policy::PowerOfTwo, request, &none), Some(3), "{request}");
    }
    assert_eq!(World::new(&[(4, 1), (4, 1)]).decide(Policy::Cost, 1, &none), Decision::Full);
}

#[test]
fn hashes_are_sticky_and_bounded() {
    for policy in [Policy::PrefixHash, Policy::Session] {
        let (mut seen, idle) = (std::collections::BTreeSet::new(), World::new(&[(0, 0); 8]));
        for key in 1..40_u64 {
            let prompt = Prompt { session: key, ..prompt(key * 100..key * 100 + 9) };
            let first = idle.replica(policy, 1, &prompt);
            assert_eq!(idle.replica(policy, 2, &prompt), first);
            // What comes after the begin, and who else is there, changes nothing.
            let longer = Prompt { blocks: prompt.blocks, ..prompt };
            assert_eq!(idle.replica(policy, 3, &longer), first);
            seen.extend(first);
            let at = first.unwrap() as usize;
            let mut loads = [(1, 10); 8];
            loads[at] = (3, 10);
            assert_ne!(World::new(&loads).replica(policy, 1, &longer), first, "{policy:?}");
        }
        assert_eq!(seen.len(), 8, "{policy:?} uses all of them");
    }
}

#[test]
fn costs_weigh_caches_against_load() {
    let long = prompt(1..33);
    let mut world = World::new(&[(0, 0), (2, 100), (3, 100)]);
    world.index.hold(ReplicaId(1), &(1..33).collect::<Vec<_>>());
    assert_eq!(world.replica(Policy::Cost, 1, &long), Some(1), "a full hit beats an idle one");
    let other = prompt(1000..1033);
    for request in 0..50 {
        assert_ne!(world.replica(Policy::Cost, request, &other), Some(2), "the fullest of equals");
    }
    // A queue of prompts in front of it costs more than computing the prompt elsewhere.
    let claim = Claim { need: 3000, most: 3000, prefill: 3000 };
    world.fleet.book(ReplicaId(1), RequestId(900), &claim);
    assert_eq!(world.replica(Policy::Cost, 1, &long), Some(0));
}

#[test]
fn waits_for_a_cache_as_long_as_that_can_save() {
    let long = prompt(1..33);
    let mut world = World::new(&[(0, 0), (4, 100)]);
    world.index.hold(ReplicaId(1), &(1..33).collect::<Vec<_>>());
    let Decision::Wait { replica, most } = world.decide(Policy::Cost, 1, &long) else {
        panic!("does not wait");
    };
    // 2,048 tokens at 200 µs, twice.
    assert_eq!(replica, ReplicaId(1));
    assert!((700..900).contains(&most.as_millis()), "{most:?}");
    let after = world.decide_after(Policy::Cost, 1, &long, most);
    assert!(matches!(after, Decision::Go(choice) if choice.replica == ReplicaId(0)), "{after:?}");
    // One whose prompt is short gains too little by it.
    let short = prompt(1..2);
    assert_eq!(world.replica(Policy::Cost, 1, &short), Some(0));
    // No other policy waits.
    for policy in Policy::ALL.into_iter().filter(|policy| *policy != Policy::Cost) {
        assert_eq!(world.replica(policy, 1, &long), Some(0), "{policy:?}");
    }
}

#[test]
fn does_not_wait_for_one_that_is_only_faster() {
    let mut world = World::new(&[(0, 0), (4, 100)]);
    for _ in 0..100 {
        world.speeds.stepped(ReplicaId(0), 1.0, 1.5);
    }
    let none = Prompt::default();
    let next = world.decide(Policy::Cost, 1, &none);
    assert!(matches!(next, Decision::Go(choice) if choice.replica == ReplicaId(0)), "{next:?}");
    world.fleet.unbook(ReplicaId(1), RequestId(100), 100, 0);
    let next = world.decide(Policy::Cost, 1, &none);
    assert!(matches!(next, Decision::Go(choice) if choice.replica == ReplicaId(1)), "{next:?}");
}

#[test]
fn what_nobody_has_is_no_burden() {
    let mut world = World::new(&[(1, 10), (3, 10)]);
    let long = prompt(1..33);
    let burdens = |world: &World| {
        let Decision::Go(choice) = world.decide(Policy::Cost, 1, &long) else { panic!("waits") };
        let Why::Placed { costs, .. } = choice.why else { panic!("placed otherwise") };
        (choice.replica.0, costs.burden)
    };
    assert_eq!(burdens(&world), (0, Span::ZERO));
    // Half of it is there: the other replica's burden is that half, for the one that runs there.
    world.index.hold(ReplicaId(1), &(1..17).collect::<Vec<_>>());
    let claim = Claim { need: 6000, most: 6000, prefill: 6000 };
    world.fleet.book(ReplicaId(1), RequestId(900), &claim);
    world.fleet.unbook(ReplicaId(1), RequestId(100), 10, 0);
    let (replica, burden) = burdens(&world);
    assert_eq!(replica, 0);
    assert!((150..250).contains(&burden.as_millis()), "{burden:?}");
}

#[test]
fn equals_share_a_burst() {
    let world = World::new(&[(1, 50); 4]);
    let mut count = [0; 4];
    for request in 0..400 {
        let at = world.replica(Policy::Cost, request, &Prompt::default()).unwrap();
        count[at as usize] += 1;
    }
    assert!(count.iter().all(|count| (70..130).contains(count)), "{count:?}");
}

#[test]
fn distance_and_adapters_are_seconds_too() {
    let mut world = World::new(&[(1, 50), (1, 50)]);
    let far = crate::Site { network: Span::from_millis(50), region: 1, ..crate::Site::default() };
    world.fleet.locate(ReplicaId(0), far);
    assert_eq!(world.replica(Policy::Cost, 1, &Prompt::default()), Some(1));
    world.fleet.set_adapters(ReplicaId(0), vec![77]);
    world.fleet.set_adapters(ReplicaId(1), vec![]);
    let adapted = Prompt { adapter: 77, ..Prompt::default() };
    assert_eq!(world.replica(Policy::Cost, 1, &adapted), Some(0), "farther, but it is loaded");
}

#[test]
fn among_equals_the_nearest_share() {
    use crate::traffic::ZONE_ROUND_TRIP;
    let chosen = |loads: [(u32, u64); 4]| {
        let mut world = World::new(&loads);
        for id in [0, 1] {
            let site = crate::Site { network: ZONE_ROUND_TRIP, ..crate::Site::default() };
            world.fleet.locate(ReplicaId(id), site);
        }
        let replica = |request: u64| world.replica(Policy::Cost, request, &prompt(0..0)).unwrap();
        let counts = (0..200).map(replica);
        counts.fold([0; 4], |mut counts, at| {
            counts[at as usize] += 1;
            counts
        })
    };
    // Two are in another zone.
    let [far, other, near, too] = chosen([(0, 0); 4]);
    assert!(far + other == 0 && near > 50 && too > 50, "{near} {too}");
    // A way of a millisecond is taken for more than that.
    let [far, other, near, too] = chosen([(0, 0), (0, 0), (3, 90_000), (3, 90_000)]);
    assert!(near + too == 0 && far > 50 && other > 50, "{far} {other}");
}
