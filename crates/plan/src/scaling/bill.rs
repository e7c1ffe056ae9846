//! Which Fleets should a Model's copies run on, and what does that cost? The answer of `pilotage cost`.
//!
//! What one copy does on a Fleet at the goal is said by whoever measured it, or predicted from the model's
//! files and the Fleet's hardware. Then the cheapest mix is searched by `core`.

use std::collections::BTreeMap;

use pilotage_core::Span;
use pilotage_core::scale::Policy;
use pilotage_core::scale::cost::{Bill, COUNT_MAX, CostError, Offer, Wish};
use serde::Serialize;
use thiserror::Error;

use super::policy::policy;
use crate::api::{Fleet, FleetKind, Model, ModelSpec};
use crate::hardware::Accelerator;
use crate::launch::Engine;
use crate::select::sizing;
use crate::size::{Calibration, Dtype, Load, ModelFacts, Setting, Shape, Speed};

/// The band whose goals count: that of requests which say nothing.
const BAND: usize = 1;

/// Millionths of a unit of money.
const UNIT: f64 = 1e6;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// What comes.
    pub demand: Demand,
    /// Requests a second that one copy ends on a Fleet, where somebody measured them.
    pub measured: BTreeMap<String, f64>,
    /// Copies that run now, by Fleet.
    pub now: BTreeMap<String, u32>,
    /// How often a node that may be taken away is, in an hour.
    pub interruptions: f64,
    /// The part that is to be on nodes that stay.
    pub on_demand: f64,
    /// The most of it that one Fleet may have of which nodes are taken away.
    pub spot_share_max: f64,
}

/// What comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// Requests a second.
    pub rate: f64,
    /// Tokens of a prompt.
    pub prompt: u64,
    /// Tokens of an answer.
    pub answer: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// The Model.
    pub model: String,
    /// What comes.
    pub demand: Demand,
    /// Seconds to the first token and for each further one that are aimed at.
    pub goal: Aim,
    /// What each Fleet has to offer.
    pub fleets: Vec<Offered>,
    /// The cheapest mix beside others.
    pub bill: Bill,
    /// What the Model costs in an hour when nobody asks.
    pub idle: Idle,
    /// Most copies that its `scaling` allows, or those that there are without.
    pub copies_max: u32,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Aim {
    /// Seconds to the first token.
    pub ttft_seconds: Option<f64>,
    /// Seconds for each further token.
    pub tpot_seconds: Option<f64>,
    /// The part of what a copy could do that is asked of it.
    pub utilisation: f64,
}

/// What a Fleet has to offer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// The Fleet.
    pub fleet: String,
    /// Whether its nodes may be taken away.
    pub spot: bool,
    /// What one copy costs in an hour; none where nobody says what a node costs.
    pub price: Option<f64>,
    /// Requests a second that one copy ends at the goal, before anything is kept free.
    pub rate: Option<f64>,
    /// Whether that was measured.
    pub measured: bool,
    /// Copies it has room for.
    pub room: Option<u32>,
    /// Why it is not weighed, if it is not.
    pub without: Option<String>,
}

/// What is left when nobody asks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// Copies that stay.
    pub copies: u32,
    /// What they cost in an hour, on the Fleet where a copy is cheapest.
    pub price: f64,
    /// Seconds until that begins.
    pub after_seconds: f64,
}

/// Why there is no answer.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BillError {
    /// No Fleet can be weighed.
    #[error("no Fleet can be weighed for `{model}`: {}", .reasons.join("; "))]
    NoFleet {
        /// The Model.
        model: String,
        /// Why not, for each.
        reasons: Vec<String>,
    },
    /// They cannot do it, or a number makes no sense.
    #[error(transparent)]
    Cost(#[from] CostError),
}

/// The cheapest Fleets for a Model.
///
/// # Errors
/// [`BillError`].
pub fn bill(
    model: &Model,
    fleets: &[&Fleet],
    facts: Option<&ModelFacts>,
    question: &Question,
) -> Result<Costs, BillError> {
    let spec = &model.spec;
    let policy = policy(spec, None).unwrap_or_default();
    let goal = Aim {
        ttft_seconds: policy.goals[BAND].ttft.map(Span::as_secs_f64),
        tpot_seconds: policy.goals[BAND].tpot.map(Span::as_secs_f64),
        utilisation: policy.utilisation,
    };
    let all: Vec<Offered> =
        fleets.iter().map(|fleet| offered(model, fleet, facts, question, goal)).collect();
    let weighed = all.iter().filter_map(|one| offer(one, &policy, question));
    let offers: Vec<Offer> = weighed.collect();
    if offers.is_empty() {
        let reason =
            |one: &Offered| one.without.as_ref().map(|without| format!("{}: {without}", one.fleet));
        let mut reasons: Vec<String> = all.iter().filter_map(reason).collect();
        if reasons.is_empty() {
            reasons.push("there is no Fleet of kind `nodes`".to_owned());
        }
        return Err(BillError::NoFleet { model: model.name().to_owned(), reasons });
    }
    let wish = Wish {
        capacity: question.demand.rate,
        on_demand: question.on_demand,
        spot_share_max: question.spot_share_max,
        start: policy.start,
    };
    let runs = |offer: &Offer| question.now.get(&offer.name).copied().unwrap_or(0);
    let now: Vec<u32> = offers.iter().map(runs).collect();
    let bill = Bill::of(&offers, &wish, Some(&*now).filter(|_| !question.now.is_empty()))?;
    let idle = idle(spec, &offers, &policy);
    let copies_max = spec.scaling.map_or(spec.replicas, |scaling| scaling.max);
    let model = model.name().to_owned();
    Ok(Costs { model, demand: question.demand, goal, fleets: all, bill, idle, copies_max })
}

