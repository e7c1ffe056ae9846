//! What is served at the moment: lanes, one for each model, and the routes that lead to them. A new
//! configuration makes a new table, which replaces the old one whole; requests that are under way keep
//! the lanes they are in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pilotage_core::traffic::router::TableError;
use pilotage_core::traffic::{ANY, LaneId, Live, Model, Name, Router};
use pilotage_core::{TenantId, TenantTree};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;

use crate::config::{LaneConfig, RouteConfig};
use crate::driver::LaneHandle;
use crate::forward::Cache;
use crate::metrics::GatewayMetrics;

/// Lanes and routes.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) router: Router,
    lanes: Vec<Arc<Lane>>,
    routes: HashMap<Name, Arc<RouteConfig>>,
    /// Answers that are kept, by route.
    caches: HashMap<Name, Arc<Cache>>,
}

/// One model's queue and replicas.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) config: LaneConfig,
    /// The model's name, for records.
    pub(crate) name: Name,
    /// What its weights are, where that was said.
    pub(crate) version: Option<Name>,
    pub(crate) handle: LaneHandle,
}

impl Lane {
    fn of(config: &LaneConfig, handle: LaneHandle) -> Self {
        let version = Some(config.identity.as_str()).filter(|identity| !identity.is_empty());
        Self {
            name: config.name.as_str().into(),
            version: version.map(Name::from),
            config: config.clone(),
            handle,
        }
    }

    /// Whether requests for it are answered: by replicas, or once the first of them has started.
    pub(crate) fn is_open(&self) -> bool {
        self.handle.is_open() || self.config.rest.is_some()
    }

    /// Whether a gateway of another region may send its requests here: they go to replicas of this one, or wait
    /// for the first of them where `starts` allows that.
    pub(crate) fn is_open_to_gateways(&self, starts: bool) -> bool {
        self.handle.works_near() || (starts && self.config.rest.is_some())
    }

    /// How long a request waits here for its turn, with what its route says of that.
    pub(crate) fn patience(&self, queue: Duration) -> Duration {
        let rest = self.config.rest.filter(|_| !self.handle.is_open_near());
        rest.map_or(queue, |rest| queue.max(rest))
    }

    /// Whether clients may ask for that adapter.
    pub(crate) fn has_adapter(&self, name: &str) -> bool {
        self.config.adapters.iter().any(|adapter| adapter == name)
    }
}

/// What starting a lane takes.
pub(crate) struct Start<'a> {
    pub(crate) tenants: TenantTree,
    /// Ids of the tenants that conditions name by their place in the configuration.
    pub(crate) ids: &'a [TenantId],
    pub(crate) client: &'a Client,
    pub(crate) clock: Clock,
    pub(crate) metrics: &'a GatewayMetrics,
}

impl Table {
    /// The table of a configuration. Lanes that there were before go on under their names, with their
    /// queues and replicas; those that are gone are left to whoever uses them still.
    pub(crate) fn new(
        lanes: &[LaneConfig],
        routes: &[RouteConfig],
        before: &Self,
        start: &Start<'_>,
    ) -> Result<Self, TableError> {
        let models = (0..).map(LaneId).zip(lanes).map(|(lane, config)| Model {
            lane,
            name: config.name.as_str().into(),
            capabilities: config.capabilities.clone(),
        });
        let resolved = routes.iter().map(|route| with_tenants(route, start.ids)).collect();
        let router = Router::new(models.collect(), resolved)?;
        let lanes = lanes.iter().map(|config| {
            let handle = match before.lane(&config.name) {
                Some(lane) => {
                    lane.handle.set_config(config.scheduler);
                    lane.handle.set_regions(config.regions.clone());
                    lane.handle.clone()
                }
                None => {
                    let handle = LaneHandle::start(
                        config.name.clone(),
                        (config.scheduler, start.tenants.clone()),
                        start.client.clone(),
                        start.clock,
                        start.metrics.lane(&config.name),
                    );
                    handle.set_regions(config.regions.clone());
                    handle
                }
            };
            handle.set_goals(config.goals);
            start.metrics.set_goals(&config.name, config.goals);
            handle.set_has_adapters(!config.adapters.is_empty());
            Arc::new(Lane::of(config, handle))
        });
        let named =
            routes.iter().map(|route| (route.traffic.name.clone(), Arc::new(route.clone())));
        let caches = routes.iter().filter_map(|route| {
            let (name, config) = (&route.traffic.name, route.cache?);
            let cache = match before.cache(name) {
                Some(cache) => {
                    cache.set_config(config);
                    Arc::clone(cache)
                }
                None => Arc::new(Cache::new(config, start.metrics.cache(name.as_str()))),
            };
            Some((name.clone(), cache))
        });
        let caches = caches.collect();
        Ok(Self { router, lanes: lanes.collect(), routes: named.collect(), caches })
    }

