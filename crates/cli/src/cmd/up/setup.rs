//! From a plan to everything that is needed to serve: weights, keys, the gateway's configuration.

use std::path::PathBuf;
use std::time::Duration;

use pilotage_gateway::{
    GatewayConfig, IdentityConfig, KeyConfig, LaneConfig, Limits, Price, TenantConfig, Timeouts,
};
use pilotage_operator::local::{Machine, START_TIMEOUT, STOP_TIMEOUT};
use pilotage_plan::api::{Identity, TenantKey};
use pilotage_plan::{Lane, Plan, ProcessSpec, Route, Timestamp};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::{KeyHash, Secret};

use crate::args::Up;
use crate::installation::{Installation, key_from_env};
use crate::progress::Shown;
use crate::store;

/// The tenant whose key is made and shown.
const LOCAL: &str = "local";

/// Everything that serving needs.
pub(super) struct Setup {
    pub(super) gateway: GatewayConfig,
    pub(super) machine: Machine,
    /// Processes with the paths of their weights.
    pub(super) processes: Vec<(ProcessSpec, PathBuf)>,
    /// Lanes with the names of the processes that serve them.
    pub(super) lanes: Vec<(String, Vec<String>)>,
    /// The key of the tenant `local`, to show.
    pub(super) key: Option<Secret>,
    pub(super) model: String,
    pub(super) installation: Installation,
    pub(super) clock: Clock,
}

impl Setup {
    /// How many lanes a process serves.
    pub(super) fn lanes_of(&self, process: &str) -> u32 {
        let serves = |replicas: &[String]| replicas.iter().any(|name| name == process);
        let count = self.lanes.iter().filter(|(_, replicas)| serves(replicas)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Tokens of each sequence of a process.
    pub(super) fn context_of(&self, process: &str) -> u32 {
        let lane =
            self.lanes.iter().position(|(_, replicas)| replicas.iter().any(|name| name == process));
        lane.and_then(|at| self.gateway.lanes.get(at)).map_or(1, |lane| lane.context_tokens)
    }

    pub(super) async fn new(
        args: &Up,
        plan: &Plan,
        installation: &Installation,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let store = store::open()?;
        let mut processes = Vec::new();
        for process in &plan.processes {
            let path = store.ensure(&process.weights, &Shown::default()).await?;
            processes.push((process.clone(), path));
        }
        let has_local = plan.tenants.iter().any(|tenant| tenant.name == LOCAL);
        let key = if args.no_keys || !has_local { None } else { Some(local_key(installation)?) };
        let admin_key = match env::get(Var::AdminKey).filter(|key| !key.is_empty()) {
            Some(key) => Secret::new(key),
            None => installation.key("admin.key")?,
        };
        let machine = Machine {
            own: std::env::current_exe()?,
            logs: installation.folder().join("logs"),
            engine_key: installation.key("engine.key")?,
            client: Client::new()?,
            clock,
            start_timeout: START_TIMEOUT,
            stop_timeout: STOP_TIMEOUT,
        };
        Ok(Self {
            gateway: GatewayConfig {
                lanes: plan.lanes.iter().map(|one| lane(plan, one)).collect(),
                tenants: tenants(plan, key.as_ref()),
                open: args.no_keys,
                admin_key: admin_key.hash(),
                limits: Limits::default(),
                media_hosts: args.media_hosts.clone(),
            },
            machine,
            processes,
            lanes: plan
                .lanes
                .iter()
                .map(|lane| (lane.name.clone(), lane.replicas.clone()))
                .collect(),
            key,
            model: plan
                .routes
                .first()
                .and_then(|route| route.public_names.first().cloned())
                .unwrap_or_default(),
            installation: installation.clone(),
            clock,
        })
    }
}

/// The key in the environment, or the one that is kept.
fn local_key(installation: &Installation) -> anyhow::Result<Secret> {
    match key_from_env() {
        Some(key) => Ok(key),
        None => installation.key("local.key"),
    }
}

pub(super) fn tenants(plan: &Plan, local: Option<&Secret>) -> Vec<TenantConfig> {
    let mut tenants: Vec<TenantConfig> = plan
        .tenants
        .iter()
        .map(|tenant| {
            let made = local.filter(|_| tenant.name == LOCAL).map(|key| key.hash().into());
            TenantConfig {
                parent: tenant.parent.clone(),
                weight: tenant.weight,
                guaranteed: tenant.share.guaranteed,
                borrowing_limit: tenant.share.borrowing_limit,
                lending_limit: tenant.share.lending_limit,
                quota: tenant.quota.clone(),
                deadline: tenant
                    .deadline_seconds
                    .map(|seconds| Duration::from_secs(seconds.into())),
                highest_band: tenant.highest_band,
                keys: tenant.keys.iter().map(key).chain(made).collect(),
                identities: tenant.identities.iter().map(identity).collect(),
                ..TenantConfig::named(tenant.name.clone())
            }
        })
        .collect();
    if tenants.is_empty() {
        let keys = local.map(|key| key.hash().into()).into_iter().collect();
        tenants.push(TenantConfig { keys, ..TenantConfig::named(LOCAL) });
    }
    tenants
}

fn key(key: &TenantKey) -> KeyConfig {
    let ms = |at: &Timestamp| at.unix_seconds().saturating_mul(1000);
    KeyConfig {
        hash: KeyHash::from_bytes(*key.sha256.0.bytes()),
        not_before_ms: key.not_before.as_ref().map(ms),
        expires_ms: key.expires.as_ref().map(ms),
    }
}

fn identity(identity: &Identity) -> IdentityConfig {
    IdentityConfig {
        issuer: identity.issuer.as_str().to_owned(),
        audience: identity.audience.clone(),
        claims: identity.claims.clone().into_iter().collect(),
    }
}

fn lane(plan: &Plan, lane: &Lane) -> LaneConfig {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let leads = |route: &&Route| {
        route.targets.first().is_some_and(|target| target.model.as_str() == lane.name)
    };
    let routes: Vec<&Route> = plan.routes.iter().filter(leads).collect();
    let timeouts = routes.first().map(|route| route.timeouts).unwrap_or_default();
    LaneConfig {
        name: lane.name.clone(),
        public_names: routes.iter().flat_map(|route| route.public_names.clone()).collect(),
        served_model: lane.served_model.clone(),
        context_tokens: lane.context_tokens,
        price: Price {
            input: lane.price.input,
            cached: lane.price.cached,
            output: lane.price.output,
        },
        token_ids: lane.token_ids,
        scheduler: lane.scheduler_config(),
        timeouts: Timeouts {
            queue: seconds(timeouts.queue_seconds),
            first_token: seconds(timeouts.first_token_seconds),
            idle: seconds(timeouts.idle_seconds),
            total: seconds(timeouts.total_seconds),
        },
    }
}
