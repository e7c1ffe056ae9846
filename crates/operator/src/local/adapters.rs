//! Adapters of a process that runs: what is wanted and not there is loaded, what is there and not wanted
//! goes. A process that was started anew has none.

use std::path::PathBuf;
use std::time::Duration;

use pilotage_wire::dialect::Call;
use tokio::sync::watch;

use super::ready::Asked;
use crate::adapters::{Folders, Step, steps};

/// The folders of adapters, by name.
pub(super) type Wanted = Vec<(String, PathBuf)>;

/// Before another try where loading failed.
const RETRY: Duration = Duration::from_secs(5);

/// What a process has loaded.
pub(super) struct Adapters {
    wanted: watch::Receiver<Wanted>,
    loaded: Folders,
}

impl Adapters {
    /// Those of a process that has just been started.
    pub(super) const fn none_of(wanted: watch::Receiver<Wanted>) -> Self {
        Self { wanted, loaded: Folders::new() }
    }

    /// Loads and unloads once; whether all is as it should be.
    pub(super) async fn settle(&mut self, process: &Asked<'_>) -> bool {
        let wanted: Folders = self.wanted.borrow_and_update().iter().cloned().collect();
        let Some(calls) = process.spec.dialect.wire().differences().adapters else { return true };
        let mut settled = true;
        for step in steps(&self.loaded, &wanted) {
            let (name, path) = match step {
                Step::Off(name) => (name, None),
                Step::On(name, path) | Step::Swap(name, path) => (name, Some(path)),
            };
            if self.loaded.remove(&name).is_some() {
                settled &= call(process, &calls.off, &[("name", &name)]).await;
            }
            let Some(path) = path else { continue };
            let folder = path.to_string_lossy();
            if call(process, &calls.on, &[("name", &name), ("path", &folder)]).await {
                self.loaded.insert(name, path);
            } else {
                settled = false;
            }
        }
        settled
    }

    /// Follows what is wanted, for as long as it is asked to.
    pub(super) async fn follow(&mut self, process: &Asked<'_>, mut settled: bool) {
        loop {
            let changed = self.wanted.changed();
            let gone = if settled {
                changed.await.is_err()
            } else {
                tokio::time::timeout(RETRY, changed).await.is_ok_and(|changed| changed.is_err())
            };
            if gone {
                // Whoever would want something else is on its way out.
                return std::future::pending().await;
            }
            settled = self.settle(process).await;
        }
    }
}

async fn call(process: &Asked<'_>, call: &Call, with: &[(&str, &str)]) -> bool {
    let (path, body) = call.filled(with);
    let answer = process.call(call.method, &path, body.into()).await;
    let adapter = with.first().map_or("", |(_, name)| name);
    match answer {
        Ok(()) => {
            tracing::info!(process = process.spec.name, adapter, path, "adapters changed");
            true
        }
        Err(reason) => {
            let process = &process.spec.name;
            tracing::warn!(process, adapter, path, reason, "an adapter cannot be changed");
            false
        }
    }
}
