//! What is counted of every request, by lane. The series of a lane are looked up together, once for each
//! request: one by one they would cost more than all else that its end does.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use pilotage_core::scale::Goal;
use pilotage_core::{Band, Span, Tokens};
use pilotage_lens::{Phases, Record, Termination};
use pilotage_shell::metrics::{
    About, Amount, DURATION_SECONDS, Example, Family, Histogram, Labels, Metrics, OTHER,
    OVERHEAD_SECONDS, TPOT_SECONDS, TTFT_SECONDS,
};
use prometheus_client::metrics::counter::Counter;

use super::gen_ai::{GenAi, OfModel};
use super::{LANE, TOKEN_TYPES, typed};

/// Classes of statuses that requests end with.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Names of the phases, in the order of time.
const PHASES: [&str; 10] = [
    "auth",
    "read",
    "route",
    "queue",
    "retry",
    "connect",
    "prefill",
    "decode",
    "client_blocked",
    "other",
];

/// What answers are to be: there, soon begun, and quick.
const OBJECTIVES: [&str; 3] = ["answered", "ttft", "tpot"];

/// Requests, by lane.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    pub(super) ended: Family<Counter>,
    pub(super) tokens: Family<Counter>,
    retries: Family<Counter>,
    merged: Family<Counter>,
    corrupted: Family<Counter>,
    pub(super) times: Times,
    phases: Family<Amount>,
    stalls: Family<Counter>,
    stalled: Family<Amount>,
    promised: Family<Counter>,
    missed: Family<Counter>,
    overhead: Histogram,
    gen_ai: GenAi,
    lanes: Arc<RwLock<HashMap<String, Arc<OfLane>>>>,
    /// What counts for requests of no lane, and for what ends late of one that is gone.
    other: Arc<OnceLock<Arc<OfLane>>>,
}

/// How long things took, by lane.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) duration: Family<Histogram>,
    pub(super) ttft: Family<Histogram>,
    pub(super) tpot: Family<Histogram>,
    pub(super) itl: Family<Histogram>,
    pub(super) queue_time: Family<Histogram>,
}

/// The series of one lane. Those of rare ends come with the first such end.
#[derive(Debug)]
struct OfLane {
    name: String,
    ended: [[OnceLock<Counter>; CLASSES.len()]; Termination::ALL.len()],
    tokens: [Counter; TOKEN_TYPES.len()],
    reasoning: Counter,
    retries: Counter,
    merged: Counter,
    corrupted: Counter,
    duration: Histogram,
    ttft: Histogram,
    tpot: Histogram,
    itl: Histogram,
    queue_time: Histogram,
    phases: [Amount; PHASES.len()],
    stalls: Counter,
    stalled: Amount,
    /// By band and objective: all, and those that missed it.
    objectives: [[(Counter, Counter); OBJECTIVES.len()]; Band::ALL.len()],
    goals: RwLock<[Goal; Band::ALL.len()]>,
    gen_ai: OfModel,
}

impl Times {
    fn new(metrics: &Metrics) -> Self {
        let histogram =
            |name, help, bounds| metrics.histograms(About::new(name, help, LANE), bounds);
        Self {
            duration: histogram(
                "pilotage_request_duration_seconds",
                "From the request to the end of its answer",
                &DURATION_SECONDS,
            ),
            ttft: histogram(
                "pilotage_time_to_first_token_seconds",
                "From the request to its first token",
                &TTFT_SECONDS,
            ),
            tpot: histogram(
                "pilotage_time_per_output_token_seconds",
                "Mean time between the tokens of an answer",
                &TPOT_SECONDS,
            ),
            itl: histogram(
                "pilotage_inter_token_latency_seconds",
                "Time between two tokens of a stream, each gap for itself",
                &TPOT_SECONDS,
            ),
            queue_time: histogram(
                "pilotage_queue_time_seconds",
                "Waiting for a turn",
                &DURATION_SECONDS,
            ),
        }
    }
}

