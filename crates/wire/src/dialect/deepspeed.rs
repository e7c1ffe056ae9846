//! DeepSpeed-MII: the table of its differences, and where each was read.

use super::{
    Api, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Own, Paths, Route,
};

const OPENAI: &str = "mii/entrypoints/openai_api_server.py at 8abdd9874219";
const GATEWAY: &str = "mii/grpc_related/restful_gateway.py at 8abdd9874219";

/// In the source that was read.
const READ: Feature = Feature::since("0.2.1").from(OPENAI);

/// DeepSpeed-MII's row. Versions were found in the tags of its repository.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::DeepSpeed,
    name: "deepspeed",
    title: "DeepSpeed-MII",
    about: "where it runs already; little has changed in it since 2024",
    checked: Some("0.3.4"),
    source: "deepspeedai/DeepSpeed-MII at 8abdd9874219, tags v0.1.0 to v0.3.3",
    paths: Paths {
        health: "/healthz",
        ready: None,
        metrics: None,
        metrics_port: None,
        models: None,
        version: None,
        info: None,
    },
    metrics: &[],
    api: Api {
        openai: &[
            Route {
                path: "/v1/chat/completions",
                feature: READ.noted("its OpenAI server, another program"),
            },
            Route {
                path: "/v1/completions",
                feature: READ.noted("its OpenAI server, another program"),
            },
            Route { path: "/v1/models", feature: READ.noted("its OpenAI server, another program") },
        ],
        own: Some(Own::DeepSpeed),
        is_only_own: true,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: None,
    faults: FAULTS,
    quirks: &[
        "two servers go by that name: its REST gateway (`/mii/NAME`, `/healthz` since 0.3.0) and its OpenAI server (`/v1`, `/health`)",
        "the REST gateway does not stream, and whoever can reach it can stop it with `GET /terminate`",
        "it counts nothing: how full it is follows from what was sent there",
        "all errors of its OpenAI server have status 400",
        "its usage counts no tokens where a stream is asked for",
    ],
};

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::NO.from(GATEWAY),
    token_ids_in: Feature::NO.from(GATEWAY),
    token_ids_out: Feature::NO.from(GATEWAY),
    structured_output: Feature::NO.from(OPENAI),
    adapters: Feature::NO.from(OPENAI),
    adapters_at_run_time: Feature::NO.from(OPENAI),
    embeddings: Feature::NO.from(OPENAI),
    vision: Feature::NO.from(OPENAI),
    tools: Feature::NO.from(OPENAI),
    rerank: Feature::NO.from(OPENAI),
    abort_on_disconnect: Feature::UNKNOWN,
    sleep: Feature::NO.from(OPENAI),
    kv_events: Feature::NO.from(OPENAI),
    prefix_sharing: Feature::NO.from("mii/batching/ragged_batching.py at 8abdd9874219"),
};

const FAULTS: &[Marked] = &[Marked {
    fault: Fault::Invalid,
    mark: Mark::Status(400),
    status: 400,
    body: r#"{"object":"error","message":"the request is wrong","code":40001}"#,
    source: "mii/entrypoints/data_models.py at 8abdd9874219, the shape; message and code are ours",
}];
