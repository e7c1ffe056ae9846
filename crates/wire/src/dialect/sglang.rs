//! SGLang: the table of its differences, and where each was read.

use super::metric::{Meaning, Metric, Take};
use super::{
    Api, Call, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Pair, Paths, Route,
};

const SERVER: &str = "python/sglang/srt/entrypoints/http_server.py at 0025436eab05";
const PROTOCOL: &str = "python/sglang/srt/entrypoints/openai/protocol.py at 004c82e07d87";
const MAPPING: &str = "gpustack/gpustack metrics_config.yaml at 47277d79f4a5, for 0.5.12.post1";

/// In the source that was read, whose version it does not say; the names of its metrics are those of
/// that version.
const READ: Feature = Feature::seen("0.5.12").from(SERVER);

/// In the documentation of the time when it was young.
const EARLY: Feature =
    Feature::seen("0.4.0").from("docs/references/production_metrics.md at 00b08c497f07");

/// SGLang's row.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Sglang,
    name: "sglang",
    title: "SGLang",
    about: "many requests at once on accelerators, strongest where prompts share long beginnings",
    checked: Some("0.5.12"),
    source: "sgl-project/sglang: http_server.py at 0025436eab05, metrics/collector.py at 00ae9c1590d2, openai/protocol.py at 004c82e07d87",
    paths: Paths {
        health: "/health",
        ready: Some("/health_generate"),
        metrics: Some("/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: None,
        info: Some("/get_server_info"),
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: READ },
            Route { path: "/v1/completions", feature: READ },
            Route { path: "/v1/embeddings", feature: READ },
            Route { path: "/v1/rerank", feature: READ },
            Route { path: "/v1/responses", feature: READ },
            Route { path: "/tokenize", feature: READ },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: Some(Pair {
        on: Call::post("/load_lora_adapter", r#"{"lora_name":"{name}","lora_path":"{path}"}"#),
        off: Call::post("/unload_lora_adapter", r#"{"lora_name":"{name}"}"#),
    }),
    sleep: Some(Pair {
        on: Call::post("/release_memory_occupation", "{}"),
        off: Call::post("/resume_memory_occupation", "{}"),
    }),
    faults: FAULTS,
    quirks: &[
        "there are no metrics without `--enable-metrics`",
        "`/health` computes a token when nothing else runs, and takes up to 20 s to say that the engine hangs",
        "metrics appear as `sglang_…`, too, where something on the way renames what has a colon",
        "it has no path for its version: `/get_server_info` tells it, among much else",
        "its errors are not inside of `error`: `{\"object\":\"error\",\"message\":…}`",
        "`sglang:generation_tokens_total` moves when an answer ends, not with each step",
    ],
};

const METRICS: &[Metric] = &[
    Metric::max(Meaning::KvUse, "sglang:token_usage", EARLY),
    Metric::sum(
        Meaning::KvTokens,
        "sglang:max_total_num_tokens",
        Feature::seen("0.5.12").from("python/sglang/srt/metrics/collector.py at 00ae9c1590d2"),
    ),
    Metric::sum(Meaning::Running, "sglang:num_running_reqs", EARLY),
    Metric::sum(Meaning::Waiting, "sglang:num_queue_reqs", EARLY),
    Metric::sum(Meaning::Answers, "sglang:generation_tokens_total", EARLY),
    Metric::max(Meaning::Started, "process_start_time_seconds", Feature::UNKNOWN),
    Metric::sum(Meaning::PrefixQueries, "sglang:prompt_tokens_total", EARLY),
    Metric::sum(
        Meaning::PrefixHits,
        "sglang:cached_tokens_total",
        Feature::seen("0.5.12").from(MAPPING),
    ),
    Metric::sum(
        Meaning::Preemptions,
        "sglang:num_retracted_requests_total",
        Feature::seen("0.5.12").from(MAPPING),
    ),
    Metric::histogram(Meaning::Ttft, "sglang:time_to_first_token_seconds", EARLY),
    Metric::histogram(
        Meaning::Itl,
        "sglang:inter_token_latency_seconds",
        Feature::since("0.4.5").from(MAPPING),
    ),
    Metric::histogram(Meaning::Itl, "sglang:time_per_output_token_seconds", EARLY.from(MAPPING))
        .until("0.4.5"),
    Metric::sum(
        Meaning::KvBlockTokens,
        "sglang:cache_config_info",
        Feature::UNKNOWN.from("llm-d/llm-d-router docs/plugin-metric-protocol.md at ebab687927f5"),
    )
    .taken(Take::LabelMax("page_size")),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::seen("0.5.12")
        .noted("`priority`; needs `--enable-priority-scheduling`, and a higher number comes first unless `--schedule-low-priority-values-first`")
        .from(PROTOCOL),
    token_ids_in: Feature::seen("0.5.12")
        .noted("a list of numbers as `prompt` of `/v1/completions`, `input_ids` of `/generate`")
        .from(PROTOCOL),
    token_ids_out: Feature::of(
        super::Support::Unknown,
        "`return_token_ids` is in the source of 2026; since which version was not read up",
        PROTOCOL,
    ),
    structured_output: Feature::seen("0.5.12").noted("`response_format`").from(PROTOCOL),
    adapters: READ
        .noted("needs `--enable-lora`; asked for as `MODEL:ADAPTER`")
        .from("docs.sglang.io/docs/advanced_features/lora"),
    adapters_at_run_time: READ.noted("needs `--enable-lora`"),
    embeddings: READ.noted("with a model for it"),
    vision: READ.noted("with a model for it"),
    tools: READ.noted("needs `--tool-call-parser`"),
    rerank: READ.noted("with a model for it"),
    abort_on_disconnect: READ,
    sleep: READ.noted("needs `--enable-memory-saver`"),
    kv_events: Feature::seen("0.5.12")
        .noted("needs `--kv-events-config`; over ZeroMQ, in vLLM's format")
        .from("sgl-project/sglang pull request 6098"),
    prefix_sharing: READ.noted("a radix tree of all that was computed, on by default"),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::TooLong,
        mark: Mark::Text("is longer than the model's context length"),
        status: 400,
        body: r#"{"object":"error","message":"The input (61709 tokens) is longer than the model's context length (40960 tokens).","type":"BadRequestError","param":null,"code":400}"#,
        source: "QwenLM/Qwen3 issue 1321",
    },
    Marked {
        fault: Fault::UnknownModel,
        mark: Mark::Text("' does not exist"),
        status: 404,
        body: r#"{"error":{"message":"The model 'nope' does not exist","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
        source: "http_server.py at 0025436eab05, of `GET /v1/models/nope`; generation does not check the name",
    },
    Marked {
        fault: Fault::UnknownModel,
        mark: Mark::Text("LoRA adapters are not loaded"),
        status: 400,
        body: r#"{"object":"error","message":"The following requested LoRA adapters are not loaded: sql\nLoaded adapters: dict_keys([]).","type":"BadRequestError","param":null,"code":400}"#,
        source: "the sentence of `srt/lora/lora_registry.py`, in the shape of its other refusals",
    },
];
