//! Which replicas have an adapter, as they list it themselves. One that lists nothing is believed to have all: what
//! it has not, it refuses.

use std::collections::BTreeSet;

use pilotage_core::route::Bounds;
use pilotage_core::{ReplicaId, RequestId, Span};

use super::{Driver, takes};
use crate::forward::adapter_key;

/// How long it is believed that a replica has not an adapter that it refused, where it does not list any.
const REFUSED_FOR: Span = Span::from_secs(5);

/// What the replicas that take work lack for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lack {
    /// None of them may have it.
    Reach,
    /// None of those that may has its adapter.
    Adapter,
}

impl Driver {
    pub(super) fn listed(&mut self, id: ReplicaId, adapters: &BTreeSet<String>) {
        let keys = adapters.iter().map(|name| adapter_key(name)).collect();
        self.scheduler.list_adapters(id, keys);
        self.drain(self.now());
    }

    /// The replica that a request is at refused its adapter.
    pub(super) fn refused(&mut self, id: RequestId, adapter: u64) {
        let at = self.waiters.get(&id).and_then(|waiter| waiter.at);
        if let Some(replica) = at {
            self.scheduler.adapter_refused(self.now(), replica, adapter, REFUSED_FOR);
        }
    }

    /// What those that take work lack for a request. Nothing where nobody takes work: it waits for somebody.
    pub(super) fn lack(&self, bounds: &Bounds) -> Option<Lack> {
        if bounds.among.as_ref().is_some_and(|among| among.is_empty()) {
            return Some(Lack::Reach);
        }
        let now = self.now();
        let mut work = self.scheduler.fleet().iter().filter(|one| takes(one)).peekable();
        work.peek()?;
        let mut may = work.filter(|one| bounds.wall(one).is_none()).peekable();
        if may.peek().is_none() {
            return Some(Lack::Reach);
        }
        may.all(|one| bounds.bar(now, one).is_some()).then_some(Lack::Adapter)
    }

    /// Whether a request may go to another replica than the one that it is at.
    pub(super) fn others_may(&self, id: RequestId, bounds: &Bounds) -> bool {
        let now = self.now();
        let at = self.waiters.get(&id).and_then(|waiter| waiter.at);
        let mut others = self.scheduler.fleet().iter().filter(|one| Some(one.id) != at);
        others.any(|one| takes(one) && one.is_open(now) && bounds.bar(now, one).is_none())
    }
}
