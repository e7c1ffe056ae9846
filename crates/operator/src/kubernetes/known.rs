//! What loops beside the reconciler may know of the cluster, without watching it a second time.

use std::sync::{Arc, Weak};

use kube::Client;
use pilotage_plan::Resource;
use pilotage_plan::adapters::Told;
use pilotage_plan::cluster::Running;
use pilotage_plan::render::kubernetes::Installed;
use pilotage_plan::update::Trial;
use serde_json::Value;
use tokio::sync::watch;

use super::Shared;

/// A cluster as the operator knows it: read, never written. Copies are of the same one, and what each has
/// been told of changes is its own.
///
/// ```text
/// loop {
///     known.changed().await;                  // something is other than it was
///     if !known.leads() { continue }          // another operator acts
///     for running in known.models(all) { … }  // what it says, its status, its copies and pods
/// }
/// ```
#[derive(Clone)]
pub struct Known {
    shared: Weak<Shared>,
    client: Client,
    changed: watch::Receiver<u64>,
    leads: watch::Receiver<bool>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("leads", &self.leads()).finish_non_exhaustive()
    }
}

impl Known {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            client: shared.calls.client(),
            changed: shared.changed.subscribe(),
            leads: shared.leads.subscribe(),
            shared: Arc::downgrade(shared),
        }
    }

    /// The Models that count, each with what it says, its status, its copies and its pods; of them those that are
    /// wanted by what they say and their status.
    pub fn models(&self, is_wanted: impl Fn(&Resource, &Value) -> bool) -> Vec<Running> {
        let shared = self.shared.upgrade();
        shared.map(|shared| shared.world.lock().models(is_wanted)).unwrap_or_default()
    }

    /// Counts changes of what is known of Models and Fleets: while it is the same, so is that.
    pub fn revision(&self) -> u64 {
        self.shared.upgrade().map_or(0, |shared| shared.world.lock().revision())
    }

    /// The Fleets that count.
    pub fn fleets(&self) -> Vec<Resource> {
        let shared = self.shared.upgrade();
        shared.map(|shared| shared.world.lock().fleets().to_vec()).unwrap_or_default()
    }

    /// Which kinds beyond Kubernetes' own the cluster has.
    pub fn installed(&self) -> Option<Installed> {
        self.shared.upgrade().map(|shared| shared.world.lock().setting().has)
    }

    /// What gateways say of a Model's next version.
    pub fn heard_trials(&self, namespace: &str, name: &str, trials: Vec<Trial>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.world.lock().heard_trials(namespace, name, trials);
            shared.changed.send_modify(|count| *count += 1);
            shared.nudge.notify_one();
        }
    }

    /// What copies of a Model say of their adapters.
    pub fn heard_adapters(&self, namespace: &str, name: &str, heard: Vec<Option<Told>>) {
        let Some(shared) = self.shared.upgrade() else { return };
        if shared.world.lock().heard_adapters(namespace, name, heard) {
            shared.nudge.notify_one();
        }
    }

    /// Whether this operator acts. Others look on.
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Waits until who leads is another.
    pub async fn lead_changed(&mut self) {
        if self.leads.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until something is other than when it was last waited for.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The client of the cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}
