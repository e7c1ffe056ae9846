//! What a model is, as far as its size and speed depend on it: layers, heads, experts, bytes of
//! weights.
//!
//! Every reader of this crate (configuration, safetensors, GGUF) ends in a [`ModelFacts`], and
//! everything that sizes, chooses or launches begins with one. A value is for the whole model,
//! before any division. Absent is not zero: what the files did not say is `None`.

use serde::{Deserialize, Serialize};

use super::number::Number;
pub use super::quantization::{Dtype, Quantization};

/// What is known of a model.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ModelFacts {
    /// The architecture's name as its files have it: `LlamaForCausalLM`, or GGUF's `llama`.
    pub architecture: String,
    /// The family's name (`model_type` of transformers, `general.architecture` of GGUF).
    pub family: String,
    /// What it is for.
    pub task: Task,
    /// What it takes besides text.
    pub modalities: Modalities,
    /// The files that its weights are in.
    pub format: Format,
    /// How its linear layers are stored.
    pub quantization: Quantization,
    /// What is not quantised, and activations, are computed in.
    pub dtype: Dtype,
    /// How well the bytes of weights are known.
    pub known_from: Evidence,
    /// All parameters.
    pub parameters: u64,
    /// Parameters that one token passes through: all but the experts that it is not sent to. Input
    /// embeddings, which are looked up and not multiplied, count as in published figures.
    pub active_parameters: u64,
    /// Bytes of weights, by what divides them.
    pub weights: WeightBytes,
    /// One entry a layer of the decoder, in order.
    pub layers: Vec<Layer>,
    /// Width of the hidden state.
    pub hidden: u32,
    /// Width of dense feed-forward layers.
    pub intermediate: u32,
    /// Attention heads (queries).
    pub heads: u32,
    /// Attention heads (keys and values). With latent attention 1: all ranks keep the whole latent.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Tokens of the vocabulary.
    pub vocabulary: u32,
    /// Longest context in tokens that the model was made for.
    pub context_max: Option<u64>,
    /// Rows of the table of rotations that runtimes compute: the longest context, times what
    /// positions are stretched by where that is linear.
    pub rotary_rows: u64,
    /// What a mixture of experts has.
    pub experts: Option<Experts>,
}

/// Bytes of weights, split by what divides them among accelerators.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct WeightBytes {
    /// Linear layers of attention and of dense or shared feed-forward layers: tensor parallelism
    /// divides them.
    pub divided: u64,
    /// Projections to keys and values: divided up to the number of KV heads, repeated beyond it.
    pub key_value: u64,
    /// Routed experts: divided by tensor and by expert parallelism.
    pub experts: u64,
    /// Norms, routers and down-projections of latent attention: every rank of a stage has them
    /// whole.
    pub replicated: u64,
    /// Input embeddings: divided with the vocabulary, on the first pipeline stage.
    pub embeddings: u64,
    /// The output head where it is not the input embeddings again: divided with the vocabulary, on
    /// the last stage. Tied embeddings are needed on both ends of a pipeline.
    pub head: u64,
    /// Encoders of images and sound, and what connects them to the decoder, on the first stage.
    pub encoders: u64,
}

impl WeightBytes {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.divided
            .saturating_add(self.key_value)
            .saturating_add(self.experts)
            .saturating_add(self.replicated)
            .saturating_add(self.embeddings)
            .saturating_add(self.head)
            .saturating_add(self.encoders)
    }
}

/// One layer of the decoder.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Layer {
    /// What it keeps of the tokens before.
    pub attention: Attention,
    /// Whether its feed-forward part is a mixture of experts.
    pub experts: bool,
}

/// What a layer keeps of the tokens before, which is what a KV cache holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Keys and values of every token; fewer KV heads than heads is grouped-query attention.
    Full {
        /// Heads that keys and values have.
        kv_heads: u32,
        /// Elements of a key and a value together, for one head: twice the head's width where both
        /// are equal.
        pair_width: u32,
    },
    /// Keys and values of the last tokens only.
    Window {
        /// Heads that keys and values have.
        kv_heads: u32,
        /// Elements of a key and a value together, for one head.
        pair_width: u32,
        /// How many tokens.
        tokens: u32,
    },
    /// One compressed vector a token for all heads (multi-head latent attention).
    Latent {
        /// Elements of the compressed keys and values.
        rank: u32,
        /// Elements of the part of the key that carries the position.
        rope: u32,
        /// Bytes a token besides, of an index that selects tokens (sparse attention); 0 without.
        index_bytes: u32,
    },
    /// A state of fixed size a sequence (linear attention, state space models).
    State {
        /// Bytes of the state that one sequence has in this layer.
        bytes: u64,
    },
    /// Nothing: no attention, that of an encoder, or the cache of an earlier layer used again.
    None,
}

