//! `GET /metrics`, under vLLM's names where the meaning is the same, so that dashboards, alerts and
//! routers made for vLLM read this engine too.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::{DURATION_SECONDS, Metrics, TPOT_SECONDS, TTFT_SECONDS};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::Api;
use crate::job::Finish;
use crate::stats::Stats;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    model_name: String,
    finished_reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Named {
    model_name: String,
}

/// What requests cost in time, and how they end.
#[derive(Clone)]
pub(super) struct Latencies {
    model: String,
    metrics: Metrics,
    ended: Family<Ended, Counter>,
    queue: Histogram,
    first_token: Histogram,
    between_tokens: Histogram,
    whole: Histogram,
}

const REASONS: [&str; 4] = ["stop", "length", "abort", "error"];

impl Latencies {
    pub(super) fn new(model: &str) -> Self {
        let metrics = Metrics::new();
        let ended = Family::<Ended, Counter>::default();
        for finished_reason in REASONS {
            drop(ended.get_or_create(&Ended { model_name: model.to_owned(), finished_reason }));
        }
        let histogram = |name: &str, help: &str, bounds: &'static [f64]| {
            let family = Family::<Named, Histogram, fn() -> Histogram>::new_with_constructor(
                match bounds.len() {
                    len if len == TTFT_SECONDS.len() => || Histogram::new(TTFT_SECONDS),
                    len if len == TPOT_SECONDS.len() => || Histogram::new(TPOT_SECONDS),
                    _ => || Histogram::new(DURATION_SECONDS),
                },
            );
            let histogram = family.get_or_create(&Named { model_name: model.to_owned() }).clone();
            metrics.register(name, help, family);
            histogram
        };
        let queue = histogram(
            "vllm:request_queue_time_seconds",
            "Time a request waited for its first slot",
            &DURATION_SECONDS,
        );
        let first_token = histogram(
            "vllm:time_to_first_token_seconds",
            "Time from a request to its first token",
            &TTFT_SECONDS,
        );
        let between_tokens = histogram(
            "vllm:inter_token_latency_seconds",
            "Time between two tokens of a request",
            &TPOT_SECONDS,
        );
        let whole = histogram(
            "vllm:e2e_request_latency_seconds",
            "Time from a request to its last token",
            &DURATION_SECONDS,
        );
        metrics.register("vllm:request_success", "Requests that ended, by reason", ended.clone());
        Self { model: model.to_owned(), metrics, ended, queue, first_token, between_tokens, whole }
    }

    /// Watches one answer from now on.
    pub(super) fn watch(&self, clock: Clock) -> Watch {
        let begun = clock.now_nanos();
        Watch { latencies: self.clone(), clock, begun, last: begun, tokens: 0, over: false }
    }

    fn end(&self, finished_reason: &'static str) {
        self.ended.get_or_create(&Ended { model_name: self.model.clone(), finished_reason }).inc();
    }
}

/// One answer, watched. Dropped before its end it counts as aborted.
pub(super) struct Watch {
    latencies: Latencies,
    clock: Clock,
    begun: u64,
    last: u64,
    tokens: u32,
    over: bool,
}

impl Watch {
    pub(super) fn started(&self) {
        self.latencies.queue.observe(seconds(self.clock.now_nanos() - self.begun));
    }

    pub(super) fn token(&mut self) {
        let now = self.clock.now_nanos();
        let span = seconds(now - self.last);
        if self.tokens == 0 { &self.latencies.first_token } else { &self.latencies.between_tokens }
            .observe(span);
        self.last = now;
        self.tokens += 1;
    }

    pub(super) fn done(&mut self, finish: Finish) {
        self.over = true;
        self.latencies.whole.observe(seconds(self.clock.now_nanos() - self.begun));
        self.latencies.end(match finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        });
    }

    pub(super) fn failed(&mut self) {
        self.over = true;
        self.latencies.end("error");
    }

    /// Tokens seen so far.
    pub(super) const fn tokens(&self) -> u32 {
        self.tokens
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.over {
            self.latencies.end("abort");
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let inner = &api.inner;
    let mut text = inner.latencies.metrics.encode();
    text.truncate(text.trim_end().len() - "# EOF".len());
    counts(&mut text, &inner.model, inner.engine.stats());
    text.push_str("# EOF\n");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// The loop's counts: gauges first, then counters.
fn counts(text: &mut String, model: &str, stats: &Stats) {
    let held = stats.cells_held.get();
    let used = held as f64 / stats.cells_total.get().max(1) as f64;
    let gauges = [
        ("vllm:num_requests_running", "Sequences in execution", stats.running.get() as f64),
        ("vllm:num_requests_waiting", "Sequences waiting for a slot", stats.waiting.get() as f64),
        ("vllm:kv_cache_usage_perc", "Share of KV cells held by running sequences; 1 is all", used),
        ("pilotage_engine_kv_cells_held", "KV cells held by running sequences", held as f64),
        ("pilotage_engine_kv_cells", "KV cells there are", stats.cells_total.get() as f64),
    ];
    let counters = [
        (
            "vllm:prefix_cache_queries",
            "Prompt tokens looked for in the prefix cache",
            stats.prefix_queries.get(),
        ),
        (
            "vllm:prefix_cache_hits",
            "Prompt tokens found in the prefix cache",
            stats.prefix_hits.get(),
        ),
        ("vllm:prompt_tokens", "Prompt tokens of sequences that began", stats.prompt_tokens.get()),
        ("vllm:generation_tokens", "Tokens generated", stats.generation_tokens.get()),
        (
            "vllm:num_preemptions",
            "Sequences swapped out for more urgent ones",
            stats.preemptions.get(),
        ),
        ("pilotage_engine_steps", "Batches computed", stats.steps.get()),
        ("pilotage_engine_step_failures", "Batches that failed", stats.failures.get()),
    ];
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    // Writing into a string cannot fail.
    for (name, help, value) in gauges {
        let _ = write!(
            text,
            "# HELP {name} {help}.\n# TYPE {name} gauge\n{name}{{model_name=\"{model}\"}} {value}\n"
        );
    }
    for (name, help, value) in counters {
        let _ = write!(
            text,
            "# HELP {name} {help}.\n# TYPE {name} counter\n{name}_total{{model_name=\"{model}\"}} {value}\n"
        );
    }
}
