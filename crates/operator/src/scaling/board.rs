//! What is wanted of each Model, for those who ask: autoscalers of others.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilotage_plan::api::status::ModelScaling;
use tokio::sync::watch;

use super::view::View;

/// The metric that says how many copies there are to be.
pub(super) const METRIC: &str = "pilotage_replicas_wanted";

/// Copies wanted, by namespace and Model.
type Wanted = BTreeMap<(String, String), u32>;

/// What is wanted now. Copies are of the same one.
#[derive(Clone, Debug)]
pub struct Board {
    wanted: watch::Sender<Arc<Wanted>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { wanted: watch::Sender::new(Arc::default()) }
    }
}

impl Board {
    /// Takes over what Models' status says. Those whose copies do not follow the load are not on it, nor
    /// are those of which nobody decided anything yet.
    pub fn post(&self, view: &View) {
        let wanted: Wanted = view
            .models
            .iter()
            .filter(|model| model.spec.scaling.is_some())
            .filter_map(|model| {
                let said: &ModelScaling = model.said.as_ref()?;
                Some(((model.namespace.clone(), model.name.clone()), said.wanted))
            })
            .collect();
        self.wanted.send_if_modified(|before| {
            let is_new = **before != wanted;
            if is_new {
                *before = Arc::new(wanted);
            }
            is_new
        });
    }

    /// Copies wanted of a Model; none where nobody knows.
    pub fn wanted(&self, namespace: &str, model: &str) -> Option<u32> {
        let key = (namespace.to_owned(), model.to_owned());
        self.wanted.borrow().get(&key).copied()
    }

    /// All Models of a namespace that are on it, by name.
    pub(super) fn of(&self, namespace: &str) -> Vec<(String, u32)> {
        let wanted = Arc::clone(&self.wanted.borrow());
        let from = (namespace.to_owned(), String::new());
        let range = wanted.range(from..).take_while(|((space, _), _)| space == namespace);
        range.map(|((_, model), count)| (model.clone(), *count)).collect()
    }

    /// Waits for changes.
    pub(super) fn changes(&self) -> Changes {
        Changes { wanted: self.wanted.subscribe() }
    }
}

/// Waits for changes of a board.
#[derive(Debug)]
pub(super) struct Changes {
    wanted: watch::Receiver<Arc<Wanted>>,
}

impl Changes {
    /// The next one; false once there will be none.
    pub(super) async fn next(&mut self) -> bool {
        self.wanted.changed().await.is_ok()
    }
}
