//! The gateway and its engines while they run: who came up goes into its lanes, who died comes out,
//! and a new plan takes the place of the one before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pilotage_core::Time;
use pilotage_gateway::admin::More;
use pilotage_operator::local::{Event, HiddenEnv, Supervisor};
use pilotage_shell::serve::Entrance;
use pilotage_shell::signals::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::banner;
use super::manifests;
use super::scaling::{Access, Done, Naps, Scaling, Task};
use super::setup::{self, Setup};
use crate::args::Up;
use crate::cmd::front::prepared::Prepared;
use crate::cmd::front::{Begin, Current, Face, Front, LOOK, SAVE_EVERY, has_local};
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
    scaling: Scaling,
    naps: Naps,
}

impl Serving {
    pub(super) fn start(
        setup: Setup,
        face: Face,
        (entrance, admin): (Entrance, TcpListener),
    ) -> anyhow::Result<Self> {
        let Setup { prepared, keys, machine, installation, clock, drain, zone } = setup;
        let url = url_of(entrance.scheme(), entrance.local_addr()?);
        let admin_url = url_of("http", admin.local_addr()?);
        let key = keys.local.clone().filter(|_| has_local(&prepared.plan));
        let greeting = match face {
            Face::Clients => Some(banner::Greeting::new(&prepared.plan, key, &url, &admin_url)),
            Face::Picker(_) => None,
        };
        let current = Current::first(prepared, clock, drain);
        let mut scaling = Scaling::new(clock, machine.memory);
        scaling.set(current.plan(), &current.served());
        let naps = Naps::new(machine.client.clone(), clock);
        let wanted = scaling.pick(current.processes());
        let (supervisor, happened) = Supervisor::start(&machine, wanted);
        let states = supervisor.states();
        let processes: More =
            Arc::new(move || serde_json::to_value(&*states.lock()).unwrap_or_default());
        let copies: More = Arc::new(scaling.status());
        let more = vec![("processes", processes), ("scaling", copies)];
        let begin = Begin { current, keys, clock, zone, face, more };
        let front = Front::start(begin, &installation, entrance, admin)?;
        let hidden_env = machine.hidden_env;
        Ok(Self { front, supervisor, happened, hidden_env, greeting, scaling, naps })
    }

    /// Takes in what happens to processes until a signal, and names that.
    pub(super) async fn watch(&mut self, signals: &mut Shutdown) -> &'static str {
        self.greet();
        let mut saving = tokio::time::interval(SAVE_EVERY);
        loop {
            let busy = self.front.is_busy();
            let looks = busy || self.scaling.is_needed();
            tokio::select! {
                signal = signals.next() => return signal,
                event = self.happened.recv() => match event {
                    Some(event) => self.take(event),
                    None => std::future::pending().await,
                },
                done = self.naps.done() => self.napped(&done),
                () = tokio::time::sleep(LOOK), if looks => {
                    if busy {
                        self.look().await;
                    }
                    self.scale();
                }
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
        self.scaling.set(self.front.current.plan(), &self.front.current.served());
        self.set_processes();
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
                self.raise(&name, Access { spec, url, events_url, key });
                if !self.greet() {
                    tracing::info!(process = name, "ready");
                }
            }
            Event::Down { name, reason, again_ms } => self.died(&name, &reason, again_ms),
            Event::Retiring { name } => {
                self.naps.gone(&name);
                let now_nanos = self.front.now_nanos();
                let fleet = &mut self.front.fleet;
                if !fleet.rests(&name) && !fleet.rest(now_nanos, &name) {
                    self.supervisor.release(&name);
                }
            }
            Event::Gone { name } => {
                self.front.fleet.process_down(&name);
                self.naps.gone(&name);
                tracing::info!(process = name, "stopped: it is not wanted");
                if self.scaling.gone(&name) {
                    self.set_processes();
                }
            }
        }
    }

    fn died(&mut self, name: &str, reason: &str, again_ms: Option<u64>) {
        self.naps.gone(name);
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
            if !self.naps.fall_asleep(&name) {
                self.supervisor.release(&name);
            }
        }
        if gone.lanes {
            self.scaling.set(self.front.current.plan(), &self.front.current.served());
            self.set_processes();
        }
    }

    fn set_processes(&self) {
        self.supervisor.set(self.scaling.pick(self.front.current.processes()));
    }

    /// A process takes requests, for the first time or again.
    fn raise(&mut self, name: &str, access: Access) {
        if let Some(took) = self.scaling.ready(&access.spec.lane, name)
            && let Some(lane) = self.front.gateway.lane(&access.spec.lane)
        {
            lane.replica_took(false, took);
        }
        self.naps.came(name, access.clone());
        let Access { spec, url, events_url, key } = access;
        self.front.fleet.process_up(name, &spec, (url, events_url), key);
    }

    /// Has as many copies as the load wants.
    fn scale(&mut self) {
        let (states, processes) =
            (self.supervisor.states().lock().clone(), self.front.current.processes());
        for task in self.scaling.decide(&self.front.gateway, &states, &self.naps, &processes) {
            match task {
                Task::Set => self.set_processes(),
                Task::Sleep(name) => {
                    if self.front.fleet.rest(self.front.now_nanos(), &name) {
                        self.naps.tire(&name);
                    }
                }
                Task::Wake(name) if self.naps.stays(&name) => self.front.fleet.stay(&name),
                Task::Wake(name) => self.naps.wake(&name),
            }
        }
    }

    /// A process sleeps or is awake; one that did not do what it was asked is started anew.
    fn napped(&mut self, done: &Done) {
        let name = done.name.as_str();
        let Some(lane) = self.naps.lane(name) else { return };
        match &done.result {
            Err(reason) => self.restless(&lane, done, reason),
            Ok(()) if done.woke => self.awake(&lane, name),
            Ok(()) => {
                tracing::info!(process = name, "a process sleeps");
                self.naps.slept(name);
            }
        }
    }

    fn restless(&mut self, lane: &str, done: &Done, reason: &str) {
        let name = done.name.as_str();
        let what = if done.woke { "wake up" } else { "sleep" };
        tracing::warn!(process = name, what, reason, "a process did not do it and is started anew");
        self.scaling.replace(lane, name);
        self.set_processes();
    }

    fn awake(&mut self, lane: &str, name: &str) {
        let Some((access, since)) = self.naps.woke(name) else { return };
        let took = Time::from_nanos(self.front.now_nanos()).since(since);
        tracing::info!(process = name, took_ms = took.as_millis(), "a process woke up");
        self.raise(name, access);
        if let Some(lane) = self.front.gateway.lane(lane) {
            lane.replica_took(true, took);
        }
    }
}
