//! OpenAI's API, and whatever serves it without being one of the others: only what the API itself says.

use super::{
    Api, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Paths, Route, Support,
};

const REFERENCE: &str = "OpenAI's API reference";

/// The row of OpenAI's API.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::OpenAi,
    name: "openai",
    title: "OpenAI's API",
    about: "services that somebody else runs, and servers that are none of the others",
    checked: None,
    source: REFERENCE,
    paths: Paths {
        health: "/v1/models",
        ready: None,
        metrics: None,
        metrics_port: None,
        models: Some("/v1/models"),
        version: None,
        info: None,
    },
    metrics: &[],
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: Feature::ALWAYS },
            Route { path: "/v1/completions", feature: Feature::UNKNOWN },
            Route { path: "/v1/embeddings", feature: Feature::UNKNOWN },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: None,
    faults: FAULTS,
    quirks: &[
        "it tells nothing about itself but its models: how full it is follows from what was sent there",
    ],
};

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::UNKNOWN,
    token_ids_in: Feature::UNKNOWN,
    token_ids_out: Feature::NO,
    structured_output: Feature::UNKNOWN,
    adapters: Feature::UNKNOWN,
    adapters_at_run_time: Feature::NO,
    embeddings: Feature::UNKNOWN,
    vision: Feature::UNKNOWN,
    tools: Feature::UNKNOWN,
    rerank: Feature::of(Support::No, "", REFERENCE),
    abort_on_disconnect: Feature::UNKNOWN,
    sleep: Feature::NO,
    kv_events: Feature::NO,
    prefix_sharing: Feature::UNKNOWN,
};

const FAULTS: &[Marked] = &[Marked {
    fault: Fault::TooLong,
    mark: Mark::Text("maximum context length is"),
    status: 400,
    body: r#"{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 202868 tokens (202767 in the messages, 101 in the functions). Please reduce the length of the messages or functions.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
    source: "bytedance/deer-flow issue 310",
}];