/// What a mixture of experts has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Experts {
    /// Routed experts of a layer.
    pub count: u32,
    /// Routed experts that one token is sent to.
    pub per_token: u32,
    /// Experts that every token passes through.
    pub shared: u32,
    /// Width of one expert.
    pub intermediate: u32,
}

/// What a model takes besides text.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Modalities {
    /// Images or video.
    pub vision: bool,
    /// Sound.
    pub audio: bool,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Writes text.
    #[default]
    Generate,
    /// Turns text into vectors.
    Embed,
    /// Scores texts, for ranking or classification.
    Rerank,
}

/// The files that weights are in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `*.safetensors` with a `config.json` of transformers.
    Safetensors,
    /// One `.gguf`, or one in parts.
    Gguf,
    /// Pickled tensors (`pytorch_model*.bin`).
    Pickle,
    /// Not known: only a configuration was seen.
    Unknown,
}

/// How well bytes of weights are known.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Counted from the configuration.
    Config,
    /// The configuration for the split, an index for the total.
    Index,
    /// The headers of all files: exact for each tensor.
    Headers,
}

impl ModelFacts {
    /// Bytes that one token adds to the KV cache of the whole model while no window is full, for
    /// elements of that many bytes. States do not grow and are not in it.
    pub fn kv_bytes_per_token(&self, element_bytes: f64) -> f64 {
        self.layers.iter().map(|layer| layer.attention.bytes_per_token(element_bytes)).sum()
    }

    /// Bytes that one sequence of that many tokens has in the KV cache of the whole model.
    pub fn kv_bytes_per_sequence(&self, tokens: u64, element_bytes: f64) -> f64 {
        let bytes = |layer: &Layer| layer.attention.bytes_per_sequence(tokens, element_bytes);
        self.layers.iter().map(bytes).sum()
    }

    /// Whether a token is sent to some of many experts.
    pub const fn is_mixture(&self) -> bool {
        self.experts.is_some()
    }

    /// Whether any layer is other than full attention, so that the cache is not the same for each
    /// token.
    pub fn is_hybrid(&self) -> bool {
        let grows = |layer: &Layer| {
            matches!(layer.attention, Attention::Full { .. } | Attention::Latent { .. })
        };
        !self.layers.iter().all(grows)
    }

    /// Whether its attention is latent: tensor parallelism then divides weights, but not the cache.
    pub fn is_latent(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.attention, Attention::Latent { .. }))
    }
}

impl ModelFacts {
    /// The same model with linear layers of that many bits a weight, scales in groups of 128
    /// included: what it would weigh if somebody quantised it.
    pub fn with_bits(&self, bits: u32) -> Self {
        let quantization = match bits {
            8 => Quantization::Fp8 { block: None },
            _ => Quantization::Packed { bits, group: 128 },
        };
        let now = self.quantization.bits_per_weight().unwrap_or_else(|| 8.0 * self.dtype.bytes());
        let ratio = quantization.bits_per_weight().map_or(1.0, |then| then / now).min(1.0);
        let scale = |bytes: u64| super::number::whole(bytes.approximate() * ratio);
        let weights = WeightBytes {
            divided: scale(self.weights.divided),
            key_value: scale(self.weights.key_value),
            experts: scale(self.weights.experts),
            ..self.weights
        };
        Self { quantization, weights, ..self.clone() }
    }
}

impl Attention {
    /// Bytes that one more token takes while no window is full.
    pub fn bytes_per_token(&self, element_bytes: f64) -> f64 {
        match *self {
            Self::Full { kv_heads, pair_width } | Self::Window { kv_heads, pair_width, .. } => {
                f64::from(kv_heads) * f64::from(pair_width) * element_bytes
            }
            Self::Latent { rank, rope, index_bytes } => {
                (f64::from(rank) + f64::from(rope)) * element_bytes + f64::from(index_bytes)
            }
            Self::State { .. } | Self::None => 0.0,
        }
    }

    /// Bytes of a sequence of that many tokens.
    pub fn bytes_per_sequence(&self, tokens: u64, element_bytes: f64) -> f64 {
        match *self {
            Self::State { bytes } => bytes.approximate(),
            Self::Window { tokens: window, .. } => {
                let kept = tokens.min(u64::from(window)).approximate();
                self.bytes_per_token(element_bytes) * kept
            }
            _ => self.bytes_per_token(element_bytes) * tokens.approximate(),
        }
    }
}
