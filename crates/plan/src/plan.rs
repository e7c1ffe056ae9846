//! The plan: everything that shall run, as one immutable value that leaves no choice to execution.
//!
//! The same resources and the same world give the same plan, byte for byte. It prints as tables,
//! serialises to JSON, and [`Plan::changes_from`] says what differs from an earlier one.
//!
//! Threads: with more than two cores one is left for the gateway, and the rest is split evenly
//! over the replicas that name no number of their own, at least one each. With one or two cores
//! there is nothing to spare: replicas share all of them, and the gateway runs in between.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::{TenantId, TenantTree, TreeError};
use serde::Serialize;
use thiserror::Error;

use crate::api::{self, Fleet, FleetKind, Model, RouteSpec, ScaleBy, Scaling};
use crate::ground;
use crate::lane::{self, EndpointSpec, Lane};
use crate::machine::{self, Machine, Mistake};
use crate::manifest::{Problem, mistake};
use crate::pods::{self, Pod};
use crate::render::kubernetes::fleet_of;
use crate::render::{self, ProcessSpec, WeightsSpec};
use crate::routes::{self, Route, implied_routes};
use crate::tenants::{TenantSpec, tenants};
use crate::{ManifestError, Resource, WeightsSource, World, manifest};

pub use crate::table::{Change, Changes};

/// Most processes of one plan: each takes memory and threads of one machine.
pub const PROCESSES_MAX: u32 = 256;

/// Most endpoints of one plan: each is looked at every few seconds by one gateway.
pub const ENDPOINTS_MAX: u32 = 1024;

/// Everything that shall run on one machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Plan {
    /// Processes, by model and replica.
    pub processes: Vec<ProcessSpec>,
    /// Engines that run elsewhere, by model, as manifests list them.
    pub endpoints: Vec<EndpointSpec>,
    /// The queues, one for each model.
    pub lanes: Vec<Lane>,
    /// What clients can ask for, and which lanes serve it.
    pub routes: Vec<Route>,
    /// Who may use it, as a tree read from top to bottom: who belongs to a tenant comes after it and
    /// before the next of the tenant's level, in the order of names.
    pub tenants: Vec<TenantSpec>,
    /// What a reader of the plan had better know.
    pub notes: Vec<String>,
}

/// Why there is no plan.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PlanError {
    /// The resources contradict each other, or one of them is not valid. Whoever wrote them can
    /// put it right.
    #[error("{}", manifest::join(.0))]
    Resources(Vec<ManifestError>),
    /// Nothing was asked for.
    #[error("no Model is defined, so there is nothing to run; add a resource of kind Model")]
    NoModel,
    /// The replicas of all models together are more than [`PROCESSES_MAX`].
    #[error(
        "{wanted} replicas are asked for, at most {PROCESSES_MAX} fit one plan; lower \
         spec.replicas of a Model"
    )]
    TooManyProcesses {
        /// How many.
        wanted: u64,
    },
    /// The endpoints of all models together are more than [`ENDPOINTS_MAX`].
    #[error(
        "{wanted} endpoints are named, at most {ENDPOINTS_MAX} fit one plan; put a load balancer in \
         front of some, or serve some Models from another gateway"
    )]
    TooManyEndpoints {
        /// How many.
        wanted: usize,
    },
    /// The weights do not fit the memory.
    #[error(
        "the weights need {needed} bytes of memory and {available} bytes are there; use smaller \
         weights, remove a Model, or raise spec.memoryBytes of the Fleet if it is too low"
    )]
    Memory {
        /// Bytes of all weights whose size is known, each file once; of models that take turns the largest.
        needed: u64,
        /// Bytes that the fleet or the machine has.
        available: u64,
    },
    /// The tenants are no tree, or too many.
    #[error("the tenants do not fit together: {0}; change their spec.parent and spec.share")]
    Tenants(#[from] TreeError),
}

/// Decides what runs where.
///
/// # Errors
/// [`PlanError`] when the resources contradict each other or do not fit the world.
pub fn plan(resources: &[Resource], world: &World) -> Result<Plan, PlanError> {
    plan_parts(resources, world, &Parts::new())
}

/// What a plan has of a Model's copies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// The version that they are of, where their names say it; empty where they do not.
    pub(crate) tag: String,
    /// How many there are at most.
    pub(crate) copies: Option<u32>,
}