fn offer(one: &Offered, policy: &Policy, question: &Question) -> Option<Offer> {
    if one.without.is_some() {
        return None;
    }
    Some(Offer {
        name: one.fleet.clone(),
        price: one.price?,
        // What is kept free is not offered.
        capacity: one.rate? * policy.utilisation,
        max: one.room.unwrap_or(COUNT_MAX).min(COUNT_MAX),
        interruptions: one.spot.then_some(question.interruptions),
    })
}

fn offered(
    model: &Model,
    fleet: &Fleet,
    facts: Option<&ModelFacts>,
    question: &Question,
    goal: Aim,
) -> Offered {
    let (spec, said) = (&model.spec, &fleet.spec);
    let ranks = spec.parallelism.tensor.saturating_mul(spec.parallelism.pipeline).max(1);
    let class = said.hardware.as_deref().and_then(Accelerator::by_id).copied();
    let per_node = said.per_node.or_else(|| class.map(|class| class.per_node)).unwrap_or(1).max(1);
    let part = f64::from(ranks) / f64::from(per_node);
    let price = said.price_per_hour.map(|price| price.millionths() as f64 / UNIT * part);
    let room = said.nodes.map(|nodes| match per_node / ranks {
        0 => nodes / ranks.div_ceil(per_node),
        copies => nodes.saturating_mul(copies),
    });
    let measured = question.measured.get(&fleet.metadata.name.to_string()).copied();
    let rate = match (measured, class, facts) {
        (Some(rate), ..) => Ok(rate),
        (None, None, _) => Err(
            "its `hardware` is no class that is known; name one, or say what was measured"
                .to_owned(),
        ),
        (None, Some(_), None) => Err(
            "how fast the model is there is not known; let its files be read, or say what was measured"
                .to_owned(),
        ),
        (None, Some(class), Some(facts)) => {
            predicted(spec, &Accelerator { per_node, ..class }, facts, question.demand, goal)
        }
    };
    let without = match (&rate, price, room) {
        _ if said.kind != FleetKind::Nodes => Some("it is not of kind `nodes`".to_owned()),
        (Err(reason), ..) => Some(reason.clone()),
        (_, None, _) => Some("`pricePerHour` is not said".to_owned()),
        (_, _, Some(0)) => Some("it has too few nodes for one copy".to_owned()),
        _ => None,
    };
    Offered {
        fleet: fleet.metadata.name.to_string(),
        spot: said.spot,
        price,
        rate: rate.ok(),
        measured: measured.is_some(),
        room,
        without,
    }
}

/// Requests a second that a copy ends with as many at once as the goal allows.
fn predicted(
    spec: &ModelSpec,
    accelerator: &Accelerator,
    facts: &ModelFacts,
    demand: Demand,
    goal: Aim,
) -> Result<f64, String> {
    let engine = spec.engine().unwrap_or(Engine::Embedded);
    let shape = Shape {
        tensor: spec.parallelism.tensor,
        pipeline: spec.parallelism.pipeline,
        sequences: spec.parallel,
        ..Shape::single(spec.context.into(), Dtype::Bf16)
    };
    let setting = Setting { facts, shape: &shape, accelerator, runtime: sizing(engine, None) };
    let calibration = Calibration::assumed(accelerator);
    let at = |concurrency: u32| {
        let load = Load { prompt: demand.prompt, answer: demand.answer, concurrency };
        setting.speed(&calibration, &load).map_err(|error| error.to_string())
    };
    let room = crate::size::memory::memory(facts, &shape, accelerator, setting.runtime)
        .map_err(|error| error.to_string())?;
    if room.missing_bytes > 0 || room.sequences.likely < 1.0 {
        return Err("the model does not fit its memory in this shape".to_owned());
    }
    let meets = |speed: &Speed| {
        let within = |likely: f64, goal: Option<f64>| goal.is_none_or(|goal| likely <= goal);
        within(speed.ttft_seconds.likely, goal.ttft_seconds)
            && within(speed.tpot_seconds.likely, goal.tpot_seconds)
    };
    let mut best = at(1)?;
    if !meets(&best) {
        return Err(format!(
            "even alone a request has its first token after {:.2} s and one every {:.3} s, which misses the goal",
            best.ttft_seconds.likely, best.tpot_seconds.likely
        ));
    }
    // More at once are slower each: the most that still are in time is found by halves.
    let (mut low, mut high) = (1, spec.parallel.max(1));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let speed = at(middle)?;
        if meets(&speed) {
            (low, best) = (middle, speed);
        } else {
            high = middle - 1;
        }
    }
    Ok(best.requests_per_second.likely)
}

