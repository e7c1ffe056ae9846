//! Retries that may still be spent: a lane's, so that a broken fleet is not hammered, and those of each
//! group of its requests that is allowed less, such as one route's. The stricter of the two counts.

use std::collections::BTreeMap;

use super::SchedulerConfig;
use crate::request::RetryLimit;

/// Groups whose retries are counted; those of further ones are the lane's alone.
const GROUPS_MAX: usize = 4096;

/// What one retry takes, in hundredths.
const RETRY: u64 = 100;

/// Retries that are saved up at most beside those that are always allowed, in hundredths.
const SAVED_MAX: u64 = 100_000;

/// Credits in hundredths of a retry.
#[derive(Debug)]
pub(super) struct Retries {
    lane: u64,
    groups: BTreeMap<u64, u64>,
}

impl Retries {
    pub(super) fn new(config: &SchedulerConfig) -> Self {
        Self { lane: always(config), groups: BTreeMap::new() }
    }

    /// A request came, and with it a part of a retry.
    pub(super) fn arrived(&mut self, config: &SchedulerConfig, limit: Option<&RetryLimit>) {
        let grown = |credit: u64, percent: u32| {
            (credit + u64::from(percent)).min(always(config) + SAVED_MAX)
        };
        self.lane = grown(self.lane, config.retry_percent);
        let Some(limit) = limit else { return };
        if let Some(credit) = self.groups.get_mut(&limit.group) {
            *credit = grown(*credit, limit.percent);
        } else if self.groups.len() < GROUPS_MAX {
            self.groups.insert(limit.group, grown(always(config), limit.percent));
        }
    }

    /// Whether there is one to spend.
    pub(super) fn has_one(&self, limit: Option<&RetryLimit>) -> bool {
        let credit = limit.and_then(|limit| self.groups.get(&limit.group));
        self.lane >= RETRY && credit.is_none_or(|credit| *credit >= RETRY)
    }

    /// One is spent.
    pub(super) fn spend(&mut self, limit: Option<&RetryLimit>) {
        self.lane = self.lane.saturating_sub(RETRY);
        if let Some(credit) = limit.and_then(|limit| self.groups.get_mut(&limit.group)) {
            *credit = credit.saturating_sub(RETRY);
        }
    }

    /// One was spent in vain, and nobody's fault.
    pub(super) fn give_back(&mut self, config: &SchedulerConfig, limit: Option<&RetryLimit>) {
        let most = always(config) + SAVED_MAX;
        self.lane = (self.lane + RETRY).min(most);
        if let Some(credit) = limit.and_then(|limit| self.groups.get_mut(&limit.group)) {
            *credit = (*credit + RETRY).min(most);
        }
    }

    /// Groups begin anew: what they are called may have changed with the limits.
    pub(super) fn forget_groups(&mut self) {
        self.groups.clear();
    }
}

/// Attempts that a request may have.
pub(super) fn attempts_max(config: &SchedulerConfig, limit: Option<&RetryLimit>) -> u32 {
    config.attempts_max.min(limit.map_or(u32::MAX, |limit| limit.attempts_max))
}

fn always(config: &SchedulerConfig) -> u64 {
    u64::from(config.retries_min) * RETRY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(retries_min: u32) -> SchedulerConfig {
        SchedulerConfig { retries_min, retry_percent: 50, attempts_max: 3, ..Default::default() }
    }

    #[test]
    fn the_stricter_number_of_attempts_counts() {
        let check = |own: Option<u32>, expect: u32| {
            let limit = own.map(|attempts_max| RetryLimit { group: 1, attempts_max, percent: 50 });
            assert_eq!(attempts_max(&config(1), limit.as_ref()), expect, "{own:?}");
        };
        check(None, 3);
        check(Some(2), 2);
        check(Some(9), 3);
    }

    #[test]
    fn a_group_spends_its_own_retries_and_the_lanes() {
        let config = config(0);
        let strict = RetryLimit { group: 1, attempts_max: 3, percent: 10 };
        let lavish = RetryLimit { group: 2, attempts_max: 3, percent: 50 };
        let mut retries = Retries::new(&config);
        for _ in 0..20 {
            retries.arrived(&config, Some(&strict));
            retries.arrived(&config, Some(&lavish));
        }
        let mut spent = |limit: &RetryLimit| {
            let mut count = 0;
            while retries.has_one(Some(limit)) {
                retries.spend(Some(limit));
                count += 1;
            }
            count
        };
        assert_eq!((spent(&strict), spent(&strict)), (2, 0));
        assert_eq!(spent(&lavish), 10, "half of its twenty, though the lane has more");
    }

    #[test]
    fn the_lane_bounds_all_groups_together() {
        let config = SchedulerConfig { retry_percent: 10, ..config(0) };
        let limit = |group| RetryLimit { group, attempts_max: 3, percent: 100 };
        let mut retries = Retries::new(&config);
        (0..20).for_each(|at| retries.arrived(&config, Some(&limit(at % 2))));
        let mut count = 0;
        for at in 0..10 {
            let limit = limit(at % 2);
            if retries.has_one(Some(&limit)) {
                retries.spend(Some(&limit));
                count += 1;
            }
        }
        assert_eq!(count, 2);
    }
}
