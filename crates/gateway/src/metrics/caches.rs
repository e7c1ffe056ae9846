//! What is counted of answers that routes keep.

use pilotage_shell::metrics::{About, Family, Labels, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

const ROUTE: Labels = Labels::names(&["route"]);

/// All routes'.
#[derive(Clone, Debug)]
pub(super) struct Caches {
    hits: Family<Counter>,
    misses: Family<Counter>,
    bytes: Family<Gauge>,
    entries: Family<Gauge>,
    evictions: Family<Counter>,
}

/// One route's.
#[derive(Clone, Debug)]
pub(crate) struct CacheGauges {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) bytes: Gauge,
    pub(crate) entries: Gauge,
    /// Answers that made room for others.
    pub(crate) displaced: Counter,
    /// Answers that were too old.
    pub(crate) expired: Counter,
}

impl Caches {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help, labels| metrics.family(About::new(name, help, labels));
        let gauge = |name, help| metrics.family(About::new(name, help, ROUTE));
        let evicted = "Answers that are kept no more, by reason: room, age";
        let reasons = Labels::new(&["route"], &["reason"]);
        Self {
            hits: counter("pilotage_cache_hits", "Requests answered by what was kept", ROUTE),
            misses: counter("pilotage_cache_misses", "Requests whose answer was not kept", ROUTE),
            bytes: gauge("pilotage_cache_bytes", "Memory of the answers that are kept"),
            entries: gauge("pilotage_cache_entries", "Answers that are kept"),
            evictions: counter("pilotage_cache_evictions", evicted, reasons),
        }
    }

    pub(super) fn route(&self, route: &str) -> CacheGauges {
        let name = [route];
        CacheGauges {
            hits: self.hits.get(&name, &[]),
            misses: self.misses.get(&name, &[]),
            bytes: self.bytes.get(&name, &[]),
            entries: self.entries.get(&name, &[]),
            displaced: self.evictions.get(&name, &["room"]),
            expired: self.evictions.get(&name, &["age"]),
        }
    }

    pub(super) fn forget(&self, route: &str) {
        for family in [&self.hits, &self.misses, &self.evictions] {
            family.remove(&[route]);
        }
        for family in [&self.bytes, &self.entries] {
            family.remove(&[route]);
        }
    }
}
