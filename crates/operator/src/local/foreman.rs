//! Carries out what the rollout decides: starts keepers, lets them go, and tells outside what
//! happened.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pilotage_plan::update::model_of;
use pilotage_shell::tasks;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::adapters::Wanted;
use super::placed::Placed;
use super::process::Keeper;
use super::rollout::{Action, Instance, Rollout};
use super::{Event, Machine, States, taken_kib};

/// What somebody outside wants.
#[derive(Debug)]
pub(super) enum Order {
    /// These processes run from now on.
    Want(Vec<Placed>),
    /// Nothing is in flight at this one any more.
    Release(String),
}

/// What a process is started with; two are equal that would be the same process.
#[derive(Clone)]
struct What(Arc<Placed>);

impl PartialEq for What {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same_process(&other.0)
    }
}

/// What reaches a process that runs.
struct Reins {
    stop: CancellationToken,
    adapters: watch::Sender<Wanted>,
}

/// Everything about the processes of one machine.
pub(super) struct Foreman {
    machine: Machine,
    states: States,
    stop: CancellationToken,
    running: TaskTracker,
    rollout: Rollout<What>,
    /// By the process's own name.
    reins: HashMap<String, Reins>,
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
            reins: HashMap::new(),
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
                    .map(|placed| (placed.spec.name.clone(), What(Arc::new(placed))));
                let wanted: BTreeMap<String, What> = named.collect();
                self.tell_adapters(&wanted);
                self.rollout.want(wanted);
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
                self.reins.remove(name);
                self.states.lock().remove(name);
            }
            Event::Retiring { .. } => {}
        }
        // The receiver is gone only when the whole process is on its way out.
        let _ = self.events.send(event);
    }

    fn act(&mut self) {
        let (states, memory) = (Arc::clone(&self.states), self.machine.memory);
        // One accelerator holds the weights of one of them.
        let apart = |old: &Instance<What>, what: &What| {
            let (old_devices, new_devices) = (&old.what.0.spec.devices, &what.0.spec.devices);
            !new_devices.iter().any(|device| old_devices.contains(device))
        };
        let room = |old: &Instance<What>, what: &What| {
            if !apart(old, what) {
                return false;
            }
            let pid = states.lock().get(&old.label).and_then(|state| state.pid);
            pid.is_none_or(|pid| memory(taken_kib(pid).unwrap_or(0), &what.0.weights))
        };
        // A version that goes leaves its memory to the one that comes.
        let free = |old: &Instance<What>, what: &What| {
            let model = |what: &What| model_of(&what.0.spec.lane).to_owned();
            let makes_room = old.is_leaving() && model(&old.what) == model(what);
            apart(old, what) && (!makes_room || room(old, what))
        };
        for action in self.rollout.next(room, free) {
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
        let placed = &instance.what.0;
        let stop = self.stop.child_token();
        let (adapters, wanted) = watch::channel(placed.adapters.clone());
        let keeper = Keeper {
            name: label.to_owned(),
            machine: self.machine.clone(),
            spec: Arc::new(placed.spec.clone()),
            weights: placed.weights.clone(),
            adapters: wanted,
            events: self.told.clone(),
            states: Arc::clone(&self.states),
            stop: stop.clone(),
        };
        self.reins.insert(label.to_owned(), Reins { stop, adapters });
        drop(tasks::spawn("keeper", self.running.track_future(keeper.run())));
    }

    /// A process that was let go ends; anything else is somebody's mistake and goes on.
    fn end(&self, label: &str) {
        if !self.rollout.is_leaving(label) {
            return;
        }
        if let Some(reins) = self.reins.get(label) {
            reins.stop.cancel();
        }
    }

    /// Tells those that run on which adapters they shall have, where that is all that changes.
    fn tell_adapters(&self, wanted: &BTreeMap<String, What>) {
        for (label, reins) in &self.reins {
            let Some(instance) = self.rollout.get(label) else { continue };
            let Some(what) = wanted.get(&instance.name) else { continue };
            if *what == instance.what {
                reins.adapters.send_if_modified(|now| {
                    let changes = *now != what.0.adapters;
                    now.clone_from(&what.0.adapters);
                    changes
                });
            }
        }
    }
}
