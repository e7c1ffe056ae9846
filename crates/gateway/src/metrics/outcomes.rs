//! A counter by lane and by what became of something, where what can become of it is known beforehand.

use pilotage_shell::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::forward::HEDGE_OUTCOMES;

/// What becomes of answers that break off: they go on elsewhere, nobody goes on with them, or nobody
/// could.
const RESUME_OUTCOMES: [&str; 3] = ["resumed", "failed", "impossible"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    lane: String,
    outcome: &'static str,
}

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    all: &'static [&'static str],
    counters: Family<Labels, Counter>,
}

impl Outcomes {
    /// Second attempts.
    pub(super) fn of_hedges(metrics: &Metrics) -> Self {
        let help = "Second attempts beside one whose answer took long to begin, by outcome: won, lost to the first, failed";
        let counters = metrics.register("pilotage_hedges", help, Family::default());
        Self { all: &HEDGE_OUTCOMES, counters }
    }

    /// Answers that broke off in the middle.
    pub(super) fn of_resumes(metrics: &Metrics) -> Self {
        let help = "Streams that broke off in the middle of an answer, by outcome: resumed elsewhere, failed though they could go on, impossible to go on with";
        let counters = metrics.register("pilotage_resumes", help, Family::default());
        Self { all: &RESUME_OUTCOMES, counters }
    }

    pub(super) fn zero(&self, lane: &str) {
        for outcome in self.all {
            drop(self.counters.get_or_create(&Labels { lane: lane.to_owned(), outcome }));
        }
    }

    pub(super) fn forget(&self, lane: &str) {
        for outcome in self.all {
            self.counters.remove(&Labels { lane: lane.to_owned(), outcome });
        }
    }

    pub(super) fn count(&self, lane: &str, outcome: &'static str) {
        self.counters.get_or_create(&Labels { lane: lane.to_owned(), outcome }).inc();
    }
}
