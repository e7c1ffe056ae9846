//! That the policies do what is said of them, and how they compare, on small runs.

use super::*;
use crate::compare::{Row, compare};
use crate::scenario::{Scenario, find};

fn rows(scenario: &str, routes: &[&str]) -> Vec<Row> {
    let text = find(scenario).unwrap().text;
    let scenario = Scenario::read(scenario, text, None, &|_| Err("no files here".to_owned()));
    let routes: Vec<Route> = routes.iter().map(|name| Route::find(name).unwrap()).collect();
    compare(&scenario.unwrap(), &routes, "", &mut |_, _| {}).rows
}

fn competitors() -> Vec<&'static str> {
    Route::all().filter(|route| route.is_direct()).map(Route::name).collect()
}

/// On the reference the own policy is faster than every other, finds what can be found, and turns
/// nobody away.
#[test]
fn nobody_is_faster_on_the_reference() {
    let own = &rows("routing/live-reference", &["cost"])[0];
    assert_eq!((own.refused, own.unfinished), (0, 0));
    let p99 = own.first_token.p99.get();
    assert!(p99 < 1.36, "{p99}");
    assert!(own.hit_rate.get() >= 0.94, "{:?}", own.hit_rate);
    for row in rows("routing/live-reference", &competitors()) {
        assert!(p99 <= row.first_token.p99.get(), "{}: {:?}", row.policy, row.first_token);
        if row.policy == CLAIRVOYANT {
            assert!(own.hit_rate.get() >= row.hit_rate.get() - 0.03, "{:?}", row.hit_rate);
        }
    }
}

/// What is not in any cache is soon in one: those who send misses anywhere stay where they are.
#[test]
fn a_cold_start_and_an_overload_are_survived() {
    let cold = &rows("routing/cold-start", &["cost", "even-round-robin"]);
    assert!(cold[0].hit_rate.get() > 0.9 && cold[1].hit_rate.get() < 0.5, "{cold:?}");
    let over = &rows("routing/overload", &["cost"])[0];
    assert!(over.hit_rate.get() > 0.92, "{over:?}");
    // 28.5 requests a second with 64 tokens each are what four engines can do.
    assert!(over.tokens_per_second.get() > 0.92 * 28.5 * 64.0, "{over:?}");
}

/// A begin that all share does not end on one replica.
#[test]
fn a_shared_begin_is_spread() {
    let rows = rows("routing/shared-system-prompt", &["cost", "llm-d-affinity"]);
    assert!(rows[0].imbalance.get() < 1.05, "{rows:?}");
    assert!(rows[0].first_token.p99.get() * 5.0 < rows[1].first_token.p99.get(), "{rows:?}");
}

#[test]
fn every_way_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Route::names().collect();
    assert_eq!(names.len(), Route::all().count());
    assert!(names.iter().all(|name| Route::find(name).is_some_and(|route| route.name() == *name)));
    assert_eq!(Route::find("the best"), None);
}

#[test]
fn what_was_sent_is_remembered_within_bounds() {
    let mut memory = Memory::new(2, 3, Some(Span::from_secs(10)));
    let at = pilotage_core::Time::from_millis;
    memory.keep(at(0), 0, &[1, 2, 3]);
    memory.keep(at(0), 1, &[1]);
    assert_eq!(memory.find(at(5), &[1, 2, 9]), [2, 1]);
    memory.keep(at(5), 0, &[7]);
    assert_eq!(memory.find(at(5), &[1, 2, 3]), [2, 1], "the end goes first");
    assert_eq!(memory.find(at(11_000), &[1]), [0, 0], "all has its time");
}

#[test]
fn a_ring_goes_round() {
    let ring = Ring::new(3, 50);
    let mut parts = [0; 3];
    for key in 0..3000_u64 {
        parts[ring.from(digest(5, &key.to_le_bytes())).next().unwrap()] += 1;
    }
    assert!(parts.iter().all(|part| (600..1400).contains(part)), "{parts:?}");
    assert_eq!(ring.from(u64::MAX).count(), 150);
}
