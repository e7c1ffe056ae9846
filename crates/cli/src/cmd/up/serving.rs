//! The gateway and its engines while they run: who came up goes into its lanes, who died comes out,
//! and a new plan takes the place of the one before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilotage_core::Time;
use pilotage_gateway::admin::More;
use pilotage_operator::local::{Event, HiddenEnv, Supervisor};
use pilotage_plan::ProcessSpec;
use pilotage_plan::api::Model;
use pilotage_plan::update::AllKept;
use pilotage_shell::serve::Entrance;
use pilotage_shell::signals::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Interval, MissedTickBehavior};

use super::banner;
use super::manifests;
use super::prepare::Material;
use super::scaling::{Access, Done, Naps, Scaling, Task, is_of};
use super::setup::{self, Setup};
use super::versions::{Outdated, Versions, View};
use crate::args::Up;
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
    versions: Versions,
    /// Why they do not go on, so that it is told once.
    stuck: Option<String>,
    memory: fn(u64, &Path) -> bool,
}

impl Serving {
    pub(super) fn start(
        (setup, versions): (Setup, Versions),
        face: Face,
        (entrance, admin): (Entrance, TcpListener),
    ) -> anyhow::Result<Self> {
        let Setup { prepared, keys, machine, installation, clock, drain, zone, metrics } = setup;
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
        let told: More = Arc::new(versions.status());
        let more = vec![("processes", processes), ("scaling", copies), ("versions", told)];
        let begin = Begin { current, waits: None, keys, clock, zone, face, metrics, more };
        let front = Front::start(begin, &installation, entrance, admin)?;
        let (hidden_env, memory) = (machine.hidden_env, machine.memory);
        Ok(Self {
            front,
            supervisor,
            happened,
            hidden_env,
            greeting,
            scaling,
            naps,
            versions,
            stuck: None,
            memory,
        })
    }

