//! Scenarios: YAML that says who sends what to which engines, under which scheduler, and what goes
//! wrong meanwhile.
//!
//! A file is read, checked and resolved into a [`Scenario`], in which nothing is left to decide: every
//! arrival has its moment. Traces are named, not contained; whoever calls reads them.

mod builtin;
mod error;
mod resolve;
mod scaling;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use pilotage_core::admit::Quota;
use pilotage_core::{Band, SchedulerConfig, Span, TenantTree, Time};

pub use builtin::{Builtin, builtins, find};
pub use error::ScenarioError;
pub use scaling::{Scaling, Spot};

use crate::Arrival;
use crate::engine::EngineModel;
use crate::metrics::{Cost, Ticks};
use crate::rival::Route;

/// Most replicas.
pub const REPLICAS_MAX: u32 = 1000;

/// When nothing ever comes.
pub const NEVER: Time = Time::from_nanos(u64::MAX);

/// Most tenants of a scenario.
pub const TENANTS_MAX: u32 = 100_000;

/// A scenario, ready to be run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is about; may be empty.
    pub description: String,
    /// The seed of everything that happens by chance.
    pub seed: u64,
    /// What replicas are like, unless they say otherwise.
    pub engine: EngineModel,
    /// All of them.
    pub replicas: Vec<Replica>,
    /// How they are picked, where prompts are looked at; without, by their load.
    pub route: Option<Route>,
    /// How turns are given.
    pub config: SchedulerConfig,
    /// Whether everybody waits in one line.
    pub one_line: bool,
    /// The paper's limit on requests in any 60 seconds.
    pub requests_per_minute: Option<u32>,
    /// Who shares with whom. A tenant's id is its place in `tenants`.
    pub tree: TenantTree,
    /// All tenants.
    pub tenants: Vec<Tenant>,
    /// All requests, in order of time.
    pub arrivals: Vec<Arrival>,
    /// How the fleet grows and shrinks, where it does.
    pub scaling: Option<Scaling>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Which arrival is a request sent again whose client gave up, by the places of both. Those that are sent
    /// again come at the end of time unless that happens.
    pub again: BTreeMap<usize, usize>,
    /// Requests that come before it fill caches, and are not compared.
    pub warm: Time,
    /// When fairness is looked at.
    pub ticks: Ticks,
    /// What a token costs, in reports.
    pub cost: Cost,
    /// The scheduler in a few words.
    pub policy: String,
}

/// One replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// What it is like.
    pub engine: EngineModel,
    /// How many times longer everything takes there.
    pub slowness: f64,
    /// How far it is, there and back.
    pub network: Span,
    /// A number for its region.
    pub region: u16,
}

/// A tenant, and what its requests have in common.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: f64,
    /// How urgent its requests are.
    pub band: Band,
    /// Its limits.
    pub quota: Quota,
    /// How long a request waits for its turn.
    pub deadline: Option<Span>,
    /// How long until a first token is worth nothing.
    pub answer_by: Option<Span>,
    /// How long a client waits that has seen nothing.
    pub patience: Option<Span>,
}

/// Something goes wrong with a replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// From when.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// Where.
    pub replica: u32,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// The replica dies with all that runs there, and is started again.
    Down,
    /// Everything takes so many times longer.
    Slow(f64),
    /// It does not report how full it is.
    Blind,
    /// Somebody else holds so many of its KV tokens.
    Foreign(u64),
    /// It stands still, with all that runs there, and is said to be well.
    Hung,
    /// It computes to the end what was called off.
    Leaky,
}

impl Scenario {
    /// Seconds in which those requests come that are compared; at least one.
    pub fn counted_seconds(&self) -> f64 {
        let last = self.arrivals.last().map_or(self.warm, |arrival| arrival.at);
        last.since(self.warm).as_secs_f64().max(1.0)
    }

    /// Reads a scenario. `file` is its name in errors; `seed` takes the place of its own; `read` gives
    /// the text of a trace that it names, or why there is none.
    ///
    /// # Errors
    /// The first mistake, with its line and field.
    pub fn read(
        file: &str,
        text: &str,
        seed: Option<u64>,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, ScenarioError> {
        let wrong = |error: ScenarioError| error.in_file(file);
        let mut parsed = parse(text).map_err(wrong)?;
        parsed.seed = seed.unwrap_or(parsed.seed);
        resolve::resolve(parsed, read).map_err(wrong)
    }
}

/// Largest scenario file in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

fn parse(text: &str) -> Result<schema::File, ScenarioError> {
    if text.len() > FILE_BYTES_MAX {
        let problem =
            format!("{} bytes, at most {FILE_BYTES_MAX}: name traces by file", text.len());
        return Err(ScenarioError::new(0, "", problem));
    }
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let mut track = serde_path_to_error::Track::new();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        serde::Deserialize::deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track))
    });
    read.map_err(|error| ScenarioError::of_yaml(&error, &track.path().to_string()))
}
