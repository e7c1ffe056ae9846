//! `pilotage engine`, or another Pilotage: the table of its differences.

use super::metric::{Meaning, Metric};
use super::{
    Api, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Paths, Route, Support,
};

const OURS: Feature = Feature::ALWAYS;

/// Our own row.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Pilotage,
    name: "pilotage",
    title: "Pilotage",
    about: "one machine without an accelerator, models as GGUF; fair inside of its batches, too",
    checked: None,
    source: "crates/engine",
    paths: Paths {
        health: "/health",
        ready: None,
        metrics: Some("/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: Some("/version"),
        info: None,
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: OURS },
            Route { path: "/v1/completions", feature: OURS },
            Route { path: "/v1/embeddings", feature: OURS },
            Route { path: "/v1/models", feature: OURS },
            Route { path: "/tokenize", feature: OURS },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: None,
    faults: FAULTS,
    quirks: &[
        "metrics have vLLM's names where they mean the same",
        "it can put requests aside in favour of more urgent ones, and go on with them",
    ],
};

const METRICS: &[Metric] = &[
    Metric::max(Meaning::KvUse, "vllm:kv_cache_usage_perc", OURS),
    Metric::sum(Meaning::KvTokens, "pilotage_engine_kv_cells", OURS),
    Metric::sum(Meaning::Running, "vllm:num_requests_running", OURS),
    Metric::sum(Meaning::Waiting, "vllm:num_requests_waiting", OURS),
    Metric::sum(Meaning::Steps, "pilotage_engine_steps_total", OURS),
    Metric::sum(Meaning::PrefixQueries, "vllm:prefix_cache_queries_total", OURS),
    Metric::sum(Meaning::PrefixHits, "vllm:prefix_cache_hits_total", OURS),
    Metric::sum(Meaning::Preemptions, "vllm:num_preemptions_total", OURS),
    Metric::histogram(Meaning::Ttft, "vllm:time_to_first_token_seconds", OURS),
    Metric::histogram(Meaning::Itl, "vllm:inter_token_latency_seconds", OURS),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::ALWAYS.noted("by the gateway's headers, not by a field"),
    token_ids_in: OURS,
    token_ids_out: OURS,
    structured_output: OURS,
    adapters: Feature::NO,
    adapters_at_run_time: Feature::NO,
    embeddings: OURS,
    vision: Feature::NO,
    tools: OURS,
    rerank: Feature::NO,
    abort_on_disconnect: OURS,
    sleep: Feature::NO,
    kv_events: Feature::NO,
    prefix_sharing: Feature::of(Support::No, "each sequence has cells of its own", ""),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::TooLong,
        mark: Mark::Code("context_length_exceeded"),
        status: 400,
        body: r#"{"error":{"message":"the prompt is too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        source: "crates/wire/src/openai/error.rs",
    },
    Marked {
        fault: Fault::UnknownModel,
        mark: Mark::Code("model_not_found"),
        status: 404,
        body: r#"{"error":{"message":"there is no such model","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
        source: "crates/wire/src/openai/error.rs",
    },
    Marked {
        fault: Fault::Overloaded,
        mark: Mark::Code("overloaded"),
        status: 503,
        body: r#"{"error":{"message":"nothing can serve it at the moment","type":"server_error","param":null,"code":"overloaded"}}"#,
        source: "crates/wire/src/openai/error.rs",
    },
];
