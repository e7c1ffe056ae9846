//! Which replicas have an adapter, as they list it themselves. One that lists nothing is believed to have all: what
//! it has not, it refuses.

use std::collections::BTreeSet;

use pilotage_core::ReplicaId;

use super::{Driver, Known};

/// Who can be asked for an adapter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Holders {
    /// Whoever takes work.
    Any,
    /// Those of them that have it; some have it not.
    Only(Vec<ReplicaId>),
}

impl Driver {
    pub(super) fn listed(&mut self, id: ReplicaId, adapters: BTreeSet<String>) {
        if let Some(known) = self.replicas.get_mut(&id) {
            known.listed = Some(adapters);
        }
    }

    /// Who can be asked for an adapter, of those that take work.
    pub(super) fn holders(&self, adapter: &str) -> Holders {
        let is_up = |id: ReplicaId| self.scheduler.fleet().get(id).is_some_and(|one| one.up);
        let has = |known: &Known| known.listed.as_ref().is_none_or(|all| all.contains(adapter));
        let up = || self.replicas.iter().filter(|(id, _)| is_up(**id));
        if up().all(|(_, known)| has(known)) {
            return Holders::Any;
        }
        Holders::Only(up().filter(|(_, known)| has(known)).map(|(id, _)| *id).collect())
    }
}
