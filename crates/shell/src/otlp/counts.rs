//! What became of traces, as metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::Metrics;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    outcome: &'static str,
}

/// The metrics of an exporter. Clones share them.
#[derive(Clone, Debug)]
pub struct Counts {
    pub(super) exported: Counter,
    pub(super) dropped: Counter,
    pub(super) failed: Counter,
    pub(super) held_back: Counter,
    pub(super) rejected_spans: Counter,
    pub(super) queued: Gauge,
    pub(super) up: Gauge<f64, AtomicU64>,
}

impl Counts {
    /// Registers them; all outcomes are there from the begin.
    pub fn register(metrics: &Metrics) -> Self {
        let traces = metrics.register(
            "pilotage_otlp_traces",
            "Traces that were kept, by what became of them: `exported` to the collector, `dropped` as the queue was full, `failed` as the collector refused them or took nothing for too long, or `held_back`, as too many in a second went wrong, were slow, or were wanted by their clients.",
            Family::<Outcome, Counter>::default(),
        );
        let of = |outcome| traces.get_or_create(&Outcome { outcome }).clone();
        let up = Gauge::<f64, AtomicU64>::default();
        // Nothing was sent yet: absent is not zero.
        up.set(f64::NAN);
        Self {
            exported: of("exported"),
            dropped: of("dropped"),
            failed: of("failed"),
            held_back: of("held_back"),
            rejected_spans: metrics.register(
                "pilotage_otlp_rejected_spans",
                "Spans that the collector refused out of what it took.",
                Counter::default(),
            ),
            queued: metrics.register(
                "pilotage_otlp_queued_traces",
                "Traces that wait to be sent.",
                Gauge::default(),
            ),
            up: metrics.register(
                "pilotage_otlp_up",
                "Whether the collector took the last batch, 1 or 0; NaN before the first one, and where no traces are sent.",
                up,
            ),
        }
    }
}
