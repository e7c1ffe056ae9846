//! Slows changes down: up when the need has lasted, down when nothing else was needed for a while, in
//! steps of limited size.

use std::collections::VecDeque;

use super::policy::{Pace, Policy};
use crate::{Span, Time};

/// Most needs that are remembered; beyond it neighbours are put together.
const NEEDS_MAX: usize = 4096;

/// What was needed when.
#[derive(Clone, Debug, Default)]
pub(super) struct Damper {
    needs: VecDeque<(Time, Need)>,
}

/// The replicas that a moment asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Need {
    /// Fewer are too few.
    pub(super) least: u32,
    /// Even with more load than there is, more are not needed.
    pub(super) most: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Move {
    /// To so many, at once.
    To(u32),
    /// Fewer would do, from then on.
    NotYetDown(Time),
    /// More are needed, if that lasts until then.
    NotYetUp(Time),
    /// It stays.
    Stay,
}

impl Damper {
    /// What is needed now.
    pub(super) fn note(&mut self, now: Time, need: Need, policy: &Policy) {
        let keep = Span::from_nanos(policy.up.window.as_nanos().max(policy.down.window.as_nanos()));
        // The newest that is as old as the window proves that the window is covered.
        while self.needs.get(1).is_some_and(|(at, _)| now.since(*at) >= keep) {
            self.needs.pop_front();
        }
        if self.needs.len() >= NEEDS_MAX
            && let Some((_, last)) = self.needs.back_mut()
        {
            let (least, most) = (last.least.min(need.least), last.most.max(need.most));
            *last = Need { least, most };
            return;
        }
        self.needs.push_back((now, need));
    }

    /// What was needed last.
    pub(super) fn last(&self) -> Option<Need> {
        self.needs.back().map(|(_, need)| *need)
    }

    /// Where to go from so many.
    pub(super) fn go(&self, now: Time, current: u32, policy: &Policy) -> Move {
        let Some((_, need)) = self.needs.back() else { return Move::Stay };
        if need.least > current {
            return self.up(now, current, policy.up);
        }
        if need.most < current {
            return self.down(now, current, policy.down);
        }
        Move::Stay
    }

    fn up(&self, now: Time, current: u32, pace: Pace) -> Move {
        let lasting = self.within(now, pace.window).map(|(_, need)| need.least).min();
        if !self.covers(now, pace.window) || lasting.is_none_or(|least| least <= current) {
            let short = self.needs.iter().rev().take_while(|(_, need)| need.least > current);
            let since = short.last().map_or(now, |(at, _)| *at);
            return Move::NotYetUp(since + pace.window);
        }
        let most = current.saturating_add(pace.most(current));
        Move::To(lasting.unwrap_or(current).min(most))
    }

    fn down(&self, now: Time, current: u32, pace: Pace) -> Move {
        let highest = self.within(now, pace.window).map(|(_, need)| need.most).max();
        if !self.covers(now, pace.window) || highest.is_none_or(|most| most >= current) {
            let over = self.needs.iter().rev().find(|(_, need)| need.most >= current);
            let since = over.or_else(|| self.needs.front()).map_or(now, |(at, _)| *at);
            return Move::NotYetDown(since + pace.window);
        }
        let least = current.saturating_sub(pace.most(current));
        Move::To(highest.unwrap_or(current).max(least))
    }

    fn within(&self, now: Time, window: Span) -> impl Iterator<Item = &(Time, Need)> {
        self.needs.iter().rev().take_while(move |(at, _)| now.since(*at) <= window)
    }

    fn covers(&self, now: Time, window: Span) -> bool {
        self.needs.front().is_some_and(|(at, _)| now.since(*at) >= window)
    }
}

impl Pace {
    /// Most replicas in one step.
    fn most(self, current: u32) -> u32 {
        let part = u64::from(current) * u64::from(self.percent) / 100;
        self.step.max(u32::try_from(part).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_waits_and_up_does_not() {
        let policy = Policy::default();
        let mut damper = Damper::default();
        let mut check = |seconds: u64, need: (u32, u32), current: u32, expect: Move| {
            let now = Time::from_millis(seconds * 1000);
            damper.note(now, Need { least: need.0, most: need.1 }, &policy);
            assert_eq!(damper.go(now, current, &policy), expect, "at {seconds} s");
        };
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        check(0, (2, 2), 4, Move::NotYetDown(at(300)));
        check(100, (6, 6), 4, Move::To(6));
        check(200, (20, 22), 6, Move::To(12));
        check(300, (5, 7), 6, Move::Stay);
        // The need of 22 was at 200 s: 500 s is when it is forgotten, and that of 7 is not.
        check(400, (3, 3), 12, Move::NotYetDown(at(500)));
        check(501, (3, 3), 12, Move::To(10));
        check(601, (3, 3), 10, Move::To(8));
    }
}
