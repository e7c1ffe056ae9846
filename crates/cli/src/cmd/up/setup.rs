//! From a plan to everything that is needed to serve: weights, keys, this machine.

use std::time::Duration;

use anyhow::Context as _;
use pilotage_core::traffic::Zone;
use pilotage_operator::local::{HiddenEnv, Machine, START_TIMEOUT, STOP_TIMEOUT, has_room};
use pilotage_plan::{KeySource, Plan};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::Secret;

use crate::args::Up;
use crate::cmd::front::prepared::Prepared;
use crate::cmd::front::{Keys, Weights, metrics};
use crate::installation::{Installation, key_from_env};
use crate::store;

/// Everything that serving needs.
pub(super) struct Setup {
    pub(super) prepared: Prepared,
    pub(super) keys: Keys,
    pub(super) machine: Machine,
    pub(super) installation: Installation,
    pub(super) clock: Clock,
    /// How long what ends may take to finish what it has.
    pub(super) drain: Duration,
    /// Where this process runs.
    pub(super) zone: Option<Zone>,
    /// What counts.
    pub(super) metrics: Metrics,
}

impl Setup {
    pub(super) fn new(
        args: &Up,
        prepared: Prepared,
        installation: &Installation,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let drain = Duration::from_secs(args.front.drain_timeout);
        let hidden_env = HiddenEnv::default();
        hidden_env.lock().extend(key_variables(&prepared.plan));
        // A plan without this tenant may be followed by one that has it.
        let local = if args.no_keys { None } else { Some(local_key(installation)?) };
        let admin = match env::get(Var::AdminKey).filter(|key| !key.is_empty()) {
            Some(key) => Secret::new(key),
            None => installation.key("admin.key")?,
        };
        let own = std::env::current_exe()?;
        let machine = Machine {
            warden: Some(own.clone()),
            own,
            search_path: env::search_path(),
            hidden_env,
            hub_token: store::hub_token(),
            logs: installation.folder().join("logs"),
            environment: env::all(),
            client: Client::new()?,
            clock,
            start_timeout: START_TIMEOUT,
            stop_timeout: STOP_TIMEOUT,
            memory: has_room,
        };
        Ok(Self {
            prepared,
            keys: Keys {
                local,
                admin,
                open: args.no_keys,
                media_hosts: args.front.media_hosts.clone(),
                installation: installation.clone(),
                weights: Weights::read(clock),
            },
            machine,
            installation: installation.clone(),
            clock,
            drain,
            zone: zone(args)?,
            metrics: metrics(&args.front)?,
        })
    }
}

/// The variables that a plan's keys are in.
pub(super) fn key_variables(plan: &Plan) -> impl Iterator<Item = String> {
    plan.endpoints.iter().filter_map(|endpoint| match &endpoint.key {
        Some(KeySource::Env(name)) => Some(name.clone()),
        Some(KeySource::File(_)) | None => None,
    })
}

/// The zone that was typed, or that of the environment.
fn zone(args: &Up) -> anyhow::Result<Option<Zone>> {
    let said = env::get(Var::Zone).filter(|zone| !zone.is_empty());
    let named = || format!("{} is wrong", env::variable(Var::Zone).name);
    let said = || said.map(|zone| zone.parse().with_context(named)).transpose();
    args.front.zone.clone().map_or_else(said, |zone| Ok(Some(zone)))
}

/// The key in the environment, or the one that is kept.
fn local_key(installation: &Installation) -> anyhow::Result<Secret> {
    match key_from_env() {
        Some(key) => Ok(key),
        None => installation.key("local.key"),
    }
}