impl Requests {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help, labels| metrics.family(About::new(name, help, labels));
        let amount = |name, help, labels| metrics.family(About::new(name, help, labels));
        let ends = Labels::new(&["lane"], &["termination", "status_class"]);
        let types = Labels::new(&["lane"], &["type"]);
        let phases = Labels::new(&["lane"], &["phase"]);
        let goals = Labels::new(&["lane"], &["band", "objective"]);
        let overhead = About::new(
            "pilotage_overhead_seconds",
            "Time in the gateway itself before the replica is asked, without waiting for the body or for a turn",
            Labels::default(),
        );
        let this = Self {
            ended: counter("pilotage_requests", "Requests that ended", ends),
            tokens: counter(
                "pilotage_tokens",
                "Tokens by type: input, cached (part of the input), output, reasoning (part of the output)",
                types,
            ),
            retries: counter("pilotage_retries", "Attempts after the first", LANE),
            merged: counter(
                "pilotage_merged_requests",
                "Requests whose answer another had asked for already",
                LANE,
            ),
            corrupted: counter(
                "pilotage_corrupted_answers",
                "Answers in which the engine said something that had to be put right, such as an end twice",
                LANE,
            ),
            times: Times::new(metrics),
            phases: amount(
                "pilotage_phase_seconds",
                "Time of requests by phase; all phases together are the time of all requests",
                phases,
            ),
            stalls: counter(
                "pilotage_stalls",
                "Gaps in streams that were at least 200 ms and four times as long as those before",
                LANE,
            ),
            stalled: metrics.family(About::new(
                "pilotage_stalled_seconds",
                "Time of those gaps",
                LANE,
            )),
            promised: counter(
                "pilotage_slo_requests",
                "Requests that an objective of their band holds for: answered, ttft, tpot",
                goals,
            ),
            missed: counter(
                "pilotage_slo_misses",
                "Requests that missed an objective of their band: answered, ttft, tpot",
                goals,
            ),
            overhead: metrics.histograms(overhead, &OVERHEAD_SECONDS).get(&[], &[]),
            gen_ai: GenAi::new(metrics),
            lanes: Arc::default(),
            other: Arc::default(),
        };
        for termination in Termination::ALL {
            drop(this.ended(OTHER, termination, usual_status(termination)));
        }
        this
    }

    /// Shows a lane's series at zero.
    pub(super) fn zero(&self, lane: &str) {
        self.ended.enter(&[lane]);
        for termination in Termination::ALL {
            drop(self.ended(lane, termination, usual_status(termination)));
        }
        self.lanes.write().entry(lane.to_owned()).or_insert_with(|| Arc::new(self.make(lane)));
    }

    pub(super) fn set_goals(&self, lane: &str, goals: [Goal; Band::ALL.len()]) {
        if let Some(known) = self.lanes.read().get(lane) {
            *known.goals.write() = goals;
        }
    }

    /// A lane is gone, and its series with it; what comes late counts as `_other`.
    pub(super) fn forget(&self, lane: &str) {
        self.lanes.write().remove(lane);
        let counters = [&self.ended, &self.tokens, &self.retries, &self.merged, &self.corrupted];
        for family in counters.into_iter().chain([&self.stalls, &self.promised, &self.missed]) {
            family.remove(&[lane]);
        }
        for family in [&self.phases, &self.stalled] {
            family.remove(&[lane]);
        }
        let Times { duration, ttft, tpot, itl, queue_time } = &self.times;
        for family in [duration, ttft, tpot, itl, queue_time] {
            family.remove(&[lane]);
        }
        self.gen_ai.forget(lane);
    }

    /// Counts a request that ended, and the time it took in the gateway itself.
    pub(super) fn count(&self, record: &Record, own: Span) {
        let lane = self.of(record.lane.as_deref().unwrap_or(OTHER));
        lane.ended[record.termination as usize][class(record.status)]
            .get_or_init(|| self.ended(&lane.name, record.termination, record.status))
            .inc();
        let example = record
            .kept
            .any()
            .then_some(Example { unix_ms: record.unix_ms, trace_id: record.trace_id });
        lane.count(record, example);
        if record.attempts > 0 {
            self.overhead.observe_example(own.as_secs_f64(), example);
        }
        if record.lane.is_some() {
            self.gen_ai.count(&lane.gen_ai, &lane.name, record);
        }
    }

    pub(super) fn gaps(&self, lane: &str, gaps: impl Iterator<Item = (Span, u64)>) {
        let lane = self.of(lane);
        for (gap, times) in gaps {
            lane.itl.observe_times(gap.as_secs_f64(), times);
        }
    }

    /// Counts the tokens of an answer, however many get it, and the attempts that it took.
    pub(super) fn generated(&self, lane: Option<&str>, tokens: Tokens, attempts: u32) {
        let lane = self.of(lane.unwrap_or(OTHER));
        for (counter, count) in lane.tokens.iter().zip(typed(tokens)) {
            counter.inc_by(count.into());
        }
        lane.retries.inc_by(attempts.saturating_sub(1).into());
    }

    fn of(&self, lane: &str) -> Arc<OfLane> {
        if let Some(known) = self.lanes.read().get(lane) {
            return Arc::clone(known);
        }
        Arc::clone(self.other.get_or_init(|| Arc::new(self.make(OTHER))))
    }

    fn make(&self, name: &str) -> OfLane {
        let lane = [name];
        self.gen_ai.enter(name);
        OfLane {
            name: name.to_owned(),
            ended: Default::default(),
            tokens: TOKEN_TYPES.map(|word| self.tokens.get(&lane, &[word])),
            reasoning: self.tokens.get(&lane, &["reasoning"]),
            retries: self.retries.get(&lane, &[]),
            merged: self.merged.get(&lane, &[]),
            corrupted: self.corrupted.get(&lane, &[]),
            duration: self.times.duration.get(&lane, &[]),
            ttft: self.times.ttft.get(&lane, &[]),
            tpot: self.times.tpot.get(&lane, &[]),
            itl: self.times.itl.get(&lane, &[]),
            queue_time: self.times.queue_time.get(&lane, &[]),
            phases: PHASES.map(|phase| self.phases.get(&lane, &[phase])),
            stalls: self.stalls.get(&lane, &[]),
            stalled: self.stalled.get(&lane, &[]),
            objectives: Band::ALL.map(|band| {
                OBJECTIVES.map(|objective| {
                    let words = [band.name(), objective];
                    (self.promised.get(&lane, &words), self.missed.get(&lane, &words))
                })
            }),
            goals: RwLock::new(pilotage_core::scale::Policy::default().goals),
            gen_ai: OfModel::default(),
        }
    }

    fn ended(&self, lane: &str, termination: Termination, status: u16) -> Counter {
        self.ended.of(&[lane], &[termination.name(), CLASSES[class(status)]])
    }
}

