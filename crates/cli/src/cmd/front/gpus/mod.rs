//! Accelerators as the gateway's metrics show them: those of this machine by NVIDIA's own library, where there is one,
//! or those of a cluster by DCGM's exporters, each with the replica that has it.
//!
//! Looking at them is nobody's way: what cannot be asked is left out, and requests know nothing of it.

mod exporter;
#[cfg(target_os = "linux")]
mod nvml;
mod shown;

use std::time::Duration;

use axum::Router;
use pilotage_lens::gpu::{Holder, Reading, Xids, owned};
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use tokio::sync::watch;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::load::{Load, Stands};
use exporter::Exporter;
pub(in crate::cmd) use shown::Shown;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(15);

/// What was seen at a look.
#[derive(Clone, Debug, Default)]
struct Look {
    readings: Vec<Reading>,
    xids: Xids,
}

/// Who tells of accelerators.
enum Source {
    /// Exporters of a cluster.
    Exporter(Box<Exporter>, Xids),
    /// A thread that asks this machine's driver; nothing where there is none.
    Machine(watch::Receiver<Look>),
}

/// The eyes on accelerators.
pub(super) struct Gpus {
    source: Source,
    shown: Shown,
}

impl Gpus {
    /// What the environment says.
    ///
    /// # Errors
    /// It names an address that is none.
    pub(super) fn from_env(metrics: &Metrics, clock: Clock) -> anyhow::Result<Self> {
        let shown = Shown::register(metrics);
        let source = match env::get(Var::DcgmUrl).filter(|url| !url.is_empty()) {
            Some(url) => Source::Exporter(Box::new(Exporter::new(&url, clock)?), Xids::default()),
            None => Source::Machine(machine()),
        };
        Ok(Self { source, shown })
    }

    /// Looks until it shall stop.
    pub(super) fn watch(mut self, admin: Router, key: Secret, stop: CancellationToken) {
        let looks = async move {
            let mut every = tokio::time::interval(EVERY);
            loop {
                self.wait(&mut every).await;
                self.look(&admin, &key).await;
            }
        };
        drop(tasks::spawn("gpus", async move {
            stop.run_until_cancelled(looks).await;
        }));
    }

    /// Until there is something to look at: replicas come and go, and a driver tells when it likes.
    async fn wait(&mut self, every: &mut Interval) {
        match &mut self.source {
            Source::Machine(told) if told.has_changed().is_ok() => tokio::select! {
                _ = every.tick() => {}
                _ = told.changed() => {}
            },
            _ => drop(every.tick().await),
        }
    }

    async fn look(&mut self, admin: &Router, key: &Secret) {
        let look = match &mut self.source {
            Source::Exporter(exporter, xids) => {
                let readings = exporter.readings().await;
                xids.look(&readings);
                Look { readings, xids: xids.clone() }
            }
            Source::Machine(told) => told.borrow_and_update().clone(),
        };
        let Ok(load) = Load::of(admin, key).await else { return };
        let holders: Vec<Holder> = load.up().map(|stands| holder(&stands)).collect();
        self.shown.show(&owned(&look.readings, &holders), &look.xids);
        self.shown.replicas(&holders);
    }
}

fn holder(stands: &Stands<'_>) -> Holder {
    let (namespace, pod, node) = stands.pod;
    Holder {
        replica: stands.name.to_owned(),
        lane: stands.lane.to_owned(),
        hardware: stands.hardware.to_owned(),
        devices: stands.devices.to_vec(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        node: node.to_owned(),
    }
}

/// What this machine's driver says, as soon as it says something.
fn machine() -> watch::Receiver<Look> {
    let (tell, told) = watch::channel(Look::default());
    #[cfg(target_os = "linux")]
    nvml::start(tell, EVERY);
    #[cfg(not(target_os = "linux"))]
    drop(tell);
    told
}
