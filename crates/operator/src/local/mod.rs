//! The executor for one machine: every process of a plan is started, watched, and started again
//! when it dies, until it is stopped.

mod log;
mod policy;
mod process;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
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

/// How long a process may take to become ready.
pub const START_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a process gets to end after SIGTERM.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What an executor needs to know of this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The binary that [`pilotage_plan::Program::Own`] means.
    pub own: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
    /// The key between gateway and engines.
    pub engine_key: Secret,
    /// For health checks.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// How long a process may take to become ready.
    pub start_timeout: Duration,
    /// How long a process gets to end.
    pub stop_timeout: Duration,
}

/// What happens to a process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// It takes requests at that URL.
    Ready {
        /// The process's name in the plan.
        name: String,
        /// Where.
        url: String,
    },
    /// It takes none any more.
    Down {
        /// The process's name in the plan.
        name: String,
        /// Why, in words.
        reason: String,
        /// Milliseconds until it is started again; none when it is not.
        again_ms: Option<u64>,
    },
}

/// What a process does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct State {
    /// starting, ready, waiting, crash_loop or stopped.
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

/// Runs processes until it is stopped. Dropped without that, it kills them.
#[derive(Debug)]
pub struct Supervisor {
    states: States,
    stop: CancellationToken,
    running: TaskTracker,
}

impl Supervisor {
    /// Starts every process, with its weights at the path given beside it. Events come through the
    /// channel.
    pub fn start(
        machine: &Machine,
        processes: Vec<(ProcessSpec, PathBuf)>,
    ) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, happened) = mpsc::unbounded_channel();
        let this = Self {
            states: States::default(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
        };
        for (spec, weights) in processes {
            let keeper = process::Keeper {
                machine: machine.clone(),
                spec,
                weights,
                events: events.clone(),
                states: Arc::clone(&this.states),
                stop: this.stop.clone(),
            };
            drop(tasks::spawn("keeper", this.running.track_future(keeper.run())));
        }
        this.running.close();
        (this, happened)
    }

    /// What all processes do.
    pub fn states(&self) -> States {
        Arc::clone(&self.states)
    }

    /// Asks every process to end, and waits until it has, or was made to.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.running.wait().await;
    }
}
