//! TensorRT-LLM's own server, `trtllm-serve`: the table of its differences, and where each was read.

use super::metric::{Meaning, Metric};
use super::{
    Api, Call, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Pair, Paths,
    Route, Support,
};

const SERVER: &str = "tensorrt_llm/serve/openai_server.py at 00057725d9a6";
const PROTOCOL: &str = "tensorrt_llm/serve/openai_protocol.py at 0076e9390e1e";
const COLLECTOR: &str = "tensorrt_llm/metrics/collector.py at 050f80def8df";

/// In the source that was read, which does not say its version; the documentation of this one has the
/// same paths.
const READ: Feature = Feature::seen("1.3.0rc20").from(SERVER);

/// In the source of metrics that was read, which is newer.
const COUNTED: Feature =
    Feature::seen("1.4.0rc1").noted("needs `return_perf_metrics: true`").from(COLLECTOR);

/// Of the metrics, those that the endpoint pickers of llm-d need and name.
const PICKED: Feature = Feature::seen("1.3.0rc20")
    .noted("needs `return_perf_metrics: true`")
    .from("llm-d/llm-d-router docs/plugin-metric-protocol.md at ebab687927f5");

/// TensorRT-LLM's row.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Trtllm,
    name: "trtllm",
    title: "TensorRT-LLM",
    about: "the most from NVIDIA's accelerators, for models that it has kernels for",
    checked: Some("1.4.0rc1"),
    source: "NVIDIA/TensorRT-LLM: openai_server.py at 00057725d9a6, openai_protocol.py at 0076e9390e1e, metrics/collector.py at 050f80def8df",
    paths: Paths {
        health: "/health",
        ready: Some("/health_generate"),
        metrics: Some("/prometheus/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: Some("/version"),
        info: Some("/server_info"),
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: READ },
            Route { path: "/v1/completions", feature: READ },
            Route { path: "/v1/responses", feature: READ },
            Route {
                path: "/v1/embeddings",
                feature: Feature::seen("1.3.0rc24")
                    .noted("another start, `trtllm-serve embeddings`"),
            },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: Some(Pair {
        on: Call::post("/release_memory", "{}"),
        off: Call::post("/resume_memory", "{}"),
    }),
    faults: FAULTS,
    quirks: &[
        "`/metrics` is JSON, not text: statistics of each step, kept until somebody reads them, and gone then",
        "for `/metrics` it takes `enable_iter_perf_stats: true`; for `/prometheus/metrics` `return_perf_metrics: true`",
        "its model is called as its folder is, where no name is given",
        "it notices once a second that a client has gone",
    ],
};

const METRICS: &[Metric] = &[
    Metric::max(Meaning::KvUse, "trtllm_kv_cache_utilization", PICKED),
    Metric::sum(Meaning::KvBlocks, "trtllm_kv_cache_max_blocks", PICKED),
    Metric::max(Meaning::KvBlockTokens, "trtllm_kv_cache_tokens_per_block", PICKED),
    Metric::sum(Meaning::Running, "trtllm_num_requests_running", PICKED),
    Metric::sum(Meaning::Waiting, "trtllm_num_requests_waiting", PICKED),
    Metric::sum(Meaning::Answers, "trtllm_num_requests_completed_total", COUNTED),
    Metric::sum(Meaning::PrefixQueries, "trtllm_prompt_tokens_total", COUNTED),
    Metric::sum(Meaning::PrefixHits, "trtllm_prompt_cached_tokens_total", COUNTED),
    Metric::histogram(Meaning::Ttft, "trtllm_time_to_first_token_seconds", COUNTED),
    Metric::histogram(Meaning::Itl, "trtllm_time_per_output_token_seconds", COUNTED),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::UNKNOWN,
    token_ids_in: Feature::seen("1.3.0rc20")
        .noted("a list of numbers as `prompt` of `/v1/completions`")
        .from(PROTOCOL),
    token_ids_out: Feature::seen("1.3.0rc20")
        .noted("`detokenize: false`, instead of text")
        .from(PROTOCOL),
    structured_output: Feature::seen("1.3.0rc20")
        .noted("`response_format`; needs `guided_decoding_backend`")
        .from(PROTOCOL),
    adapters: Feature::seen("1.3.0rc20").noted("`lora_request` names a path").from(PROTOCOL),
    adapters_at_run_time: Feature::seen("1.3.0rc20")
        .noted("with the request that names one; there is no call of its own")
        .from(PROTOCOL),
    embeddings: Feature::seen("1.3.0rc24")
        .noted("another start, `trtllm-serve embeddings`")
        .from("nvidia.github.io/TensorRT-LLM/1.3.0rc24/commands/trtllm-serve"),
    vision: READ.noted("with a model for it"),
    tools: READ.noted("needs a parser for its model's calls"),
    rerank: Feature::of(Support::No, "", SERVER),
    abort_on_disconnect: READ,
    sleep: READ.noted("meant for reinforcement learning"),
    kv_events: READ
        .noted("asked for at `POST /kv_cache_events`; over ZeroMQ in source of July 2026"),
    prefix_sharing: Feature::of(
        Support::Unknown,
        "blocks are reused; whether running requests share them was not read up",
        "",
    ),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::EngineDead,
        mark: Mark::Text("LLM is unavailable."),
        status: 503,
        body: "LLM is unavailable. Please check the server logs for more details.",
        source: SERVER,
    },
    Marked {
        fault: Fault::Invalid,
        mark: Mark::Type("BadRequestError"),
        status: 400,
        body: r#"{"object":"error","message":"the request is wrong","type":"BadRequestError","param":null,"code":400}"#,
        source: "openai_server.py at 00057725d9a6, the shape; the message is ours",
    },
];
