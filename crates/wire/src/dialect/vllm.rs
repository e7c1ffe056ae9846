//! vLLM: the table of its differences, and where each was read.

use super::metric::{Meaning, Metric, Take};
use super::{
    Api, Call, Capabilities, Dialect, Differences, Fault, Feature, Mark, Marked, Pair, Paths, Route,
};

/// The version whose output was recorded, with the flags that its recording names.
const SEEN: Feature = Feature::seen("0.32.0");

/// The change that gave what concerns the KV cache names without `gpu_`.
const RENAMED: &str = "vllm-project/vllm pull requests 18354, 24245 and 29330";

const RECORDED: &str = "output of vLLM 0.32.0";

/// vLLM's row.
pub(super) const DIFFERENCES: Differences = Differences {
    dialect: Dialect::Vllm,
    name: "vllm",
    title: "vLLM",
    about: "many requests at once on accelerators, with most models and most features",
    checked: Some("0.32.0"),
    source: "output of vLLM 0.32.0; vllm/v1/metrics/loggers.py at 005a810bc40f; docs.vllm.ai",
    paths: Paths {
        health: "/health",
        ready: None,
        metrics: Some("/metrics"),
        metrics_port: None,
        models: Some("/v1/models"),
        version: Some("/version"),
        info: Some("/server_info"),
    },
    metrics: METRICS,
    api: Api {
        openai: &[
            Route { path: "/v1/chat/completions", feature: SEEN },
            Route { path: "/v1/completions", feature: SEEN },
            Route { path: "/v1/embeddings", feature: SEEN.noted("with a model for it, else 404") },
            Route {
                path: "/v1/rerank",
                feature: Feature::seen("0.12.0").noted("with a model for it"),
            },
            Route { path: "/v1/responses", feature: SEEN },
            Route { path: "/v1/messages", feature: SEEN.noted("Anthropic's API") },
            Route { path: "/tokenize", feature: SEEN },
        ],
        own: None,
        is_only_own: false,
    },
    capabilities: CAPABILITIES,
    adapters: Some(Pair {
        on: Call::post("/v1/load_lora_adapter", r#"{"lora_name":"{name}","lora_path":"{path}"}"#),
        off: Call::post("/v1/unload_lora_adapter", r#"{"lora_name":"{name}"}"#),
    }),
    sleep: Some(Pair { on: Call::post("/sleep?level=1", ""), off: Call::post("/wake_up", "") }),
    faults: FAULTS,
    quirks: &[
        "`/health` may take half a minute under load, and be fine with an engine that hangs: what moves with each step is the better sign",
        "with several engines behind one address (`--data-parallel-size`) each has its own samples, told apart by the label `engine`",
        "metrics that are deprecated in one minor version are hidden in the next and gone in the one after",
        "`vllm:iteration_tokens_total` is a histogram in spite of its name",
    ],
};

const METRICS: &[Metric] = &[
    Metric::max(Meaning::KvUse, "vllm:kv_cache_usage_perc", Feature::since("0.9.2").from(RENAMED)),
    Metric::max(
        Meaning::KvUse,
        "vllm:gpu_cache_usage_perc",
        Feature::seen("0.6.0").noted("hidden from 0.11.0 on").from(RENAMED),
    )
    .until("0.12.0"),
    Metric::sum(Meaning::KvBlocks, "vllm:cache_config_info", Feature::seen("0.6.0"))
        .taken(Take::LabelSum("num_gpu_blocks")),
    Metric::sum(Meaning::KvBlockTokens, "vllm:cache_config_info", Feature::seen("0.6.0"))
        .taken(Take::LabelMax("block_size")),
    Metric::sum(Meaning::Running, "vllm:num_requests_running", Feature::seen("0.6.0")),
    Metric::sum(Meaning::Waiting, "vllm:num_requests_waiting", Feature::seen("0.6.0")),
    Metric::sum(Meaning::Steps, "vllm:iteration_tokens_total_count", SEEN),
    Metric::sum(Meaning::Steps, "vllm:generation_tokens_total", Feature::seen("0.6.0")),
    Metric::max(
        Meaning::Started,
        "process_start_time_seconds",
        Feature::seen("0.6.0").noted("absent with several API servers"),
    ),
    Metric::sum(
        Meaning::PrefixQueries,
        "vllm:prefix_cache_queries_total",
        Feature::since("0.9.2").from(RENAMED),
    ),
    Metric::sum(
        Meaning::PrefixQueries,
        "vllm:gpu_prefix_cache_queries_total",
        Feature::seen("0.9.2").noted("hidden from 0.11.0 on").from(RENAMED),
    )
    .until("0.12.0"),
    Metric::sum(
        Meaning::PrefixHits,
        "vllm:prefix_cache_hits_total",
        Feature::since("0.9.2").from(RENAMED),
    ),
    Metric::sum(
        Meaning::PrefixHits,
        "vllm:gpu_prefix_cache_hits_total",
        Feature::seen("0.9.2").noted("hidden from 0.11.0 on").from(RENAMED),
    )
    .until("0.12.0"),
    Metric::sum(Meaning::Preemptions, "vllm:num_preemptions_total", Feature::seen("0.6.0")),
    Metric::histogram(Meaning::Ttft, "vllm:time_to_first_token_seconds", Feature::seen("0.6.0")),
    Metric::histogram(Meaning::Itl, "vllm:inter_token_latency_seconds", SEEN),
    Metric::histogram(
        Meaning::Itl,
        "vllm:time_per_output_token_seconds",
        Feature::seen("0.6.0").noted("deprecated").from("vllm-project/vllm pull request 29330"),
    )
    .until("0.13.0"),
    Metric::sum(
        Meaning::Adapters,
        "vllm:lora_requests_info",
        Feature::UNKNOWN
            .noted("with `--enable-lora` only; its value is the time of the sample")
            .from("llm-d/llm-d-router docs/plugin-metric-protocol.md at ebab687927f5"),
    )
    .taken(Take::LabelNewest("running_lora_adapters")),
];

const CAPABILITIES: Capabilities = Capabilities {
    priority: Feature::since("0.6.3")
        .noted("needs `--scheduling-policy priority`; a lower number comes first")
        .from("vllm-project/vllm pull requests 5958 and 8850"),
    token_ids_in: SEEN
        .noted("a list of numbers as `prompt` of `/v1/completions`")
        .from("vllm-project/vllm issue 25051"),
    token_ids_out: Feature::since("0.10.2")
        .noted("`return_token_ids`")
        .from("vllm-project/vllm pull request 22587"),
    structured_output: SEEN
        .noted("`response_format`; `structured_outputs` since 0.11, `guided_json` and the like until 0.12")
        .from("docs.vllm.ai/en/latest/features/structured_outputs"),
    adapters: Feature::seen("0.6.1")
        .noted("needs `--enable-lora`")
        .from("docs.vllm.ai/en/v0.6.1/models/lora.html"),
    adapters_at_run_time: Feature::seen("0.8.5")
        .noted("needs `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True` in its environment")
        .from("docs/features/lora.md at 05863f176838; pull request 6566"),
    embeddings: SEEN.noted("with a model for it, else the path is not there"),
    vision: Feature::seen("0.6.1")
        .noted("with a model for it")
        .from("docs.vllm.ai/en/v0.6.1/models/vlm.html"),
    tools: SEEN.noted("needs `--enable-auto-tool-choice` and `--tool-call-parser`"),
    rerank: Feature::seen("0.12.0").noted("with a model for it").from("routes that vLLM 0.12 logs"),
    abort_on_disconnect: SEEN
        .noted("counted as `vllm:request_success_total` with `finished_reason=\"abort\"`")
        .from(RECORDED),
    sleep: SEEN
        .noted("needs `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`; CUDA and ROCm only")
        .from("docs.vllm.ai/en/latest/features/sleep_mode"),
    kv_events: Feature::seen("0.9.1")
        .noted("needs `--kv-events-config`; over ZeroMQ")
        .from("vllm-project/vllm pull request 16750"),
    prefix_sharing: Feature::seen("0.9.2").noted("on by default; `--enable-prefix-caching`").from(RECORDED),
};

const FAULTS: &[Marked] = &[
    Marked {
        fault: Fault::TooLong,
        mark: Mark::Text("maximum context length is"),
        status: 400,
        body: r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)","type":"BadRequestError","param":"input_tokens","code":400}}"#,
        source: RECORDED,
    },
    Marked {
        fault: Fault::UnknownModel,
        mark: Mark::Text("` does not exist."),
        status: 404,
        body: r#"{"error":{"message":"The model `nope` does not exist. Valid aliases: smollm2.","type":"NotFoundError","param":"model","code":404}}"#,
        source: RECORDED,
    },
    Marked {
        fault: Fault::EngineDead,
        mark: Mark::Text("EngineCore encountered an issue"),
        status: 500,
        body: r#"{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.","type":"InternalServerError","param":null,"code":500}}"#,
        source: RECORDED,
    },
    Marked {
        fault: Fault::Unsupported,
        mark: Mark::Text("requires --tool-call-parser"),
        status: 400,
        body: r#"{"error":{"message":"tool_choice=\"required\" requires --tool-call-parser to be set","type":"BadRequestError","param":null,"code":400}}"#,
        source: RECORDED,
    },
    Marked {
        fault: Fault::Invalid,
        mark: Mark::Type("BadRequestError"),
        status: 400,
        body: r#"{"error":{"message":"temperature must be non-negative, got -3.0. (parameter=temperature, value=-3.0)","type":"BadRequestError","param":"temperature","code":400}}"#,
        source: RECORDED,
    },
];
