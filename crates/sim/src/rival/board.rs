//! What routers learn of engines besides what they sent there: gauges that were asked for now and
//! then, times that were measured, and, for who may know it, the truth.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use pilotage_core::route::Candidate;
use pilotage_core::{Span, Time};

use crate::engine::{Forecast, Gauges};

/// How much the newest time to the first token counts: agentgateway's.
const NEWEST: f64 = 0.3;

/// All engines, by place.
#[derive(Debug)]
pub(crate) struct Board(Vec<Seen>);

/// One engine. It is written by the simulation and read by a router, both in one thread.
#[derive(Debug, Default)]
struct Seen {
    waiting: AtomicU32,
    kv_usage: AtomicU64,
    asked: AtomicU64,
    latency: AtomicU64,
    cached: AtomicU32,
    end: AtomicU64,
}

impl Board {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Seen::default()).collect())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// An engine told how it is.
    pub(crate) fn told(&self, place: usize, gauges: Gauges, now: Time) {
        let Some(seen) = self.0.get(place) else { return };
        seen.waiting.store(gauges.waiting, Relaxed);
        seen.kv_usage.store(gauges.kv_usage.to_bits(), Relaxed);
        seen.asked.store(now.as_nanos(), Relaxed);
    }

    /// An answer began so long after it was sent there.
    pub(crate) fn began(&self, place: usize, took: Span) {
        let Some(seen) = self.0.get(place) else { return };
        let before = f64::from_bits(seen.latency.load(Relaxed));
        let newest = if before == 0.0 { 1.0 } else { NEWEST };
        let mean = before + newest * (took.as_secs_f64() - before);
        seen.latency.store(mean.to_bits(), Relaxed);
    }

    /// What is true of the request that comes.
    pub(crate) fn foretold(&self, place: usize, forecast: Forecast) {
        let Some(seen) = self.0.get(place) else { return };
        seen.cached.store(forecast.cached, Relaxed);
        seen.end.store(forecast.end.as_nanos(), Relaxed);
    }

    /// The place of a candidate. A replica that comes back after its death has another id, but the
    /// same place.
    pub(super) fn place(&self, candidate: &Candidate<'_>) -> usize {
        candidate.replica.id.0 as usize % self.0.len().max(1)
    }

    fn seen(&self, candidate: &Candidate<'_>) -> &Seen {
        &self.0[self.place(candidate)]
    }

    /// Requests in its queue, when it was last asked.
    pub(super) fn waiting(&self, candidate: &Candidate<'_>) -> f64 {
        f64::from(self.seen(candidate).waiting.load(Relaxed))
    }

    /// The part of its KV cache in use, when it was last asked.
    pub(super) fn kv_usage(&self, candidate: &Candidate<'_>) -> f64 {
        f64::from_bits(self.seen(candidate).kv_usage.load(Relaxed))
    }

    /// When it was last asked.
    pub(super) fn asked(&self, candidate: &Candidate<'_>) -> Time {
        Time::from_nanos(self.seen(candidate).asked.load(Relaxed))
    }

    /// The mean time to the first token, in seconds.
    pub(super) fn latency(&self, candidate: &Candidate<'_>) -> f64 {
        f64::from_bits(self.seen(candidate).latency.load(Relaxed))
    }

    /// Prompt tokens that its cache really has.
    pub(super) fn cached(&self, candidate: &Candidate<'_>) -> u32 {
        self.seen(candidate).cached.load(Relaxed)
    }

    /// How long until the answer would really be complete.
    pub(super) fn end(&self, candidate: &Candidate<'_>) -> u64 {
        self.seen(candidate).end.load(Relaxed)
    }
}
