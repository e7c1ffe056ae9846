//! Families of models: what each one's layers have that its configuration does not say.
//!
//! One row a family, by the `model_type` of transformers; what a row does not name is as in Llama.
//! The rows follow the model classes of huggingface/transformers
//! (`src/transformers/models/<model_type>/modeling_*.py`, 4.x).

/// What holds for a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its names.
    pub names: &'static [&'static str],
    /// Whether feed-forward layers have a gate: three matrices instead of two.
    pub gated: bool,
    /// Norms of the hidden width in one layer.
    pub norms: u64,
    /// Vectors of one norm: a weight, or a weight and a bias.
    pub norm_vectors: u64,
    /// Biases of the projections to queries, keys and values.
    pub bias_in: Bias,
    /// Bias of the projection back.
    pub bias_out: Bias,
    /// Biases of feed-forward layers.
    pub bias_mlp: Bias,
    /// Norms of queries and keys.
    pub query_norm: QueryNorm,
    /// Whether positions are learned, as rows of a table.
    pub positions: bool,
    /// Whether the head is the input embeddings, where the configuration does not say.
    pub tied: bool,
    /// Which layers are of another kind.
    pub pattern: Pattern,
    /// What it is for, where its architecture's name does not say.
    pub encoder: bool,
}

/// When a layer has a bias.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bias {
    Never,
    Always,
    /// If one of these fields is true.
    If(&'static [&'static str]),
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum QueryNorm {
    None,
    /// One of a head's width for queries, one for keys.
    Head,
    /// One as wide as all heads of queries, one as all of keys.
    All,
    /// As [`Self::Head`] if `use_qk_norm` is true.
    Asked,
}

/// Which layers are of another kind where the configuration does not list them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pattern {
    /// All alike; a `sliding_window` is ignored.
    Alike,
    /// All with the `sliding_window`, if there is one.
    Windowed,
    /// As [`Self::Windowed`], but only if `use_sliding_window` is true.
    WindowedIfAsked,
    /// The window in all but each so-many-th layer.
    Every(u64),
    /// Chunks of `attention_chunk_size` in all layers but each fourth.
    Chunks,
    /// State space layers but for those of `attn_layer_period` and `attn_layer_offset`.
    Periodic,
    /// The letters of `hybrid_override_pattern`.
    Letters,
    /// Linear attention but for each `full_attention_interval`-th layer.
    Interval,
    /// The list `attn_type_list`, 0 for linear.
    Lightning,
    /// State space layers only.
    States,
}

/// The family of that name.
pub(super) fn find(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&name))
}

const ASKED: Bias = Bias::If(&["attention_bias", "use_bias", "qkv_bias", "bias"]);
const ASKED_MLP: Bias = Bias::If(&["mlp_bias", "use_bias", "bias"]);

const LLAMA: Family = Family {
    names: &[
        "llama",
        "mistral3_text",
        "internlm2",
        "internlm3",
        "baichuan",
        "exaone",
        "smollm3",
        "seed_oss",
        "ernie4_5",
        "granite",
        "aquila",
        "yi",
        "granitemoe",
        "granitemoeshared",
        "arcee",
        "deepseek",
        "phi3",
        "phimoe",
        "helium",
        "apertus",
        "ministral",
        "ministral3",
    ],
    gated: true,
    norms: 2,
    norm_vectors: 1,
    bias_in: ASKED,
    bias_out: Bias::If(&["attention_bias", "use_bias", "attention_out_bias"]),
    bias_mlp: ASKED_MLP,
    query_norm: QueryNorm::None,
    positions: false,
    tied: false,
    pattern: Pattern::Alike,
    encoder: false,
};

const GPT: Family = Family {
    names: &["gpt2"],
    gated: false,
    norm_vectors: 2,
    bias_in: Bias::Always,
    bias_out: Bias::Always,
    bias_mlp: Bias::Always,
    positions: true,
    tied: true,
    ..LLAMA
};

