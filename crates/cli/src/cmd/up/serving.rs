//! The gateway and its engines while they run: who came up goes into its lanes, who died comes out,
//! and a new plan takes the place of the one before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pilotage_gateway::Gateway;
use pilotage_gateway::admin::More;
use pilotage_operator::local::{Event, HiddenEnv, Supervisor};
use pilotage_shell::clock::Clock;
use pilotage_shell::descriptors;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::serve::{Entrance, ServeLimits, serve};
use pilotage_shell::signals::Shutdown;
use pilotage_shell::tasks;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::banner;
use super::budgets::{self, Budgets};
use super::fleet::Fleet;
use super::load::Load;
use super::manifests;
use super::prepare::Prepared;
use super::reload::Current;
use super::setup::{self, Setup};
use super::traffic::{Keys, gateway_config, has_local};
use super::trials::Trials;
use crate::args::Up;
use crate::installation::url_of;
use crate::output;

/// How often it is looked whether what shall go is free.
const LOOK: Duration = Duration::from_millis(250);

/// Everything that runs.
pub(super) struct Serving {
    gateway: Gateway,
    supervisor: Supervisor,
    happened: UnboundedReceiver<Event>,
    fleet: Fleet,
    current: Current,
    keys: Keys,
    /// What programs of others do not see of our environment.
    hidden_env: HiddenEnv,
    clock: Clock,
    /// The admin listener's routes, for what only the gateway's status tells.
    admin: Router,
    listeners: Vec<JoinHandle<Option<usize>>>,
    stop: CancellationToken,
    greeting: Option<banner::Greeting>,
    budgets: Budgets,
    trials: Trials,
}

impl Serving {
    pub(super) fn start(
        setup: Setup,
        entrance: Entrance,
        admin: TcpListener,
    ) -> anyhow::Result<Self> {
        let Setup { prepared, keys, machine, installation, clock, drain, zone } = setup;
        let url = url_of(entrance.scheme(), entrance.local_addr()?);
        let admin_url = url_of("http", admin.local_addr()?);
        let config = gateway_config(&prepared.plan, &keys);
        let gateway = Gateway::new(config, clock, Metrics::new())?;
        let budgets = Budgets::restore(installation.folder(), &gateway)?;
        let trials = Trials::restore(installation.folder(), &gateway);
        let key = keys.local.clone().filter(|_| has_local(&prepared.plan));
        let greeting = banner::Greeting::new(&prepared.plan, key, &url, &admin_url);
        let current = Current::first(prepared, clock, drain);
        let (supervisor, happened) = Supervisor::start(&machine, current.processes());
        let (states, shown) = (supervisor.states(), current.shown());
        let processes: More =
            Arc::new(move || serde_json::to_value(&*states.lock()).unwrap_or_default());
        let config: More =
            Arc::new(move || serde_json::to_value(&*shown.lock()).unwrap_or_default());
        let routes = gateway.admin_router(vec![("processes", processes), ("config", config)]);
        let stop = CancellationToken::new();
        let usual = ServeLimits::default();
        let connections_max = usual.connections_max.min(descriptors::raise());
        let limits = ServeLimits { connections_max, drain_timeout: drain, ..usual };
        let listeners = vec![
            listen(entrance, &gateway, limits, &stop),
            listen_admin(admin, routes.clone(), limits, &stop),
        ];
        installation.announce(url, admin_url)?;
        let hidden_env = machine.hidden_env;
        let fleet = Fleet::new(gateway.clone(), drain).in_zone(zone);
        let mut this = Self {
            gateway,
            supervisor,
            happened,
            fleet,
            current,
            keys,
            hidden_env,
            clock,
            admin: routes,
            listeners,
            stop,
            greeting: Some(greeting),
            budgets,
            trials,
        };
        this.raise_endpoints();
        Ok(this)
    }

    /// Takes in what happens to processes until a signal, and names that.
    pub(super) async fn watch(&mut self, signals: &mut Shutdown) -> &'static str {
        self.greet();
        let mut saving = tokio::time::interval(budgets::EVERY);
        loop {
            let busy = self.fleet.is_resting() || self.current.has_left();
            tokio::select! {
                signal = signals.next() => return signal,
                event = self.happened.recv() => match event {
                    Some(event) => self.take(event),
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(LOOK), if busy => self.look().await,
                _ = saving.tick() => self.save(),
            }
        }
    }

    /// Takes a new plan over; what is wrong with it is said, and changes nothing.
    pub(super) fn set(&mut self, prepared: anyhow::Result<Prepared>) {
        match prepared.and_then(|prepared| self.replace(prepared)) {
            Ok(changes) => {
                let plan = self.current.plan();
                output::note(&format!(
                    "manifests read again (generation {}): {} models, {} routes, {} tenants\n{}",
                    self.current.generation(),
                    plan.lanes.len(),
                    plan.routes.len(),
                    plan.tenants.len().max(1),
                    changes.trim_end(),
                ));
            }
            Err(error) => {
                self.current.refuse(&error);
                tracing::error!(error = format!("{error:#}"), "the manifests cannot be used");
                output::note(&format!("manifests read again: nothing changed: {error:#}"));
            }
        }
    }

