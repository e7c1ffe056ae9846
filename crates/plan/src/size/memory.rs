//! How much memory a model takes in a shape, and how much is left for its cache.
//!
//! All figures are of the rank that has least room: of a pipeline's stages the first has the input
//! embeddings, the last the head and the logits. A prediction has a band; what it is made of is
//! said where the figures are ([`super::runtime`]).

use serde::Serialize;
use thiserror::Error;

use super::cache::Cache;
use super::facts::{Evidence, ModelFacts};
use super::number::{Number as _, whole};
use super::quantization::{Dtype, Quantization};
use super::runtime::{Overhead, Release, Runtime, Share};
use super::shape::Shape;
use crate::hardware::Accelerator;

const GIB: f64 = 1_073_741_824.0;

/// Bytes of an element of activations: they are computed in 16 bits.
const ACTIVATION_BYTES: f64 = 2.0;

/// Widths of the hidden state that a layer holds at once: its input, the residual, a normed copy,
/// its output.
const HIDDEN_KEPT: f64 = 4.0;

/// Widths of the hidden state that are still there when tokens are sampled.
const HIDDEN_SAMPLED: f64 = 2.0;

/// Widths of a feed-forward layer at once: gate, up and their product.
const INNER_KEPT: f64 = 3.0;

/// What images tried at start-up take besides: 0.1 to 0.7 GiB in published lines.
const VISION_GIB: f64 = 0.35;

/// Rows of the table of rotations that are counted: some models name a context that nobody computes
/// them for.
const ROTARY_ROWS_MAX: u64 = 1 << 22;

/// Vocabularies are padded to a multiple of this for each rank.
const VOCABULARY_STEP: u32 = 64;

/// Memory of one accelerator, the one with least room.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// What the shape lets the runtime take.
    pub budget_bytes: u64,
    /// Weights.
    pub weights_bytes: u64,
    /// The largest step.
    pub activation_bytes: u64,
    /// Captured graphs, where they are in the budget.
    pub graph_bytes: u64,
    /// Libraries and buffers of collective operations.
    pub runtime_bytes: u64,
    /// What is left for the cache.
    pub cache_bytes: u64,
    /// What is missing before there is any cache.
    pub missing_bytes: u64,
    /// Bytes of one sequence as long as the context.
    pub sequence_bytes: u64,
    /// Tokens of cache in a replica, as the runtime counts them.
    pub tokens: Band,
    /// Sequences as long as the context for which a replica has room.
    pub sequences: Band,
}

/// A prediction and how far off it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Band {
    /// At least.
    pub low: f64,
    /// Most likely.
    pub likely: f64,
    /// At most.
    pub high: f64,
}

/// Why a model cannot have a shape, whatever memory there is.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ShapeError {
    /// A number that must not be.
    #[error("{what} must be {allowed}")]
    Number {
        /// The field.
        what: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// Ranks do not divide the heads.
    #[error(
        "tensor parallel {tensor} does not divide the model's {heads} attention heads; use one of {divisors}"
    )]
    Heads {
        /// Ranks.
        tensor: u32,
        /// Heads.
        heads: u32,
        /// What does divide them.
        divisors: String,
    },
    /// KV heads are neither divided by the ranks nor repeated evenly.
    #[error(
        "tensor parallel {tensor} neither divides the model's {kv_heads} KV heads nor is a multiple of them; use one of {divisors}"
    )]
    KvHeads {
        /// Ranks.
        tensor: u32,
        /// KV heads.
        kv_heads: u32,
        /// What fits both.
        divisors: String,
    },
    /// Ranks cut through blocks of weights that share a scale.
    #[error(
        "tensor parallel {tensor} cuts {width} wide matrices into parts that are no multiple of the {block} weights which share a scale; use one of {divisors}"
    )]
    Blocks {
        /// Ranks.
        tensor: u32,
        /// The width that is divided.
        width: u32,
        /// Weights that share a scale.
        block: u32,
        /// What does divide it.
        divisors: String,
    },
    /// More stages than layers.
    #[error("pipeline parallel {pipeline} is more than the model's {layers} layers")]
    Layers {
        /// Stages.
        pipeline: u32,
        /// Layers.
        layers: usize,
    },
    /// Experts are divided, but there are none, or not so many.
    #[error(
        "expert parallel needs a mixture with at least {ranks} experts; this model has {experts}"
    )]
    Experts {
        /// Ranks.
        ranks: u32,
        /// Experts.
        experts: u32,
    },
    /// Longer than what the model was made for.
    #[error("a context of {context} tokens is longer than the {max} that the model was made for")]
    Context {
        /// Tokens asked for.
        context: u64,
        /// Tokens that it can.
        max: u64,
    },
}