const BERT: Family = Family {
    names: &["bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "nomic_bert"],
    encoder: true,
    ..GPT
};

const GEMMA: Family = Family { names: &["gemma"], tied: true, ..LLAMA };
const GEMMA_3: Family = Family {
    names: &["gemma3", "gemma3_text", "gemma3n", "gemma3n_text"],
    norms: 4,
    query_norm: QueryNorm::Head,
    pattern: Pattern::Every(6),
    ..GEMMA
};
const MISTRAL: Family =
    Family { names: &["mistral", "mixtral", "pixtral"], pattern: Pattern::Windowed, ..LLAMA };
const QWEN_2: Family = Family {
    names: &["qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text"],
    bias_in: Bias::Always,
    pattern: Pattern::WindowedIfAsked,
    ..LLAMA
};
const QWEN_3: Family = Family {
    names: &["qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "hunyuan_v1_dense"],
    query_norm: QueryNorm::Head,
    pattern: Pattern::WindowedIfAsked,
    ..LLAMA
};
const QWEN_NEXT: Family = Family {
    names: &["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe"],
    query_norm: QueryNorm::Head,
    pattern: Pattern::Interval,
    ..LLAMA
};
const DEEPSEEK: Family = Family {
    names: &[
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "kimi_k2",
        "glm_moe_dsa",
        "glm4_moe_lite",
    ],
    ..LLAMA
};
const GLM: Family = Family { names: &["glm"], ..LLAMA };
const GLM_4: Family = Family { names: &["glm4"], norms: 4, ..LLAMA };
const GLM_4_MOE: Family = Family {
    names: &["glm4_moe", "glm4v_moe_text"],
    bias_out: Bias::Never,
    query_norm: QueryNorm::Asked,
    ..LLAMA
};
const COHERE: Family = Family { names: &["cohere"], norms: 1, tied: true, ..LLAMA };
const COHERE_2: Family = Family { names: &["cohere2"], pattern: Pattern::Every(4), ..COHERE };
const FALCON: Family = Family {
    names: &["falcon"],
    norms: 1,
    bias_in: Bias::If(&["bias"]),
    bias_out: Bias::If(&["bias"]),
    bias_mlp: Bias::If(&["bias"]),
    positions: false,
    ..GPT
};
const NEOX: Family = Family { names: &["gpt_neox"], positions: false, tied: false, ..GPT };
const PHI: Family = Family { names: &["phi"], norms: 1, positions: false, tied: false, ..GPT };
const OPT: Family = Family { names: &["opt", "gpt_bigcode"], ..GPT };
const STARCODER_2: Family =
    Family { names: &["starcoder2"], positions: false, pattern: Pattern::Windowed, ..GPT };
const BLOOM: Family = Family { names: &["bloom"], positions: false, ..GPT };
const STABLELM: Family = Family {
    names: &["stablelm"],
    norm_vectors: 2,
    bias_in: Bias::If(&["use_qkv_bias"]),
    bias_out: Bias::Never,
    ..LLAMA
};
const OLMO: Family = Family { names: &["olmo"], norms: 0, ..LLAMA };
const OLMO_2: Family =
    Family { names: &["olmo2", "olmoe", "olmo3"], query_norm: QueryNorm::All, ..LLAMA };
const GEMMA_2: Family =
    Family { names: &["gemma2"], norms: 4, pattern: Pattern::Every(2), ..GEMMA };
const GPT_OSS: Family = Family {
    names: &["gpt_oss"],
    bias_in: Bias::Always,
    bias_out: Bias::Always,
    bias_mlp: Bias::Always,
    pattern: Pattern::Every(2),
    ..LLAMA
};
const LLAMA_4: Family = Family { names: &["llama4_text"], pattern: Pattern::Chunks, ..LLAMA };
const MINIMAX: Family = Family {
    names: &["minimax_text_01", "minimax", "minimax_m1"],
    pattern: Pattern::Lightning,
    ..LLAMA
};
const MINIMAX_2: Family = Family { names: &["minimax_m2"], query_norm: QueryNorm::All, ..LLAMA };
const JAMBA: Family = Family { names: &["jamba"], pattern: Pattern::Periodic, ..LLAMA };
const MAMBA: Family = Family {
    names: &["mamba", "falcon_mamba"],
    norms: 1,
    tied: true,
    pattern: Pattern::States,
    ..LLAMA
};
const NEMOTRON_H: Family =
    Family { names: &["nemotron_h"], gated: false, norms: 1, pattern: Pattern::Letters, ..LLAMA };
const NEMOTRON: Family = Family { names: &["nemotron"], gated: false, norm_vectors: 2, ..LLAMA };

static FAMILIES: [Family; 33] = [
    LLAMA,
    MISTRAL,
    QWEN_2,
    QWEN_3,
    QWEN_NEXT,
    DEEPSEEK,
    GEMMA,
    GEMMA_2,
    GEMMA_3,
    GPT_OSS,
    LLAMA_4,
    GLM,
    GLM_4,
    GLM_4_MOE,
    COHERE,
    COHERE_2,
    FALCON,
    NEOX,
    PHI,
    OPT,
    STARCODER_2,
    BLOOM,
    STABLELM,
    OLMO,
    OLMO_2,
    MINIMAX,
    MINIMAX_2,
    JAMBA,
    MAMBA,
    NEMOTRON_H,
    NEMOTRON,
    GPT,
    BERT,
];