/// By Models' names; of others everything.
pub(crate) type Parts = BTreeMap<String, Part>;

/// The same with parts of Models' copies. Threads are divided as if there were all of them, so that a copy is
/// the same process however many there are beside it.
///
/// # Errors
/// As [`plan`].
pub(crate) fn plan_parts(
    resources: &[Resource],
    world: &World,
    parts: &Parts,
) -> Result<Plan, PlanError> {
    let errors = manifest::check(resources);
    if !errors.is_empty() {
        return Err(PlanError::Resources(errors));
    }
    let (resources, chosen) = machine::chosen(resources, world);
    let wanted = Wanted::from_resources(&resources);
    wanted.check_count(world)?;
    wanted.check_memory(world)?;
    let mut machine = Machine::of(world);
    let mut processes = wanted.processes(&mut machine, world, parts)?;
    ground::settle(&mut processes, wanted.fleet, wanted.threads(world), world);
    let endpoints = wanted.models.iter().flat_map(|model| lane::endpoints(model)).collect();
    let (mut lanes, routes) = wanted.lanes_and_routes();
    for lane in &mut lanes {
        let own = processes.iter().filter(|process| process.lane == lane.name);
        let own: Vec<String> = own.map(|process| process.name.clone()).collect();
        lane.replicas.retain(|name| name.contains('@'));
        lane.replicas.splice(..0, own);
    }
    let tenants = tenants(&resources);
    let mut notes = chosen;
    notes.append(&mut machine.notes);
    notes.extend(wanted.notes(world, &processes, &tenants));
    let plan = Plan { processes, endpoints, lanes, routes, tenants, notes };
    plan.check_tenants()?;
    Ok(plan)
}

/// Decides what a gateway of a cluster serves: Models whose copies are those pods, by the Models' names, or
/// that run elsewhere. Nothing runs here, and there may be nothing at all.
///
/// # Errors
/// [`PlanError`] when the resources contradict each other.
pub fn serve(resources: &[Resource], pods: &BTreeMap<String, Vec<Pod>>) -> Result<Plan, PlanError> {
    let errors = manifest::check(resources);
    if !errors.is_empty() {
        return Err(PlanError::Resources(errors));
    }
    let wanted = Wanted::from_resources(resources);
    let of = |model: &&Model| {
        let pods = pods.get(model.name()).map(Vec::as_slice).unwrap_or_default();
        let pods = pods::endpoints(model, fleet_of(model, resources), pods);
        lane::endpoints(model).chain(pods).collect::<Vec<EndpointSpec>>()
    };
    let endpoints = wanted.models.iter().flat_map(of).collect();
    let (mut lanes, routes) = wanted.lanes_and_routes();
    for lane in &mut lanes {
        // Those of processes: there are none here, and pods come and go without a change of the lane.
        lane.replicas.retain(|name| name.contains('@'));
    }
    let (tenants, notes) = (tenants(resources), Vec::new());
    let plan = Plan { processes: Vec::new(), endpoints, lanes, routes, tenants, notes };
    plan.check_tenants()?;
    Ok(plan)
}

/// The resources by kind, in the order of names, so that the order of files changes nothing.
struct Wanted<'a> {
    models: Vec<&'a Model>,
    routes: Vec<&'a api::Route>,
    fleet: Option<&'a Fleet>,
}

impl<'a> Wanted<'a> {
    fn from_resources(resources: &'a [Resource]) -> Self {
        let mut wanted = Self { models: Vec::new(), routes: Vec::new(), fleet: None };
        for resource in resources {
            match resource {
                Resource::Model(model) => wanted.models.push(model),
                Resource::Route(route) => wanted.routes.push(route),
                Resource::Fleet(fleet) if fleet.spec.kind == FleetKind::Cpu => {
                    wanted.fleet = Some(fleet);
                }
                Resource::Fleet(_) | Resource::Tenant(_) => {}
            }
        }
        wanted.models.sort_by_key(|model| model.name());
        wanted.routes.sort_by_key(|route| route.name());
        wanted
    }