/// Whether the model can have the shape at all, whatever memory there is.
///
/// # Errors
/// [`ShapeError`].
pub fn possible(facts: &ModelFacts, shape: &Shape) -> Result<(), ShapeError> {
    check(facts, shape)
}

/// Memory of the model in that shape.
///
/// # Errors
/// [`ShapeError`] for a shape that the model cannot have.
pub fn memory(
    facts: &ModelFacts,
    shape: &Shape,
    accelerator: &Accelerator,
    runtime: Runtime,
) -> Result<Memory, ShapeError> {
    check(facts, shape)?;
    let overhead = runtime.overhead(accelerator);
    let stages = Stage::all(shape);
    let cache = Cache::new(facts, shape);
    let least = stages.iter().map(|stage| stage.room(facts, shape, accelerator, runtime));
    let room = least.min_by(|one, other| one.left().total_cmp(&other.left()));
    let room = room.unwrap_or_default();
    let off = room.uncertainty(facts, &overhead);
    let sequence = cache.sequence_bytes(shape.context);
    let data = f64::from(shape.data.max(1));
    let tokens = |bytes: f64| cache.tokens(bytes, shape, runtime) * data;
    let sequences = |bytes: f64| cache.sequences(bytes, shape.context) * data;
    let band = |of: &dyn Fn(f64) -> f64| Band {
        low: of((room.left() - off).max(0.0)),
        likely: of(room.left().max(0.0)),
        high: of((room.left() + off).max(0.0)),
    };
    Ok(Memory {
        budget_bytes: whole(room.budget),
        weights_bytes: whole(room.weights),
        activation_bytes: whole(room.activation),
        graph_bytes: whole(room.graphs),
        runtime_bytes: whole(room.libraries),
        cache_bytes: whole(room.left()),
        missing_bytes: whole(-room.left()),
        sequence_bytes: whole(sequence),
        tokens: band(&tokens),
        sequences: band(&sequences),
    })
}

impl Memory {
    /// Whether there is room for one sequence as long as the context: without it no runtime starts.
    pub fn fits(&self) -> bool {
        self.missing_bytes == 0 && self.sequences.likely >= 1.0
    }

    /// Bytes that one accelerator lacks for one sequence; 0 where it fits.
    pub fn short_bytes(&self) -> u64 {
        let needs = self.sequence_bytes.saturating_add(self.missing_bytes);
        needs.saturating_sub(self.cache_bytes)
    }
}

/// What one stage of a pipeline has.
#[derive(Clone, Copy, Debug)]
struct Stage {
    first: bool,
    last: bool,
}

/// Where the memory of one rank goes.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    budget: f64,
    weights: f64,
    activation: f64,
    graphs: f64,
    libraries: f64,
    /// What the cache may have of what is left.
    share: f64,
}

impl Stage {
    /// The stages that may have least room: both ends, of which one between has less than either.
    fn all(shape: &Shape) -> Vec<Self> {
        match shape.pipeline {
            0 | 1 => vec![Self { first: true, last: true }],
            _ => vec![Self { first: true, last: false }, Self { first: false, last: true }],
        }
    }

    fn room(
        self,
        facts: &ModelFacts,
        shape: &Shape,
        accelerator: &Accelerator,
        runtime: Runtime,
    ) -> Room {
        let overhead = runtime.overhead(accelerator);
        let total = accelerator.memory_bytes.approximate();
        let several = shape.accelerators_per_replica() > 1;
        let collectives = if several && shape.tensor > 1 { overhead.collectives_gib } else { 0.0 };
        let graphs = if shape.graphs { overhead.graph_mib_a_layer * GIB / 1024.0 } else { 0.0 };
        let layers = layers_of_stage(facts, shape);
        let mut room = Room {
            budget: total * shape.utilisation,
            weights: self.weights(facts, shape, runtime) + rotary_bytes(facts),
            activation: self.activation(facts, shape, &overhead),
            graphs: graphs * layers,
            libraries: (overhead.libraries_gib + collectives) * GIB,
            share: 1.0,
        };
        match overhead.share {
            Share::Whole => {}
            Share::WholeWithoutSteps => (room.activation, room.graphs) = (0.0, 0.0),
            Share::Free => (room.budget, room.share) = (total, shape.utilisation),
        }
        room
    }

