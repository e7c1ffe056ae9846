//! From what happened to what it came to: a run as a report.

use std::collections::BTreeMap;

use pilotage_core::Time;

use crate::arrival::seconds;
use crate::metrics::{Fairness, Quantiles, Served, Service, measure};
use crate::report::{CounterGap, Report, Series, Tenant};
use crate::run::{Fate, Run};
use crate::scenario::Scenario;

/// Points of the counter gap that a report keeps.
const GAP_POINTS_MAX: usize = 1000;

/// Decisions of an autoscaler that a report tells.
const REASONS_MAX: usize = 60;

/// Requests as the measures of fairness want them, in the order of arrivals.
pub fn served(scenario: &Scenario, run: &Run) -> Vec<Served> {
    let pairs = scenario.arrivals.iter().zip(&run.records);
    pairs.map(|(arrival, record)| record.served(arrival)).collect()
}

/// The paper's measures of a run.
pub fn fairness(scenario: &Scenario, run: &Run) -> Fairness {
    measure(&served(scenario, run), scenario.cost, scenario.ticks, seconds(run.end))
}

/// The whole report. `replay` is the command that gives it again.
pub fn report(scenario: &Scenario, run: &Run, replay: &str) -> Report {
    let served = served(scenario, run);
    let service = Service::new(&served, scenario.cost);
    let count = u32::try_from(scenario.tenants.len()).unwrap_or(u32::MAX);
    let replicas = match (&scenario.scaling, scenario.replicas.len()) {
        (Some(scaling), _) => format!("{} to {} × ", scaling.policy.min, scaling.policy.max),
        (None, 1) => String::new(),
        (None, count) => format!("{count} × "),
    };
    let gap: Vec<(f64, f64)> = run.gap.iter().map(|(at, gap)| (seconds(*at), *gap)).collect();
    Report {
        scenario: scenario.name.clone(),
        description: scenario.description.clone(),
        setting: format!("{}; {replicas}{}", scenario.policy, scenario.engine.name),
        seed: scenario.seed,
        replay: replay.to_owned(),
        seconds: seconds(run.end).into(),
        tenants: tenants(scenario, run, &served),
        fairness: measure(&served, scenario.cost, scenario.ticks, seconds(run.end)).into(),
        service_rate: Series::rates(&service, scenario.ticks, count),
        service_total: Series::totals(&service, scenario.ticks, count),
        counter_gap: run
            .bound
            .filter(|_| !scenario.one_line)
            .map(|bound| CounterGap::new(bound, &gap, GAP_POINTS_MAX)),
        stops: run.stops,
        notes: notes(run),
    }
}

fn notes(run: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(fleet) = &run.fleet {
        let hours = (fleet.on_demand_seconds + fleet.spot_seconds) / 3600.0;
        let (most, changes) = (fleet.awake_max, fleet.wanted.len() - 1);
        notes.push(format!("{hours:.2} replica hours, {most} at most, {changes} changes"));
        let reasons = fleet.reasons.iter().take(REASONS_MAX);
        notes.extend(reasons.map(|(at, why)| format!("at {:.0} s: {why}", seconds(*at))));
    }
    if run.stops > 0 {
        let (stops, again) = (run.stops, run.recomputed);
        notes.push(format!(
            "Running work stood aside {stops} times for other work, and {again} tokens were computed again."
        ));
    }
    let lost = run.records.iter().filter(|record| record.fate.is_none()).count();
    if lost > 0 {
        notes.push(format!("{lost} requests never ended: no replica was left for them."));
    }
    if !run.violations.is_empty() {
        notes.push(format!("{} invariants were broken.", run.violations.len()));
    }
    notes
}

/// What adds up for one tenant.
#[derive(Clone, Debug, Default)]
struct Sum {
    requests: u64,
    served: u64,
    refused: BTreeMap<String, u64>,
    input: u64,
    output: u64,
    asked: f64,
    got: f64,
    first: Vec<f64>,
    waits: Vec<f64>,
}

fn tenants(scenario: &Scenario, run: &Run, served: &[Served]) -> Vec<Tenant> {
    let mut sums = vec![Sum::default(); scenario.tenants.len()];
    for ((arrival, record), one) in scenario.arrivals.iter().zip(&run.records).zip(served) {
        let Some(sum) = sums.get_mut(arrival.tenant as usize) else { continue };
        sum.requests += 1;
        sum.asked += scenario.cost.of(one);
        sum.output += u64::from(record.generated);
        if record.first_token.is_some() {
            sum.input += u64::from(arrival.input);
            let first = record.first_token.unwrap_or(Time::ZERO).since(arrival.at);
            sum.first.push(first.as_secs_f64());
        }
        sum.waits.extend(record.wait(arrival).map(|wait| wait.as_secs_f64()));
        match record.fate {
            Some(Fate::Served) => {
                sum.served += 1;
                sum.got += scenario.cost.of(one);
            }
            fate => {
                let why = fate.and_then(Fate::failure).unwrap_or("never_ended");
                *sum.refused.entry(why.to_owned()).or_default() += 1;
            }
        }
    }
    let all: f64 = sums.iter().map(|sum| sum.got).sum();
    let entitled = entitlements(scenario, &sums);
    let each = scenario.tenants.iter().zip(sums).zip(entitled);
    each.map(|((tenant, sum), entitlement)| Tenant {
        name: tenant.name.clone(),
        weight: tenant.weight.into(),
        requests: sum.requests,
        served: sum.served,
        refused: sum.refused,
        input_tokens: sum.input,
        output_tokens: sum.output,
        service: sum.got.into(),
        share: if all > 0.0 { sum.got / all } else { 0.0 }.into(),
        entitlement: entitlement.into(),
        time_to_first_token: Quantiles::of(sum.first).map(Into::into),
        wait: Quantiles::of(sum.waits).map(Into::into),
    })
    .collect()
}

/// Each tenant's part of all service by weight, where who asks for less than that leaves the rest to
/// the others.
fn entitlements(scenario: &Scenario, sums: &[Sum]) -> Vec<f64> {
    let all: f64 = sums.iter().map(|sum| sum.got).sum();
    let weights: Vec<f64> = scenario.tenants.iter().map(|tenant| tenant.weight).collect();
    let mut given: Vec<Option<f64>> = vec![None; sums.len()];
    loop {
        let taken: f64 = given.iter().flatten().sum();
        let open = |at: usize| given[at].is_none();
        let weight: f64 = (0..sums.len()).filter(|at| open(*at)).map(|at| weights[at]).sum();
        let part = |at: usize| (all - taken) * weights[at] / weight;
        let modest: Vec<usize> =
            (0..sums.len()).filter(|at| open(*at) && sums[*at].asked <= part(*at)).collect();
        if modest.is_empty() {
            let whole = |at: usize| given[at].unwrap_or_else(|| part(at));
            let scale = if all > 0.0 { all } else { 1.0 };
            return (0..sums.len()).map(|at| whole(at) / scale).collect();
        }
        for at in modest {
            given[at] = Some(sums[at].asked);
        }
    }
}
