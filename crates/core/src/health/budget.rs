//! How many second attempts a lane may make: a part of its requests, so that what is broken is not
//! hammered, and a few however low the traffic is.

use crate::{Span, Time};

/// The most that is saved up, in whole attempts.
const SAVED_MAX: u64 = 1000;

/// Credit in hundredths of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    percent: u32,
    floor: u32,
    refill: Span,
    credit: u64,
    refilled: Time,
}

impl Budget {
    /// So many attempts for a hundred requests. `floor` of them are there at the beginning, and one of
    /// these comes back every `refill` without any request.
    pub const fn new(percent: u32, floor: u32, refill: Span) -> Self {
        Self { percent, floor, refill, credit: floor as u64 * 100, refilled: Time::ZERO }
    }

    /// A request came.
    pub fn earn(&mut self, now: Time) {
        self.refill(now);
        let most = (u64::from(self.floor) + SAVED_MAX) * 100;
        self.credit = (self.credit + u64::from(self.percent)).min(most);
    }

    /// Whether there is enough for one attempt.
    pub const fn allows(&self) -> bool {
        self.credit >= 100
    }

    /// Takes one attempt's worth, if it is there.
    pub fn spend(&mut self, now: Time) -> bool {
        self.refill(now);
        let allowed = self.allows();
        if allowed {
            self.credit -= 100;
        }
        allowed
    }

    /// Notes the time: what comes back with it is there.
    pub fn refill(&mut self, now: Time) {
        let each = self.refill.as_nanos().max(1);
        let whole = now.since(self.refilled).as_nanos() / each;
        if whole == 0 {
            return;
        }
        self.refilled = self.refilled + Span::from_nanos(whole.saturating_mul(each));
        let floor = u64::from(self.floor) * 100;
        let filled = self.credit.saturating_add(whole.saturating_mul(100)).min(floor);
        self.credit = self.credit.max(filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_requests_and_a_floor() {
        let check = |percent: u32, floor: u32, requests: u64, expect: usize| {
            let mut budget = Budget::new(percent, floor, Span::from_secs(10));
            (0..requests).for_each(|_| budget.earn(Time::ZERO));
            let spent = (0..100_000).take_while(|_| budget.spend(Time::ZERO)).count();
            assert_eq!(spent, expect, "{percent} % of {requests}, at least {floor}");
        };
        check(20, 10, 0, 10);
        check(20, 10, 100, 30);
        check(5, 0, 19, 0);
        check(5, 0, 20, 1);
        check(100, 5, 100_000, 1005);
    }

    #[test]
    fn the_floor_comes_back_with_time() {
        let mut budget = Budget::new(10, 3, Span::from_secs(10));
        let at = |secs: u64| Time::from_millis(secs * 1000);
        assert_eq!((0..9).filter(|_| budget.spend(at(0))).count(), 3);
        assert!(!budget.spend(at(9)) && budget.spend(at(10)) && !budget.spend(at(19)));
        assert_eq!((0..9).filter(|_| budget.spend(at(10_000))).count(), 3);
    }
}
