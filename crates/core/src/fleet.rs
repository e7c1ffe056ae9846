//! The replicas a lane can use, with the ledger of what is in flight on each.
//!
//! The ledger is our own count of what we sent, so it is never stale; what engines report about
//! themselves only corrects it.

use std::collections::BTreeMap;

use crate::{ReplicaId, Time};

/// What a replica can take at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Requests in flight.
    pub requests_max: u32,
}

/// One replica as the scheduler sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// What it can take.
    pub capacity: Capacity,
    /// Whether new work may go there.
    pub up: bool,
    /// No new work before this time, because the last attempt there failed.
    pub suspended_until: Time,
    /// Requests in flight.
    pub requests: u32,
    /// Their tokens.
    pub tokens: u64,
}

impl Replica {
    /// Whether one more request may go there.
    pub fn has_room(&self, now: Time) -> bool {
        self.up && self.requests < self.capacity.requests_max && self.suspended_until <= now
    }
}

/// All replicas of a lane, in the order of their ids.
#[derive(Debug, Default)]
pub struct Fleet {
    replicas: BTreeMap<ReplicaId, Replica>,
}

impl Fleet {
    /// A replica may be used from now on, or its capacity changed.
    pub fn raise(&mut self, id: ReplicaId, capacity: Capacity) {
        let fresh =
            Replica { id, capacity, up: true, suspended_until: Time::ZERO, requests: 0, tokens: 0 };
        let replica = self.replicas.entry(id).or_insert(fresh);
        replica.capacity = capacity;
        replica.up = true;
        replica.suspended_until = Time::ZERO;
    }

    /// No new work goes to this replica; what is in flight there goes on.
    pub fn lower(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.up = false;
        if replica.requests == 0 {
            self.replicas.remove(&id);
        }
    }

    /// Every replica, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    /// Whether any replica may take new work.
    pub fn is_up(&self) -> bool {
        self.replicas.values().any(|replica| replica.up)
    }

    /// When the next suspension ends, if one still runs.
    pub fn next_resumption(&self, now: Time) -> Option<Time> {
        let ends = self.replicas.values().filter(|replica| replica.up);
        ends.map(|replica| replica.suspended_until).filter(|until| *until > now).min()
    }

    pub(crate) fn suspend(&mut self, id: ReplicaId, until: Time) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.suspended_until = replica.suspended_until.max(until);
        }
    }

    pub(crate) fn book(&mut self, id: ReplicaId, tokens: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.requests += 1;
            replica.tokens += tokens;
        }
    }

    pub(crate) fn unbook(&mut self, id: ReplicaId, tokens: u64) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        debug_assert!(replica.requests > 0 && replica.tokens >= tokens, "C-3: unbooked twice");
        replica.requests = replica.requests.saturating_sub(1);
        replica.tokens = replica.tokens.saturating_sub(tokens);
        if !replica.up && replica.requests == 0 {
            self.replicas.remove(&id);
        }
    }
}