/// What stays when nobody asks, on the Fleet where one is cheapest.
fn idle(spec: &ModelSpec, offers: &[Offer], policy: &Policy) -> Idle {
    let copies = spec.scaling.map_or(spec.replicas, |scaling| scaling.floor());
    let cheapest = offers.iter().map(|offer| offer.price).reduce(f64::min).unwrap_or(0.0);
    let after = spec.scaling.map_or(0.0, |_| policy.idle.as_secs_f64());
    Idle { copies, price: f64::from(copies) * cheapest, after_seconds: after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Resource;

    const MANIFEST: &str = "
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: m}
spec: {source: 'hf:o/r', runtime: vllm, parallelism: {tensor: 2}, scaling: {min: 1, max: 9, targetPercent: 50}}
---
apiVersion: pilotage.dev/v1alpha1
kind: Fleet
metadata: {name: stays}
spec: {kind: nodes, hardware: h100-sxm, perNode: 8, nodes: 2, pricePerHour: '80'}
---
apiVersion: pilotage.dev/v1alpha1
kind: Fleet
metadata: {name: goes}
spec: {kind: nodes, hardware: h100-sxm, perNode: 8, nodes: 1, pricePerHour: '32', spot: true}
---
apiVersion: pilotage.dev/v1alpha1
kind: Fleet
metadata: {name: free}
spec: {kind: nodes, hardware: h100-sxm}
";

    fn costs(question: &Question) -> Result<Costs, BillError> {
        costs_of(MANIFEST, question)
    }

    fn costs_of(manifest: &str, question: &Question) -> Result<Costs, BillError> {
        let resources = crate::parse("m.yaml", manifest.trim_start()).unwrap();
        let fleets: Vec<&Fleet> = resources
            .iter()
            .filter_map(|one| match one {
                Resource::Fleet(fleet) => Some(fleet),
                _ => None,
            })
            .collect();
        let Resource::Model(model) = &resources[0] else { panic!("no Model") };
        bill(model, &fleets, None, question)
    }

    fn question(rate: f64, on_demand: f64) -> Question {
        let measured = [("stays".to_owned(), 4.0), ("goes".to_owned(), 4.0)].into();
        let demand = Demand { rate, prompt: 1000, answer: 100 };
        Question {
            demand,
            measured,
            interruptions: 0.1,
            on_demand,
            spot_share_max: 1.0,
            ..Question::default()
        }
    }

    #[test]
    fn the_cheapest_is_found() {
        // A copy is a quarter of a node, and does 4 requests a second, of which half are asked of it.
        let check = |rate: f64, on_demand: f64, expect: &[u32]| {
            let costs = costs(&question(rate, on_demand)).unwrap();
            assert_eq!(costs.bill.best.counts, expect, "{rate} {on_demand}: {}", costs.bill);
        };
        check(1.5, 0.0, &[0, 1]);
        check(1.5, 1.0, &[1, 0]);
        check(7.0, 0.0, &[1, 3]);
        check(9.0, 0.0, &[1, 4]);
        check(3.9, 0.5, &[1, 1]);
        let costs = costs(&question(1.5, 0.0)).unwrap();
        let prices: Vec<Option<f64>> = costs.fleets.iter().map(|one| one.price).collect();
        assert_eq!(prices, [Some(20.0), Some(8.0), None]);
        assert_eq!(
            costs.fleets[2].without.as_deref().map(|text| text.contains("known")),
            Some(true)
        );
        assert_eq!((costs.idle.copies, costs.idle.price), (1, 8.0));
    }

    /// More nodes than copies are weighed of one Fleet.
    #[test]
    fn large_fleets_are_weighed_too() {
        let manifest = MANIFEST.replace("nodes: 2,", "nodes: 3000,");
        let costs = costs_of(&manifest, &question(1.5, 1.0)).unwrap();
        assert_eq!((costs.fleets[0].room, &*costs.bill.best.counts), (Some(12_000), &[1, 0][..]));
        assert_eq!(costs.copies_max, 9);
    }

    #[test]
    fn too_few_is_said() {
        let error = costs(&question(1000.0, 0.0)).unwrap_err().to_string();
        assert!(error.starts_with("all fleets together do"), "{error}");
        let nothing = Question { measured: BTreeMap::new(), ..question(1.0, 0.0) };
        let error = costs(&nothing).unwrap_err().to_string();
        assert!(error.starts_with("no Fleet can be weighed for `m`: stays: how fast"), "{error}");
    }
}