    /// All lanes.
    pub(crate) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// The lane of a model.
    pub(crate) fn lane(&self, name: &str) -> Option<&Arc<Lane>> {
        self.lanes.iter().find(|lane| lane.config.name == name)
    }

    /// The lane of that number in this table.
    pub(crate) fn lane_at(&self, id: LaneId) -> Option<&Arc<Lane>> {
        self.lanes.get(id.0 as usize)
    }

    /// The route that a public name leads to.
    pub(crate) fn route(&self, public: &str) -> Option<&Arc<RouteConfig>> {
        self.routes.get(&self.router.route(public)?.name)
    }

    /// The answers that a route keeps.
    pub(crate) fn cache(&self, route: &Name) -> Option<&Arc<Cache>> {
        self.caches.get(route)
    }

    /// Routes that keep answers.
    pub(crate) fn cached(&self) -> impl Iterator<Item = &Name> {
        self.caches.keys()
    }

    /// The lanes that requests for a public name may go to; all lanes where it is empty.
    pub(crate) fn behind(&self, name: &str) -> Vec<&Arc<Lane>> {
        if name.is_empty() {
            return self.lanes.iter().collect();
        }
        let of = |name: &str| {
            let mut routes = self.router.routes().iter();
            routes.find(|route| route.models.iter().any(|one| one.as_str() == name))
        };
        let Some(route) = of(name).or_else(|| of(ANY)) else { return Vec::new() };
        let targets = route.rules.iter().flat_map(|rule| &rule.targets).chain(&route.targets);
        let lanes = targets.map(|target| target.lane).chain(route.fallbacks.iter().copied());
        lanes.filter_map(|lane| self.lane_at(lane)).collect()
    }

    /// Every public name, with the tokens of context behind it.
    pub(crate) fn public_names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.router.routes().iter().flat_map(|route| {
            let targets = route.rules.iter().flat_map(|rule| &rule.targets).chain(&route.targets);
            let contexts = targets.filter_map(|target| self.lane_at(target.lane));
            let context = contexts.map(|lane| lane.config.context_tokens).max().unwrap_or(0);
            let names = route.models.iter().map(Name::as_str).filter(|name| *name != ANY);
            names.map(move |name| (name, context))
        })
    }
}

/// Which lanes are open, as the router asks; shares of canaries by their route.
pub(crate) struct Now<'a> {
    pub(crate) table: &'a Table,
    pub(crate) canary_share: &'a dyn Fn(&Name) -> f64,
}

impl Live for Now<'_> {
    fn is_open(&self, lane: LaneId) -> bool {
        self.table.lane_at(lane).is_some_and(|lane| lane.is_open())
    }

    fn canary_share(&self, route: &Name) -> f64 {
        (self.canary_share)(route)
    }
}

/// A route whose conditions name tenants by their ids in the tree.
fn with_tenants(route: &RouteConfig, ids: &[TenantId]) -> pilotage_core::traffic::Route {
    let mut route = route.traffic.clone();
    for rule in &mut route.rules {
        for tenant in &mut rule.when.tenants {
            // A place beyond the list matches nobody.
            *tenant = ids.get(tenant.0 as usize).copied().unwrap_or(TenantId(u32::MAX));
        }
    }
    route
}
