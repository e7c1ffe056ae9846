//! From a Model's `scaling` to the policy of the autoscaler, with its Fleet as the limit.

use pilotage_core::scale::{Decision, Goal, Policy, Zero as Rest};
use pilotage_core::{Band, Span};

use crate::api::{FleetSpec, ModelSpec, Scaling, Zero};

/// The least part of its places that a copy is asked for; less would be no target.
const UTILISATION_MIN: f64 = 0.05;

/// What a Model asks of the autoscaler; none where its copies do not follow the load. Its Fleet, where one
/// is known, limits how many there can be.
pub fn policy(spec: &ModelSpec, fleet: Option<&FleetSpec>) -> Option<Policy> {
    let scaling = spec.scaling?;
    let room = fleet.and_then(|fleet| room(spec, fleet)).unwrap_or(u32::MAX);
    Some(of(&scaling, room))
}

/// The same, where there is room for so many.
pub fn of(scaling: &Scaling, room: u32) -> Policy {
    let max = scaling.max.min(room).max(1);
    let (min, zero) = match scaling.zero {
        Zero::Always => (scaling.min.max(1), Rest::AlwaysWarm),
        // The last one sleeps, whatever `min` says of times of work: [`awake`] sees to those.
        Zero::Warm => (0, Rest::WarmZero),
        Zero::Cold => (scaling.min, Rest::ColdZero),
    };
    Policy {
        min: min.min(max),
        max,
        utilisation: (f64::from(scaling.target_percent) / 100.0).max(UTILISATION_MIN),
        zero,
        idle: Span::from_secs(u64::from(scaling.idle_seconds)),
        goals: goals(scaling),
        ..Policy::default()
    }
}

/// What each band is promised.
pub fn goals(scaling: &Scaling) -> [Goal; Band::ALL.len()] {
    let mut goals = Policy::default().goals;
    for (goal, times) in goals.iter_mut().zip([1, 2]) {
        let said = |ms: Option<u32>| ms.map(|ms| Span::from_millis(u64::from(ms) * times));
        goal.ttft = said(scaling.ttft_ms).or(goal.ttft);
        goal.tpot = said(scaling.tpot_ms).or(goal.tpot);
    }
    goals
}

/// Copies that are to be awake by a decision, and asleep: while there is work, no fewer than `min` are awake,
/// and those that are so beyond the decision do not sleep beside that.
pub fn copies(scaling: &Scaling, decision: &Decision) -> (u32, u32) {
    if decision.awake == 0 {
        return (0, decision.asleep);
    }
    let awake = decision.awake.max(scaling.min.min(scaling.max));
    (awake, decision.asleep.saturating_sub(awake - decision.awake))
}

/// Copies that a Fleet has accelerators for, were there no other Model.
fn room(spec: &ModelSpec, fleet: &FleetSpec) -> Option<u32> {
    let (nodes, per_node) = (fleet.nodes?, fleet.per_node?.max(1));
    let ranks = spec.parallelism.tensor.saturating_mul(spec.parallelism.pipeline).max(1);
    Some(match per_node / ranks {
        0 => nodes / ranks.div_ceil(per_node),
        copies => nodes.saturating_mul(copies),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::model;
    use super::*;

    #[test]
    fn manifests_become_policies() {
        let check = |spec: &str, expect: Option<(u32, u32, Rest, u64)>| {
            let got = policy(&model(spec), None);
            let got = got.map(|it| (it.min, it.max, it.zero, it.idle.as_nanos() / 1_000_000_000));
            assert_eq!(got, expect, "{spec}");
        };
        check("replicas: 3", None);
        check("scaling: {max: 4}", Some((1, 4, Rest::AlwaysWarm, 900)));
        check("scaling: {min: 2, max: 4, idleSeconds: 5}", Some((2, 4, Rest::AlwaysWarm, 5)));
        check("scaling: {min: 0, max: 4, zero: cold}", Some((0, 4, Rest::ColdZero, 900)));
        check("scaling: {min: 2, max: 4, zero: warm}", Some((0, 4, Rest::WarmZero, 900)));
    }

    #[test]
    fn promises_are_for_those_who_wait() {
        let check = |spec: &str, expect: [Option<u64>; 4]| {
            let goals = policy(&model(spec), None).unwrap().goals;
            let ms = |span: Option<Span>| span.map(Span::as_millis);
            let [first, second, third, _] = goals;
            let told = [ms(first.ttft), ms(first.tpot), ms(second.ttft), ms(second.tpot)];
            assert_eq!((told, third.ttft), (expect, None), "{spec}");
        };
        check("scaling: {max: 2}", [Some(1000), Some(50), Some(2000), Some(100)]);
        check("scaling: {max: 2, ttftMs: 300}", [Some(300), Some(50), Some(600), Some(100)]);
        check("scaling: {max: 2, tpotMs: 20}", [Some(1000), Some(20), Some(2000), Some(40)]);
    }

    #[test]
    fn fleets_limit() {
        let check = |shape: &str, nodes: u32, per_node: u32, expect: u32| {
            let spec = model(&format!("scaling: {{max: 100}}, parallelism: {shape}"));
            let fleet =
                FleetSpec { nodes: Some(nodes), per_node: Some(per_node), ..FleetSpec::default() };
            assert_eq!(policy(&spec, Some(&fleet)).unwrap().max, expect, "{shape}");
        };
        check("{tensor: 2}", 3, 8, 12);
        check("{tensor: 3}", 3, 8, 6);
        check("{tensor: 8, pipeline: 2}", 5, 8, 2);
        check("{tensor: 8, pipeline: 2}", 1, 8, 1);
    }

    proptest! {
        #[test]
        fn every_manifest_makes_sense(
            max in 1_u32..=1024, min in 0_u32..=1024, percent in 1_u32..=100, idle in 1_u32..=604_800,
            zero in prop::sample::select(vec![Zero::Always, Zero::Warm, Zero::Cold]),
        ) {
            let mut spec = model("scaling: {max: 1}");
            let scaling = spec.scaling.as_mut().unwrap();
            *scaling = Scaling {
                max, min: min.min(max), target_percent: percent, idle_seconds: idle, zero, ..*scaling
            };
            prop_assert_eq!(policy(&spec, None).unwrap().checked().err(), None);
        }
    }
}
