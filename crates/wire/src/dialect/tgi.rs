//! Text Generation Inference: the table of its differences, and where each was read.

use super::metric::{Meaning, Metric};
use super::{
    Api, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Own, Paths, Route,
    Support,
};

const METRICS_DOC: &str = "docs/source/reference/metrics.md at v3.3.7";
const ROUTER: &str = "router/src at v3.3.7";

/// In the newest release, and in the first that was looked at.
const DOCUMENTED: Feature = Feature::seen("3.3.7").from(METRICS_DOC);

/// TGI's row. Versions were found in the tags of its repository.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Tgi,
    name: "tgi",
    title: "Text Generation Inference",
    about: "models of the Hugging Face hub behind a plain server; its makers only maintain it",
    checked: Some("3.3.7"),
    source: "huggingface/text-generation-inference, tags v0.9.4 to v3.3.7",
    paths: Paths {
        health: "/health",
        ready: None,
        metrics: Some("/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: None,
        info: Some("/info"),
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: Feature::since("1.4.0") },
            Route { path: "/v1/completions", feature: Feature::since("1.4.4") },
            Route { path: "/v1/models", feature: Feature::since("2.3.0") },
            Route { path: "/tokenize", feature: Feature::seen("3.3.7") },
        ],
        own: Some(Own::Tgi),
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: None,
    faults: FAULTS,
    quirks: &[
        "`/info` tells version, model and limits; `/v1/models` is there since 2.3.0 only",
        "answers have at most 100 tokens where nothing is said, up to 2.4",
        "`temperature` must be above zero and `top_p` below one: zero is sent as no sampling",
        "a request that is wrong gets status 422, one that failed while it was computed 424",
        "it counts no use of its KV cache",
    ],
};

const METRICS: &[Metric] = &[
    Metric::sum(Meaning::Running, "tgi_batch_current_size", DOCUMENTED),
    Metric::sum(Meaning::Waiting, "tgi_queue_size", DOCUMENTED),
    Metric::sum(
        Meaning::Steps,
        "tgi_batch_inference_count",
        DOCUMENTED.noted("a label tells prefill from decode"),
    ),
    Metric::histogram(
        Meaning::Itl,
        "tgi_request_mean_time_per_token_duration",
        Feature::seen("0.9.4").noted("of each request the mean"),
    ),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::NO.from(ROUTER),
    token_ids_in: Feature::NO.from(ROUTER),
    token_ids_out: Feature::seen("0.9.4").noted("`details` of `/generate` only"),
    structured_output: Feature::since("1.4.1")
        .noted("`grammar`, and `response_format` of chats; `json_schema` since 2.3.0"),
    adapters: Feature::since("2.1.0")
        .noted("`LORA_ADAPTERS` at its start, `adapter_id` in requests"),
    adapters_at_run_time: Feature::NO.from(ROUTER),
    embeddings: Feature::NO.noted("Text Embeddings Inference is another server").from(ROUTER),
    vision: Feature::since("2.0.2").noted("with a model for it"),
    tools: Feature::since("1.4.3"),
    rerank: Feature::NO.from(ROUTER),
    abort_on_disconnect: Feature::of(
        Support::Seen("3.3.7"),
        "counted as `tgi_request_failure{err=\"dropped\"}`",
        "backends/v3/src/backend.rs at v3.3.7",
    ),
    sleep: Feature::NO.from(ROUTER),
    kv_events: Feature::NO.from(ROUTER),
    prefix_sharing: Feature::of(
        Support::Unknown,
        "prefixes are cached since 2.3.0; whether running requests share them was not read up",
        "launcher/src/main.rs at v2.3.0",
    ),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::TooLong,
        mark: Mark::Text("`inputs` must have less than"),
        status: 422,
        body: r#"{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 9031","error_type":"validation"}"#,
        source: "router/src/validation.rs and router/src/infer/mod.rs at v3.3.7",
    },
    Marked {
        fault: Fault::TooLong,
        mark: Mark::Text("`inputs` tokens + `max_new_tokens` must be"),
        status: 422,
        body: r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 100 `max_new_tokens`","error_type":"validation"}"#,
        source: "router/src/validation.rs at v3.3.7",
    },
    Marked {
        fault: Fault::Overloaded,
        mark: Mark::Type("overloaded"),
        status: 429,
        body: r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
        source: "router/src/server.rs at v3.3.7",
    },
    Marked {
        fault: Fault::Failed,
        mark: Mark::Type("generation"),
        status: 424,
        body: r#"{"error":"Request failed during generation","error_type":"generation"}"#,
        source: "router/src/server.rs at v3.3.7",
    },
    Marked {
        fault: Fault::EngineDead,
        mark: Mark::Type("healthcheck"),
        status: 503,
        body: r#"{"error":"unhealthy","error_type":"healthcheck"}"#,
        source: "router/src/server.rs at v3.3.7",
    },
    Marked {
        fault: Fault::Invalid,
        mark: Mark::Type("validation"),
        status: 422,
        body: r#"{"error":"Input validation error","error_type":"validation"}"#,
        source: "router/src/server.rs at v3.3.7",
    },
];
