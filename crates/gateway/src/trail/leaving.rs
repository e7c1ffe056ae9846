//! What a request's end leaves behind, for whoever measures what that costs.

use std::fmt;
use std::sync::Arc;

use pilotage_core::{Span, Time};
use pilotage_lens::{Record, Timeline};

use crate::app::Gateway;

/// All that the records of a gateway's requests pay for: counters, ledger, sinks, and what the gateway itself
/// remembers.
#[doc(hidden)]
pub struct Leaving(Gateway);

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaving").finish_non_exhaustive()
    }
}

impl Leaving {
    /// Of that gateway.
    pub const fn new(gateway: Gateway) -> Self {
        Self(gateway)
    }

    /// A request that left that record came and went.
    pub fn ended(&self, record: &Record) {
        let inner = &self.0.inner;
        let timeline = Timeline::new(Time::from_nanos(inner.clock.now_nanos()));
        let seat = inner.trail.live.enter(&record.request_id, timeline);
        self.count(record);
        inner.trail.ended(Some(seat), Arc::new(record.clone()));
    }

    /// The part of that which counters take.
    pub fn count(&self, record: &Record) {
        let counts = &self.0.inner.counts;
        counts.count(record, Span::from_nanos(40_000));
        counts.generated(record.lane.as_deref(), record.tokens, record.attempts);
    }
}
