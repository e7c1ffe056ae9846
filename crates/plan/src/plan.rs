//! The plan: everything that shall run, as one immutable value that leaves no choice to execution.
//!
//! The same resources and the same world give the same plan, byte for byte. It prints as tables,
//! serialises to JSON, and [`Plan::changes_from`] says what differs from an earlier one.
//!
//! Threads: with more than two cores one is left for the gateway, and the rest is split evenly
//! over the replicas that name no number of their own, at least one each. With one or two cores
//! there is nothing to spare: replicas share all of them, and the gateway runs in between.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::{SchedulerConfig, TenantId, TenantTree, TreeError};
use serde::Serialize;
use thiserror::Error;

use crate::api::{
    Fleet, Model, Prices, QueueLimits, ResourceName, Retries, Route, RouteSpec, Scheduling,
    Timeouts,
};
use crate::render::{self, ProcessSpec, WeightsSpec};
use crate::tenants::{TenantSpec, tenants};
use crate::{ManifestError, Resource, World, manifest};

pub use crate::table::{Change, Changes};

/// Most processes of one plan: each takes memory and threads of one machine.
pub const PROCESSES_MAX: u32 = 256;

/// Everything that shall run on one machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Plan {
    /// Processes, by model and replica.
    pub processes: Vec<ProcessSpec>,
    /// What the gateway serves, by route.
    pub lanes: Vec<Lane>,
    /// Who may use it, as a tree read from top to bottom: who belongs to a tenant comes after it and
    /// before the next of the tenant's level, in the order of names.
    pub tenants: Vec<TenantSpec>,
    /// What a reader of the plan had better know.
    pub notes: Vec<String>,
}

/// One model as clients see it: its names, its replicas, and the limits on the way there.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Lane {
    /// The route's name.
    pub name: String,
    /// Names that clients may write as `model`.
    pub public_names: Vec<String>,
    /// The name that the replicas know the model by.
    pub served_model: String,
    /// The names of the processes that requests may go to.
    pub replicas: Vec<String>,
    /// Tokens of context for each sequence: prompt and answer together.
    pub context_tokens: u32,
    /// When to stop waiting.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retries: Retries,
    /// How much may wait.
    pub queue: QueueLimits,
    /// How turns are given.
    pub scheduling: Scheduling,
    /// What its tokens cost; zeros are free.
    pub price: Price,
}

/// What tokens cost, in millionths of the currency's unit per million tokens: an amount is
/// `tokens × price / 1 000 000` millionths, which takes 128 bits before the division.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Price {
    /// Prompt tokens that have to be computed.
    pub input: u64,
    /// Prompt tokens found in the prefix cache.
    pub cached: u64,
    /// Generated tokens.
    pub output: u64,
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
    /// The weights do not fit the memory.
    #[error(
        "the weights need {needed} bytes of memory and {available} bytes are there; use smaller \
         weights, remove a Model, or raise spec.memoryBytes of the Fleet if it is too low"
    )]
    Memory {
        /// Bytes of all weights whose size is known, each file once.
        needed: u64,
        /// Bytes that the fleet or the machine has.
        available: u64,
    },
    /// The tenants are no tree, or too many.
    #[error("the tenants do not fit together: {0}; change their spec.parent and spec.share")]
    Tenants(#[from] TreeError),
}

impl From<&Prices> for Price {
    fn from(prices: &Prices) -> Self {
        Self {
            input: prices.input.millionths(),
            cached: prices.cached.unwrap_or(prices.input).millionths(),
            output: prices.output.millionths(),
        }
    }
}

impl Lane {
    /// The limits in the scheduler's terms.
    pub fn scheduler_config(&self) -> SchedulerConfig {
        SchedulerConfig {
            queue: pilotage_core::QueueLimits {
                requests_max: self.queue.requests_max,
                tokens_max: self.queue.tokens_max,
            },
            fair: self.scheduling.fair(),
            preempt: self.scheduling.preemption.into(),
            attempts_max: self.retries.attempts_max,
            retry_percent: self.retries.percent,
            ..SchedulerConfig::default()
        }
    }
}

/// Decides what runs where.
///
/// # Errors
/// [`PlanError`] when the resources contradict each other or do not fit the world.
pub fn plan(resources: &[Resource], world: &World) -> Result<Plan, PlanError> {
    let errors = manifest::check(resources);
    if !errors.is_empty() {
        return Err(PlanError::Resources(errors));
    }
    let wanted = Wanted::from_resources(resources);
    wanted.check_count()?;
    wanted.check_memory(world)?;
    let processes = wanted.processes(world);
    let lanes = wanted.lanes();
    let tenants = tenants(resources);
    let notes = wanted.notes(world, &processes, &tenants);
    let plan = Plan { processes, lanes, tenants, notes };
    plan.check_tenants()?;
    Ok(plan)
}

/// The public name and the target of every route, written or implied: a model that no route leads
/// to is served under its own name.
pub(crate) fn implied_routes<'a>(models: &[&'a Model], routes: &[&Route]) -> Vec<&'a Model> {
    let targets: BTreeSet<&ResourceName> =
        routes.iter().flat_map(|route| &route.spec.targets).map(|target| &target.model).collect();
    models.iter().copied().filter(|model| !targets.contains(&model.metadata.name)).collect()
}

/// The names that clients may write for a route.
pub(crate) fn public_names(route: &Route) -> Vec<String> {
    if route.spec.models.is_empty() {
        return vec![route.name().to_owned()];
    }
    route.spec.models.iter().map(ToString::to_string).collect()
}

