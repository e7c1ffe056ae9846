//! A counter by lane and by what became of something, where what can become of it is known beforehand.

use pilotage_shell::metrics::{About, Family, Labels, Metrics};
use prometheus_client::metrics::counter::Counter;

use crate::forward::HEDGE_OUTCOMES;

/// What becomes of answers that break off: they go on elsewhere, nobody goes on with them, or nobody
/// could.
const RESUME_OUTCOMES: [&str; 3] = ["resumed", "failed", "impossible"];

const LABELS: Labels = Labels::new(&["lane"], &["outcome"]);

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    all: &'static [&'static str],
    counters: Family<Counter>,
}

impl Outcomes {
    /// Second attempts.
    pub(super) fn of_hedges(metrics: &Metrics) -> Self {
        let help = "Second attempts beside one whose answer took long to begin, by outcome: won, lost to the first, failed";
        let counters = metrics.family(About::new("pilotage_hedges", help, LABELS));
        Self { all: &HEDGE_OUTCOMES, counters }
    }

    /// Answers that broke off in the middle.
    pub(super) fn of_resumes(metrics: &Metrics) -> Self {
        let help = "Streams that broke off in the middle of an answer, by outcome: resumed elsewhere, failed though they could go on, impossible to go on with";
        let counters = metrics.family(About::new("pilotage_resumes", help, LABELS));
        Self { all: &RESUME_OUTCOMES, counters }
    }

    pub(super) fn zero(&self, lane: &str) {
        for outcome in self.all {
            drop(self.counters.get(&[lane], &[*outcome]));
        }
    }

    pub(super) fn forget(&self, lane: &str) {
        self.counters.remove(&[lane]);
    }

    pub(super) fn count(&self, lane: &str, outcome: &'static str) {
        self.counters.of(&[lane], &[outcome]).inc();
    }
}
