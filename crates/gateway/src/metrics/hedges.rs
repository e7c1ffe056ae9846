//! Second attempts, and what became of them.

use pilotage_shell::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::forward::HEDGE_OUTCOMES;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    lane: String,
    outcome: &'static str,
}

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Hedges(Family<Labels, Counter>);

impl Hedges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "Second attempts beside one whose answer took long to begin, by outcome: won, lost to the first, failed";
        Self(metrics.register("pilotage_hedges", help, Family::default()))
    }

    pub(super) fn zero(&self, lane: &str) {
        for outcome in HEDGE_OUTCOMES {
            drop(self.0.get_or_create(&Labels { lane: lane.to_owned(), outcome }));
        }
    }

    pub(super) fn forget(&self, lane: &str) {
        for outcome in HEDGE_OUTCOMES {
            self.0.remove(&Labels { lane: lane.to_owned(), outcome });
        }
    }

    pub(super) fn count(&self, lane: &str, outcome: &'static str) {
        self.0.get_or_create(&Labels { lane: lane.to_owned(), outcome }).inc();
    }
}
