//! Ollama: the table of its differences, and where each was read.

use super::{
    Api, Call, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Own, Pair, Paths,
    Route, Support,
};

const ROUTES: &str = "server/routes.go at v0.33.0-rc2";
const COMPATIBLE: &str = "docs/api/openai-compatibility.mdx at v0.33.0-rc2";

/// Ollama's row. Versions were found in the tags of its repository.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Ollama,
    name: "ollama",
    title: "Ollama",
    about: "many models on one machine, loaded as they are asked for",
    checked: Some("0.33.0-rc2"),
    source: "ollama/ollama, tags v0.1.24 to v0.33.0-rc2",
    paths: Paths {
        health: "/v1/models",
        ready: None,
        metrics: None,
        metrics_port: None,
        models: Some("/v1/models"),
        version: Some("/api/version"),
        info: Some("/api/ps"),
    },
    metrics: &[],
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: Feature::since("0.1.24") },
            Route { path: "/v1/completions", feature: Feature::since("0.2.0") },
            Route { path: "/v1/embeddings", feature: Feature::since("0.2.6") },
            Route { path: "/v1/models", feature: Feature::since("0.2.0") },
            Route { path: "/v1/responses", feature: Feature::since("0.13.3") },
            Route {
                path: "/v1/messages",
                feature: Feature::since("0.14.0").noted("Anthropic's API"),
            },
        ],
        own: Some(Own::Ollama),
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: Some(Pair {
        on: Call::post("/api/generate", r#"{"model":"{model}","keep_alive":0}"#),
        off: Call::post("/api/generate", r#"{"model":"{model}"}"#),
    }),
    faults: FAULTS,
    quirks: &[
        "`/v1/models` lists what is on its disk, `/api/ps` what is in memory: the first request for another model waits until it is loaded",
        "the context is set where it starts (`OLLAMA_CONTEXT_LENGTH`) or with `num_ctx` of its own API, and what is longer is cut off unless its own API is told not to",
        "it counts nothing for Prometheus",
        "`tool_choice`, `logit_bias`, `n` and images by address are not taken at `/v1`",
        "streams of its own API are a line of JSON after the other; durations are nanoseconds",
        "usage of streams (`stream_options`) at `/v1` since 0.5.2",
    ],
};

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::NO.from(COMPATIBLE),
    token_ids_in: Feature::of(Support::No, "a prompt is one text", COMPATIBLE),
    token_ids_out: Feature::NO.from(COMPATIBLE),
    structured_output: Feature::since("0.5.0").noted("`response_format`, `format` of its own API"),
    adapters: Feature::of(
        Support::No,
        "an adapter makes a model of its own, with `ADAPTER` in its Modelfile",
        "",
    ),
    adapters_at_run_time: Feature::NO.from(ROUTES),
    embeddings: Feature::since("0.2.6").noted("with a model for it"),
    vision: Feature::since("0.2.6").noted("at `/v1`, images as data only, with a model for it"),
    tools: Feature::since("0.2.6").noted("with a model for it; `tool_choice` is not taken"),
    rerank: Feature::NO.from(ROUTES),
    abort_on_disconnect: Feature::UNKNOWN,
    sleep: Feature::seen("0.33.0-rc2")
        .noted("`keep_alive: 0` unloads a model; it is loaded again when it is asked for")
        .from("docs/api.md at fb3076099687"),
    kv_events: Feature::NO.from(ROUTES),
    prefix_sharing: Feature::of(
        Support::No,
        "each place keeps its own",
        "as llama.cpp; unverified",
    ),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::UnknownModel,
        mark: Mark::Text("' not found"),
        status: 404,
        body: r#"{"error":"model 'nope' not found"}"#,
        source: ROUTES,
    },
    Marked {
        fault: Fault::Failed,
        mark: Mark::Text("the model failed to generate"),
        status: 500,
        body: r#"{"error":"the model failed to generate a response"}"#,
        source: "docs/api/errors.mdx at v0.33.0-rc2",
    },
];
