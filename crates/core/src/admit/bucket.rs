//! A limit per minute: a bucket that holds one minute's worth and fills evenly.
//!
//! Whole numbers throughout, so that what was taken and given back adds up exactly.

use crate::{Span, Time};

/// Nanoseconds in which a bucket fills.
const MINUTE: i128 = 60_000_000_000;

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    per_minute: u64,
    /// What can be taken, times [`MINUTE`]; below zero after more was used than was reserved.
    level: i128,
    filled: Time,
}

impl Bucket {
    pub(super) const fn full(now: Time, per_minute: u64) -> Self {
        Self { per_minute, level: per_minute as i128 * MINUTE, filled: now }
    }

    pub(super) const fn limit(&self) -> u64 {
        self.per_minute
    }

    /// Another limit from now on; what was used stays used.
    pub(super) fn set_limit(&mut self, now: Time, per_minute: u64) {
        self.fill(now);
        let used = i128::from(self.per_minute) * MINUTE - self.level;
        self.per_minute = per_minute;
        self.level = i128::from(per_minute) * MINUTE - used;
    }

    /// What can be taken now.
    pub(super) fn remaining(&mut self, now: Time) -> u64 {
        self.fill(now);
        u64::try_from(self.level.max(0) / MINUTE).unwrap_or(u64::MAX)
    }

    /// How long until so much can be taken; none when it is more than a full bucket.
    pub(super) fn wait_for(&mut self, now: Time, amount: u64) -> Option<Span> {
        self.fill(now);
        if amount > self.per_minute {
            return None;
        }
        let missing = i128::from(amount) * MINUTE - self.level;
        Some(self.span_of(missing))
    }

    /// How long until the bucket is full.
    pub(super) fn wait_until_full(&mut self, now: Time) -> Span {
        self.fill(now);
        self.span_of(i128::from(self.per_minute) * MINUTE - self.level)
    }

    fn span_of(&self, missing: i128) -> Span {
        let rate = i128::from(self.per_minute.max(1));
        let nanos = (missing.max(0) + rate - 1) / rate;
        Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(super) fn take(&mut self, now: Time, amount: u64) {
        self.fill(now);
        self.level -= i128::from(amount) * MINUTE;
    }

    pub(super) fn give_back(&mut self, now: Time, amount: u64) {
        self.fill(now);
        let full = i128::from(self.per_minute) * MINUTE;
        self.level = (self.level + i128::from(amount) * MINUTE).min(full.max(self.level));
    }

    fn fill(&mut self, now: Time) {
        let full = i128::from(self.per_minute) * MINUTE;
        let gained = i128::from(now.since(self.filled).as_nanos()) * i128::from(self.per_minute);
        // A limit that was lowered may have left more than a full bucket: that is cut.
        self.level = (self.level + gained).min(full);
        if now > self.filled {
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_evenly_and_never_over() {
        let at = Time::from_millis;
        let mut bucket = Bucket::full(at(0), 60);
        assert_eq!(bucket.remaining(at(0)), 60);
        bucket.take(at(0), 60);
        assert_eq!(bucket.remaining(at(999)), 0);
        assert_eq!(bucket.remaining(at(1000)), 1);
        assert_eq!(bucket.wait_for(at(1000), 3), Some(Span::from_secs(2)));
        assert_eq!(bucket.wait_for(at(1000), 61), None);
        assert_eq!(bucket.wait_until_full(at(1000)), Span::from_secs(59));
        assert_eq!(bucket.remaining(at(600_000)), 60);
        // Time that seems to go back fills nothing, and is not counted twice afterwards.
        bucket.take(at(600_000), 60);
        assert_eq!(bucket.remaining(at(1)), 0);
        assert_eq!(bucket.remaining(at(601_000)), 1);
    }

    #[test]
    fn a_smaller_limit_keeps_what_was_used() {
        let at = Time::from_millis;
        let mut bucket = Bucket::full(at(0), 100);
        bucket.take(at(0), 80);
        bucket.set_limit(at(0), 50);
        assert_eq!(bucket.remaining(at(0)), 0);
        assert_eq!(bucket.wait_for(at(0), 1), Some(Span::from_nanos(31 * 60_000_000_000 / 50)));
        bucket.set_limit(at(0), 100);
        assert_eq!(bucket.remaining(at(0)), 20);
        bucket.give_back(at(0), 500);
        assert_eq!(bucket.remaining(at(0)), 100);
        bucket.set_limit(at(0), 0);
        assert_eq!((bucket.remaining(at(9)), bucket.wait_for(at(9), 1)), (0, None));
    }
}