    /// Takes in what happens to processes until a signal, and names that.
    pub(super) async fn watch(&mut self, signals: &mut Shutdown) -> &'static str {
        self.greet();
        let mut saving = tokio::time::interval(SAVE_EVERY);
        let mut looking = looking();
        loop {
            let changes = self.versions.is_busy();
            let looks = self.front.is_busy() || changes || self.scaling.is_needed();
            tokio::select! {
                signal = signals.next() => return signal,
                Some(event) = self.happened.recv() => self.take(event),
                done = self.naps.done() => self.napped(&done),
                _ = looking.tick(), if looks => {
                    self.look().await;
                    if changes {
                        self.scaling.look(&self.front.gateway);
                        self.change();
                    }
                    self.scale();
                }
                _ = saving.tick() => self.save(),
            }
        }
    }

    /// Takes over what was read; what is wrong with it is said, and changes nothing. Whether it is to be
    /// read again, as it was for versions that do not serve by now.
    pub(super) fn set(&mut self, material: anyhow::Result<Material>) -> bool {
        match material.and_then(|material| self.replace(material)) {
            Ok(Err(Outdated)) => return true,
            Ok(Ok(changes)) => {
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
        false
    }

    /// What is kept of versions, for whoever reads the manifests again.
    pub(super) fn kept(&self) -> AllKept {
        self.versions.kept()
    }

    /// What names the files that the plan was made from, those of folders as they are when asked.
    pub(super) fn files(&self, args: &Arc<Up>) -> impl Fn() -> Vec<PathBuf> + use<> {
        let (args, plan) = (Arc::clone(args), self.front.current.plan().clone());
        move || manifests::files(&args, &plan)
    }

    /// The accelerators that processes have now, by the processes' names.
    fn devices(&self) -> BTreeMap<String, Vec<String>> {
        let specs = self.front.current.processes().into_iter().map(|placed| placed.spec);
        let have = specs.filter(|spec| !spec.devices.is_empty());
        have.map(|spec| (spec.name, spec.devices)).collect()
    }

    fn replace(&mut self, material: Material) -> anyhow::Result<Result<String, Outdated>> {
        let planned =
            self.see(|versions, view, devices| versions.plan(&material, view, devices))?;
        let (kept, prepared) = match planned {
            Ok(planned) => planned,
            Err(outdated) => return Ok(Err(outdated)),
        };
        // What was the place of a key once stays hidden: a process may start at any time.
        self.hidden_env.lock().extend(setup::key_variables(&prepared.plan));
        let changes = self.front.replace(prepared)?;
        self.versions.replace(material, kept);
        self.carry_out();
        Ok(Ok(changes))
    }

    /// Versions of Models go on to what follows from what is seen.
    fn change(&mut self) {
        let looked = self.see(|versions, view, devices| versions.look(view, devices));
        let turned = looked.and_then(|(kept, prepared)| {
            let differs = prepared.is_some();
            prepared.map_or(Ok(()), |prepared| self.front.turn(prepared))?;
            self.versions.take(kept);
            Ok(differs)
        });
        let stuck = match turned {
            Ok(true) => {
                self.carry_out();
                None
            }
            Ok(false) => None,
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = stuck.as_ref().filter(|error| self.stuck.as_ref() != Some(error)) {
            tracing::error!(error, "versions stay as they are");
        }
        self.stuck = stuck;
    }

    /// Shows versions what there is to be seen.
    fn see<T>(
        &self,
        look: impl FnOnce(&Versions, &View<'_>, BTreeMap<String, Vec<String>>) -> T,
    ) -> T {
        let devices = self.devices();
        let (states, processes) =
            (self.supervisor.states().lock().clone(), self.front.current.processes());
        let scaling = &self.scaling;
        let view = View {
            states: &states,
            processes: &processes,
            judged: self.front.gateway.judged(),
            runs: &|model: &Model| scaling.runs(model.name(), model.spec.scaling.as_ref()),
            memory: self.memory,
        };
        look(&self.versions, &view, devices)
    }

    /// The plan that is served is another one.
    fn carry_out(&mut self) {
        self.scaling.set(self.front.current.plan(), &self.front.current.served());
        self.move_processes();
        self.set_processes();
        self.rouse();
    }

    /// Processes whose lane is another one now serve that, and in the one before they end what came there.
    fn move_processes(&mut self) {
        for (name, access) in self.naps.serving() {
            let lane = self.lane_of(&name, &access);
            let serves = self.front.fleet.lane_of(&name);
            if serves.is_some_and(|serves| serves != lane) {
                self.front.fleet.move_aside(&name);
                self.raise(&name, access);
            }
        }
    }

    /// The lane that a process serves, which another plan may have changed since it was started.
    fn lane_of(&self, name: &str, access: &Access) -> String {
        let planned = self.front.current.processes();
        let planned = planned.into_iter().find(|placed| is_of(name, &placed.spec.name));
        planned.map_or_else(|| access.spec.lane.clone(), |placed| placed.spec.lane)
    }

    fn save(&mut self) {
        self.front.save();
        self.versions.save();
    }

    /// Lets running requests finish, then stops everything. Those that wait for a process still get it: manifests
    /// and versions alone stay as they are.
    pub(super) async fn drain(&mut self) {
        let closed = self.front.close();
        tokio::pin!(closed);
        let mut looking = looking();
        loop {
            tokio::select! {
                () = &mut closed => break,
                Some(event) = self.happened.recv() => self.take(event),
                done = self.naps.done() => self.napped(&done),
                _ = looking.tick() => {
                    self.look().await;
                    self.scale();
                }
            }
        }
        self.supervisor.stop().await;
        self.save();
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
                if !fleet.rest(now_nanos, &name) && !fleet.rests(&name) {
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
        if !self.front.is_busy() {
            return;
        }
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
    fn raise(&mut self, name: &str, mut access: Access) {
        let lane = self.lane_of(name, &access);
        if lane != access.spec.lane {
            access.spec = Arc::new(ProcessSpec { lane, ..(*access.spec).clone() });
        }
        if let Some(took) = self.scaling.ready(&access.spec.lane, name)
            && let Some(lane) = self.front.gateway.lane(&access.spec.lane)
        {
            lane.replica_took(false, took);
        }
        self.naps.came(name, access.clone());
        let Access { spec, url, events_url, key } = access;
        self.front.fleet.process_up(name, &spec, (url, events_url), key);
    }

    /// Processes of a Model whose copies do not follow the load, as while a version of it is tried out, are awake:
    /// nobody else would wake them.
    fn rouse(&mut self) {
        let planned = self.front.current.processes();
        for name in self.naps.resting() {
            let own = planned.iter().find(|placed| is_of(&name, &placed.spec.name));
            if own.is_some_and(|own| !self.scaling.follows(&own.spec.lane)) {
                self.wake(&name);
            }
        }
    }

    fn wake(&mut self, name: &str) {
        if self.naps.stays(name) {
            self.front.fleet.stay(name);
        } else {
            self.naps.wake(name);
        }
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
                Task::Wake(name) => self.wake(&name),
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
                self.rouse();
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

/// What else happens puts off no look.
fn looking() -> Interval {
    let mut looking = tokio::time::interval(LOOK);
    looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looking
}
