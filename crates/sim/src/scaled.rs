//! The same requests for a fleet that several autoscalers steer: what was served as it should be, what
//! it cost, and how often they changed their mind, side by side.

use pilotage_core::{Span, Time};
use serde::Serialize;

use crate::compare::Times;
use crate::report::Rounded;
use crate::run::{Fate, Fleet, Options, Run, run};
use crate::scaler::Autoscaler;
use crate::scenario::{Scaling, Scenario};

/// Changes in opposite directions within so long are one change too many.
const FLAP: Span = Span::from_secs(900);

/// What several autoscalers came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaledComparison {
    /// The scenario's name.
    pub scenario: String,
    /// What it is about.
    pub description: String,
    /// The engines, and what is asked for.
    pub setting: String,
    /// The seed of everything that happens by chance.
    pub seed: u64,
    /// The command that gives this comparison again.
    pub replay: String,
    /// One for each, in the order asked for.
    pub rows: Vec<ScaledRow>,
}

/// What one autoscaler came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaledRow {
    /// Its name.
    pub scaler: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Requests that count.
    pub requests: u64,
    /// The part that was served within the goals.
    pub attained: Rounded,
    /// Those that did not get their whole answer.
    pub lost: u64,
    /// Times to the first token, in seconds.
    pub first_token: Times,
    /// Hours of replicas awake, starting or ending.
    pub hours: Rounded,
    /// Hours of replicas asleep.
    pub asleep_hours: Rounded,
    /// What they cost.
    pub cost: Rounded,
    /// Most replicas awake at once.
    pub replicas_max: u32,
    /// Changes of the number that is wanted.
    pub changes: u64,
    /// Those that took back another within a quarter of an hour.
    pub flaps: u64,
    /// Machines that were taken away.
    pub interruptions: u32,
}

/// Plays a scenario once for each autoscaler. None where its fleet is fixed.
pub fn compare(
    scenario: &Scenario,
    scalers: &[Autoscaler],
    replay: &str,
    progress: &mut dyn FnMut(usize, usize),
) -> Option<ScaledComparison> {
    let scaling = scenario.scaling.clone()?;
    let count = scenario.arrivals.len();
    let mut rows = Vec::new();
    for (at, scaler) in scalers.iter().enumerate() {
        let mut scenario = scenario.clone();
        scenario.scaling = Some(Scaling { scaler: *scaler, ..scaling.clone() });
        let run = run(&scenario, Options::default(), &mut |done, _| {
            progress(at * count + done, scalers.len() * count);
        });
        rows.extend(row(&scenario, &run));
    }
    Some(ScaledComparison {
        scenario: scenario.name.clone(),
        description: scenario.description.clone(),
        setting: setting(scenario, &scaling),
        seed: scenario.seed,
        replay: replay.to_owned(),
        rows,
    })
}

/// The fleet and what is asked of it, in a line.
pub fn setting(scenario: &Scenario, scaling: &Scaling) -> String {
    let policy = &scaling.policy;
    let goal = policy.goals[1];
    let ms = |span: Option<Span>| span.map_or(0, Span::as_millis);
    format!(
        "{} to {} × {}, {:.0} s to start; first token in {} ms, tokens in {} ms",
        policy.min,
        policy.max,
        scenario.engine.name,
        policy.start.as_secs_f64(),
        ms(goal.ttft),
        ms(goal.tpot),
    )
}

/// What a run came to; none where its fleet is fixed.
pub fn row(scenario: &Scenario, run: &Run) -> Option<ScaledRow> {
    let (scaling, fleet) = (scenario.scaling.as_ref()?, run.fleet.as_ref()?);
    let mut row = ScaledRow {
        scaler: scaling.scaler.name,
        about: scaling.scaler.about,
        replicas_max: fleet.awake_max,
        interruptions: fleet.interruptions,
        ..ScaledRow::default()
    };
    let (mut first, mut attained) = (Vec::new(), 0_u64);
    let all = scenario.arrivals.iter().zip(&run.records);
    for (arrival, record) in all.filter(|(arrival, _)| arrival.at >= scenario.warm) {
        row.requests += 1;
        let took = record.first_token.map(|at| at.since(arrival.at));
        first.extend(took.map(Span::as_secs_f64));
        if record.fate != Some(Fate::Served) {
            row.lost += 1;
            continue;
        }
        let goal = scaling.goal(scenario.tenants[arrival.tenant as usize].band);
        let in_time = goal.ttft.is_none_or(|goal| took.is_some_and(|took| took <= goal));
        let whole = record.end.zip(record.first_token).map(|(end, first)| end.since(first));
        let tokens = f64::from(arrival.output.saturating_sub(1).max(1));
        let each = whole.map_or(0.0, |whole| whole.as_secs_f64() / tokens);
        let in_pace = goal.tpot.is_none_or(|goal| each <= goal.as_secs_f64());
        attained += u64::from(in_time && in_pace);
    }
    row.attained = (attained as f64 / row.requests.max(1) as f64).into();
    row.first_token = Times::of(first);
    let hours = |seconds: f64| seconds / 3600.0;
    let spot_price = scaling.spot.as_ref().map_or(scaling.price, |spot| spot.price);
    let (awake, spot) = (hours(fleet.on_demand_seconds), hours(fleet.spot_seconds));
    let asleep = hours(fleet.asleep_seconds);
    row.hours = (awake + spot).into();
    row.asleep_hours = asleep.into();
    let cost = (awake + asleep * scaling.asleep_part) * scaling.price + spot * spot_price;
    row.cost = cost.into();
    (row.changes, row.flaps) = changes(fleet);
    Some(row)
}

/// Changes, and those that took back another soon after it.
fn changes(fleet: &Fleet) -> (u64, u64) {
    let (mut changes, mut flaps) = (0, 0);
    let mut last: Option<(Time, bool)> = None;
    for pair in fleet.wanted.windows(2) {
        let [(_, before), (at, after)] = pair else { continue };
        let up = after > before;
        changes += 1;
        if last.is_some_and(|(then, was_up)| was_up != up && at.since(then) <= FLAP) {
            flaps += 1;
        }
        last = Some((*at, up));
    }
    (changes, flaps)
}
