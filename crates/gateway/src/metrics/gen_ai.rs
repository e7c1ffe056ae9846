//! The same under OpenTelemetry's names for generative AI, by model and operation. Which names there are
//! depends on the version of the conventions: this is the table. The gateway is a server to its clients and a
//! client to engines: it has the names of both sides.

use std::sync::OnceLock;

use parking_lot::RwLock;
use pilotage_lens::{Record, Termination};
use pilotage_shell::metrics::{
    About, DURATION_SECONDS, Family, GenAi as Version, Histogram, Labels, Metrics, TOKENS,
    TPOT_SECONDS, TTFT_SECONDS,
};
use prometheus_client::metrics::counter::Counter;

/// `gen_ai.provider.name` of the server: conventions let those that they do not list name themselves.
const PROVIDER: &str = "pilotage";

/// `gen_ai.operation.name`, of which the last is for what has no name there.
const OPERATIONS: [&str; 5] = ["chat", "text_completion", "embeddings", "rerank", "_OTHER"];

const MODEL: &[&str] = &["gen_ai_request_model"];
const OPERATION: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name"];
const WITH_ERROR: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name", "error_type"];
const WITH_TYPE: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_token_type"];

/// Families by those names.
#[derive(Clone, Debug)]
pub(super) struct GenAi {
    duration: Family<Histogram>,
    ttft: Family<Histogram>,
    tpot: Family<Histogram>,
    tokens: Usage,
    /// Of calls to engines.
    calls: Family<Histogram>,
    /// The same until their first token, which only the newer conventions have.
    first: Option<Family<Histogram>>,
}

/// How tokens are told.
#[derive(Clone, Debug)]
enum Usage {
    /// A histogram by type.
    Sizes(Family<Histogram>),
    /// A counter for each type: input, output, read from the cache, reasoning.
    Counters([Family<Counter>; 4]),
}

/// The series of a model, by operation, made when they are needed.
#[derive(Debug, Default)]
pub(super) struct OfModel {
    operations: [OnceLock<Series>; OPERATIONS.len()],
    /// By operation, server, and how they ended: few, as a model has one or two servers.
    calls: RwLock<Vec<(Call, Histogram)>>,
    first: RwLock<Vec<(Call, Histogram)>>,
}

