//! The KV cache on one rank: what a token and what a sequence take, after division by tensor and
//! pipeline parallelism.

use super::facts::{Attention, Layer, ModelFacts};
use super::number::Number as _;
use super::runtime::{Release, Runtime};
use super::shape::Shape;

/// What of a model's cache one rank of one stage has.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    layers: Vec<Attention>,
    element_bytes: f64,
    /// Tokens of a step, which a window has to hold besides its own.
    batch_tokens: u64,
}

impl Cache {
    /// The stage with most of it.
    pub(super) fn new(facts: &ModelFacts, shape: &Shape) -> Self {
        let stage = facts.layers.len().div_ceil(shape.pipeline.max(1) as usize);
        let tensor = shape.tensor.max(1);
        let own = |layer: &Layer| on_rank(layer.attention, tensor);
        Self {
            layers: facts.layers.iter().take(stage).map(own).collect(),
            element_bytes: shape.kv_dtype.bytes(),
            batch_tokens: u64::from(shape.batch_tokens),
        }
    }

    /// The same, for what a step reads: of a window no more than it is long.
    pub(super) fn reading(facts: &ModelFacts, shape: &Shape) -> Self {
        Self { batch_tokens: 0, ..Self::new(facts, shape) }
    }

    /// Bytes of a sequence of that many tokens. A window is kept whole, and with it what a step may
    /// add.
    pub(super) fn sequence_bytes(&self, tokens: u64) -> f64 {
        let bytes = |attention: &Attention| match *attention {
            Attention::Window { kv_heads, pair_width, tokens: window } => {
                let tokens_max = u64::from(window).saturating_add(self.batch_tokens);
                let full = Attention::Full { kv_heads, pair_width };
                full.bytes_per_sequence(tokens.min(tokens_max), self.element_bytes)
            }
            other => other.bytes_per_sequence(tokens, self.element_bytes),
        };
        self.layers.iter().map(bytes).sum()
    }

    /// Sequences of that length for which there is room.
    pub(super) fn sequences(&self, bytes: f64, tokens: u64) -> f64 {
        let each = self.sequence_bytes(tokens);
        if each > 0.0 { (bytes / each).max(0.0) } else { f64::INFINITY }
    }

    /// Tokens for which there is room, as the runtime counts them.
    ///
    /// Up to 0.19 vLLM counted a model with windows by groups of layers that share a block: as if
    /// windows were as long as the context (`vllm/v1/core/kv_cache_utils.py`).
    pub(super) fn tokens(&self, bytes: f64, shape: &Shape, runtime: Runtime) -> f64 {
        let counted = match runtime {
            Runtime::Vllm(release) if release < Release(20) => self.grouped_token_bytes(),
            _ => None,
        };
        match counted {
            Some(each) => (bytes / each).max(0.0),
            None => self.sequences(bytes, shape.context) * shape.context.approximate(),
        }
    }

    /// Bytes of a token where layers with and without windows are in groups of one size.
    fn grouped_token_bytes(&self) -> Option<f64> {
        let windowed = |attention: &&Attention| matches!(attention, Attention::Window { .. });
        let windows = self.layers.iter().filter(windowed).count();
        let full = self.layers.len() - windows;
        if windows == 0 || full == 0 {
            return None;
        }
        let size = windows.min(full);
        let groups = windows.div_ceil(size) + full.div_ceil(size);
        let page = self.layers.iter().map(|layer| layer.bytes_per_token(self.element_bytes));
        Some((groups * size) as f64 * page.fold(0.0, f64::max))
    }
}

/// What a rank has of a layer's cache: its share of the heads, at least one. A latent is whole on
/// each.
fn on_rank(attention: Attention, tensor: u32) -> Attention {
    match attention {
        Attention::Full { kv_heads, pair_width } => {
            Attention::Full { kv_heads: kv_heads.div_ceil(tensor), pair_width }
        }
        Attention::Window { kv_heads, pair_width, tokens } => {
            Attention::Window { kv_heads: kv_heads.div_ceil(tensor), pair_width, tokens }
        }
        Attention::State { bytes } => Attention::State { bytes: bytes.div_ceil(u64::from(tensor)) },
        whole @ (Attention::Latent { .. } | Attention::None) => whole,
    }
}
