//! Several gateways see the same replicas: their time counts once, whoever saw it, and however often that is stored.

use std::collections::BTreeMap;

use pilotage_ledger::*;
use pilotage_lens::usage::{Entitled, Entitlement, Meters, Reading, Seconds, digest};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::{HOUR_MS, NOON};

/// What a gateway saw: which replica, in which hour, from which second on, how many.
type Sight = (u8, u64, u16, u16);

const PRICE: u64 = 2_490_001;

fn first_hour() -> u64 {
    NOON / HOUR_MS + 200_000
}

fn reading(replica: u8, seconds: Seconds) -> Reading {
    Reading {
        replica: format!("r-{replica}"),
        model: if replica < 2 { "one" } else { "two" }.to_owned(),
        hardware: "h100".to_owned(),
        accelerators: u32::from(replica) + 1,
        micros_per_hour: PRICE,
        seconds,
    }
}

/// The entries of one gateway.
fn entries(sights: &[Sight], first: u64) -> Vec<(u64, Entry)> {
    let entitled = vec![Entitled { tenant: "ann".to_owned(), guaranteed: 100, weight: 1 }];
    let digest = digest(&entitled);
    let list = Entitlement { digest: digest.clone(), part: 0, hour: first_hour(), entitled };
    let meters = sights.iter().map(|(replica, hour, from, len)| {
        let readings = vec![reading(*replica, Seconds::stretch(*from, from + len))];
        let (hour, entitled) = (first + hour, digest.clone());
        Entry::Meters(Box::new(Meters { hour, entitled, readings }))
    });
    let all = std::iter::once(Entry::Entitled(Box::new(list))).chain(meters);
    (1..).zip(all).collect()
}

/// What one who saw everything would have counted: up time and cost by hour and Model.
fn expected(all: &[Sight], first: u64) -> BTreeMap<(u64, String), (u64, u64)> {
    let mut seen: BTreeMap<(u8, u64), Seconds> = BTreeMap::new();
    for (replica, hour, from, len) in all {
        seen.entry((*replica, first + hour)).or_default().add(*from, from + len);
    }
    let mut sums: BTreeMap<(u64, String), (u64, u64)> = BTreeMap::new();
    for ((replica, hour), seconds) in seen.into_iter().filter(|(_, seconds)| seconds.count() > 0) {
        let one = reading(replica, Seconds::default());
        let sum = sums.entry((hour, one.model)).or_default();
        sum.0 += seconds.count() * 1000 * u64::from(one.accelerators);
        sum.1 += seconds.count() * PRICE / 3600;
    }
    sums
}

async fn counted(store: &dyn Store, range: Range) -> BTreeMap<(u64, String), (u64, u64)> {
    let pools = store.pools(range).await.unwrap();
    for pool in &pools {
        assert_eq!(pool.entitled.len(), 1, "{pool:?}");
    }
    let sums =
        pools.into_iter().map(|one| ((one.at, one.group.model), (one.up_ms, one.cost_micros)));
    sums.collect()
}

/// Sights of several gateways, and turns in which their batches come, some of them again.
fn several() -> impl Strategy<Value = (Vec<Vec<Sight>>, Vec<(prop::sample::Index, bool)>)> {
    let sight = (0u8..4, 0u64..4, 0u16..3600, 0u16..1200);
    let gateways = prop::collection::vec(prop::collection::vec(sight, 1..20), 1..5);
    (gateways, prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..40))
}

/// Part of the suite of stores: any number of gateways, with gaps and overlaps, cut anywhere, some batches twice and in
/// any order among gateways, make the bill of one who saw what they saw together.
pub(crate) async fn what_several_see_counts_once(store: &dyn Store) {
    let mut runner = TestRunner::deterministic();
    for case in 0..12 {
        let (gateways, turns) = several().new_tree(&mut runner).unwrap().current();
        let first = first_hour() + case * 100;
        let mut waiting: Vec<Vec<(u64, Entry)>> =
            gateways.iter().map(|sights| entries(sights, first)).collect();
        let batch = |at: usize, entries: Vec<(u64, Entry)>| Batch {
            instance: format!("meter-{case:05}-{at:03}"),
            entries,
        };
        for (index, again) in turns {
            let at = index.index(waiting.len());
            let half = waiting[at].len().div_ceil(2);
            let some: Vec<_> = waiting[at].drain(..half).collect();
            store.put(batch(at, some.clone())).await.unwrap();
            if again {
                store.put(batch(at, some)).await.unwrap();
            }
        }
        for (at, rest) in waiting.into_iter().enumerate() {
            store.put(batch(at, rest)).await.unwrap();
        }
        // A gateway that lost its journal's place and tells everything once more, under another name.
        let whole =
            Batch { instance: format!("again-{case:05}"), entries: entries(&gateways[0], first) };
        store.put(whole).await.unwrap();
        let range = Range { from: first, until: first + 5 };
        let all = gateways.concat();
        assert_eq!(counted(store, range).await, expected(&all, first), "case {case}");
    }
    forgotten_hours_stay_as_they_are(store).await;
}

async fn forgotten_hours_stay_as_they_are(store: &dyn Store) {
    let first = first_hour() + 10_000;
    let put = |instance: &str, sights: &[Sight]| {
        let batch = Batch { instance: instance.to_owned(), entries: entries(sights, first) };
        async { store.put(batch).await.unwrap() }
    };
    put("late-1", &[(0, 0, 0, 600), (0, 1, 0, 600)]).await;
    let range = Range { from: first, until: first + 2 };
    let before = counted(store, range).await;
    store.forget(Old { meters_before: first + 1, ..Old::default() }).await.unwrap();
    // Whether anybody saw the first hour is not known any more; of the second one it is.
    put("late-2", &[(0, 0, 0, 900), (0, 1, 300, 600)]).await;
    let after = counted(store, range).await;
    let one =
        |sums: &BTreeMap<(u64, String), (u64, u64)>, hour: u64| sums[&(hour, "one".to_owned())].0;
    assert_eq!((one(&before, first), one(&after, first)), (600_000, 600_000));
    assert_eq!((one(&before, first + 1), one(&after, first + 1)), (600_000, 900_000));
}
