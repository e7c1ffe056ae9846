//! The replicas a lane can use, with the ledger of what is in flight on each.
//!
//! The ledger is our own count of what we sent, so it is never stale; what engines report about
//! themselves only corrects it.

use std::collections::BTreeMap;

use crate::{ReplicaId, Span, Time};

/// What a replica can take at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Requests in flight.
    pub requests_max: u32,
    /// KV tokens in flight. A single request larger than this is let onto an empty replica.
    pub tokens_max: u64,
    /// Prompt tokens sent there of which no answer has begun: what keeps the replica's own queue
    /// short.
    pub prefill_max: u64,
    /// Requests that the replica can pause by itself, and go on with later, to make place.
    pub pauses_max: u32,
}

impl Capacity {
    /// So many requests, whatever their tokens, and nothing can be paused.
    pub const fn of_requests(requests_max: u32) -> Self {
        Self { requests_max, tokens_max: u64::MAX, prefill_max: u64::MAX, pauses_max: 0 }
    }
}

/// How old an engine's own report may be to be used: after that the ledger stands alone. Nothing
/// waits for a report.
const REPORT_AGE_MAX: Span = Span::from_secs(5);

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
    /// KV tokens set aside for them.
    pub tokens: u64,
    /// Of those, prompt tokens whose answers have not begun.
    pub prefill: u64,
    /// Requests that it has paused.
    pub paused: u32,
    /// KV tokens that it reported beyond the ledger's: somebody else's work.
    foreign: u64,
    reported: Option<Time>,
}

impl Replica {
    /// Whether a request of so many KV tokens, so many of them uncached prompt, may go there.
    pub fn has_room(&self, now: Time, need: u64, prefill: u64) -> bool {
        let place = self.requests - self.paused < self.capacity.requests_max && self.paused == 0;
        self.is_open(now) && place && (self.requests == 0 || self.fits(now, need, prefill))
    }

    /// Whether it takes new work at all.
    pub fn is_open(&self, now: Time) -> bool {
        self.up && self.suspended_until <= now
    }

    /// KV tokens nobody holds, as far as the ledger and a fresh report tell.
    pub fn free(&self, now: Time) -> u64 {
        self.capacity.tokens_max.saturating_sub(self.tokens.saturating_add(self.foreign(now)))
    }

    fn fits(&self, now: Time, need: u64, prefill: u64) -> bool {
        let waits =
            self.prefill == 0 || self.prefill.saturating_add(prefill) <= self.capacity.prefill_max;
        need <= self.free(now) && waits
    }

    fn foreign(&self, now: Time) -> u64 {
        let fresh = self.reported.is_some_and(|at| now.since(at) <= REPORT_AGE_MAX);
        if fresh { self.foreign } else { 0 }
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
        let fresh = Replica {
            id,
            capacity,
            up: true,
            suspended_until: Time::ZERO,
            requests: 0,
            tokens: 0,
            prefill: 0,
            paused: 0,
            foreign: 0,
            reported: None,
        };
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

    /// What an engine says that it holds. It corrects the ledger upwards, for a few seconds: that
    /// the ledger is right is never in doubt for what was sent from here.
    pub(crate) fn report(&mut self, now: Time, id: ReplicaId, kv_tokens: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.foreign = kv_tokens.saturating_sub(replica.tokens);
            replica.reported = Some(now);
        }
    }

    /// KV tokens of all replicas that take work; `u64::MAX` where one has no limit.
    pub fn capacity(&self) -> u64 {
        let up = self.replicas.values().filter(|replica| replica.up);
        up.fold(0, |sum, replica| sum.saturating_add(replica.capacity.tokens_max))
    }

    /// KV tokens free on all replicas that take work.
    pub fn free(&self, now: Time) -> u64 {
        let open = self.replicas.values().filter(|replica| replica.is_open(now));
        open.fold(0, |sum, replica| sum.saturating_add(replica.free(now)))
    }

    /// One replica.
    pub fn get(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.get(&id)
    }

    pub(crate) fn book(&mut self, id: ReplicaId, tokens: u64, prefill: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.requests += 1;
            replica.tokens = replica.tokens.saturating_add(tokens);
            replica.prefill = replica.prefill.saturating_add(prefill);
        }
    }

    /// A request there grew, or its prompt is computed.
    pub(crate) fn adjust(&mut self, id: ReplicaId, grown: u64, prefilled: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.tokens = replica.tokens.saturating_add(grown);
            replica.prefill = replica.prefill.saturating_sub(prefilled);
        }
    }

    pub(crate) fn pause(&mut self, id: ReplicaId, paused: bool) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.paused =
                if paused { replica.paused + 1 } else { replica.paused.saturating_sub(1) };
        }
    }

    pub(crate) fn unbook(&mut self, id: ReplicaId, tokens: u64, prefill: u64) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        debug_assert!(replica.requests > 0 && replica.tokens >= tokens, "C-3: unbooked twice");
        replica.requests = replica.requests.saturating_sub(1);
        replica.tokens = replica.tokens.saturating_sub(tokens);
        replica.prefill = replica.prefill.saturating_sub(prefill);
        if !replica.up && replica.requests == 0 {
            self.replicas.remove(&id);
        }
    }
}