/// The resources by kind, in the order of names, so that the order of files changes nothing.
struct Wanted<'a> {
    models: Vec<&'a Model>,
    routes: Vec<&'a Route>,
    fleet: Option<&'a Fleet>,
}

impl<'a> Wanted<'a> {
    fn from_resources(resources: &'a [Resource]) -> Self {
        let mut wanted = Self { models: Vec::new(), routes: Vec::new(), fleet: None };
        for resource in resources {
            match resource {
                Resource::Model(model) => wanted.models.push(model),
                Resource::Route(route) => wanted.routes.push(route),
                Resource::Fleet(fleet) => wanted.fleet = Some(fleet),
                Resource::Tenant(_) => {}
            }
        }
        wanted.models.sort_by_key(|model| model.name());
        wanted.routes.sort_by_key(|route| route.name());
        wanted
    }

    fn check_count(&self) -> Result<(), PlanError> {
        let wanted = self.models.iter().map(|model| u64::from(model.spec.replicas)).sum();
        match wanted {
            0 => Err(PlanError::NoModel),
            _ if wanted > u64::from(PROCESSES_MAX) => Err(PlanError::TooManyProcesses { wanted }),
            _ => Ok(()),
        }
    }

    /// Replicas map the same file into memory, so each file counts once. The KV cache comes on
    /// top and is known only once the weights are read, so this is a lower bound.
    fn check_memory(&self, world: &World) -> Result<(), PlanError> {
        let fleet = self.fleet.and_then(|fleet| fleet.spec.memory_bytes);
        let Some(available) = fleet.or(world.memory_bytes) else { return Ok(()) };
        let files: BTreeSet<_> = self
            .models
            .iter()
            .filter_map(|model| Some((&model.spec.source, model.spec.size_bytes?)))
            .collect();
        let needed = files.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if needed > available {
            return Err(PlanError::Memory { needed, available });
        }
        Ok(())
    }

    fn processes(&self, world: &World) -> Vec<ProcessSpec> {
        let mut shares = self.shares(world).into_iter();
        let replicas = self
            .models
            .iter()
            .flat_map(|model| (0..model.spec.replicas).map(move |index| (*model, index)));
        replicas
            .map(|(model, index)| {
                let threads = model.spec.threads.or_else(|| shares.next()).unwrap_or(1);
                render::replica(model, index, threads)
            })
            .collect()
    }

    /// Threads for each replica whose model does not say, in order; see the module's rule.
    fn shares(&self, world: &World) -> Vec<u32> {
        let total = |model: &Model| model.spec.threads.unwrap_or(0) * model.spec.replicas;
        let taken = self.models.iter().map(|model| total(model)).fold(0, u32::saturating_add);
        let left = self.threads(world).saturating_sub(taken);
        let open = self.models.iter().filter(|model| model.spec.threads.is_none());
        let count: u32 = open.map(|model| model.spec.replicas).sum();
        (0..count).map(|index| share(left, count, index).max(1)).collect()
    }

    fn threads(&self, world: &World) -> u32 {
        let cores = world.cores.max(1);
        let spare = if cores > 2 { cores - 1 } else { cores };
        self.fleet.and_then(|fleet| fleet.spec.threads).unwrap_or(spare)
    }

    fn lanes(&self) -> Vec<Lane> {
        let implied = implied_routes(&self.models, &self.routes).into_iter().map(|model| {
            let spec = RouteSpec::to_model(model.metadata.name.clone());
            Route::new(model.metadata.name.clone(), spec)
        });
        let written = self.routes.iter().map(|route| (*route).clone());
        let mut routes: Vec<_> = written.chain(implied).collect();
        routes.sort_by(|a, b| a.name().cmp(b.name()));
        routes.iter().filter_map(|route| self.lane(route)).collect()
    }

    /// A route's lane; `None` never happens, because [`manifest::check`] finds dangling targets.
    fn lane(&self, route: &Route) -> Option<Lane> {
        let target = route.spec.targets.first()?;
        let model = self.models.iter().find(|model| model.metadata.name == target.model)?;
        Some(Lane {
            name: route.name().to_owned(),
            public_names: public_names(route),
            served_model: model.name().to_owned(),
            replicas: (0..model.spec.replicas)
                .map(|index| render::process::name(model, index))
                .collect(),
            context_tokens: model.spec.context,
            timeouts: route.spec.timeouts,
            retries: route.spec.retries,
            queue: route.spec.queue,
            scheduling: route.spec.scheduling.clone(),
            price: model.spec.price.as_ref().map(Price::from).unwrap_or_default(),
        })
    }

    fn notes(
        &self,
        world: &World,
        processes: &[ProcessSpec],
        tenants: &[TenantSpec],
    ) -> Vec<String> {
        let mut notes = Vec::new();
        for model in &self.models {
            if model.spec.digest.is_none() && !model.spec.source.is_local() {
                let name = model.name();
                notes.push(format!("the download for {name} is not verified: no digest is given"));
            }
        }
        let threads = processes.iter().map(|process| process.threads).fold(0, u32::saturating_add);
        if threads > world.cores.max(1) {
            let cores = world.cores.max(1);
            notes.push(format!("{threads} threads share {cores} cores, so replicas slow down"));
        }
        if !world.gpus.is_empty() {
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

    /// The lane that serves a public model name.
    pub fn lane(&self, public_name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.public_names.iter().any(|name| name == public_name))
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