    fn check_count(&self, world: &World) -> Result<(), PlanError> {
        if self.models.is_empty() {
            return Err(PlanError::NoModel);
        }
        let wanted = self.models.iter().map(|model| u64::from(copies(model, world))).sum();
        if wanted > u64::from(PROCESSES_MAX) {
            return Err(PlanError::TooManyProcesses { wanted });
        }
        let wanted = self.models.iter().map(|model| model.spec.endpoints.len()).sum();
        if wanted > ENDPOINTS_MAX as usize {
            return Err(PlanError::TooManyEndpoints { wanted });
        }
        Ok(())
    }

    /// Replicas map the same file into memory, so each file counts once, and of models that take turns the largest
    /// one alone. The KV cache comes on top and is known only once the weights are read, so this is a lower bound.
    fn check_memory(&self, world: &World) -> Result<(), PlanError> {
        let fleet = self.fleet.and_then(|fleet| fleet.spec.memory_bytes);
        let Some(available) = fleet.or(world.memory_bytes) else { return Ok(()) };
        let here = self
            .models
            .iter()
            // What runs on accelerators has to fit those.
            .filter(|model| world.gpus.is_empty() || model.spec.is_embedded());
        let (mut stays, mut turns) = (BTreeSet::new(), BTreeSet::new());
        for model in here {
            let (Some(source), Some(bytes)) = (&model.spec.source, model.spec.size_bytes) else {
                continue;
            };
            let takes_turns = model.spec.scaling.as_ref().is_some_and(Scaling::takes_turns);
            let files = if takes_turns { &mut turns } else { &mut stays };
            files.insert((source, bytes));
        }
        let most = turns.difference(&stays).map(|(_, bytes)| *bytes).max();
        let stay = stays.iter().map(|(_, bytes)| *bytes);
        let needed = stay.chain(most).fold(0, u64::saturating_add);
        if needed > available {
            return Err(PlanError::Memory { needed, available });
        }
        Ok(())
    }

    fn processes(
        &self,
        machine: &mut Machine<'_>,
        world: &World,
        parts: &Parts,
    ) -> Result<Vec<ProcessSpec>, PlanError> {
        let all = self.copies(world, parts);
        let later: Vec<String> = all.iter().flat_map(|copies| copies.later()).collect();
        machine.yields(later.iter().map(String::as_str));
        let mut processes = Vec::new();
        let mut errors = Vec::new();
        let mut wrong = BTreeSet::new();
        for turn in [Turn::Always, Turn::First, Turn::Shared, Turn::More] {
            machine.share(turn == Turn::Shared);
            for (at, copies) in all.iter().enumerate() {
                let Copies { model, source, .. } = *copies;
                for (index, threads) in (0..).zip(&copies.threads) {
                    let is_there = processes.iter().any(|(place, _)| *place == (at, index));
                    if is_there || wrong.contains(&at) || !turn.has(model, index) {
                        continue;
                    }
                    let name = copies.name(index);
                    match machine.replica(model, source, (name, index, *threads)) {
                        Ok(process) => processes.push(((at, index), process)),
                        Err(mistake) if turn.forgives(&mistake) => break,
                        Err(Mistake { field, text, .. }) => {
                            errors.push(mistake(&model.origin, field, Problem::Value(text)));
                            wrong.insert(at);
                        }
                    }
                }
            }
        }
        processes.sort_by_key(|(place, _)| *place);
        let processes = processes.into_iter().map(|(_, process)| process).collect();
        if errors.is_empty() { Ok(processes) } else { Err(PlanError::Resources(errors)) }
    }

