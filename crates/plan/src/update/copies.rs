//! How many copies of each version there are while one replaces the other: never more than the Model
//! has room for, and never fewer of one than its part of the requests needs, while that can be.

use serde::{Deserialize, Serialize};

use crate::api::Updates;

/// Copies of the two versions of a Model.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Copies {
    /// Of the one that serves.
    pub serving: u32,
    /// Of the one that is to.
    pub next: u32,
}

/// Parts of the requests that the next version has, in percent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shares {
    /// With the gateway that gives it least.
    pub(super) least: u32,
    /// With the one that gives it most.
    pub(super) most: u32,
    /// What it will have then.
    pub(super) later: u32,
}

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    replicas: u32,
    /// Copies of both versions.
    total: u32,
    /// Copies that may be missing.
    unavailable: u32,
}

impl Room {
    pub(super) fn of(replicas: u32, updates: &Updates) -> Self {
        let total = replicas.saturating_add(updates.surge);
        Self { replicas, total, unavailable: updates.unavailable }
    }

    /// Enough for its first part of the requests.
    pub(super) fn at_begin(self, percent: u32) -> Copies {
        self.with_next(self.needed(percent))
    }

    /// As many as its next step needs, as far as there is room beside what the other one needs.
    pub(super) fn on_trial(self, shares: &Shares) -> Copies {
        let serving = self.needed(100 - shares.least.min(100)).saturating_sub(self.unavailable);
        let room = self.total.saturating_sub(serving);
        self.with_next(self.needed(shares.later).min(room).max(self.needed(shares.most)))
    }

    /// One after the other is replaced.
    pub(super) fn taking_over(self, next_ready: u32) -> Copies {
        let missing = next_ready.saturating_add(self.unavailable);
        let serving = self.replicas.saturating_sub(missing);
        Copies { serving, next: self.replicas.min(self.total - serving) }
    }

    fn with_next(self, next: u32) -> Copies {
        let next = next.min(self.replicas);
        Copies { serving: self.replicas.min(self.total.saturating_sub(next)), next }
    }

    /// Copies for that part of the requests; one at least where there is any.
    fn needed(self, percent: u32) -> u32 {
        let share = u64::from(self.replicas) * u64::from(percent);
        u32::try_from(share.div_ceil(100)).unwrap_or(u32::MAX).min(self.replicas)
    }
}