    /// Bytes of weights on one rank.
    fn weights(self, facts: &ModelFacts, shape: &Shape, runtime: Runtime) -> f64 {
        let weights = &facts.weights;
        let tensor = f64::from(shape.tensor.max(1));
        let share = layers_of_stage(facts, shape) / (facts.layers.len().max(1) as f64);
        let kv_ranks = f64::from(shape.tensor.clamp(1, facts.kv_heads.max(1)));
        let expert_ranks = match (shape.expert_parallel, facts.experts) {
            (true, Some(experts)) => {
                let ranks = shape.tensor.saturating_mul(shape.data).max(1);
                f64::from(experts.count) / f64::from(experts.count.div_ceil(ranks).max(1))
            }
            _ => tensor,
        };
        let padded = expert_padding(facts, shape, runtime);
        let layers = weights.divided.approximate() / tensor
            + weights.key_value.approximate() / kv_ranks
            + weights.experts.approximate() * padded / expert_ranks
            + weights.replicated.approximate();
        let step = VOCABULARY_STEP.saturating_mul(shape.tensor.max(1));
        let padded = f64::from(facts.vocabulary.div_ceil(step).saturating_mul(step));
        let padding = padded / f64::from(facts.vocabulary.max(1));
        let tied = weights.head == 0;
        let mut ends = 0.0;
        if self.first || tied {
            ends += weights.embeddings.approximate() * padding / tensor;
        }
        if self.last {
            ends += weights.head.approximate() * padding / tensor;
        }
        if self.first {
            ends += weights.encoders.approximate() / tensor;
        }
        layers * share + ends
    }

    /// Bytes of the largest step: of a layer's insides, or of sampling, whichever is more, and the
    /// workspace that kernels for experts keep. Those for MXFP4 need none beyond a layer's.
    fn activation(self, facts: &ModelFacts, shape: &Shape, overhead: &Overhead) -> f64 {
        let tokens = f64::from(shape.batch_tokens);
        let hidden = f64::from(facts.hidden);
        let tensor = f64::from(shape.tensor.max(1));
        let inner = f64::from(facts.intermediate) / tensor;
        let layer = tokens * (HIDDEN_KEPT * hidden + INNER_KEPT * inner) * ACTIVATION_BYTES;
        let rows = overhead.logit_rows.map_or(shape.sequences, |rows| rows.min(shape.batch_tokens));
        let logits = f64::from(rows) * f64::from(facts.vocabulary) * overhead.logit_bytes;
        let kept = tokens * HIDDEN_SAMPLED * hidden * ACTIVATION_BYTES;
        let sampling = if self.last { logits + kept } else { 0.0 };
        let mixture = facts.experts.filter(|_| facts.quantization != Quantization::Mxfp4);
        let experts = mixture.map_or(0.0, |experts| {
            let width = INNER_KEPT * f64::from(experts.intermediate) / tensor + hidden;
            tokens * f64::from(experts.per_token) * width * ACTIVATION_BYTES
        });
        let vision = if facts.modalities.vision && self.first { VISION_GIB * GIB } else { 0.0 };
        layer.max(sampling) + experts + vision
    }
}

impl Room {
    /// What the cache has; less than nothing where the rest does not fit.
    fn left(&self) -> f64 {
        let free = self.budget - self.weights - self.activation - self.graphs - self.libraries;
        if free > 0.0 { free * self.share } else { free }
    }

    /// How far off it may be.
    fn uncertainty(&self, facts: &ModelFacts, overhead: &Overhead) -> f64 {
        let weights = match facts.known_from {
            Evidence::Headers => 0.002,
            Evidence::Index => 0.01,
            Evidence::Config => 0.015,
        };
        weights * self.weights
            + 0.3 * self.activation
            + 0.4 * self.graphs
            + overhead.unsure_gib * GIB
    }
}

/// Layers of the stage with most of them.
fn layers_of_stage(facts: &ModelFacts, shape: &Shape) -> f64 {
    facts.layers.len().div_ceil(shape.pipeline.max(1) as usize) as f64
}

