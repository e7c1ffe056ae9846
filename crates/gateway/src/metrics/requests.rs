//! What is counted of every request, by lane. The series of a lane are looked up together, once for each
//! request: one by one they would cost more than all else that its end does.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use pilotage_core::{Span, Tokens};
use pilotage_lens::{Record, Termination};
use pilotage_shell::metrics::{
    DURATION_SECONDS, Metrics, OVERHEAD_SECONDS, TPOT_SECONDS, TTFT_SECONDS,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Histograms, Lane, OTHER, Typed, typed};

/// Classes of statuses that requests end with.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    lane: String,
    termination: &'static str,
    status_class: &'static str,
}

/// Requests, by lane.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    ended: Family<Ended, Counter>,
    tokens: Family<Typed, Counter>,
    retries: Family<Lane, Counter>,
    merged: Family<Lane, Counter>,
    duration: Histograms,
    ttft: Histograms,
    tpot: Histograms,
    queue_time: Histograms,
    overhead: Histogram,
    lanes: Arc<RwLock<HashMap<String, Arc<OfLane>>>>,
}

/// The series of one lane. Those of rare ends come with the first such end.
#[derive(Debug)]
struct OfLane {
    name: String,
    ended: [[OnceLock<Counter>; CLASSES.len()]; Termination::ALL.len()],
    tokens: [Counter; 3],
    retries: Counter,
    merged: Counter,
    duration: Histogram,
    ttft: Histogram,
    tpot: Histogram,
    queue_time: Histogram,
}

