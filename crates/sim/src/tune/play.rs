//! Plays a scenario's requests with the engines of one way in place of its own.

use pilotage_core::Span;

use super::{Limits, Outcome, Tally, Tried, Way};
use crate::engine::EngineModel;
use crate::run::{Fate, Options, run};
use crate::scenario::{Replica, Scenario};

/// What a way comes to with the scenario's requests.
pub fn try_out(scenario: &Scenario, way: &Way, limits: Limits) -> Tried {
    let shape = way.shape;
    Tried {
        name: format!(
            "{shape}, {} tokens a step, {} sequences, {} cache",
            shape.batch_tokens, shape.sequences, shape.kv_dtype
        ),
        shape: Some(shape),
        accelerators: Some(shape.accelerators()),
        outcome: play(scenario, &way.engine, shape.replicas, limits),
        ..Tried::default()
    }
}

/// What so many engines make of the scenario's requests.
pub fn play(scenario: &Scenario, engine: &EngineModel, replicas: u32, limits: Limits) -> Outcome {
    let replica = Replica { engine: engine.clone(), slowness: 1.0, network: Span::ZERO, region: 0 };
    let replicas = vec![replica; replicas as usize];
    let scenario = Scenario { engine: engine.clone(), replicas, ..scenario.clone() };
    let played = run(&scenario, Options::default(), &mut |_, _| {});
    let mut tally = Tally::new(limits);
    for (arrival, record) in scenario.arrivals.iter().zip(&played.records) {
        if arrival.at < scenario.warm {
            continue;
        }
        let (Some(Fate::Served), Some(first), Some(end)) =
            (record.fate, record.first_token, record.end)
        else {
            tally.lost();
            continue;
        };
        let after = record.generated.checked_sub(1).filter(|after| *after > 0);
        let tpot = after.map(|after| end.since(first).as_secs_f64() / f64::from(after));
        tally.answered(first.since(arrival.at).as_secs_f64(), tpot);
    }
    tally.outcome(scenario.counted_seconds())
}
