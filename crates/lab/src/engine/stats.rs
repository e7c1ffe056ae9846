//! What happened to an engine: counted, and where it is asked for, written down request by request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;

/// Requests that are written down, at most; later ones are only counted.
const SEEN_MAX: usize = 100_000;

/// One request that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its `x-request-id`.
    pub id: Option<String>,
    /// [`Fingerprint::of`] its body.
    pub fingerprint: u64,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The name of the fault that struck it.
    pub fault: Option<&'static str>,
}

/// All counts of an engine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Requests for work that came.
    pub requests: u64,
    /// Requests that are being answered.
    pub active: u64,
    /// Requests answered to the end.
    pub finished: u64,
    /// Requests whose client went away before the end.
    pub aborted: u64,
    /// Requests that a fault struck.
    pub struck: u64,
    /// Requests for health and metrics.
    pub probes: u64,
    /// Bytes that were no request.
    pub not_http: u64,
}

/// The counts, as they grow.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) active: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) aborted: AtomicU64,
    pub(super) struck: AtomicU64,
    pub(super) probes: AtomicU64,
    pub(super) not_http: AtomicU64,
    pub(super) seen: Mutex<Vec<Seen>>,
}

impl Counts {
    pub(super) fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.load(Relaxed),
            open: self.open.load(Relaxed),
            requests: self.requests.load(Relaxed),
            active: self.active.load(Relaxed),
            finished: self.finished.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            struck: self.struck.load(Relaxed),
            probes: self.probes.load(Relaxed),
            not_http: self.not_http.load(Relaxed),
        }
    }

    pub(super) fn saw(&self, seen: Seen) {
        let mut all = self.seen.lock();
        if all.len() < SEEN_MAX {
            all.push(seen);
        }
    }
}

/// One more while it lives.
pub(super) struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    pub(super) fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Tells bodies apart: FNV-1a, the same on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Of all the bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut print = Self::default();
        print.push(bytes);
        print.value()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub(super) const fn value(self) -> u64 {
        self.0
    }
}
