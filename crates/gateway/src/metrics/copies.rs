//! What is counted of copies of requests, apart from everything that clients see.

use pilotage_lens::{Record, Termination};
use pilotage_shell::metrics::{
    About, Family, Histogram, Labels, Metrics, TPOT_SECONDS, TTFT_SECONDS,
};
use prometheus_client::metrics::counter::Counter;

use super::{LANE, TOKEN_TYPES, typed};

/// The outcome of a copy for which there was no room.
const DROPPED: &str = "dropped";

/// Copies, by the lane that they went to.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    requests: Family<Counter>,
    tokens: Family<Counter>,
    ttft: Family<Histogram>,
    tpot: Family<Histogram>,
}

impl Copies {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help, words| {
            metrics.family(About::new(name, help, Labels::new(&["lane"], words)))
        };
        let histogram =
            |name, help, bounds| metrics.histograms(About::new(name, help, LANE), bounds);
        Self {
            requests: counter(
                "pilotage_mirrored_requests",
                "Copies of requests that ended, by outcome",
                &["outcome"],
            ),
            tokens: counter(
                "pilotage_mirrored_tokens",
                "Tokens of copies by type: input, cached, output",
                &["type"],
            ),
            ttft: histogram(
                "pilotage_mirrored_time_to_first_token_seconds",
                "From the begin of a copy to its first token",
                &TTFT_SECONDS,
            ),
            tpot: histogram(
                "pilotage_mirrored_time_per_output_token_seconds",
                "Mean time between the tokens of a copy's answer",
                &TPOT_SECONDS,
            ),
        }
    }

    /// Shows a lane's series at zero.
    pub(super) fn zero(&self, lane: &str) {
        for outcome in Termination::ALL.map(Termination::name).into_iter().chain([DROPPED]) {
            drop(self.requests.get(&[lane], &[outcome]));
        }
        for kind in TOKEN_TYPES {
            drop(self.tokens.get(&[lane], &[kind]));
        }
        for family in [&self.ttft, &self.tpot] {
            family.enter(&[lane]);
        }
    }

    /// Counts a copy that ended.
    pub(super) fn count(&self, record: &Record) {
        let lane = [record.lane.as_deref().unwrap_or_default()];
        // An answer that is an error is no success of the model on trial.
        let outcome = match record.termination {
            Termination::Ok if record.status >= 400 => Termination::BadRequest,
            termination => termination,
        };
        self.requests.of(&lane, &[outcome.name()]).inc();
        for (kind, count) in TOKEN_TYPES.into_iter().zip(typed(record.tokens)) {
            self.tokens.of(&lane, &[kind]).inc_by(count.into());
        }
        if let Some(ttft) = record.ttft {
            self.ttft.of(&lane, &[]).observe(ttft.as_secs_f64());
        }
        if let Some(tpot) = record.tpot {
            self.tpot.of(&lane, &[]).observe(tpot.as_secs_f64());
        }
    }

    /// Counts a copy that was not sent.
    pub(super) fn dropped(&self, lane: &str) {
        self.requests.of(&[lane], &[DROPPED]).inc();
    }

    /// A lane is gone.
    pub(super) fn forget(&self, lane: &str) {
        for family in [&self.requests, &self.tokens] {
            family.remove(&[lane]);
        }
        for family in [&self.ttft, &self.tpot] {
            family.remove(&[lane]);
        }
    }
}
