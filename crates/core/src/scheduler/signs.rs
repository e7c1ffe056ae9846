//! Deaths that nobody tells of. Who starts processes hears when they die; of an endpoint elsewhere there are
//! signs: requests broke there, and a moment later nobody listens at its address, or its process is a
//! newer one. Neither sign alone is a death: connections break by networks, and addresses are refused
//! by what has not started yet.
//!
//! What follows is what follows from a death that is told, but for one thing: the replica keeps its id,
//! as it may be back at once under the same address. Whether it takes work is for its breaker and its
//! suspension to say.

use std::collections::BTreeMap;

use super::{Live, Scheduler};
use crate::health::GRACE;
use crate::{FailureKind, ReplicaId, RequestId, Time};

/// What a request remembers in place of a replica that died and kept its id: one that is never up.
const DEAD: ReplicaId = ReplicaId(u32::MAX);

/// Start times that are further apart are those of different processes, in milliseconds: exporters
/// round them.
const APART_MS: u64 = 1000;

/// Deaths that nobody has asked for; of more, the last are kept.
const DEATHS_MAX: usize = 1024;

/// What is known of replicas elsewhere, at most as much as there are replicas.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// When a request last broke there.
    broke: BTreeMap<ReplicaId, Time>,
    /// When its process started, by its own clock. The latest counts: behind one address may be several.
    started_ms: BTreeMap<ReplicaId, u64>,
    /// When it died last.
    died: BTreeMap<ReplicaId, Time>,
}

impl Signs {
    /// A replica is gone, and with it what was known.
    pub(super) fn forget(&mut self, replica: ReplicaId) {
        self.broke.remove(&replica);
        self.started_ms.remove(&replica);
        self.died.remove(&replica);
    }

    /// When a request broke there, if it was a moment ago.
    fn just_broke(&self, now: Time, replica: ReplicaId) -> Option<Time> {
        self.broke.get(&replica).copied().filter(|at| now.since(*at) < GRACE)
    }
}

impl Scheduler {
    /// A replica broke off under a request that ran there since then. One that was at a process that is
    /// known to have died says nothing of the next.
    pub(super) fn note_broke(&mut self, now: Time, replica: ReplicaId, since: Time) {
        let is_up = self.fleet.get(replica).is_some_and(|replica| replica.up);
        if self.derives_deaths() && is_up && self.as_remembered(replica, since) == replica {
            self.signs.broke.insert(replica, now);
        }
    }

    /// Nobody listens at a replica's address.
    pub(super) fn note_refused(&mut self, now: Time, replica: ReplicaId) {
        // Requests wait for another look rather than use up attempts there.
        self.suspend(now, replica, FailureKind::Connect);
        if let Some(broke) = self.signs.just_broke(now, replica) {
            self.died_elsewhere(now, replica, broke);
        }
    }

    /// A replica tells when its process started.
    pub(super) fn note_started(&mut self, now: Time, replica: ReplicaId, started_ms: u64) {
        if !self.derives_deaths() || self.fleet.get(replica).is_none() {
            return;
        }
        let before = self.signs.started_ms.entry(replica).or_insert(started_ms);
        let is_newer = started_ms >= before.saturating_add(APART_MS);
        *before = started_ms.max(*before);
        if let Some(broke) = self.signs.just_broke(now, replica).filter(|_| is_newer) {
            self.died_elsewhere(now, replica, broke);
        }
    }

    /// Whether deaths have to be told from signs.
    pub fn derives_deaths(&self) -> bool {
        self.board.is_some() && !self.config.deaths_told
    }

    /// The replica that died last and of which nobody told, since this was asked last: for logs.
    pub fn poll_death(&mut self) -> Option<ReplicaId> {
        self.deaths.pop_front()
    }

    /// A replica as the request remembers it that ran there since then: one that has died meanwhile is
    /// not what has its id now.
    pub(super) fn as_remembered(&self, replica: ReplicaId, since: Time) -> ReplicaId {
        let died = self.signs.died.get(&replica).is_some_and(|died| since <= *died);
        if died { DEAD } else { replica }
    }

    /// A replica died when requests broke there: what was sent since is at the process that took its
    /// place.
    fn died_elsewhere(&mut self, now: Time, replica: ReplicaId, broke: Time) {
        self.signs.broke.remove(&replica);
        self.signs.died.insert(replica, broke);
        if self.deaths.len() == DEATHS_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back(replica);
        let live = &self.live;
        let since = |id: &RequestId| Some(live.get(id)?.running?.since);
        self.poison.died(now, replica, |id| since(&id).is_none_or(|since| since <= broke));
        // Its cache went with it.
        self.index.clear(replica);
        self.give_back(replica);
        self.live.values_mut().for_each(|live| live.forget_as_dead(replica));
        let doubts: Vec<RequestId> = self.doubts.iter().map(|(_, id)| *id).collect();
        for id in doubts {
            self.doubt_less(id);
        }
    }
}

impl Live {
    /// What it tried there, it tried at one that is dead.
    fn forget_as_dead(&mut self, replica: ReplicaId) {
        let all = self.tried.iter_mut().chain(self.broke.iter_mut());
        all.filter(|one| **one == replica).for_each(|one| *one = DEAD);
        self.trail.rename(replica, DEAD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SchedulerConfig;

    #[test]
    fn deaths_that_nobody_asks_for_do_not_pile_up() {
        let mut scheduler = Scheduler::new(SchedulerConfig::default());
        for replica in 0..=DEATHS_MAX as u32 {
            scheduler.died_elsewhere(Time::ZERO, ReplicaId(replica), Time::ZERO);
        }
        assert_eq!(scheduler.deaths.len(), DEATHS_MAX);
        assert_eq!(scheduler.poll_death(), Some(ReplicaId(1)));
    }
}
