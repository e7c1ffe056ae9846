//! Copies that follow the load on this machine: what the autoscaler of `core` decides from what the
//! gateway sees, as processes of the plan that run, sleep, or do not run at all.
//!
//! The autoscaler says how many; which ones, and whether the machine has room for another, is said
//! here. Nothing is stopped here: who runs processes drains those that are not among the wanted ones.

mod naps;
mod scaled;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_core::{Span, Time};
use pilotage_gateway::Gateway;
use pilotage_operator::local::{Placed, START_TIMEOUT, State, taken_kib};
use pilotage_plan::scaling::Turns;
use pilotage_plan::update::{NEXT, model_of};
use pilotage_plan::{Plan, api};
use pilotage_shell::clock::Clock;
use serde::Serialize;
use serde_json::Value;

pub(super) use naps::{Access, Done, Naps};
pub(super) use scaled::is_of;
use scaled::{Hindrance, Scaled, View, is_busy};

/// Between two decisions, where nobody waits for one.
const EVERY: Span = Span::from_secs(1);

/// How long a start takes on one machine, until one was measured.
const START: Span = Span::from_secs(30);

/// For how long what was seen last still holds of a Model that is looked at now and then.
const BLIND: Span = Span::from_secs(5);

/// Whether another process that takes so many kibibytes has room, with the weights at that path.
type Memory = fn(u64, &Path) -> bool;

/// The models whose copies follow the load.
pub(super) struct Scaling {
    models: BTreeMap<String, Scaled>,
    /// How many processes the others have.
    fixed: BTreeMap<String, usize>,
    /// Since when nobody uses those of them that were looked at, and when that was last.
    quiet: BTreeMap<String, (Time, Time)>,
    shown: Arc<Mutex<BTreeMap<String, Shown>>>,
    /// Who has a place where there is none for all.
    turns: Turns,
    memory: Memory,
    clock: Clock,
}

/// What the status tells of a model.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Copies that are to serve.
    awake: u32,
    /// Copies that are to sleep.
    asleep: u32,
    /// Copies there are: on their way, serving or asleep.
    now: u32,
    /// Why so many are wanted.
    why: String,
    /// Milliseconds since another number was wanted.
    #[serde(rename = "forMs")]
    since: u64,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Task {
    /// Other processes are wanted.
    Set,
    /// This one is to sleep.
    Sleep(String),
    /// This one is to wake up.
    Wake(String),
}

impl Scaling {
    pub(super) fn new(clock: Clock, memory: Memory) -> Self {
        let (models, fixed, quiet) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (shown, turns) = (Arc::default(), Turns::default());
        Self { models, fixed, quiet, shown, turns, memory, clock }
    }

    /// The models from now on. `served` has those of plans before as well, whose copies stay as they
    /// are until they are gone.
    pub(super) fn set(&mut self, plan: &Plan, served: &Plan) {
        let now = self.now();
        self.models.retain(|name, _| served.lane(name).is_some());
        self.fixed.retain(|name, _| served.lane(name).is_some());
        for lane in &served.lanes {
            if plan.lane(&lane.name).is_none() {
                self.models.get_mut(&lane.name).into_iter().for_each(Scaled::freeze);
                continue;
            }
            let names = plan.processes.iter().filter(|process| process.lane == lane.name);
            let names: Vec<String> = names.map(|process| process.name.clone()).collect();
            let Some(said) = lane.scaling.filter(|_| !names.is_empty()) else {
                self.models.remove(&lane.name);
                // Copies of a version on trial are copies of its Model.
                let own = plan.processes.iter().map(|process| model_of(&process.lane));
                let there = own.filter(|model| *model == lane.name).count();
                self.fixed.insert(lane.name.clone(), there);
                continue;
            };
            let first = plan.processes.iter().find(|process| process.lane == lane.name);
            let place = first.map(|process| process.devices.join(","));
            let place = place.filter(|devices| !devices.is_empty());
            let start = first.and_then(|process| process.readiness.start_seconds);
            let start = Span::from_secs(start.map_or(START_TIMEOUT.as_secs(), u64::from));
            match self.models.get_mut(&lane.name) {
                Some(model) => model.set(said, names),
                None => {
                    // Those that run may be needed: what is not, goes by the load.
                    let there = self.fixed.remove(&lane.name).unwrap_or(0);
                    let there = if self.rests(now, &lane.name, &said) { 0 } else { there };
                    let model = Scaled::new(now, said, (names, there));
                    self.models.extend(model.map(|model| (lane.name.clone(), model)));
                }
            }
            self.models
                .get_mut(&lane.name)
                .into_iter()
                .for_each(|model| model.settle(place.clone(), start));
        }
        self.quiet.retain(|name, _| self.fixed.contains_key(name));
        let follows = |name: &str| self.models.get(name).is_some_and(|model| !model.is_frozen());
        self.turns.retain(follows);
        self.show(now);
    }

    /// How many copies of a model are to run, where they follow the load by that, or nobody needs any.
    pub(super) fn runs(&self, model: &str, said: Option<&api::Scaling>) -> Option<u32> {
        let rests = |said: &api::Scaling| self.rests(self.now(), model, said).then_some(0);
        self.models.get(model).map(Scaled::runs).or_else(|| said.and_then(rests))
    }