    /// The copies of each model that runs here, each with its threads.
    fn copies(&self, world: &World, parts: &'a Parts) -> Vec<Copies<'a>> {
        let mut shares = self.shares(world).into_iter();
        let mut all = Vec::new();
        for model in &self.models {
            let Some(source) = &model.spec.source else { continue };
            let threads = |_| model.spec.threads.or_else(|| shares.next()).unwrap_or(1);
            let mut threads: Vec<u32> = (0..copies(model, world)).map(threads).collect();
            let part = parts.get(model.name());
            if let Some(most) = part.and_then(|part| part.copies) {
                threads.truncate(most as usize);
            }
            let tag = part.map_or("", |part| part.tag.as_str());
            all.push(Copies { model, source, threads, tag });
        }
        all
    }

    /// Threads for each replica whose model does not say, in order; see the module's rule.
    fn shares(&self, world: &World) -> Vec<u32> {
        let total = |model: &Model| model.spec.threads.unwrap_or(0) * copies(model, world);
        let taken = self.models.iter().map(|model| total(model)).fold(0, u32::saturating_add);
        let left = self.threads(world).saturating_sub(taken);
        let open = self.models.iter().filter(|model| model.spec.threads.is_none());
        let count: u32 = open.map(|model| copies(model, world)).sum();
        (0..count).map(|index| share(left, count, index).max(1)).collect()
    }

    fn threads(&self, world: &World) -> u32 {
        let cores = world.cores.max(1);
        let spare = if cores > 2 { cores - 1 } else { cores };
        self.fleet.and_then(|fleet| fleet.spec.threads).unwrap_or(spare)
    }

    fn lanes_and_routes(&self) -> (Vec<Lane>, Vec<Route>) {
        let implied: Vec<api::Route> = implied_routes(&self.models, &self.routes)
            .into_iter()
            .map(|model| {
                let name = model.metadata.name.clone();
                api::Route::new(name.clone(), RouteSpec::to_model(name))
            })
            .collect();
        let mut all: Vec<&api::Route> = self.routes.iter().copied().chain(&implied).collect();
        all.sort_by_key(|route| route.name());
        let lanes = self.models.iter().map(|model| lane::lane(model, &all)).collect();
        (lanes, all.iter().map(|route| routes::route(route, &self.models)).collect())
    }

    fn notes(
        &self,
        world: &World,
        processes: &[ProcessSpec],
        tenants: &[TenantSpec],
    ) -> Vec<String> {
        let mut notes = Vec::new();
        for model in &self.models {
            let is_remote = model.spec.source.as_ref().is_some_and(|source| !source.is_local());
            if model.spec.digest.is_none() && is_remote {
                let name = model.name();
                notes.push(format!("the download for {name} is not verified: no digest is given"));
            }
        }
        for model in &self.models {
            let idle = model.spec.on_cluster();
            if !idle.is_empty() {
                let (name, idle) = (model.name(), idle.join(", "));
                notes.push(format!("{name}: on Kubernetes only, so it has no effect here: {idle}"));
            }
        }
        self.scaling_notes(processes, &mut notes);
        self.endpoint_notes(&mut notes);
        let threads = processes.iter().map(|process| process.threads).fold(0, u32::saturating_add);
        if threads > world.cores.max(1) {
            let cores = world.cores.max(1);
            notes.push(format!("{threads} threads share {cores} cores, so replicas slow down"));
        }
        if !world.gpus.is_empty() && self.models.iter().any(|model| model.spec.is_embedded()) {
            let names: Vec<_> = world.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
            let names = names.join(", ");
            notes.push(format!("not used: {names} (the embedded engine runs on the CPU)"));
        }
        let has_budget = tenants.iter().any(|tenant| !tenant.quota.budgets.is_empty());
        if has_budget && self.models.iter().all(|model| model.spec.price.is_none()) {
            notes.push("budgets limit nothing: no Model has a price".to_owned());
        }
        notes
    }

    fn scaling_notes(&self, processes: &[ProcessSpec], notes: &mut Vec<String>) {
        for model in &self.models {
            let Some(scaling) = &model.spec.scaling else { continue };
            let name = model.name();
            let room = processes.iter().filter(|process| process.lane == name).count();
            if room < scaling.max as usize {
                let max = scaling.max;
                notes.push(format!(
                    "{name}: this machine has room for {room} of at most {max} copies"
                ));
            }
            let own = processes.iter().filter(|process| process.lane == name);
            let devices: BTreeSet<&String> = own.flat_map(|process| &process.devices).collect();
            let others = processes.iter().filter(|process| process.lane != name);
            let meets =
                |process: &&ProcessSpec| process.devices.iter().any(|id| devices.contains(id));
            if let Some(other) = others.into_iter().find(meets) {
                notes.push(format!(
                    "{name} and {} take turns: this machine has accelerators for one of them at a time",
                    other.lane
                ));
            }
            if scaling.by != ScaleBy::Pilotage {
                notes
                    .push(format!("{name}: `scaling.by` is for Kubernetes; here Pilotage decides"));
            }
        }
    }

    fn endpoint_notes(&self, notes: &mut Vec<String>) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for model in &self.models {
            let name = model.name();
            for endpoint in &model.spec.endpoints {
                let url = endpoint.url.as_str();
                let has_key = endpoint.key_file.is_some() || endpoint.key_env.is_some();
                if has_key && !endpoint.url.is_private() {
                    notes.push(format!("the key for {url} travels readable: it is no https URL"));
                }
                if let Some(first) = seen.insert(url, name) {
                    notes.push(format!(
                        "{first} and {name} share {url}, and each fills its places by itself"
                    ));
                }
            }
        }
    }
}

