//! The gateway and its engines while they run: who came up goes into its lanes, who died comes out,
//! and a new plan takes the place of the one before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pilotage_gateway::admin::More;
use pilotage_operator::local::{Event, HiddenEnv, Supervisor};
use pilotage_shell::serve::Entrance;
use pilotage_shell::signals::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::banner;
use super::manifests;
use super::setup::{self, Setup};
use crate::args::Up;
use crate::cmd::front::prepared::Prepared;
use crate::cmd::front::{Begin, Current, Front, LOOK, SAVE_EVERY, has_local};
use crate::installation::url_of;
use crate::output;

/// Everything that runs.
pub(super) struct Serving {
    front: Front,
    supervisor: Supervisor,
    happened: UnboundedReceiver<Event>,
    /// What programs of others do not see of our environment.
    hidden_env: HiddenEnv,
    greeting: Option<banner::Greeting>,
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
        let key = keys.local.clone().filter(|_| has_local(&prepared.plan));
        let greeting = banner::Greeting::new(&prepared.plan, key, &url, &admin_url);
        let current = Current::first(prepared, clock, drain);
        let (supervisor, happened) = Supervisor::start(&machine, current.processes());
        let states = supervisor.states();
        let processes: More =
            Arc::new(move || serde_json::to_value(&*states.lock()).unwrap_or_default());
        let begin = Begin { current, keys, clock, zone, more: vec![("processes", processes)] };
        let front = Front::start(begin, &installation, entrance, admin)?;
        let hidden_env = machine.hidden_env;
        Ok(Self { front, supervisor, happened, hidden_env, greeting: Some(greeting) })
    }

    /// Takes in what happens to processes until a signal, and names that.
    pub(super) async fn watch(&mut self, signals: &mut Shutdown) -> &'static str {
        self.greet();
        let mut saving = tokio::time::interval(SAVE_EVERY);
        loop {
            let busy = self.front.is_busy();
            tokio::select! {
                signal = signals.next() => return signal,
                event = self.happened.recv() => match event {
                    Some(event) => self.take(event),
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(LOOK), if busy => self.look().await,
                _ = saving.tick() => self.front.save(),
            }
        }
    }

    /// Takes a new plan over; what is wrong with it is said, and changes nothing.
    pub(super) fn set(&mut self, prepared: anyhow::Result<Prepared>) {
        match prepared.and_then(|prepared| self.replace(prepared)) {
            Ok(changes) => {
                let plan = self.front.current.plan();
                output::note(&format!(
                    "manifests read again (generation {}): {} models, {} routes, {} tenants\n{}",
                    self.front.current.generation(),
                    plan.lanes.len(),
                    plan.routes.len(),
                    plan.tenants.len().max(1),
                    changes.trim_end(),
                ));
            }
            Err(error) => {
                self.front.current.refuse(&error);
                tracing::error!(error = format!("{error:#}"), "the manifests cannot be used");
                output::note(&format!("manifests read again: nothing changed: {error:#}"));
            }
        }
    }

    /// What names the files that the plan was made from, those of folders as they are when asked.
    pub(super) fn files(&self, args: &Arc<Up>) -> impl Fn() -> Vec<PathBuf> + use<> {
        let (args, plan) = (Arc::clone(args), self.front.current.plan().clone());
        move || manifests::files(&args, &plan)
    }

    /// The accelerators that processes have now, by the processes' names.
    pub(super) fn devices(&self) -> BTreeMap<String, Vec<String>> {
        let specs = self.front.current.processes().into_iter().map(|placed| placed.spec);
        let have = specs.filter(|spec| !spec.devices.is_empty());
        have.map(|spec| (spec.name, spec.devices)).collect()
    }

    fn replace(&mut self, prepared: Prepared) -> anyhow::Result<String> {
        // What was the place of a key once stays hidden: a process may start at any time.
        self.hidden_env.lock().extend(setup::key_variables(&prepared.plan));
        let changes = self.front.replace(prepared)?;
        self.supervisor.set(self.front.current.processes());
        Ok(changes)
    }

    /// Lets running requests finish, then stops everything.
    pub(super) async fn drain(&mut self) {
        self.front.drain().await;
        self.supervisor.stop().await;
        self.front.save();
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ready { name, spec, url, events_url, key } => {
                self.front.fleet.process_up(&name, &spec, (url, events_url), key);
                if !self.greet() {
                    tracing::info!(process = name, "ready");
                }
            }
            Event::Down { name, reason, again_ms } => self.died(&name, &reason, again_ms),
            Event::Retiring { name } => {
                let now_nanos = self.front.now_nanos();
                if !self.front.fleet.rest(now_nanos, &name) {
                    self.supervisor.release(&name);
                }
            }
            Event::Gone { name } => {
                self.front.fleet.process_down(&name);
                tracing::info!(process = name, "stopped: the plan does not have it");
            }
        }
    }

    fn died(&mut self, name: &str, reason: &str, again_ms: Option<u64>) {
        if self.front.fleet.process_died(name) {
            self.supervisor.release(name);
        }
        tracing::warn!(process = name, reason, again_ms, "a process died");
    }

    /// Says once that everything is ready, when it is.
    fn greet(&mut self) -> bool {
        if self.greeting.is_none() || !self.front.gateway.unready().is_empty() {
            return false;
        }
        self.greeting.take().inspect(banner::Greeting::show).is_some()
    }

    /// Lets go what is free by now.
    async fn look(&mut self) {
        let Some(gone) = self.front.look().await else { return };
        for name in gone.replicas {
            self.supervisor.release(&name);
        }
        if gone.lanes {
            self.supervisor.set(self.front.current.processes());
        }
    }
}