impl Requests {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let duration: fn() -> Histogram = || Histogram::new(DURATION_SECONDS);
        let ttft: fn() -> Histogram = || Histogram::new(TTFT_SECONDS);
        let tpot: fn() -> Histogram = || Histogram::new(TPOT_SECONDS);
        let register = |name: &str, help: &str, make: fn() -> Histogram| {
            metrics.register(name, help, Histograms::new_with_constructor(make))
        };
        let this = Self {
            ended: metrics.register("pilotage_requests", "Requests that ended", Family::default()),
            tokens: metrics.register(
                "pilotage_tokens",
                "Tokens by type: input, cached, output",
                Family::default(),
            ),
            retries: metrics.register(
                "pilotage_retries",
                "Attempts after the first",
                Family::default(),
            ),
            merged: metrics.register(
                "pilotage_merged_requests",
                "Requests whose answer another had asked for already",
                Family::default(),
            ),
            duration: register(
                "pilotage_request_duration_seconds",
                "From the request to the end of its answer",
                duration,
            ),
            ttft: register(
                "pilotage_time_to_first_token_seconds",
                "From the request to its first token",
                ttft,
            ),
            tpot: register(
                "pilotage_time_per_output_token_seconds",
                "Mean time between the tokens of an answer",
                tpot,
            ),
            queue_time: register("pilotage_queue_time_seconds", "Waiting for a turn", duration),
            overhead: metrics.register(
                "pilotage_overhead_seconds",
                "Time in the gateway itself before the replica is asked, without waiting for the body or for a turn",
                Histogram::new(OVERHEAD_SECONDS),
            ),
            lanes: Arc::default(),
        };
        for termination in Termination::ALL {
            drop(this.ended(OTHER, termination, usual_status(termination)));
        }
        this
    }

    /// Shows a lane's series at zero.
    pub(super) fn zero(&self, lane: &str) {
        for termination in Termination::ALL {
            drop(self.ended(lane, termination, usual_status(termination)));
        }
        drop(self.of(lane));
    }

    /// A lane is gone, and its series with it; what comes late is counted anew.
    pub(super) fn forget(&self, lane: &str) {
        self.lanes.write().remove(lane);
        for termination in Termination::ALL {
            for status_class in CLASSES {
                let termination = termination.name();
                let ended = Ended { lane: lane.to_owned(), termination, status_class };
                self.ended.remove(&ended);
            }
        }
        for kind in ["input", "cached", "output"] {
            self.tokens.remove(&Typed { lane: lane.to_owned(), r#type: kind });
        }
        let lane = Lane { lane: lane.to_owned() };
        self.merged.remove(&lane);
        self.retries.remove(&lane);
        for histograms in [&self.duration, &self.ttft, &self.tpot, &self.queue_time] {
            histograms.remove(&lane);
        }
    }

    /// Counts a request that ended, and the time it took in the gateway itself.
    pub(super) fn count(&self, record: &Record, own: Span) {
        let lane = self.of(record.lane.as_deref().unwrap_or(OTHER));
        lane.ended[record.termination as usize][class(record.status)]
            .get_or_init(|| self.ended(&lane.name, record.termination, record.status))
            .inc();
        if record.merged {
            lane.merged.inc();
        }
        lane.duration.observe(record.total.as_secs_f64());
        if record.attempts > 0 {
            lane.queue_time.observe(record.phases.queue.as_secs_f64());
            self.overhead.observe(own.as_secs_f64());
        }
        if let Some(ttft) = record.ttft {
            lane.ttft.observe(ttft.as_secs_f64());
        }
        if let Some(tpot) = record.tpot {
            lane.tpot.observe(tpot.as_secs_f64());
        }
    }

    /// Counts the tokens of an answer, however many get it, and the attempts that it took.
    pub(super) fn generated(&self, lane: Option<&str>, tokens: Tokens, attempts: u32) {
        let lane = self.of(lane.unwrap_or(OTHER));
        for (counter, (_, count)) in lane.tokens.iter().zip(typed(tokens)) {
            counter.inc_by(count.into());
        }
        lane.retries.inc_by(attempts.saturating_sub(1).into());
    }

    fn of(&self, lane: &str) -> Arc<OfLane> {
        if let Some(known) = self.lanes.read().get(lane) {
            return Arc::clone(known);
        }
        let mut lanes = self.lanes.write();
        let made = || Arc::new(self.make(lane));
        Arc::clone(lanes.entry(lane.to_owned()).or_insert_with(made))
    }

    fn make(&self, name: &str) -> OfLane {
        let lane = Lane { lane: name.to_owned() };
        let tokens = typed(Tokens::default()).map(|(r#type, _)| {
            let typed = Typed { lane: name.to_owned(), r#type };
            self.tokens.get_or_create(&typed).clone()
        });
        OfLane {
            name: name.to_owned(),
            ended: Default::default(),
            tokens,
            retries: self.retries.get_or_create(&lane).clone(),
            merged: self.merged.get_or_create(&lane).clone(),
            duration: self.duration.get_or_create(&lane).clone(),
            ttft: self.ttft.get_or_create(&lane).clone(),
            tpot: self.tpot.get_or_create(&lane).clone(),
            queue_time: self.queue_time.get_or_create(&lane).clone(),
        }
    }

    fn ended(&self, lane: &str, termination: Termination, status: u16) -> Counter {
        let status_class = CLASSES[class(status)];
        let ended = Ended { lane: lane.to_owned(), termination: termination.name(), status_class };
        self.ended.get_or_create(&ended).clone()
    }
}

/// The place of a status among [`CLASSES`].
const fn class(status: u16) -> usize {
    match status {
        200..=299 => 0,
        400..=499 => 1,
        _ => 2,
    }
}

/// The status that mostly goes with a way to end: for counters that start at zero.
const fn usual_status(termination: Termination) -> u16 {
    match termination {
        // An interrupted answer has begun, and with it its status.
        Termination::Ok | Termination::UpstreamInterrupted => 200,
        Termination::BadRequest => 400,
        Termination::Budget => 402,
        Termination::Quota => 429,
        Termination::ClientCancel => 499,
        Termination::UpstreamError => 502,
        Termination::QueueFull | Termination::Deadline | Termination::Draining => 503,
        Termination::Timeout => 504,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_the_place_of_their_name() {
        for (at, termination) in Termination::ALL.into_iter().enumerate() {
            assert_eq!(termination as usize, at, "{termination:?}");
        }
    }
}
