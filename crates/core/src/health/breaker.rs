//! A switch for each replica: closed while it works, open while it does not, half-open while it may
//! show with a few requests that it works again.
//!
//! Open times double up to a limit, with up to a quarter added so that replicas that failed together are not tried
//! together. A result counts only if its request was sent since the switch last moved: what
//! was sent before says nothing about now.

use serde::Serialize;

use super::verdict::Reason;
use crate::retry::spread;
use crate::{FailureKind, Span, Time};

/// When a replica is left alone, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures_max: u32,
    /// The part of failures that opens it, in percent.
    pub failed_percent_max: f64,
    /// Attempts at least before a part means anything.
    pub attempts_min: u32,
    /// How long attempts count.
    pub window: Span,
    /// How long it is open at first.
    pub open_min: Span,
    /// How long at most.
    pub open_max: Span,
    /// Requests at once that it may be tried with.
    pub trials_max: u32,
    /// Trials that must end well.
    pub trials_good: u32,
    /// How long it must have been closed for its last opening to be forgotten.
    pub forget_after: Span,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures_max: 5,
            failed_percent_max: 50.0,
            attempts_min: 20,
            window: Span::from_secs(30),
            open_min: Span::from_secs(5),
            open_max: Span::from_secs(300),
            trials_max: 1,
            trials_good: 2,
            forget_after: Span::from_secs(60),
        }
    }
}

/// Parts that a window is cut into: it moves on by one of them at a time.
const SLICES: usize = 10;

/// Attempts and failures of the last while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Window {
    slices: [(u32, u32); SLICES],
    newest: u64,
}

impl Window {
    fn advance(&mut self, now: Time, window: Span) {
        let length = (window.as_nanos() / SLICES as u64).max(1);
        let slice = now.as_nanos() / length;
        let passed = slice.saturating_sub(self.newest).min(SLICES as u64);
        for ahead in 0..passed {
            let at = (slice - ahead) % SLICES as u64;
            if let Some(old) = self.slices.get_mut(at as usize) {
                *old = (0, 0);
            }
        }
        self.newest = self.newest.max(slice);
    }

    fn add(&mut self, failed: bool) {
        let at = (self.newest % SLICES as u64) as usize;
        if let Some((attempts, failures)) = self.slices.get_mut(at) {
            *attempts = attempts.saturating_add(1);
            *failures = failures.saturating_add(u32::from(failed));
        }
    }

    fn sum(&self) -> (u32, u32) {
        let add = |(a, f): (u32, u32), (attempts, failures): &(u32, u32)| {
            (a.saturating_add(*attempts), f.saturating_add(*failures))
        };
        self.slices.iter().fold((0, 0), add)
    }
}

/// Where the switch is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// It works.
    Closed,
    /// It does not.
    Open {
        /// Why.
        reason: Reason,
        /// Until then nothing is tried.
        until: Time,
    },
    /// It may show that it works.
    HalfOpen {
        /// Why it was open.
        reason: Reason,
        /// Trials that run.
        running: u32,
        /// Trials that ended well.
        good: u32,
    },
}

/// The switch of one replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    state: State,
    /// Counts moves: a result counts only for the one its request was sent under.
    epoch: u32,
    in_a_row: u32,
    window: Window,
    /// Openings that are not forgotten: they double the next one's time.
    openings: u32,
    closed_since: Time,
    seed: u64,
}

impl Breaker {
    /// A closed one. The seed spreads its open times.
    pub fn new(now: Time, seed: u64) -> Self {
        Self {
            state: State::Closed,
            epoch: 0,
            in_a_row: 0,
            window: Window::default(),
            openings: 0,
            closed_since: now,
            seed,
        }
    }

    /// Where it is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Attempts of the last while, and how many of them failed.
    pub fn attempts(&self) -> (u32, u32) {
        self.window.sum()
    }

