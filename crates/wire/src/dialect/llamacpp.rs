//! llama.cpp's server: the table of its differences, and where each was read.

use super::metric::{Meaning, Metric};
use super::{
    Api, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Paths, Route, Support,
};

const README: &str = "tools/server/README.md at 00dc8057ab28";
const RECORDED: &str = "output of llama-server of November 2026";

/// In a build whose number is not known: it says `b0-unknown`.
const SEEN: Feature = Feature::of(Support::Always, "", RECORDED);

/// In its documentation; since which build was not read up.
const READ: Feature = Feature::of(Support::Always, "", README);

/// llama.cpp's row. Its versions are numbers of builds.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::LlamaCpp,
    name: "llamacpp",
    title: "llama.cpp",
    about: "one machine, with or without an accelerator, models as GGUF, few requests at once",
    checked: Some("b10236"),
    source: "output of llama-server of November 2026; ggml-org/llama.cpp tools/server/README.md at 00dc8057ab28",
    paths: Paths {
        health: "/health",
        ready: None,
        metrics: Some("/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: None,
        info: Some("/props"),
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: SEEN },
            Route { path: "/v1/completions", feature: SEEN },
            Route { path: "/v1/embeddings", feature: SEEN.noted("needs `--embeddings`, else 501") },
            Route { path: "/v1/rerank", feature: READ.noted("needs `--rerank`") },
            Route { path: "/v1/responses", feature: SEEN },
            Route { path: "/v1/messages", feature: SEEN.noted("Anthropic's API") },
            Route { path: "/tokenize", feature: SEEN.noted("takes `content`, not `prompt`") },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: None,
    faults: FAULTS,
    quirks: &[
        "there are no metrics without `--metrics`, and none of the KV cache in builds since May 2025",
        "a model's name is not checked: whatever is asked for, the one it has answers",
        "values that make no sense, such as a temperature below zero, are taken",
        "the header `Process-Start-Time-Unix` of its metrics is no time of day",
        "`/props` tells build, context and places; its version is a number of a build, or `b0` where it was built elsewhere",
        "what it wraps may answer `/v1/models` in Ollama's form as well",
        "status 503 with `Loading model` while it loads",
    ],
};

const METRICS: &[Metric] = &[
    Metric::max(
        Meaning::KvUse,
        "llamacpp:kv_cache_usage_ratio",
        Feature::UNKNOWN.noted("removed in May 2025").from("ggml-org/llama.cpp pull request 13660"),
    ),
    Metric::sum(Meaning::Running, "llamacpp:requests_processing", SEEN),
    Metric::sum(Meaning::Waiting, "llamacpp:requests_deferred", SEEN),
    Metric::sum(Meaning::Steps, "llamacpp:n_decode_total", SEEN),
    Metric::sum(
        Meaning::PrefixHits,
        "llamacpp:prompt_tokens_cached_total",
        Feature::of(Support::Seen("b10236"), "", RECORDED),
    ),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::NO.from(README),
    token_ids_in: READ.noted("a list of numbers as `prompt`"),
    token_ids_out: READ.noted("`return_tokens` of `/completion`"),
    structured_output: SEEN.noted("`response_format`, or a grammar"),
    adapters: READ.noted("`--lora` at its start; `POST /lora-adapters` only sets their scales"),
    adapters_at_run_time: Feature::NO.from(README),
    embeddings: SEEN.noted("needs `--embeddings`"),
    vision: READ.noted("with a projector; `/props` says whether there is one"),
    tools: SEEN.noted("as far as its template does; a required call may stay out"),
    rerank: READ.noted("needs `--rerank`"),
    abort_on_disconnect: Feature::UNKNOWN,
    sleep: Feature::of(
        Support::No,
        "sleeps by itself with `--sleep-idle-seconds`, and wakes with a request",
        README,
    ),
    kv_events: Feature::NO.from(README),
    prefix_sharing: Feature::of(Support::No, "each place keeps its own", README),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::TooLong,
        mark: Mark::Type("exceed_context_size_error"),
        status: 400,
        body: r#"{"error":{"code":400,"message":"request (9031 tokens) exceeds the available context size (2048 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9031,"n_ctx":2048}}"#,
        source: RECORDED,
    },
    Marked {
        fault: Fault::Loading,
        mark: Mark::Text("Loading model"),
        status: 503,
        body: r#"{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}"#,
        source: README,
    },
    Marked {
        fault: Fault::Unsupported,
        mark: Mark::Type("not_supported_error"),
        status: 501,
        body: r#"{"error":{"code":501,"message":"This server does not support embeddings. Start it with `--embeddings`","type":"not_supported_error"}}"#,
        source: RECORDED,
    },
    Marked {
        fault: Fault::Unsupported,
        mark: Mark::Text("File Not Found"),
        status: 404,
        body: r#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#,
        source: RECORDED,
    },
];