    /// Whether its copies follow the load.
    pub(super) fn follows(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }

    /// Whether there are any.
    pub(super) fn is_needed(&self) -> bool {
        !self.models.is_empty()
    }

    /// The processes that are to run, of those that may.
    pub(super) fn pick(&self, mut processes: Vec<Placed>) -> Vec<Placed> {
        processes.retain(|placed| {
            let model = self.models.get(&placed.spec.lane);
            model.is_none_or(|model| model.wants(&placed.spec.name))
        });
        processes
    }

    /// Decides where it is time to, and says what has to be done.
    pub(super) fn decide(
        &mut self,
        gateway: &Gateway,
        states: &BTreeMap<String, State>,
        naps: &Naps,
        processes: &[Placed],
    ) -> Vec<Task> {
        let (now, memory) = (self.now(), self.memory);
        let coming = self.models.iter().filter(|(_, model)| model.is_coming(now));
        let mut coming: Vec<String> = coming.map(|(name, _)| name.clone()).collect();
        let mut tasks = Vec::new();
        for (name, model) in &mut self.models {
            let Some(lane) = gateway.lane(name) else { continue };
            if !model.is_due(now) && !lane.is_held() {
                continue;
            }
            let (signals, _) = lane.signals();
            let hindrance = |kib: u64| {
                let own = processes.iter().find(|placed| placed.spec.lane == *name)?;
                if !own.spec.devices.is_empty() {
                    // It starts when nobody else has them.
                    return is_taken(own, states, processes).then_some(Hindrance::Taken);
                }
                if !memory(kib, &own.weights) {
                    return Some(Hindrance::NoMemory);
                }
                coming.iter().any(|other| other != name).then_some(Hindrance::Starting)
            };
            let before = model.runs();
            let view = View { states, naps, taken: &taken_kib, hindrance: &hindrance };
            tasks.extend(model.decide(now, name, signals, &view, &mut self.turns));
            // It has not taken its memory yet.
            coming.extend((model.runs() > before).then(|| name.clone()));
        }
        self.show(now);
        tasks
    }

    /// Looks at Models whose copies stay for now, as a version of them is tried out.
    pub(super) fn look(&mut self, gateway: &Gateway) {
        let now = self.now();
        for name in self.fixed.keys() {
            let lanes = [gateway.lane(name), gateway.lane(&format!("{name}{NEXT}"))];
            let mut seen = lanes.into_iter().flatten().map(|lane| lane.signals().0);
            if seen.any(|signals| is_busy(&signals)) {
                self.quiet.remove(name);
            } else {
                let (since, last) = self.quiet.get(name).copied().unwrap_or((now, now));
                let since = if now.since(last) <= BLIND { since } else { now };
                self.quiet.insert(name.clone(), (since, now));
            }
        }
    }

    /// Whether nobody uses a Model whose copies stay for now for as long as would end them otherwise.
    fn rests(&self, now: Time, model: &str, said: &api::Scaling) -> bool {
        let idle = Span::from_secs(said.idle_seconds.into());
        let since = self.quiet.get(model).filter(|_| said.takes_turns());
        since.is_some_and(|(since, last)| now.since(*last) <= BLIND && last.since(*since) >= idle)
    }

    /// A process takes requests: how long that took, where it was started for the load.
    pub(super) fn ready(&mut self, lane: &str, name: &str) -> Option<Span> {
        let now = self.now();
        self.models.get_mut(lane)?.ready(now, name)
    }

    /// A process that was asked to sleep or to wake up does not: it is started anew.
    pub(super) fn replace(&mut self, lane: &str, name: &str) {
        self.models.get_mut(lane).into_iter().for_each(|model| model.replace(name));
    }

    /// It is gone; whether it is to be started again.
    pub(super) fn gone(&mut self, name: &str) -> bool {
        self.models.values_mut().any(|model| model.gone(name))
    }

    /// What the status tells.
    pub(super) fn status(&self) -> impl Fn() -> Value + Send + Sync + use<> {
        let (shown, clock) = (Arc::clone(&self.shown), self.clock);
        move || {
            let now = clock.now_nanos();
            let aged = shown.lock().clone().into_iter().map(|(name, one)| {
                let since = now.saturating_sub(one.since) / 1_000_000;
                (name, Shown { since, ..one })
            });
            let aged: BTreeMap<String, Shown> = aged.collect();
            serde_json::to_value(aged).unwrap_or_default()
        }
    }

    fn show(&self, now: Time) {
        let shown = self.models.iter().map(|(name, model)| (name.clone(), model.shown(now)));
        *self.shown.lock() = shown.collect();
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }
}

/// Whether a process of another Model has accelerators of this one, and does not end by itself.
fn is_taken(own: &Placed, states: &BTreeMap<String, State>, processes: &[Placed]) -> bool {
    let meets = |other: &&Placed| {
        let has = |id: &String| own.spec.devices.contains(id);
        model_of(&other.spec.lane) != model_of(&own.spec.lane) && other.spec.devices.iter().any(has)
    };
    let stays = |state: &State| !matches!(state.phase, "retiring" | "stopped");
    processes.iter().filter(meets).any(|other| {
        states.iter().any(|(name, state)| is_of(name, &other.spec.name) && stays(state))
    })
}
