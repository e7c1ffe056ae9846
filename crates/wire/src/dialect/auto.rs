//! What is taken for granted of a server of which nobody says what it is: what most have in common. Names
//! of metrics are those of all of them; absent is not zero, and the first that is there counts.

use super::{Api, Capabilities, Dialect, Differences, Feature, Paths, Route};

/// The row of servers that are not known.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Auto,
    name: "auto",
    title: "Not said",
    about: "what all of them have in common is taken for granted",
    checked: None,
    source: "the other rows",
    paths: Paths {
        health: "/health",
        ready: None,
        metrics: Some("/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: None,
        info: None,
    },
    metrics: &[],
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: Feature::UNKNOWN },
            Route { path: "/v1/completions", feature: Feature::UNKNOWN },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: Capabilities {
        priority: Feature::UNKNOWN,
        token_ids_in: Feature::UNKNOWN,
        token_ids_out: Feature::UNKNOWN,
        structured_output: Feature::UNKNOWN,
        adapters: Feature::UNKNOWN,
        adapters_at_run_time: Feature::UNKNOWN,
        embeddings: Feature::UNKNOWN,
        vision: Feature::UNKNOWN,
        tools: Feature::UNKNOWN,
        rerank: Feature::UNKNOWN,
        abort_on_disconnect: Feature::UNKNOWN,
        sleep: Feature::UNKNOWN,
        kv_events: Feature::UNKNOWN,
        prefix_sharing: Feature::UNKNOWN,
    },
    adapters: None,
    sleep: None,
    faults: &[],
    quirks: &["`pilotage probe URL` says which one it is"],
};