impl OfLane {
    fn count(&self, record: &Record, example: Option<Example>) {
        if record.merged {
            self.merged.inc();
        } else if record.cache != Some("hit") {
            self.reasoning.inc_by(record.reasoning.into());
        }
        if record.corrupted {
            self.corrupted.inc();
        }
        self.duration.observe_example(record.total.as_secs_f64(), example);
        for (counter, span) in self.phases.iter().zip(spans(&record.phases)) {
            if span > Span::ZERO {
                counter.inc_by(span.as_secs_f64());
            }
        }
        if record.attempts > 0 {
            self.queue_time.observe_example(record.phases.queue.as_secs_f64(), example);
        }
        if let Some(ttft) = record.ttft {
            self.ttft.observe_example(ttft.as_secs_f64(), example);
        }
        if let Some(tpot) = record.tpot {
            self.tpot.observe_example(tpot.as_secs_f64(), example);
        }
        if let Some(itl) = record.itl.filter(|itl| itl.stalls > 0) {
            self.stalls.inc_by(itl.stalls.into());
            self.stalled.inc_by(itl.stalled.as_secs_f64());
        }
        self.judge(record);
    }

    /// Counts which objectives held for it, and which it missed.
    fn judge(&self, record: &Record) {
        let goal = self.goals.read()[record.band as usize];
        let late = |took: Option<Span>, goal: Option<Span>| Some(took? > goal?);
        let verdicts = [
            failed(record.termination),
            late(record.ttft, goal.ttft),
            late(record.tpot, goal.tpot),
        ];
        for ((all, missed), verdict) in self.objectives[record.band as usize].iter().zip(verdicts) {
            let Some(is_missed) = verdict else { continue };
            all.inc();
            if is_missed {
                missed.inc();
            }
        }
    }
}

/// Whether a request that was to be answered was not; none where that was its own doing.
const fn failed(termination: Termination) -> Option<bool> {
    match termination {
        Termination::Ok => Some(false),
        Termination::ClientCancel
        | Termination::BadRequest
        | Termination::Quota
        | Termination::Budget => None,
        Termination::QueueFull
        | Termination::Deadline
        | Termination::UpstreamError
        | Termination::UpstreamInterrupted
        | Termination::Timeout
        | Termination::Draining => Some(true),
    }
}

/// In the order of [`PHASES`].
const fn spans(phases: &Phases) -> [Span; PHASES.len()] {
    [
        phases.auth,
        phases.read,
        phases.route,
        phases.queue,
        phases.retry,
        phases.connect,
        phases.prefill,
        phases.decode,
        phases.client_blocked,
        phases.other,
    ]
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
