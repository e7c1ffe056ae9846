//! The same under OpenTelemetry's names for generative AI, by model and operation. Which names there are
//! depends on the version of the conventions: this is the table.

use std::sync::OnceLock;

use pilotage_lens::{Record, Termination};
use pilotage_shell::metrics::{
    About, DURATION_SECONDS, Family, GenAi as Version, Histogram, Labels, Metrics, TOKENS,
    TPOT_SECONDS, TTFT_SECONDS,
};
use prometheus_client::metrics::counter::Counter;

/// `gen_ai.provider.name`: conventions let those that they do not list name themselves.
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
}

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
        }
    }

    pub(super) fn count(&self, model: &OfModel, name: &str, record: &Record) {
        let at = operation(record.path);
        let series = model.operations[at].get_or_init(|| self.series(name, OPERATIONS[at]));
        series.duration[record.termination as usize]
            .get_or_init(|| {
                let error = if is_ok(record) { "" } else { record.termination.name() };
                self.duration.get(&[name], &[OPERATIONS[at], PROVIDER, error])
            })
            .observe(record.total.as_secs_f64());
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

    fn series(&self, model: &str, operation: &'static str) -> Series {
        let words = [operation, PROVIDER];
        let tokens = match &self.tokens {
            Usage::Sizes(family) => Tokens::Sizes(
                ["input", "output"].map(|kind| family.get(&[model], &[operation, PROVIDER, kind])),
            ),
            Usage::Counters(families) => {
                Tokens::Counters(families.each_ref().map(|family| family.get(&[model], &words)))
            }
        };
        Series {
            duration: Default::default(),
            ttft: self.ttft.get(&[model], &words),
            tpot: self.tpot.get(&[model], &words),
            tokens,
        }
    }

    pub(super) fn forget(&self, model: &str) {
        for family in [&self.duration, &self.ttft, &self.tpot] {
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
