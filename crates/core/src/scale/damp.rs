//! Slows changes down: up when the need has lasted, down when nothing else was needed for a while, in
//! steps of limited size.

use std::collections::VecDeque;

use super::policy::{Pace, Policy};
use crate::{Span, Time};

/// Most needs that are remembered; beyond it neighbours are put together, which makes each count a little longer.
const NEEDS_MAX: usize = 4096;

/// What was needed when.
#[derive(Clone, Debug, Default)]
pub(super) struct Damper {
    needs: VecDeque<(Time, Need)>,
    /// When the step began that may be taken now, and from how many: who is asked more often goes no faster.
    step: Option<(Time, u32)>,
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
        if self.needs.len() >= NEEDS_MAX {
            self.thin();
        }
        self.needs.push_back((now, need));
    }

    /// Puts every two neighbours together. The oldest stays: it says since when anything is known.
    fn thin(&mut self) {
        let mut kept: VecDeque<(Time, Need)> = self.needs.pop_front().into_iter().collect();
        while let Some((began, one)) = self.needs.pop_front() {
            let (at, other) = self.needs.pop_front().unwrap_or((began, one));
            let (least, most) = (one.least.min(other.least), one.most.max(other.most));
            kept.push_back((at, Need { least, most }));
        }
        self.needs = kept;
    }

    /// What was needed last.
    pub(super) fn last(&self) -> Option<Need> {
        self.needs.back().map(|(_, need)| *need)
    }

    /// Where to go from so many.
    pub(super) fn go(&mut self, now: Time, current: u32, policy: &Policy) -> Move {
        let Some(need) = self.last() else { return Move::Stay };
        if need.least > current {
            let from = self.origin(now, current, policy.every);
            return self.up(now, current, from, policy.up);
        }
        if need.most < current {
            let from = self.origin(now, current, policy.every);
            return self.down(now, current, from, policy.down);
        }
        Move::Stay
    }

    /// From how many the step goes that may be taken now.
    fn origin(&mut self, now: Time, current: u32, every: Span) -> u32 {
        let going = self.step.filter(|(at, _)| now.since(*at) < every);
        let (at, from) = going.unwrap_or((now, current));
        self.step = Some((at, from));
        from
    }

    fn up(&self, now: Time, current: u32, from: u32, pace: Pace) -> Move {
        let lasting = self.within(now, pace.window).map(|(_, need)| need.least).min();
        if !self.covers(now, pace.window) || lasting.is_none_or(|least| least <= current) {
            let short = self.needs.iter().rev().take_while(|(_, need)| need.least > current);
            let since = short.last().map_or(now, |(at, _)| *at);
            return Move::NotYetUp(since + pace.window);
        }
        let most = from.saturating_add(pace.most(from));
        Move::To(lasting.unwrap_or(current).min(most).max(current))
    }

    fn down(&self, now: Time, current: u32, from: u32, pace: Pace) -> Move {
        let highest = self.within(now, pace.window).map(|(_, need)| need.most).max();
        if !self.covers(now, pace.window) || highest.is_none_or(|most| most >= current) {
            let over = self.needs.iter().rev().find(|(_, need)| need.most >= current);
            let since = over.or_else(|| self.needs.front()).map_or(now, |(at, _)| *at);
            return Move::NotYetDown(since + pace.window);
        }
        let least = from.saturating_sub(pace.most(from));
        Move::To(highest.unwrap_or(current).max(least).min(current))
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

    #[test]
    fn who_asks_often_goes_no_faster() {
        let policy = Policy::default();
        let mut damper = Damper::default();
        let mut current = 1;
        let mut at = |ms: u64, current: u32| {
            let now = Time::from_millis(ms);
            damper.note(now, Need { least: 40, most: 40 }, &policy);
            match damper.go(now, current, &policy) {
                Move::To(count) => count,
                other => panic!("{other:?}"),
            }
        };
        for ms in (0..30_000).step_by(250) {
            current = at(ms, current);
            let expect = [5, 10, 20][ms as usize / 10_000];
            assert_eq!(current, expect, "at {ms} ms");
        }
    }

    #[test]
    fn much_is_remembered_in_little_room() {
        let day = Span::from_secs(86_400);
        let mut policy = Policy::default();
        policy.down.window = day;
        let mut damper = Damper::default();
        let need = |count: u32| Need { least: count, most: count };
        let mut last = Move::Stay;
        for step in 0..3 * 8640_u64 {
            let now = Time::from_millis(step * 10_000);
            let count = if step == 8640 { 9 } else { 3 };
            damper.note(now, need(count), &policy);
            assert!(damper.needs.len() <= NEEDS_MAX);
            last = damper.go(now, 9, &policy);
            let over = now.since(Time::from_millis(86_400_000));
            assert!(over >= day || !matches!(last, Move::To(_)), "at {step}: {last:?}");
        }
        assert_eq!(last, Move::To(8), "what was needed two days ago is forgotten");
        // Up waits for nothing, however much is remembered.
        let now = Time::from_millis(4 * 86_400_000);
        damper.note(now, need(10), &policy);
        assert_eq!(damper.go(now, 9, &policy), Move::To(10));
    }
}
