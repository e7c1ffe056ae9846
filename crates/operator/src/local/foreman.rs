//! Carries out what the rollout decides: starts keepers, lets them go, and tells outside what
//! happened.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use pilotage_plan::ProcessSpec;
use pilotage_shell::tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::process::Keeper;
use super::rollout::{Action, Instance, Rollout};
use super::{Event, Machine, States};

/// What somebody outside wants.
#[derive(Debug)]
pub(super) enum Order {
    /// These processes run from now on.
    Want(Vec<(ProcessSpec, PathBuf)>),
    /// Nothing is in flight at this one any more.
    Release(String),
}

/// What a process is started with.
type What = (Arc<ProcessSpec>, PathBuf);

/// Everything about the processes of one machine.
pub(super) struct Foreman {
    machine: Machine,
    states: States,
    stop: CancellationToken,
    running: TaskTracker,
    rollout: Rollout<What>,
    /// What ends a process, by its own name.
    stops: HashMap<String, CancellationToken>,
    /// Where keepers tell what happens.
    told: mpsc::UnboundedSender<Event>,
    happened: mpsc::UnboundedReceiver<Event>,
    /// Where that is told outside.
    events: mpsc::UnboundedSender<Event>,
}

impl Foreman {
    pub(super) fn new(
        machine: &Machine,
        states: &States,
        stop: &CancellationToken,
        running: &TaskTracker,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let (told, happened) = mpsc::unbounded_channel();
        Self {
            machine: machine.clone(),
            states: Arc::clone(states),
            stop: stop.clone(),
            running: running.clone(),
            rollout: Rollout::new(),
            stops: HashMap::new(),
            told,
            happened,
            events,
        }
    }

    /// Until everything is stopped; keepers end by themselves then.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(order) = orders.recv() => self.obey(order),
                Some(event) = self.happened.recv() => self.take(event),
            }
            self.act();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Want(processes) => {
                let named = processes
                    .into_iter()
                    .map(|(spec, weights)| (spec.name.clone(), (Arc::new(spec), weights)));
                self.rollout.want(named.collect::<BTreeMap<String, What>>());
            }
            Order::Release(name) => self.end(&name),
        }
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::Ready { name, .. } => {
                if !self.rollout.ready(name) {
                    return;
                }
            }
            Event::Down { name, .. } => self.rollout.down(name),
            Event::Gone { name } => {
                self.rollout.gone(name);
                self.stops.remove(name);
                self.states.lock().remove(name);
            }
            Event::Retiring { .. } => {}
        }
        // The receiver is gone only when the whole process is on its way out.
        let _ = self.events.send(event);
    }

    fn act(&mut self) {
        let (states, memory) = (Arc::clone(&self.states), self.machine.memory);
        let room = |old: &Instance<What>, (_, weights): &What| {
            let pid = states.lock().get(&old.label).and_then(|state| state.pid);
            pid.is_none_or(|pid| memory(pid, weights))
        };
        for action in self.rollout.next(room) {
            match action {
                Action::Start(label) => self.begin(&label),
                Action::Retire(name) => {
                    if let Some(state) = self.states.lock().get_mut(&name) {
                        state.phase = "retiring";
                    }
                    let _ = self.events.send(Event::Retiring { name });
                }
                Action::End(label) => self.end(&label),
            }
        }
    }

    fn begin(&mut self, label: &str) {
        let Some(instance) = self.rollout.get(label) else { return };
        let (spec, weights) = &instance.what;
        let stop = self.stop.child_token();
        let keeper = Keeper {
            name: label.to_owned(),
            machine: self.machine.clone(),
            spec: Arc::clone(spec),
            weights: weights.clone(),
            events: self.told.clone(),
            states: Arc::clone(&self.states),
            stop: stop.clone(),
        };
        self.stops.insert(label.to_owned(), stop);
        drop(tasks::spawn("keeper", self.running.track_future(keeper.run())));
    }

    /// A process that was let go ends; anything else is somebody's mistake and goes on.
    fn end(&self, label: &str) {
        if !self.rollout.is_leaving(label) {
            return;
        }
        if let Some(stop) = self.stops.get(label) {
            stop.cancel();
        }
    }
}
