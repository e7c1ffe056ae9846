//! The executor for one machine: every process of a plan is started, watched, and started again
//! when it dies, until it is stopped or the plan is another one.
//!
//! `rollout` decides who is started and who goes, `foreman` does that, `process` keeps one of them
//! running: `launch` starts it, `ready` waits for it, `warden` is with those that are not ours.

mod adapters;
mod devices;
mod foreman;
mod group;
mod inherited;
mod installed;
mod launch;
mod log;
mod memory;
mod placed;
mod policy;
mod process;
mod program;
mod ready;
mod rollout;
mod warden;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_plan::ProcessSpec;
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use foreman::{Foreman, Order};

pub use devices::{Visible, accelerators};
pub use installed::look_for;
pub use memory::{has_room, taken_kib};
pub use placed::Placed;
pub use warden::watch_over;

/// How long a process may take to become ready.
pub const START_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a process gets to end after SIGTERM.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What an executor needs to know of this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The binary that [`pilotage_plan::Program::Own`] means.
    pub own: PathBuf,
    /// The binary whose command `warden` looks after programs of others; without one nobody does.
    pub warden: Option<PathBuf>,
    /// Where programs are found by their names, as in `PATH`.
    pub search_path: OsString,
    /// Where logs go.
    pub logs: PathBuf,
    /// Our environment, of which processes get what is known to be their business.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables of it that they do not get in any case: keys of endpoints have their own names.
    pub hidden_env: HiddenEnv,
    /// The token for the hub that weights come from.
    pub hub_token: Option<Secret>,
    /// For health checks.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// How long a process may take to become ready.
    pub start_timeout: Duration,
    /// How long a process gets to end.
    pub stop_timeout: Duration,
    /// Whether another process has room beside all others that takes so many kibibytes, with the weights at
    /// that path; usually [`has_room`].
    pub memory: fn(u64, &Path) -> bool,
}

/// Names of variables, which a later plan may add to.
pub type HiddenEnv = Arc<Mutex<BTreeSet<String>>>;

/// What happens to a process, by its own name: that in the plan, with a number behind it while one
/// replaces another.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It takes requests at that URL.
    Ready {
        /// Which one.
        name: String,
        /// What it was started as.
        spec: Arc<ProcessSpec>,
        /// Where.
        url: String,
        /// Where it tells what its KV cache holds: `tcp://HOST:PORT`.
        events_url: Option<String>,
        /// The key that it asks for; none where it takes none.
        key: Option<Secret>,
    },
    /// It takes none any more.
    Down {
        /// Which one.
        name: String,
        /// Why, in words.
        reason: String,
        /// Milliseconds until it is started again; none when it is not.
        again_ms: Option<u64>,
    },
    /// It shall end: send it nothing more, and say [`Supervisor::release`] once nothing is in flight
    /// there.
    Retiring {
        /// Which one.
        name: String,
    },
    /// It has ended for good.
    Gone {
        /// Which one.
        name: String,
    },
}

/// What a process does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct State {
    /// starting, ready, retiring, waiting, crash_loop or stopped.
    pub phase: &'static str,
    /// Its process id.
    pub pid: Option<u32>,
    /// Times it was started.
    pub starts: u32,
    /// Why it ended the last time.
    pub last_exit: Option<String>,
    /// Its log.
    pub log: PathBuf,
}

/// What all processes do, by name.
pub type States = Arc<Mutex<BTreeMap<String, State>>>;

/// Runs processes until it is stopped. Dropped without that, it kills its own, and those of others end with
/// this process.
#[derive(Debug)]
pub struct Supervisor {
    states: States,
    stop: CancellationToken,
    running: TaskTracker,
    orders: mpsc::UnboundedSender<Order>,
}

impl Supervisor {
    /// Starts every process. Events come through the channel.
    pub fn start(
        machine: &Machine,
        processes: Vec<Placed>,
    ) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, happened) = mpsc::unbounded_channel();
        let (orders, taken) = mpsc::unbounded_channel();
        let this = Self {
            states: States::default(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
            orders,
        };
        let foreman = Foreman::new(machine, &this.states, &this.stop, &this.running, events);
        drop(tasks::spawn("foreman", this.running.track_future(foreman.run(taken))));
        this.set(processes);
        (this, happened)
    }

    /// What runs from now on. What is not in it ends, what is new is started, and what differs is
    /// replaced: one process at a time, and where there is memory for both, the new one is ready
    /// before the old one goes.
    pub fn set(&self, processes: Vec<Placed>) {
        // The receiver is gone only when everything is being stopped.
        let _ = self.orders.send(Order::Want(processes));
    }

    /// Nothing is in flight at a process that is [`Event::Retiring`]: it can end.
    pub fn release(&self, name: &str) {
        let _ = self.orders.send(Order::Release(name.to_owned()));
    }

    /// What all processes do.
    pub fn states(&self) -> States {
        Arc::clone(&self.states)
    }

    /// Asks every process to end, and waits until it has, or was made to.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}