/// By what experts of MXFP4 grow in vLLM: their hidden width is padded to a multiple of 256, and
/// since 0.17 their own to one of 128 (`vllm/model_executor/layers/quantization/mxfp4.py`; what
/// 13.5 and 13.6 GiB of gpt-oss-20b fit).
fn expert_padding(facts: &ModelFacts, shape: &Shape, runtime: Runtime) -> f64 {
    let (Runtime::Vllm(release), Some(experts)) = (runtime, facts.experts) else { return 1.0 };
    if facts.quantization != Quantization::Mxfp4 {
        return 1.0;
    }
    let padded =
        |width: u32, step: u32| f64::from(width.next_multiple_of(step)) / f64::from(width.max(1));
    let tensor = if shape.expert_parallel { 1 } else { shape.tensor.max(1) };
    let own = (experts.intermediate / tensor).max(1);
    let inner = if release >= Release(17) { padded(own, 128) } else { 1.0 };
    padded(facts.hidden.max(1), 256) * inner
}

/// The table of rotations, which runtimes compute for the longest context.
fn rotary_bytes(facts: &ModelFacts) -> f64 {
    let rows = facts.rotary_rows.min(ROTARY_ROWS_MAX).approximate();
    rows * f64::from(facts.head_dim) * ACTIVATION_BYTES
}

/// Whether the model can have the shape at all.
fn check(facts: &ModelFacts, shape: &Shape) -> Result<(), ShapeError> {
    let number = |what, allowed| Err(ShapeError::Number { what, allowed });
    if [shape.tensor, shape.pipeline, shape.data, shape.sequences, shape.batch_tokens].contains(&0)
    {
        return number("each number of a shape", "at least 1");
    }
    if !(shape.utilisation > 0.0 && shape.utilisation <= 1.0) {
        return number("the memory utilisation", "above 0 and at most 1");
    }
    if shape.context == 0 {
        return number("the context", "at least 1 token");
    }
    if !facts.heads.is_multiple_of(shape.tensor) {
        let (tensor, heads) = (shape.tensor, facts.heads);
        return Err(ShapeError::Heads { tensor, heads, divisors: divisors(facts) });
    }
    if !divides_kv(facts.kv_heads, shape.tensor) {
        let (tensor, kv_heads) = (shape.tensor, facts.kv_heads);
        return Err(ShapeError::KvHeads { tensor, kv_heads, divisors: divisors(facts) });
    }
    if let Some((width, block)) = cut_block(facts, shape.tensor)
        && !shape.expert_parallel
    {
        let tensor = shape.tensor;
        return Err(ShapeError::Blocks { tensor, width, block, divisors: divisors(facts) });
    }
    if shape.pipeline as usize > facts.layers.len() {
        let (pipeline, layers) = (shape.pipeline, facts.layers.len());
        return Err(ShapeError::Layers { pipeline, layers });
    }
    let ranks = shape.tensor.saturating_mul(shape.data);
    let experts = facts.experts.map_or(0, |experts| experts.count);
    if shape.expert_parallel && experts < ranks {
        return Err(ShapeError::Experts { ranks, experts });
    }
    match facts.context_max {
        Some(max) if shape.context > max => {
            Err(ShapeError::Context { context: shape.context, max })
        }
        _ => Ok(()),
    }
}

fn divides_kv(kv_heads: u32, tensor: u32) -> bool {
    kv_heads <= 1 || kv_heads.is_multiple_of(tensor) || tensor.is_multiple_of(kv_heads)
}

/// The width of feed-forward matrices whose parts would not be whole blocks of weights, and the block. vLLM and
/// SGLang refuse such a shape as they load (`validate_fp8_block_shape` and `Fp8MoEMethod.create_weights`).
fn cut_block(facts: &ModelFacts, tensor: u32) -> Option<(u32, u32)> {
    let Quantization::Fp8 { block: Some(block) } = facts.quantization else { return None };
    let width = facts.experts.map_or(facts.intermediate, |experts| experts.intermediate);
    let cuts = tensor > 1 && !width.is_multiple_of(tensor.saturating_mul(block.max(1)));
    cuts.then_some((width, block))
}

/// Whether ranks have to have experts whole, as parts of them would be no whole blocks.
pub fn has_whole_experts(facts: &ModelFacts, tensor: u32) -> bool {
    let enough = facts.experts.is_some_and(|experts| experts.count >= tensor);
    enough && cut_block(facts, tensor).is_some()
}