/// The copies of a model on one machine.
struct Copies<'a> {
    model: &'a Model,
    source: &'a WeightsSource,
    /// Of each.
    threads: Vec<u32>,
    /// The version that their names say.
    tag: &'a str,
}

impl Copies<'_> {
    fn name(&self, index: u32) -> String {
        render::process::name_of(self.model, self.tag, index)
    }

    /// Names of those that only come when there is work for them.
    fn later(&self) -> impl Iterator<Item = String> {
        let first = self.model.spec.processes_min();
        (0..)
            .zip(&self.threads)
            .map(|(index, _)| index)
            .filter(move |index| *index >= first)
            .map(|index| self.name(index))
    }
}

/// In which order copies get a place: what has to be there goes before what only comes when there is work for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// Copies that have to be there.
    Always,
    /// The first ones of models that take turns, each with accelerators of its own,
    First,
    /// or with those of others.
    Shared,
    /// All beyond that.
    More,
}

impl Turn {
    fn has(self, model: &Model, index: u32) -> bool {
        let takes_turns = model.spec.scaling.as_ref().is_some_and(Scaling::takes_turns);
        match self {
            Self::Always => !takes_turns && index < model.spec.processes_min(),
            Self::First | Self::Shared => takes_turns && index < model.spec.processes_min(),
            Self::More => index >= model.spec.processes_min(),
        }
    }

    /// Whether somebody else's accelerators may do, or it goes without: copies that take turns are tried once more
    /// with those of others, and what is beyond those that there have to be need not have room.
    const fn forgives(self, mistake: &Mistake) -> bool {
        match self {
            Self::First => mistake.is_short,
            Self::More => true,
            Self::Always | Self::Shared => false,
        }
    }
}

/// Copies that a machine may have of a model: where the load decides, no more than cores, or than
/// accelerators, beyond those that there have to be.
fn copies(model: &Model, world: &World) -> u32 {
    if model.spec.scaling.is_none() {
        return model.spec.processes();
    }
    let on_cores = world.gpus.is_empty() || model.spec.is_embedded();
    let accelerators = u32::try_from(world.gpus.len()).unwrap_or(u32::MAX);
    let room = if on_cores { world.cores.max(1) } else { accelerators };
    model.spec.processes().min(room.max(model.spec.processes_min()))
}

/// Part `index` of `total` split into `count` parts that differ by one at most.
fn share(total: u32, count: u32, index: u32) -> u32 {
    total / count + u32::from(index < total % count)
}

impl Plan {
    /// What has to be on this machine before the processes start, each file once.
    pub fn weights(&self) -> Vec<&WeightsSpec> {
        let mut files: Vec<&WeightsSpec> = Vec::new();
        for process in &self.processes {
            if !files.contains(&&process.weights) {
                files.push(&process.weights);
            }
        }
        files
    }

    /// The lane of a model.
    pub fn lane(&self, model: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name == model)
    }

    /// The route that has a public model name.
    pub fn route(&self, public_name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.public_names.iter().any(|name| name == public_name))
    }

    /// The tenants as the scheduler wants them, with ids by name.
    ///
    /// # Errors
    /// [`TreeError`] when two names have one id; never for ids that differ, since [`plan`] tried.
    pub fn tenant_tree(&self, id: impl Fn(&str) -> TenantId) -> Result<TenantTree, TreeError> {
        TenantTree::new(self.tenants.iter().map(|tenant| tenant.in_tree(&id)))
    }

    /// Tries what every gateway will do, so that it cannot fail there.
    fn check_tenants(&self) -> Result<(), TreeError> {
        let places = self.tenants.iter().zip(0_u32..);
        let ids: BTreeMap<_, _> = places.map(|(tenant, at)| (tenant.name.as_str(), at)).collect();
        self.tenant_tree(|name| TenantId(ids.get(name).copied().unwrap_or(u32::MAX))).map(drop)
    }
}