    /// Whether a request may go there.
    pub const fn allows(&self, config: &BreakerConfig) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { .. } => false,
            State::HalfOpen { running, .. } => running < config.trials_max,
        }
    }

    /// A request was sent; the number returned comes back with its end.
    pub fn sent(&mut self) -> u32 {
        if let State::HalfOpen { running, .. } = &mut self.state {
            *running = running.saturating_add(1);
        }
        self.epoch
    }

    /// Time passed: an open one becomes half-open.
    pub fn advance(&mut self, now: Time, config: &BreakerConfig) {
        self.window.advance(now, config.window);
        match self.state {
            State::Open { reason, until } if until <= now => self.try_again(reason),
            State::Closed if self.openings > 0 => {
                let forgiven =
                    now.since(self.closed_since).as_nanos() / config.forget_after.as_nanos().max(1);
                if forgiven > 0 {
                    let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
                    self.openings = self.openings.saturating_sub(forgiven);
                    self.closed_since = now;
                }
            }
            State::Open { .. } | State::Closed | State::HalfOpen { .. } => {}
        }
    }

    /// The number that requests are sent under at the moment.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether an end of a request that was sent under this number still counts.
    pub const fn counts(&self, epoch: u32) -> bool {
        self.epoch == epoch
    }

    /// An attempt ended well. Whether that closed it.
    pub fn succeeded(&mut self, now: Time, config: &BreakerConfig) -> bool {
        self.in_a_row = 0;
        self.window.advance(now, config.window);
        self.window.add(false);
        let State::HalfOpen { running, good, .. } = &mut self.state else { return false };
        *running = running.saturating_sub(1);
        *good += 1;
        let closes = *good >= config.trials_good;
        if closes {
            self.move_to(State::Closed);
            self.closed_since = now;
        }
        closes
    }

    /// An attempt ended neither well nor badly: its client went away.
    pub const fn ended(&mut self) {
        if let State::HalfOpen { running, .. } = &mut self.state {
            *running = running.saturating_sub(1);
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, now: Time, kind: FailureKind, config: &BreakerConfig) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.window.advance(now, config.window);
        self.window.add(true);
        let reason = Reason::Failures { count: self.in_a_row, last: kind };
        let (attempts, failures) = self.window.sum();
        let percent = f64::from(failures) * 100.0 / f64::from(attempts.max(1));
        let often = attempts >= config.attempts_min && percent >= config.failed_percent_max;
        match self.state {
            State::HalfOpen { .. } => self.trip(now, reason, config),
            State::Closed if self.in_a_row >= config.failures_max => self.trip(now, reason, config),
            State::Closed if often => {
                self.trip(now, Reason::Rate { percent, of: attempts }, config);
            }
            State::Closed | State::Open { .. } => {}
        }
    }

    /// Opens it, for twice as long as the last time.
    pub fn trip(&mut self, now: Time, reason: Reason, config: &BreakerConfig) {
        let doubled = config.open_min.as_nanos().saturating_mul(1 << self.openings.min(32));
        let span = Span::from_nanos(doubled.min(config.open_max.as_nanos()));
        let seed = self.seed.wrapping_add(u64::from(self.epoch) << 32);
        self.openings = self.openings.saturating_add(1);
        self.move_to(State::Open { reason, until: now + spread(span, seed) });
    }

    /// It showed a sign of life: it may be tried without waiting.
    pub fn revive(&mut self) {
        if let State::Open { reason, .. } = self.state {
            self.try_again(reason);
        }
    }

    fn try_again(&mut self, reason: Reason) {
        self.move_to(State::HalfOpen { reason, running: 0, good: 0 });
    }

    fn move_to(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
        self.in_a_row = 0;
        self.window = Window { newest: self.window.newest, ..Window::default() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig {
        failures_max: 3,
        failed_percent_max: 50.0,
        attempts_min: 10,
        window: Span::from_secs(10),
        open_min: Span::from_secs(1),
        open_max: Span::from_secs(8),
        trials_max: 1,
        trials_good: 2,
        forget_after: Span::from_secs(60),
    };

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1000)
    }

    fn fail(breaker: &mut Breaker, now: Time) {
        breaker.advance(now, &CONFIG);
        breaker.failed(now, FailureKind::Broken, &CONFIG);
    }

    #[test]
    fn failures_in_a_row_open_it_for_longer_each_time() {
        let mut breaker = Breaker::new(Time::ZERO, 1);
        (0..3).for_each(|_| fail(&mut breaker, at(0)));
        let mut now = at(0);
        for expect_ms in [1000, 2000, 4000, 8000, 8000] {
            let State::Open { until, .. } = breaker.state() else { panic!("{breaker:?}") };
            let span = until.since(now).as_millis();
            assert!((expect_ms..=expect_ms * 5 / 4).contains(&span), "{span}, {expect_ms}");
            now = until;
            breaker.advance(now, &CONFIG);
            assert!(breaker.allows(&CONFIG));
            assert!(breaker.counts(breaker.epoch) && !breaker.counts(breaker.epoch - 1));
            breaker.sent();
            assert!(!breaker.allows(&CONFIG));
            fail(&mut breaker, now);
        }
    }

    #[test]
    fn a_part_of_failures_opens_it() {
        let check = |outcomes: &[bool], expect: bool| {
            let mut breaker = Breaker::new(Time::ZERO, 1);
            for good in outcomes {
                if *good {
                    breaker.succeeded(at(0), &CONFIG);
                } else {
                    breaker.failed(at(0), FailureKind::Server, &CONFIG);
                }
            }
            assert_eq!(breaker.state() != State::Closed, expect, "{outcomes:?}");
        };
        check(&[true, false].repeat(4), false);
        check(&[true, false].repeat(5), true);
        check(&[true, true, false].repeat(20), false);
        check(&[false, false, true].repeat(3), false);
        check(&[false, false, true].repeat(4), true);
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let mut breaker = Breaker::new(Time::ZERO, 1);
        for second in 0..100 {
            let now = at(second * 3);
            breaker.failed(now, FailureKind::Server, &CONFIG);
            breaker.succeeded(now, &CONFIG);
        }
        // Every second one fails, but there are fewer than ten in any ten seconds.
        assert_eq!(breaker.state(), State::Closed);
        assert!(breaker.attempts().0 <= 8);
    }

    proptest! {
        #[test]
        fn it_always_recovers_after_good_trials(
            steps in prop::collection::vec((0u64..5000, 0usize..4), 0..200),
        ) {
            let mut breaker = Breaker::new(Time::ZERO, 9);
            let mut now = Time::ZERO;
            for (ms, what) in steps {
                now = now + Span::from_millis(ms);
                breaker.advance(now, &CONFIG);
                match what {
                    0 => fail(&mut breaker, now),
                    1 => { breaker.succeeded(now, &CONFIG); }
                    2 => breaker.ended(),
                    _ => { breaker.sent(); }
                }
                if let State::Open { until, .. } = breaker.state() {
                    prop_assert!(until.since(now) <= Span::from_secs(10));
                }
            }
            // Trials that still run end, and then two good ones close it.
            for _ in 0..200 {
                breaker.ended();
            }
            now = now + Span::from_secs(10);
            for _ in 0..CONFIG.trials_good {
                breaker.advance(now, &CONFIG);
                prop_assert!(breaker.allows(&CONFIG));
                breaker.sent();
                breaker.succeeded(now, &CONFIG);
            }
            prop_assert_eq!(breaker.state(), State::Closed);
        }
    }
}