    /// What names the files that the plan was made from, those of folders as they are when asked.
    pub(super) fn files(&self, args: &Arc<Up>) -> impl Fn() -> Vec<PathBuf> + use<> {
        let (args, plan) = (Arc::clone(args), self.current.plan().clone());
        move || manifests::files(&args, &plan)
    }

    /// The accelerators that processes have now, by the processes' names.
    pub(super) fn devices(&self) -> BTreeMap<String, Vec<String>> {
        let specs = self.current.processes().into_iter().map(|placed| placed.spec);
        let have = specs.filter(|spec| !spec.devices.is_empty());
        have.map(|spec| (spec.name, spec.devices)).collect()
    }

    fn replace(&mut self, prepared: Prepared) -> anyhow::Result<String> {
        let changes = prepared.plan.changes_from(self.current.plan()).to_string();
        let next = self.current.followed_by(prepared);
        // What was the place of a key once stays hidden: a process may start at any time.
        self.hidden_env.lock().extend(setup::key_variables(&next.served()));
        self.gateway.set_config(&gateway_config(&next.served(), &self.keys))?;
        self.current.take(next);
        self.raise_endpoints();
        self.supervisor.set(self.current.processes());
        Ok(changes)
    }

    fn raise_endpoints(&mut self) {
        let plan = self.current.served();
        self.fleet.set_lanes(&plan.lanes);
        self.fleet.set_endpoints(self.clock.now_nanos(), &plan, &self.current.endpoints());
    }

    /// Lets running requests finish, then stops everything.
    pub(super) async fn drain(&mut self) {
        self.gateway.drain();
        self.stop.cancel();
        for listener in self.listeners.drain(..) {
            match listener.await {
                Ok(Some(cut)) if cut > 0 => {
                    output::note(&format!("{cut} connections were cut at the end of the drain"));
                }
                _ => {}
            }
        }
        self.supervisor.stop().await;
        self.save();
    }

    /// Writes down what shall survive a restart.
    fn save(&mut self) {
        self.budgets.save(&self.gateway);
        self.trials.save(&self.gateway);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ready { name, spec, url, events_url, key } => {
                self.fleet.process_up(&name, &spec, (url, events_url), key);
                if !self.greet() {
                    tracing::info!(process = name, "ready");
                }
            }
            Event::Down { name, reason, again_ms } => self.died(&name, &reason, again_ms),
            Event::Retiring { name } => {
                if !self.fleet.rest(self.clock.now_nanos(), &name) {
                    self.supervisor.release(&name);
                }
            }
            Event::Gone { name } => {
                self.fleet.process_down(&name);
                tracing::info!(process = name, "stopped: the plan does not have it");
            }
        }
    }

    fn died(&mut self, name: &str, reason: &str, again_ms: Option<u64>) {
        if self.fleet.process_died(name) {
            self.supervisor.release(name);
        }
        tracing::warn!(process = name, reason, again_ms, "a process died");
    }

    /// Says once that everything is ready, when it is.
    fn greet(&mut self) -> bool {
        if self.greeting.is_none() || !self.gateway.unready().is_empty() {
            return false;
        }
        self.greeting.take().inspect(banner::Greeting::show).is_some()
    }

    /// Lets go what is free by now.
    async fn look(&mut self) {
        let load = match Load::of(&self.admin, &self.keys.admin).await {
            Ok(load) => load,
            Err(error) => return tracing::error!(error = format!("{error:#}"), "no status"),
        };
        for name in self.fleet.let_go(self.clock.now_nanos(), &load) {
            self.supervisor.release(&name);
        }
        if self.current.forget_empty(&load) {
            let config = gateway_config(&self.current.served(), &self.keys);
            if let Err(error) = self.gateway.set_config(&config) {
                tracing::error!(%error, "lanes that are left over cannot be closed");
            }
            self.raise_endpoints();
            self.supervisor.set(self.current.processes());
        }
    }
}

fn listen(
    entrance: Entrance,
    gateway: &Gateway,
    limits: ServeLimits,
    stop: &CancellationToken,
) -> JoinHandle<Option<usize>> {
    let front = gateway.front();
    let service = move |request: http::Request<hyper::body::Incoming>| {
        // Large, and only there until the answer begins: a stream must not keep its memory.
        let answer = Box::pin(front.clone().answer(request.map(axum::body::Body::new)));
        async move { Ok(answer.await) }
    };
    tasks::spawn("listener", serve(entrance, service, limits, stop.clone()))
}

fn listen_admin(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    stop: &CancellationToken,
) -> JoinHandle<Option<usize>> {
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(axum::body::Body::new)).await }
    };
    tasks::spawn("listener", serve(listener, service, limits, stop.clone()))
}
