//! What rivals do by their documentation, and what ours comes to beside them.

use pilotage_core::scale::{Policy, Zero};
use pilotage_core::{Span, Time};

use super::{Autoscaler, Look, Scale, hpa, keda, knative};
use crate::run::{Options, run};
use crate::scaled::{ScaledRow, row};
use crate::scenario::{Scenario, find};

fn policy() -> Policy {
    Policy { min: 0, max: 20, zero: Zero::ColdZero, ..Policy::default() }
}

/// What a scaler wants, look after look: (seconds, wanted now, ready, starting, metric).
fn check(scaler: &mut dyn Scale, looks: &[(u64, u32, u32, u32, f64)], expect: &[u32]) {
    let wanted = looks.iter().map(|(at, wanted, ready, starting, metric)| {
        let look = Look {
            wanted: *wanted,
            ready: *ready,
            starting: *starting,
            waiting: *metric,
            busy: *metric,
            ..Look::default()
        };
        scaler.decide(Time::from_millis(at * 1000), &look).awake
    });
    assert_eq!(wanted.collect::<Vec<_>>(), expect);
}

#[test]
fn a_horizontal_pod_autoscaler_by_its_formula() {
    let pods = || hpa::Pods::new(&policy(), |look| look.busy, 0.5);
    // ceil(4 · 0.8 / 0.5); within a tenth nothing; starting pods count as idle; down after 300 s.
    check(&mut pods(), &[(0, 4, 4, 0, 0.8)], &[7]);
    check(&mut pods(), &[(0, 4, 4, 0, 0.54)], &[4]);
    check(&mut pods(), &[(0, 6, 4, 2, 0.9)], &[8]);
    check(&mut pods(), &[(0, 6, 4, 2, 0.7)], &[6]);
    let looks = [(0, 4, 4, 0, 0.5), (15, 4, 4, 0, 0.2), (300, 4, 4, 0, 0.2), (315, 4, 4, 0, 0.2)];
    check(&mut pods(), &looks, &[4, 4, 4, 2]);
    // At most twice as many, or four more.
    check(&mut pods(), &[(0, 8, 8, 0, 5.0)], &[16]);
    let mut external = hpa::External::new(&policy(), |look| look.waiting, 5.0);
    check(&mut external, &[(0, 1, 1, 0, 23.0), (400, 5, 5, 0, 0.0)], &[5, 1]);
}

#[test]
fn keda_and_knative_go_to_zero_and_back() {
    let mut keda = keda::Keda::new(&policy(), |look| look.waiting, 5.0);
    let looks = [
        (0, 0, 0, 0, 0.0),
        // It polls every 30 seconds.
        (15, 0, 0, 0, 7.0),
        (30, 0, 0, 0, 7.0),
        (45, 1, 1, 0, 7.0),
        (60, 2, 2, 0, 0.0),
        (359, 2, 2, 0, 0.0),
    ];
    check(&mut keda, &looks, &[0, 0, 1, 2, 2, 0]);
    let mut knative = knative::Knative::new(&policy(), 10);
    // Seven at once each. One who waits brings one; forty bring panic; then half at a time.
    check(&mut knative, &[(0, 0, 0, 0, 1.0), (2, 1, 1, 0, 80.0)], &[1, 6]);
    check(&mut knative, &[(50, 6, 6, 0, 0.0), (90, 6, 6, 0, 0.0), (121, 3, 3, 0, 0.0)], &[6, 3, 0]);
}

fn play(name: &str, scaler: &str) -> ScaledRow {
    let text = find(name).unwrap().text;
    let mut scenario = Scenario::read("test.yaml", text, None, &|_| Err(String::new())).unwrap();
    scenario.scaling.as_mut().unwrap().scaler = Autoscaler::find(scaler).unwrap();
    let run = run(&scenario, Options::default(), &mut |_, _| {});
    row(&scenario, &run).unwrap()
}

#[test]
fn ours_comes_from_zero_and_goes_back() {
    let (cold, warm) =
        (play("scaling/burst-cold", "pilotage"), play("scaling/burst-warm", "pilotage"));
    let always = play("scaling/burst-cold", "fixed-max");
    assert_eq!((cold.lost, warm.lost), (0, 0));
    assert!(cold.cost < always.cost && warm.cost < always.cost);
    assert!(warm.attained > cold.attained, "{:?} {:?}", warm.attained, cold.attained);
}

#[test]
fn ours_keeps_its_goals_on_a_crowd_for_less_than_all() {
    let ours = play("scaling/flash-crowd", "pilotage");
    let all = play("scaling/flash-crowd", "fixed-max");
    assert!(ours.cost.get() < 0.7 * all.cost.get(), "{:?} {:?}", ours.cost, all.cost);
    assert_eq!((ours.lost, all.flaps), (0, 0));
    let kv = play("scaling/flash-crowd", "hpa-kv");
    assert!(ours.attained > kv.attained, "{:?} {:?}", ours.attained, kv.attained);
}

#[test]
fn every_name_is_found_once() {
    for name in Autoscaler::names() {
        assert_eq!(Autoscaler::find(name).map(|one| one.name), Some(name));
        assert_eq!(Autoscaler::names().filter(|other| *other == name).count(), 1);
    }
    assert_eq!(Autoscaler::find("guesswork"), None);
    assert_eq!(Span::from_secs(10), super::pilotage::Ours::new(&policy()).every());
}
