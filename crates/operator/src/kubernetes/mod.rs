//! Makes a cluster match what its resources say: watches go into [`World`], plans come out of it and are
//! carried out.
//!
//! ```text
//! watch ──▶ World ──▶ Plan ──▶ write ──▶ API server
//!              ▲                  │
//!              └── what came of it┘      lead: one operator acts, others look on
//! ```
//!
//! What is decided is decided in `plan`; here are the sockets, the clock and chance. Further loops beside
//! this one (that of scaling) are handed a [`Known`].
//!
//! Contract: nothing is written at rest; what is done about a resource is done once at a time; while the
//! API server is away nothing is forgotten and nobody hammers at it.

pub(crate) mod call;
pub(crate) mod change;
pub(crate) mod discover;
mod gate;
mod known;
mod lead;
mod metrics;
mod moves;
mod object;
mod preview;
mod reconcile;
mod watches;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::{Client, Config};
use parking_lot::Mutex;
use pilotage_plan::cluster::{Failure, World};
use pilotage_plan::render::kubernetes::Cluster;
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use change::{Change, Deed};
pub use known::Known;
pub use preview::Preview;

use call::Calls;
use gate::Gate;
use metrics::Counters;

/// How an operator works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is rendered for. Its `system` is the operator's own namespace; what is installed is found out.
    pub cluster: Cluster,
    /// The namespace whose resources count; none is all of them.
    pub namespace: Option<String>,
    /// What tells this operator from others.
    pub name: String,
}

/// Why there is no operator.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// There is no cluster.
    #[error("no cluster is known: {0}; set KUBECONFIG, or run in a pod with a ServiceAccount")]
    Config(String),
    /// The client cannot be made.
    #[error("the cluster's API server cannot be asked: {0}")]
    Client(#[source] kube::Error),
    /// The API server refuses, or is away.
    #[error("the cluster's API server does not answer as it should: {}", .0.message)]
    Server(Failure),
}

/// An operator of one cluster. Copies are of the same one.
#[derive(Clone, Debug)]
pub struct Operator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    calls: Calls,
    clock: Clock,
    /// What the clock's zero is, in milliseconds since 1970.
    origin_ms: u64,
    world: Mutex<World>,
    /// Counts what is new in the world.
    changed: watch::Sender<u64>,
    leads: watch::Sender<bool>,
    /// Wakes the loop when others told the world something.
    nudge: Notify,
    /// Whether all that is watched was listed.
    is_synced: AtomicBool,
    /// Why it does not work, if it does not.
    hindrance: Mutex<Option<String>>,
    gate: Gate,
    counters: Counters,
}

/// A client of the cluster that the environment names: KUBECONFIG, or the pod's own.
///
/// # Errors
/// [`OperatorError`] when it names none that can be asked.
pub async fn connect() -> Result<Client, OperatorError> {
    let config = Config::infer().await.map_err(|error| OperatorError::Config(error.to_string()))?;
    Client::try_from(config).map_err(OperatorError::Client)
}

impl Operator {
    /// One that works with that client. Its time of day begins at `origin_ms`, in milliseconds since 1970.
    pub fn new(client: Client, settings: Settings, origin_ms: u64, metrics: &Metrics) -> Self {
        let clock = Clock::start();
        let shared = Shared {
            calls: Calls::new(client),
            clock,
            origin_ms,
            world: Mutex::new(World::new(settings.cluster.clone())),
            changed: watch::Sender::new(0),
            leads: watch::Sender::new(false),
            nudge: Notify::new(),
            is_synced: AtomicBool::new(false),
            hindrance: Mutex::new(Some("the API server was not reached yet".to_owned())),
            gate: Gate::new(clock),
            counters: Counters::new(metrics),
            settings,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What other loops may know of the cluster.
    pub fn known(&self) -> Known {
        Known::new(&self.shared)
    }

    /// Works until it is told to stop; then gives back the lead.
    pub async fn run(&self, stop: CancellationToken) {
        let lead = lead::keep(Arc::clone(&self.shared), stop.clone());
        let work = reconcile::run(Arc::clone(&self.shared), stop);
        tokio::join!(lead, work);
    }

    /// What it would do, as text; nothing is written.
    ///
    /// # Errors
    /// [`OperatorError::Server`] when the API server does not tell what there is.
    pub async fn dry_run(&self) -> Result<String, OperatorError> {
        reconcile::dry_run(&self.shared).await.map_err(OperatorError::Server)
    }

    /// What applying these resources would change, in the order in which it would happen; nothing is written. They
    /// are objects as an API server takes them, each with its namespace. Who may not look at the whole cluster sees
    /// what comes of it in these namespaces, and a note that says so.
    ///
    /// # Errors
    /// [`OperatorError::Server`] when the API server does not tell what there is, not even there.
    pub async fn preview(&self, resources: &[serde_json::Value]) -> Result<Preview, OperatorError> {
        let preview = match preview::preview(&self.shared, resources).await {
            Err(failure) if failure.code == 403 && self.shared.settings.namespace.is_none() => {
                preview::by_namespace(self, resources).await
            }
            preview => preview,
        };
        preview.map_err(OperatorError::Server)
    }

    /// The same one, which has seen nothing yet and looks at that namespace alone.
    fn within(&self, namespace: &str) -> Self {
        let Shared { settings, calls, .. } = &*self.shared;
        let settings = Settings { namespace: Some(namespace.to_owned()), ..settings.clone() };
        Self::new(calls.client(), settings, self.shared.now_ms(), &Metrics::new())
    }

    /// Why it does not work, if it does not.
    pub fn hindrance(&self) -> Option<String> {
        self.shared.hindrance.lock().clone()
    }

    /// Whether all that is watched was listed.
    pub fn is_synced(&self) -> bool {
        self.shared.is_synced.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The time of day in milliseconds since 1970, which never goes back.
    fn now_ms(&self) -> u64 {
        self.origin_ms + self.clock.now_nanos() / 1_000_000
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Waits until that time of day.
    async fn until_ms(&self, at_ms: u64) {
        let nanos = at_ms.saturating_sub(self.origin_ms).saturating_mul(1_000_000);
        self.clock.sleep_until_nanos(nanos).await;
    }

    async fn pause_ms(&self, ms: u64) {
        self.until_ms(self.now_ms() + ms).await;
    }
}

/// A number below 1000.
fn chance() -> u32 {
    u32::try_from(pilotage_shell::id::random_u64() % 1000).unwrap_or_default()
}
