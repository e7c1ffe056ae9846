//! What is known of one replica.

use serde::{Deserialize, Serialize};

use super::{Accelerator, Gpu, Host, Lasted, Sight};

/// One replica of a model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Replica {
    /// What it is called.
    pub name: String,
    /// Its part of the work.
    pub role: Role,
    /// The server that it is; none where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// The server's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How well it was seen.
    pub sight: Sight,
    /// How it came up.
    pub start: Start,
    /// How it is set.
    pub config: Config,
    /// The model it runs.
    pub dims: Dims,
    /// What one of its accelerators can do.
    pub accelerator: Accelerator,
    /// How it is doing.
    pub gauges: Gauges,
    /// What it did.
    pub deltas: Deltas,
    /// How long that took.
    pub times: Times,
    /// Its accelerators.
    pub gpus: Vec<Gpu>,
    /// The machine below it.
    pub host: Host,
}

/// The part of the work that a replica does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All of it.
    #[default]
    Both,
    /// Prompts.
    Prefill,
    /// Answers.
    Decode,
}

/// The server that runs a model.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// TensorRT-LLM's own server.
    Trtllm,
    /// llama.cpp's server.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// The engine inside of Pilotage.
    Pilotage,
    /// Another one.
    Other,
}

impl Runtime {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
            Self::Tgi => "TGI",
            Self::Trtllm => "TensorRT-LLM",
            Self::LlamaCpp => "llama.cpp",
            Self::Pilotage => "Pilotage",
            Self::Other => "other",
        }
    }
}

group! {
    /// How a replica came up.
    Start {
        /// How long it has been there.
        age_s: f64,
        /// Mean time to the first token of its first requests (about ten).
        first_ttft_s: f64,
    }
}

group! {
    /// How a replica is set. Names are vLLM's; other servers have the same under others.
    Config {
        /// Sequences at once.
        max_num_seqs: f64,
        /// Tokens computed in one step.
        max_num_batched_tokens: f64,
        /// Tokens of a sequence, prompt and answer together.
        max_model_len: f64,
        /// Share of the accelerator's memory that it may take.
        gpu_memory_utilization: f64,
        /// Tokens of a block of the KV cache.
        block_size: f64,
        /// Blocks of the KV cache.
        num_gpu_blocks: f64,
        /// What the KV cache holds numbers as.
        kv_cache_dtype: String,
        /// What weights are computed with.
        dtype: String,
        /// How weights are compressed.
        quantization: String,
        /// Whether somebody else runs it, and a manifest says no more than where it is (`spec.endpoints`).
        is_elsewhere: bool,
        /// Accelerators that divide each layer.
        tensor: f64,
        /// Stages that divide the layers.
        pipeline: f64,
        /// Whether steps run without CUDA graphs.
        enforce_eager: bool,
        /// Whether prefixes are kept.
        prefix_caching: bool,
        /// Adapters in one batch.
        max_loras: f64,
        /// Tokens drafted for each step.
        spec_tokens: f64,
    }
}

group! {
    /// The dimensions of a model.
    Dims {
        /// Parameters that a token goes through.
        parameters: f64,
        /// Bytes of weights that a step reads; for a mixture of experts those of one token.
        weight_bytes: f64,
        /// Bytes of all weights, which stay in memory; where unknown, those that a step reads.
        resident_bytes: f64,
        /// Bytes of a number in matrix products: two, or one where weights and what they are multiplied by have
        /// eight bits.
        product_bytes: f64,
        /// Layers.
        layers: f64,
        /// Heads of keys and values in each.
        kv_heads: f64,
        /// Numbers in a head.
        head_dim: f64,
        /// Bytes of a number in the KV cache.
        kv_number_bytes: f64,
    }
}

group! {
    /// How a replica is doing: means over the window.
    Gauges {
        /// Requests in its batch.
        running: f64,
        /// Requests that wait in it.
        waiting: f64,
        /// Those of them that wait for room in the KV cache.
        waiting_capacity: f64,
        /// Those of them that wait for something else: an adapter, a grammar, a transfer.
        waiting_deferred: f64,
        /// Sequences that were never exceeded while others waited: what a benchmark lets infer about
        /// `max_num_seqs`.
        slots_seen: f64,
        /// Share of the KV cache in use.
        kv_use: f64,
        /// Adapters that requests wait for.
        lora_waiting: f64,
        /// For how long it has had requests and made no step, until now.
        stalled_s: f64,
        /// How long its health endpoint takes.
        health_s: f64,
        /// Whether it says that it is well.
        health_ok: bool,
    }
}

group! {
    /// What a replica did in the window.
    Deltas {
        /// Requests that it finished.
        requests: f64,
        /// Prompt tokens, cached ones included.
        prompt_tokens: f64,
        /// Prompt tokens that were cached.
        cached_tokens: f64,
        /// Generated tokens.
        generation_tokens: f64,
        /// Steps.
        iterations: f64,
        /// Sequences that were put out of the batch for lack of KV cache.
        preemptions: f64,
        /// Answers that ended at the limit of tokens.
        finished_length: f64,
        /// Answers that were called off.
        finished_abort: f64,
        /// Prompt tokens looked up in the prefix cache.
        prefix_queries: f64,
        /// Those that were there.
        prefix_hits: f64,
        /// Tokens drafted.
        draft_tokens: f64,
        /// Those that were right.
        accepted_tokens: f64,
        /// Adapters loaded.
        loras_loaded: f64,
        /// Transfers of KV cache that failed.
        kv_transfers_failed: f64,
        /// KV cache that was given up because nobody fetched it.
        kv_transfers_expired: f64,
        /// Requests refused because prompt and answer are longer than the context.
        context_overflows: f64,
    }
}

/// How long things took.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Times {
    /// To the first token.
    pub ttft: Lasted,
    /// Between tokens.
    pub itl: Lasted,
    /// For each token after the first, by request.
    pub tpot: Lasted,
    /// In the replica's own queue.
    pub queue: Lasted,
    /// Computing prompts.
    pub prefill: Lasted,
    /// Computing answers.
    pub decode: Lasted,
    /// Between tokens while prompts were computed beside them.
    pub itl_beside_prefill: Lasted,
    /// Between tokens while none was.
    pub itl_alone: Lasted,
    /// Fetching KV cache from another replica.
    pub kv_transfer: Lasted,
    /// Half of the times between tokens are below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_p50_s: Option<f64>,
    /// The longest time between tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_max_s: Option<f64>,
}
