//! What is counted of copies of requests, apart from everything that clients see.

use pilotage_lens::{Record, Termination};
use pilotage_shell::metrics::{Metrics, TPOT_SECONDS, TTFT_SECONDS};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Histograms, Lane, Typed, typed};

/// The outcome of a copy for which there was no room.
const DROPPED: &str = "dropped";

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Copied {
    lane: String,
    outcome: &'static str,
}

/// Copies, by the lane that they went to.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    requests: Family<Copied, Counter>,
    tokens: Family<Typed, Counter>,
    ttft: Histograms,
    tpot: Histograms,
}

impl Copies {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let ttft: fn() -> Histogram = || Histogram::new(TTFT_SECONDS);
        let tpot: fn() -> Histogram = || Histogram::new(TPOT_SECONDS);
        let register = |name: &str, help: &str, make: fn() -> Histogram| {
            metrics.register(name, help, Histograms::new_with_constructor(make))
        };
        Self {
            requests: metrics.register(
                "pilotage_mirrored_requests",
                "Copies of requests that ended, by outcome",
                Family::default(),
            ),
            tokens: metrics.register(
                "pilotage_mirrored_tokens",
                "Tokens of copies by type: input, cached, output",
                Family::default(),
            ),
            ttft: register(
                "pilotage_mirrored_time_to_first_token_seconds",
                "From the begin of a copy to its first token",
                ttft,
            ),
            tpot: register(
                "pilotage_mirrored_time_per_output_token_seconds",
                "Mean time between the tokens of a copy's answer",
                tpot,
            ),
        }
    }

    /// Counts a copy that ended.
    pub(super) fn count(&self, record: &Record) {
        let lane = record.lane.as_deref().unwrap_or_default().to_owned();
        // An answer that is an error is no success of the model on trial.
        let outcome = match record.termination {
            Termination::Ok if record.status >= 400 => Termination::BadRequest,
            termination => termination,
        };
        let copied = Copied { lane: lane.clone(), outcome: outcome.name() };
        self.requests.get_or_create(&copied).inc();
        for (r#type, count) in typed(record.tokens) {
            let typed = Typed { lane: lane.clone(), r#type };
            self.tokens.get_or_create(&typed).inc_by(count.into());
        }
        let lane = Lane { lane };
        if let Some(ttft) = record.ttft {
            self.ttft.get_or_create(&lane).observe(ttft.as_secs_f64());
        }
        if let Some(tpot) = record.tpot {
            self.tpot.get_or_create(&lane).observe(tpot.as_secs_f64());
        }
    }

    /// Counts a copy that was not sent.
    pub(super) fn dropped(&self, lane: &str) {
        let copied = Copied { lane: lane.to_owned(), outcome: DROPPED };
        self.requests.get_or_create(&copied).inc();
    }

    /// A lane is gone.
    pub(super) fn forget(&self, lane: &str) {
        let outcomes = Termination::ALL.map(Termination::name).into_iter().chain([DROPPED]);
        for outcome in outcomes {
            self.requests.remove(&Copied { lane: lane.to_owned(), outcome });
        }
        for r#type in ["input", "cached", "output"] {
            self.tokens.remove(&Typed { lane: lane.to_owned(), r#type });
        }
        let lane = Lane { lane: lane.to_owned() };
        self.ttft.remove(&lane);
        self.tpot.remove(&lane);
    }
}
