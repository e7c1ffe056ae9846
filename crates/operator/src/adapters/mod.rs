//! Adapters of an engine that runs beside this process: what a list names is fetched and loaded, what it names no
//! more goes, and an engine that was started anew gets all of them again.
//!
//! ```text
//! list (a file that changes) ──▶ files (fetched, under their digest) ──▶ the engine, told step by step
//!                                                                          ▲ what it lists itself is believed
//! ```
//!
//! Contract: what is loaded stays until what takes its place is there. One that cannot be had is told and tried
//! again, and keeps neither the others nor the engine from serving. Nothing waits for ever.

mod engine;
mod errand;
mod keep;
mod step;
mod tell;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilotage_plan::adapters::{Listed, Told};
use pilotage_plan::{WeightsSource, WeightsSpec};
use pilotage_shell::clock::Clock;
use tokio::sync::watch;

use crate::weights::{Held, Progress, Store};

pub use engine::{Engine, Line, Listing, Unheard};
pub(crate) use step::{Folders, Step, steps};
pub use tell::tell;

/// Between two looks at the list and the engine.
pub const EVERY: Duration = Duration::from_secs(2);

/// How long the first list may keep an engine that answers from taking requests.
pub const FIRST_PATIENCE: Duration = Duration::from_secs(600);

/// How long an adapter stays that is listed no more: requests for it may be on their way.
pub const LINGER: Duration = Duration::from_secs(30);

/// How long files stay that nothing names any more: requests that run may still read them.
pub const KEPT: Duration = Duration::from_secs(900);

/// Before another try after the first failure; twice as long after each further one.
pub const RETRY: Duration = Duration::from_secs(5);

/// At most.
pub const RETRY_MAX: Duration = Duration::from_secs(600);

/// Adapters that are fetched at once.
pub const FETCHES_MAX: usize = 2;

/// Things that an engine is told at once, each about another adapter.
pub const ERRANDS_MAX: usize = 4;

/// Whom it is about.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file with the list.
    pub list: PathBuf,
    /// For its waits.
    pub clock: Clock,
}

/// Where files of adapters come from.
pub trait Fetch: Send + Sync + 'static {
    /// The files of an adapter, which stay while the result lives; why they cannot be had.
    fn fetch(&self, adapter: &Listed) -> impl Future<Output = Result<Held, String>> + Send;

    /// Removes what nobody holds.
    fn sweep(&self);
}

impl Fetch for Store {
    async fn fetch(&self, adapter: &Listed) -> Result<Held, String> {
        let spec = WeightsSpec {
            source: adapter.source.clone(),
            digest: None,
            signed_by: adapter.signed_by,
            size_bytes: None,
        };
        let progress = Logged { name: adapter.name.clone() };
        self.hold(&spec, "adapters", &progress)
            .await
            .map_err(|error| told_to(&adapter.source, &error))
    }

    fn sweep(&self) {
        if let Err(error) = self.prune(0, false) {
            tracing::warn!(%error, "files of adapters that are gone cannot be removed");
        }
    }
}

fn told_to(source: &WeightsSource, error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    if text.contains(&source.to_string()) { text } else { format!("{source}: {text}") }
}

/// What fetching shows.
struct Logged {
    name: String,
}

impl Progress for Logged {
    fn begin(&self, what: &str, total: Option<u64>) {
        tracing::info!(adapter = self.name, what, bytes = total, "fetching");
    }

    fn advance_to(&self, _bytes: u64) {}

    fn note(&self, text: &str) {
        tracing::info!(adapter = self.name, text, "fetching");
    }

    fn end(&self) {}
}

/// Keeps an engine's adapters as the list says, for as long as it is asked to. How far it is, `told` says.
pub async fn keep<E: Engine + 'static, F: Fetch>(
    settings: Settings,
    engine: E,
    fetch: F,
    told: watch::Sender<Told>,
) {
    keep::Keeper::new(settings, Arc::new(engine), Arc::new(fetch), told).run().await;
}