/// The tensor parallel sizes that a model can have, up to 64; with some its experts are whole.
pub fn tensor_sizes(facts: &ModelFacts) -> Vec<u32> {
    let whole = |size| cut_block(facts, size).is_none() || has_whole_experts(facts, size);
    let fits = |size: &u32| {
        facts.heads.is_multiple_of(*size) && divides_kv(facts.kv_heads, *size) && whole(*size)
    };
    (1..=64).filter(fits).collect()
}

fn divisors(facts: &ModelFacts) -> String {
    let sizes: Vec<String> = tensor_sizes(facts).iter().map(u32::to_string).collect();
    sizes.join(", ")
}

/// What would make a model fit that does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// A context of at most so many tokens.
    Context(u64),
    /// A cache of 8-bit numbers.
    Fp8Cache,
    /// Weights of that many bits.
    Weights {
        /// Bits a weight.
        bits: u32,
    },
    /// More ranks.
    Tensor(u32),
    /// More stages, on nodes of their own.
    Pipeline(u32),
    /// Other hardware, by id: the smallest that has room with as many accelerators to a node, and is no slower.
    Hardware(&'static str),
}

/// What would make the model fit, each alone. Empty where nothing does, and where it fits as it is.
pub fn remedies(
    facts: &ModelFacts,
    shape: &Shape,
    accelerator: &Accelerator,
    runtime: Runtime,
) -> Vec<Remedy> {
    let fits = |facts: &ModelFacts, shape: &Shape, on: &Accelerator| {
        memory(facts, shape, on, runtime).is_ok_and(|memory| memory.fits())
    };
    if fits(facts, shape, accelerator) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let context = longest_context(facts, shape, accelerator, runtime);
    found.extend(context.filter(|context| *context >= 1024).map(Remedy::Context));
    if shape.kv_dtype.bytes() > 1.0 && accelerator.computes(Dtype::Fp8) {
        let eight = Shape { kv_dtype: Dtype::Fp8, ..*shape };
        found.extend(fits(facts, &eight, accelerator).then_some(Remedy::Fp8Cache));
    }
    for bits in [8, 4] {
        let smaller = facts.with_bits(bits);
        if smaller.weights.total() < facts.weights.total() && fits(&smaller, shape, accelerator) {
            found.push(Remedy::Weights { bits });
            break;
        }
    }
    let wider = tensor_sizes(facts)
        .into_iter()
        .filter(|size| *size > shape.tensor && *size <= accelerator.per_node);
    let mut wider = wider.map(|tensor| Shape { tensor, ..*shape });
    found.extend(
        wider
            .find(|wider| fits(facts, wider, accelerator))
            .map(|wider| Remedy::Tensor(wider.tensor)),
    );
    let longer = (shape.pipeline + 1..=16).map(|pipeline| Shape { pipeline, ..*shape });
    let mut longer = longer.filter(|_| !accelerator.is_processor());
    found.extend(
        longer.find(|shape| fits(facts, shape, accelerator)).map(|s| Remedy::Pipeline(s.pipeline)),
    );
    let native = match facts.quantization.computes_in(facts.dtype) {
        Dtype::Fp8 | Dtype::Fp4 if !accelerator.computes(Dtype::Fp8) => facts.dtype,
        native => native,
    };
    let mut others: Vec<&'static Accelerator> = crate::hardware::catalogue()
        .filter(|other| {
            other.vendor == accelerator.vendor
                && other.memory_bytes > accelerator.memory_bytes
                && other.bandwidth >= accelerator.bandwidth
                && other.per_node >= shape.tensor.saturating_mul(shape.data)
                && (other.computes(native) || !accelerator.computes(native))
        })
        .filter(|other| fits(facts, shape, other))
        .collect();
    others.sort_by_key(|other| other.memory_bytes);
    found.extend(others.first().map(|other| Remedy::Hardware(other.id)));
    found
}

/// The longest context with which the model fits in the shape, up to the shape's own; `None` where
/// none does.
pub fn longest_context(
    facts: &ModelFacts,
    shape: &Shape,
    accelerator: &Accelerator,
    runtime: Runtime,
) -> Option<u64> {
    let fits = |context: u64| {
        let shape = Shape { context, ..*shape };
        memory(facts, &shape, accelerator, runtime).is_ok_and(|memory| memory.fits())
    };
    let most = facts.context_max.unwrap_or(shape.context).min(shape.context);
    if !fits(1) {
        return None;
    }
    let (mut low, mut high) = (1, most.saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    // What a person would type: a multiple of 1024, where that is not nothing.
    Some(if low >= 1024 { low / 1024 * 1024 } else { low })
}
