//! Triton Inference Server, with its vLLM or TensorRT-LLM backend: the table of its differences, and
//! where each was read.

use super::metric::{Meaning, Metric};
use super::{
    Api, Call, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Own, Pair, Paths,
    Route, Support,
};

const GENERATE: &str = "docs/protocol/extension_generate.md at e1db8a603d86";
const VLLM: &str = "triton-inference-server/vllm_backend README.md at 8de0c148bda1";
const TRTLLM: &str = "triton-inference-server/tensorrtllm_backend README.md at 0b9d7d5a1958";

/// Of the TensorRT-LLM backend.
const BY_TRTLLM: Feature = Feature::seen("2.71.0").noted("TensorRT-LLM backend").from(TRTLLM);

/// Of the vLLM backend.
const BY_VLLM: Feature =
    Feature::seen("2.71.0").noted("vLLM backend with `REPORT_CUSTOM_METRICS`").from(VLLM);

/// Triton's row.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Triton,
    name: "triton",
    title: "Triton Inference Server",
    about: "models of all kinds behind one server; language models by its vLLM or TensorRT-LLM backend",
    checked: Some("2.71.0"),
    source: "triton-inference-server/server at e1db8a603d86, vllm_backend at 8de0c148bda1, tensorrtllm_backend at 0b9d7d5a1958",
    paths: Paths {
        health: "/v2/health/ready",
        ready: None,
        metrics: Some("/metrics"),
        metrics_port: Some(8002),
        models: None,
        version: Some("/v2"),
        info: Some("/v2"),
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: FRONTEND },
            Route { path: "/v1/completions", feature: FRONTEND },
            Route { path: "/v1/embeddings", feature: FRONTEND },
            Route { path: "/v1/models", feature: FRONTEND },
        ],
        own: Some(Own::Triton),
        is_only_own: true,
    },
    capabilities: CAPABILITIES,
    adapters: None,
    sleep: Some(Pair {
        on: Call::post("/v2/repository/models/{model}/unload", "{}"),
        off: Call::post("/v2/repository/models/{model}/load", "{}"),
    }),
    faults: FAULTS,
    quirks: &[
        "`/v2/health/live` says that it is alive, `/v2/health/ready` that its models are loaded as well",
        "metrics have a port of their own, 8002 where nothing else is said",
        "`generate` takes a prompt, not a chat: no template is applied to it",
        "it streams only where the model's configuration says that it is decoupled",
        "its model list is a `POST`, `/v2/repository/index`",
        "OpenAI's API is another program, its frontend, with `/health/ready` instead",
        "the vLLM backend puts the prompt before the answer unless it is told not to",
    ],
};

const FRONTEND: Feature = Feature::seen("2.71.0")
    .noted("its OpenAI frontend, another program and port")
    .from("python/openai at e1db8a603d86");

const METRICS: &[Metric] = &[
    Metric::max(Meaning::KvUse, "nv_trt_llm_kv_cache_block_metrics", BY_TRTLLM)
        .only("kv_cache_block_type", "fraction"),
    Metric::sum(Meaning::KvBlocks, "nv_trt_llm_kv_cache_block_metrics", BY_TRTLLM)
        .only("kv_cache_block_type", "max"),
    Metric::max(Meaning::KvBlockTokens, "nv_trt_llm_kv_cache_block_metrics", BY_TRTLLM)
        .only("kv_cache_block_type", "tokens_per"),
    Metric::sum(Meaning::Running, "nv_trt_llm_request_metrics", BY_TRTLLM)
        .only("request_type", "scheduled"),
    Metric::sum(Meaning::Waiting, "nv_trt_llm_request_metrics", BY_TRTLLM)
        .only("request_type", "waiting"),
    Metric::sum(
        Meaning::Waiting,
        "nv_inference_pending_request_count",
        Feature::seen("2.71.0").from("docs/user_guide/metrics.md at e1db8a603d86"),
    ),
    Metric::sum(Meaning::Steps, "nv_trt_llm_general_metrics", BY_TRTLLM)
        .only("general_type", "iteration_counter"),
    Metric::sum(Meaning::Steps, "vllm:generation_tokens_total", BY_VLLM),
    Metric::sum(
        Meaning::Answers,
        "nv_inference_request_success",
        Feature::seen("2.71.0").from("docs/user_guide/metrics.md at e1db8a603d86"),
    ),
    Metric::histogram(Meaning::Ttft, "vllm:time_to_first_token_seconds", BY_VLLM),
    Metric::histogram(Meaning::Itl, "vllm:time_per_output_token_seconds", BY_VLLM),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::UNKNOWN,
    token_ids_in: Feature::UNKNOWN,
    token_ids_out: Feature::UNKNOWN,
    structured_output: Feature::seen("2.71.0")
        .noted("TensorRT-LLM backend, with a grammar set up; not by `generate` as it is told here")
        .from("tensorrtllm_backend docs/guided_decoding.md at 0b9d7d5a1958"),
    adapters: Feature::seen("2.71.0")
        .noted("both backends, in parameters of their own")
        .from("vllm_backend src/utils/request.py at 8de0c148bda1"),
    adapters_at_run_time: Feature::UNKNOWN,
    embeddings: FRONTEND,
    vision: Feature::seen("2.71.0").noted("`image` of the vLLM backend").from(VLLM),
    tools: FRONTEND,
    rerank: Feature::UNKNOWN,
    abort_on_disconnect: Feature::UNKNOWN,
    sleep: Feature::seen("2.71.0")
        .noted("unloads the model; needs `--model-control-mode=explicit`")
        .from("docs/protocol/extension_model_repository.md at e1db8a603d86"),
    kv_events: Feature::of(Support::Unknown, "", ""),
    prefix_sharing: Feature::UNKNOWN.noted("as its backend"),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::UnknownModel,
        mark: Mark::Text("Request for unknown model"),
        status: 400,
        body: r#"{"error":"Request for unknown model: 'openvino_float32_float32_float32' is not found"}"#,
        source: "qa/L0_lifecycle/lifecycle_test.py at e1db8a603d86, in the shape of extension_generate.md",
    },
    Marked {
        fault: Fault::Invalid,
        mark: Mark::Status(400),
        status: 400,
        body: r#"{"error":"error message"}"#,
        source: GENERATE,
    },
];
