//! Answers that broke off in the middle, and what became of them.

use pilotage_shell::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// What becomes of answers that break off: they go on elsewhere, nobody goes on with them, or nobody
/// could.
const OUTCOMES: [&str; 3] = ["resumed", "failed", "impossible"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    lane: String,
    outcome: &'static str,
}

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Resumes(Family<Labels, Counter>);

impl Resumes {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "Streams that broke off in the middle of an answer, by outcome: resumed elsewhere, failed though they could go on, impossible to go on with";
        Self(metrics.register("pilotage_resumes", help, Family::default()))
    }

    pub(super) fn zero(&self, lane: &str) {
        for outcome in OUTCOMES {
            drop(self.0.get_or_create(&Labels { lane: lane.to_owned(), outcome }));
        }
    }

    pub(super) fn forget(&self, lane: &str) {
        for outcome in OUTCOMES {
            self.0.remove(&Labels { lane: lane.to_owned(), outcome });
        }
    }

    pub(super) fn count(&self, lane: &str, outcome: &'static str) {
        self.0.get_or_create(&Labels { lane: lane.to_owned(), outcome }).inc();
    }
}