/// Operation, the server that was asked, and the error; empty where there was none.
type Call = [&'static str; 3];

#[derive(Debug)]
struct Series {
    /// The first is for those that succeeded.
    duration: [OnceLock<Histogram>; Termination::ALL.len()],
    ttft: Histogram,
    tpot: Histogram,
    tokens: Tokens,
}

#[derive(Debug)]
enum Tokens {
    Sizes([Histogram; 2]),
    Counters([Counter; 4]),
}

impl GenAi {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let histogram = |name, help, words, bounds| {
            metrics.histograms(About::new(name, help, Labels::new(MODEL, words)), bounds)
        };
        let counter =
            |name, help| metrics.family(About::new(name, help, Labels::new(MODEL, OPERATION)));
        let tokens = match metrics.names().gen_ai {
            Version::Stable => Usage::Sizes(histogram(
                "gen_ai_client_token_usage",
                "Tokens of a request, by type (OpenTelemetry: gen_ai.client.token.usage)",
                WITH_TYPE,
                &TOKENS,
            )),
            Version::Latest => Usage::Counters([
                counter(
                    "gen_ai_client_inference_usage_input_tokens",
                    "Tokens of prompts (OpenTelemetry: gen_ai.client.inference.usage.input_tokens)",
                ),
                counter(
                    "gen_ai_client_inference_usage_output_tokens",
                    "Tokens of answers (OpenTelemetry: gen_ai.client.inference.usage.output_tokens)",
                ),
                counter(
                    "gen_ai_client_inference_usage_cache_read_input_tokens",
                    "Tokens of prompts that were cached (OpenTelemetry: gen_ai.client.inference.usage.cache_read.input_tokens)",
                ),
                counter(
                    "gen_ai_client_inference_usage_reasoning_output_tokens",
                    "Tokens of thoughts (OpenTelemetry: gen_ai.client.inference.usage.reasoning.output_tokens)",
                ),
            ]),
        };
        Self {
            duration: histogram(
                "gen_ai_server_request_duration_seconds",
                "From the request to the end of its answer (OpenTelemetry: gen_ai.server.request.duration)",
                WITH_ERROR,
                &DURATION_SECONDS,
            ),
            ttft: histogram(
                "gen_ai_server_time_to_first_token_seconds",
                "From the request to its first token, of those that succeeded (OpenTelemetry: gen_ai.server.time_to_first_token)",
                OPERATION,
                &TTFT_SECONDS,
            ),
            tpot: histogram(
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time between the tokens of an answer (OpenTelemetry: gen_ai.server.time_per_output_token)",
                OPERATION,
                &TPOT_SECONDS,
            ),
            tokens,
            calls: histogram(
                "gen_ai_client_operation_duration_seconds",
                "From the first attempt at an engine to the end of its answer, retries included (OpenTelemetry: gen_ai.client.operation.duration)",
                WITH_ERROR,
                &DURATION_SECONDS,
            ),
            first: (metrics.names().gen_ai == Version::Latest).then(|| {
                histogram(
                    "gen_ai_client_operation_time_to_first_chunk_seconds",
                    "From the last attempt at an engine to the first token of its stream (OpenTelemetry: gen_ai.client.operation.time_to_first_chunk)",
                    OPERATION,
                    &TTFT_SECONDS,
                )
            }),
        }
    }

    /// There is a model of that name.
    pub(super) fn enter(&self, model: &str) {
        for family in self.histograms() {
            family.enter(&[model]);
        }
        match &self.tokens {
            Usage::Sizes(family) => family.enter(&[model]),
            Usage::Counters(families) => families.iter().for_each(|family| family.enter(&[model])),
        }
    }

    fn histograms(&self) -> impl Iterator<Item = &Family<Histogram>> {
        [&self.duration, &self.ttft, &self.tpot, &self.calls].into_iter().chain(&self.first)
    }

    pub(super) fn count(&self, model: &OfModel, name: &str, record: &Record) {
        let at = operation(record.path);
        let series = model.operations[at].get_or_init(|| self.series(name, OPERATIONS[at]));
        series.duration[record.termination as usize]
            .get_or_init(|| {
                let error = if is_ok(record) { "" } else { record.termination.name() };
                self.duration.of(&[name], &[OPERATIONS[at], PROVIDER, error])
            })
            .observe(record.total.as_secs_f64());
        self.count_call(model, name, OPERATIONS[at], record);
        if !is_ok(record) {
            return;
        }
        if let Some(ttft) = record.ttft {
            series.ttft.observe(ttft.as_secs_f64());
        }
        if let Some(tpot) = record.tpot {
            series.tpot.observe(tpot.as_secs_f64());
        }
        series.tokens.count(record);
    }

    /// Counts what engines were asked for it. Answers that others had asked for are none.
    fn count_call(&self, model: &OfModel, name: &str, operation: &'static str, record: &Record) {
        if record.attempts == 0 || record.merged {
            return;
        }
        let error = if is_ok(record) { "" } else { record.termination.name() };
        let server = record.runtime.unwrap_or(PROVIDER);
        let phases = &record.phases;
        let took = phases.retry
            + phases.connect
            + phases.prefill
            + phases.decode
            + phases.client_blocked
            + phases.other;
        found(&model.calls, [operation, server, error], |call| self.calls.of(&[name], &call))
            .observe(took.as_secs_f64());
        let Some(family) = self.first.as_ref().filter(|_| record.stream && is_ok(record)) else {
            return;
        };
        if record.ttft.is_some() {
            let make = |[operation, server, _]: Call| family.of(&[name], &[operation, server]);
            let took = phases.connect + phases.prefill;
            found(&model.first, [operation, server, ""], make).observe(took.as_secs_f64());
        }
    }

    fn series(&self, model: &str, operation: &'static str) -> Series {
        let words = [operation, PROVIDER];
        let tokens = match &self.tokens {
            Usage::Sizes(family) => Tokens::Sizes(
                ["input", "output"].map(|kind| family.of(&[model], &[operation, PROVIDER, kind])),
            ),
            Usage::Counters(families) => {
                Tokens::Counters(families.each_ref().map(|family| family.of(&[model], &words)))
            }
        };
        Series {
            duration: Default::default(),
            ttft: self.ttft.of(&[model], &words),
            tpot: self.tpot.of(&[model], &words),
            tokens,
        }
    }

    pub(super) fn forget(&self, model: &str) {
        for family in self.histograms() {
            family.remove(&[model]);
        }
        match &self.tokens {
            Usage::Sizes(family) => family.remove(&[model]),
            Usage::Counters(families) => families.iter().for_each(|family| family.remove(&[model])),
        }
    }
}

impl Tokens {
    fn count(&self, record: &Record) {
        let tokens = record.tokens;
        match self {
            Self::Sizes(kinds) => {
                for (histogram, tokens) in kinds.iter().zip([tokens.input, tokens.output]) {
                    histogram.observe(tokens.into());
                }
            }
            Self::Counters(kinds) => {
                let all = [tokens.input, tokens.output, tokens.cached, record.reasoning];
                for (counter, tokens) in kinds.iter().zip(all) {
                    counter.inc_by(tokens.into());
                }
            }
        }
    }
}

/// The series of a call, made with the first such call.
fn found(
    known: &RwLock<Vec<(Call, Histogram)>>,
    call: Call,
    make: impl FnOnce(Call) -> Histogram,
) -> Histogram {
    let of = |known: &[(Call, Histogram)]| {
        known.iter().find(|(one, _)| *one == call).map(|(_, series)| series.clone())
    };
    if let Some(series) = of(&known.read()) {
        return series;
    }
    let mut known = known.write();
    of(&known).unwrap_or_else(|| {
        let series = make(call);
        known.push((call, series.clone()));
        series
    })
}

/// Whether the request got its answer. An answer with an error of the request's own has the termination of a
/// success, and is none.
const fn is_ok(record: &Record) -> bool {
    matches!(record.termination, Termination::Ok) && record.status < 400
}

/// The place of a path's operation among [`OPERATIONS`].
fn operation(path: &str) -> usize {
    match path {
        "/v1/chat/completions" | "/v1/messages" | "/v1/responses" => 0,
        "/v1/completions" => 1,
        "/v1/embeddings" => 2,
        "/v1/rerank" => 3,
        _ => 4,
    }
}
