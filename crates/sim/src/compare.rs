//! The same requests, placed in several ways: what each came to, side by side.
//!
//! Refused and unfinished requests are always shown: a policy that turns the slowest away would look
//! fast by its times alone. Requests that come while caches are still cold do not count.

use pilotage_core::Span;
use serde::Serialize;

use crate::report::Rounded;
use crate::rival::Route;
use crate::run::{Fate, Options, Run, run};
use crate::scenario::Scenario;

/// What several ways of placing came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// What it is about.
    pub description: String,
    /// The engines.
    pub setting: String,
    /// The seed of everything that happens by chance.
    pub seed: u64,
    /// The command that gives this comparison again.
    pub replay: String,
    /// One for each way, in the order asked for.
    pub rows: Vec<Row>,
}

/// What one way came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub policy: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Requests that count.
    pub requests: u64,
    /// Those that were turned away.
    pub refused: u64,
    /// Those that neither were nor got their whole answer.
    pub unfinished: u64,
    /// Times to the first token, in seconds.
    pub first_token: Times,
    /// Times to the last token, in seconds.
    pub last_token: Times,
    /// The part of all prompt tokens that was found in caches.
    pub hit_rate: Rounded,
    /// The part that the placing believed to be there; only our own say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hoped: Option<Rounded>,
    /// Tokens of answers a second, until the last one.
    pub tokens_per_second: Rounded,
    /// How long the busiest replica computed, as a multiple of the mean.
    pub imbalance: Rounded,
}

/// A summary of times, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// The average.
    pub mean: Rounded,
    /// Half are at most this.
    pub p50: Rounded,
    /// 95 of 100 are.
    pub p95: Rounded,
    /// 99 of 100 are.
    pub p99: Rounded,
}

/// Plays a scenario once for each way of placing.
pub fn compare(
    scenario: &Scenario,
    routes: &[Route],
    replay: &str,
    progress: &mut dyn FnMut(usize, usize),
) -> Comparison {
    let mut scenario = scenario.clone();
    let count = scenario.arrivals.len();
    let mut rows = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        scenario.route = Some(*route);
        let run = run(&scenario, Options::default(), &mut |done, _| {
            progress(at * count + done, routes.len() * count);
        });
        rows.push(row(&scenario, *route, &run));
    }
    Comparison {
        scenario: scenario.name.clone(),
        description: scenario.description.clone(),
        setting: format!("{} × {}", scenario.replicas.len(), scenario.engine.name),
        seed: scenario.seed,
        replay: replay.to_owned(),
        rows,
    }
}

/// What a run came to.
pub fn row(scenario: &Scenario, route: Route, run: &Run) -> Row {
    let all = scenario.arrivals.iter().zip(&run.records);
    let mut row = Row { policy: route.name(), about: route.about(), ..Row::default() };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let (mut prompt, mut cached, mut hoped, mut answer) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (arrival, record) in all.filter(|(arrival, _)| arrival.at >= scenario.warm) {
        row.requests += 1;
        match record.fate {
            Some(Fate::Served) => {
                let end = record.end.unwrap_or(arrival.at);
                last.push(end.since(arrival.at).as_secs_f64());
            }
            Some(Fate::Refused(_)) => row.refused += 1,
            _ => row.unfinished += 1,
        }
        if let Some(at) = record.first_token {
            first.push(at.since(arrival.at).as_secs_f64());
            prompt += u64::from(arrival.input);
            cached += u64::from(record.cached);
            hoped += u64::from(record.hoped);
        }
        answer += u64::from(record.generated);
    }
    let seconds = run.end.since(scenario.warm).as_secs_f64().max(1e-9);
    row.first_token = Times::of(first);
    row.last_token = Times::of(last);
    row.hit_rate = (cached as f64 / prompt.max(1) as f64).into();
    let hoped = hoped as f64 / prompt.max(1) as f64;
    row.hoped = (!route.is_direct()).then(|| hoped.into());
    row.tokens_per_second = (answer as f64 / seconds).into();
    row.imbalance = imbalance(&run.busy).into();
    row
}

fn imbalance(busy: &[Span]) -> f64 {
    let sum: f64 = busy.iter().map(|span| span.as_secs_f64()).sum();
    let most = busy.iter().map(|span| span.as_secs_f64()).fold(0.0, f64::max);
    if sum > 0.0 { most * busy.len() as f64 / sum } else { 1.0 }
}

impl Times {
    pub(crate) fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let rank = (part * times.len() as f64).ceil() as usize;
            times.get(rank.max(1) - 1).copied().unwrap_or(0.0).into()
        };
        let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
        Self { mean: mean.into(), p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}
