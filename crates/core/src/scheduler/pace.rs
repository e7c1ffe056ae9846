//! How fast the lane serves, measured while it has more to do than it can: what waits and retry
//! times are computed from.

use crate::fleet::Fleet;
use crate::retry::spread;
use crate::{Queue, Span, Time};

/// Shortest stretch that is measured.
const STRETCH: Span = Span::from_secs(1);

/// How much the newest stretch counts.
const NEWEST: f64 = 0.3;

/// How long a measured time to first token says anything.
const FIRST_TOKEN_AGE_MAX: Span = Span::from_secs(10);

/// What a client is told when nothing is known yet.
const UNKNOWN: Span = Span::from_secs(1);

/// Longest time a client is told to wait.
const LONGEST: Span = Span::from_secs(600);

/// Measured speeds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    begun: Option<(Time, u64)>,
    /// Cost served in a second.
    rate: Option<f64>,
    /// Nanoseconds from the dispatch to the first token, and when that was last measured.
    first_token: Option<(f64, Time)>,
}

impl Pace {
    /// Looks at the queue after something happened.
    pub(super) fn observe(&mut self, now: Time, queue: &Queue, fleet: &Fleet) {
        let served = queue.served();
        // A stretch in which nobody waited says how much was asked for, not how much is possible, and
        // one in which nobody served says nothing about how it goes on once somebody does.
        if queue.is_empty() || !fleet.iter().any(|replica| replica.is_open(now)) {
            self.begun = None;
            return;
        }
        let Some((begun, before)) = self.begun else {
            self.begun = Some((now, served));
            return;
        };
        let span = now.since(begun);
        if span >= STRETCH {
            let rate = (served - before) as f64 / span.as_secs_f64();
            self.rate = Some(self.rate.map_or(rate, |old| old + NEWEST * (rate - old)));
            self.begun = Some((now, served));
        }
    }

    pub(super) fn first_token(&mut self, now: Time, took: Span) {
        let took = took.as_nanos() as f64;
        let mean = self.first_token.map_or(took, |(old, _)| old + NEWEST * (took - old));
        self.first_token = Some((mean, now));
    }

    /// How long so much service takes; none before anything was measured.
    pub(super) fn span_of(&self, cost: u64) -> Option<Span> {
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        Some(Span::from_nanos((cost as f64 / rate * 1e9) as u64))
    }

    /// The expected time from a dispatch to its first token. An old measurement is none: else slow
    /// answers of one tenant would keep all others out, and nothing could tell that it got faster.
    pub(super) fn expected_first_token(&self, now: Time) -> Span {
        let fresh = self.first_token.filter(|(_, at)| now.since(*at) <= FIRST_TOKEN_AGE_MAX);
        Span::from_nanos(fresh.map_or(0.0, |(mean, _)| mean) as u64)
    }

    /// What a client is told: the time that so much service takes, spread; see [`spread`].
    pub(super) fn retry_after(&self, cost: u64, seed: u64) -> Span {
        spread(self.span_of(cost).unwrap_or(UNKNOWN).min(LONGEST), seed)
    }
}
