//! What is counted of answers that routes keep.

use pilotage_shell::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Evicted {
    route: String,
    reason: &'static str,
}

/// All routes'.
#[derive(Clone, Debug)]
pub(super) struct Caches {
    hits: Family<Route, Counter>,
    misses: Family<Route, Counter>,
    bytes: Family<Route, Gauge>,
    entries: Family<Route, Gauge>,
    evictions: Family<Evicted, Counter>,
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
        let counter = |name: &str, help: &str| metrics.register(name, help, Family::default());
        Self {
            hits: counter("pilotage_cache_hits", "Requests answered by what was kept"),
            misses: counter("pilotage_cache_misses", "Requests whose answer was not kept"),
            bytes: metrics.register(
                "pilotage_cache_bytes",
                "Memory of the answers that are kept",
                Family::default(),
            ),
            entries: metrics.register(
                "pilotage_cache_entries",
                "Answers that are kept",
                Family::default(),
            ),
            evictions: metrics.register(
                "pilotage_cache_evictions",
                "Answers that are kept no more, by reason: room, age",
                Family::default(),
            ),
        }
    }

    pub(super) fn route(&self, route: &str) -> CacheGauges {
        let evictions = |reason| {
            let evicted = Evicted { route: route.to_owned(), reason };
            self.evictions.get_or_create(&evicted).clone()
        };
        let label = Route { route: route.to_owned() };
        CacheGauges {
            hits: self.hits.get_or_create(&label).clone(),
            misses: self.misses.get_or_create(&label).clone(),
            bytes: self.bytes.get_or_create(&label).clone(),
            entries: self.entries.get_or_create(&label).clone(),
            displaced: evictions("room"),
            expired: evictions("age"),
        }
    }

    pub(super) fn forget(&self, route: &str) {
        for reason in ["room", "age"] {
            self.evictions.remove(&Evicted { route: route.to_owned(), reason });
        }
        let label = Route { route: route.to_owned() };
        self.hits.remove(&label);
        self.misses.remove(&label);
        self.bytes.remove(&label);
        self.entries.remove(&label);
    }
}
