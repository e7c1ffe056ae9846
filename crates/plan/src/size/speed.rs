//! How fast a model is in a shape: a roofline of arithmetic, memory and links, times efficiencies
//! that a calibration replaces by measured ones.
//!
//! ```text
//! ModelFacts, Shape, Accelerator ──decode, prefill──▶ Work ──Calibration──▶ seconds ──speed(Load)──▶ TTFT, TPOT
//! ```
//!
//! [`Work`] is what hardware would need at its full rates, and never more than is surely needed:
//! only what is left between it and a measurement is fitted.

use serde::Serialize;

use super::cache::Cache;
use super::calibration::Calibration;
use super::facts::{Attention, ModelFacts};
use super::memory::{Band, ShapeError, memory};
use super::number::Number as _;
use super::runtime::Runtime;
use super::shape::Shape;
use crate::hardware::Accelerator;

/// Bytes of an element of the hidden state that ranks send each other.
const HIDDEN_BYTES: f64 = 2.0;

/// What choosing, sorting and gathering take in a layer of experts, as a share of what a step takes besides: 70 of
/// 1000 microseconds. With one request and weights of 8 bits Qwen3.5-35B-A3B has 5.8 ms between tokens on an H100
/// (luminal.com/report/qwen-qwen3-5-35b-a3b-fp8-1xh100), where reading takes 1.3, and Qwen3-Coder-Next 4.7 ms on an
/// H200 (millstoneai.com/inference-benchmark/qwen3-coder-next-fp8-1x-h200-sxm), where it takes 0.8.
const EXPERT_LAYER_STEPS: f64 = 0.07;

/// Times that ranks add up their parts in a layer: after attention and after the feed-forward part.
const REDUCES_A_LAYER: f64 = 2.0;

/// Seconds of work at full rates, by what does it. Arithmetic and memory work at the same time, the
/// rest in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Arithmetic, but for attention.
    pub compute_seconds: f64,
    /// Arithmetic of attention, which comes before or after the other and reaches another share of the rate.
    pub attention_seconds: f64,
    /// Reading weights and cache.
    pub memory_seconds: f64,
    /// Sending between ranks.
    pub link_seconds: f64,
    /// Steps, each with what a runtime spends on it besides; more of them for layers of experts.
    pub steps: f64,
    /// Sequences in all steps, each with what sampling and keeping books on it takes.
    pub sequences: f64,
}

/// What requests are like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Tokens of a prompt.
    pub prompt: u64,
    /// Tokens of an answer.
    pub answer: u64,
    /// Requests at once in one replica.
    pub concurrency: u32,
}

/// How fast a replica serves a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Requests that run at once: fewer than there are, where memory or the shape allow no more.
    pub running: f64,
    /// Seconds to the first token (TTFT), waiting for room included.
    pub ttft_seconds: Band,
    /// Seconds for each further token (TPOT).
    pub tpot_seconds: Band,
    /// Tokens of answers a second, of all requests together.
    pub tokens_per_second: Band,
    /// Requests a second.
    pub requests_per_second: Band,
}

/// A model on hardware in a shape: all that speed depends on.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The model.
    pub facts: &'a ModelFacts,
    /// Its shape.
    pub shape: &'a Shape,
    /// What it runs on.
    pub accelerator: &'a Accelerator,
    /// What runs it.
    pub runtime: Runtime,
}

impl Setting<'_> {
    /// Work of one step that gives each of `batch` sequences with `context` tokens one more.
    ///
    /// Stages of a pipeline have as many parts of the batch in turn; a token has to pass all of
    /// them.
    pub fn decode(&self, batch: f64, context: u64) -> Work {
        let stages = f64::from(self.shape.pipeline.max(1));
        let part = (batch / stages).max(1.0).min(batch.max(1.0));
        let weights = self.weight_bytes(part) / self.accelerator.bandwidth;
        let cache = Cache::reading(self.facts, self.shape).sequence_bytes(context) * part;
        Work {
            compute_seconds: self.arithmetic(part),
            attention_seconds: self.attention(part * self.attended(context, 1)),
            memory_seconds: weights * stages + cache * stages / self.accelerator.bandwidth,
            link_seconds: self.link_seconds(part),
            steps: self.step_share(),
            sequences: batch,
        }
    }

    /// Work of reading a prompt of that many tokens, alone.
    pub fn prefill(&self, tokens: u64) -> Work {
        let chunk = u64::from(self.shape.batch_tokens.max(1));
        let chunks = tokens.div_ceil(chunk).max(1).approximate();
        let stages = f64::from(self.shape.pipeline.max(1));
        // Chunks follow each other through the stages.
        let bubble = (chunks + stages - 1.0) / (chunks * stages);
        let tokens_each = tokens.approximate() / chunks;
        let attention = self.attention(self.attended(tokens, tokens));
        let read = self.weight_bytes(tokens_each) * chunks * stages / self.accelerator.bandwidth;
        Work {
            compute_seconds: self.arithmetic(tokens.approximate()) * bubble,
            attention_seconds: attention * bubble,
            memory_seconds: read * bubble,
            link_seconds: self.link_seconds(tokens_each) * chunks * bubble,
            steps: chunks * self.step_share(),
            sequences: chunks,
        }
    }

    /// How fast one replica serves the load.
    ///
    /// Requests follow each other without pause: a request's prompt takes the replica to itself,
    /// its answer shares steps with all that run.
    ///
    /// # Errors
    /// [`ShapeError`] for a shape that the model cannot have.
    pub fn speed(&self, calibration: &Calibration, load: &Load) -> Result<Speed, ShapeError> {
        let context = load.prompt + load.answer;
        let at_length = Shape { context: context.min(self.shape.context).max(1), ..*self.shape };
        let room = memory(self.facts, &at_length, self.accelerator, self.runtime)?;
        let most = f64::from(self.shape.sequences.saturating_mul(self.shape.data));
        let asked = f64::from(load.concurrency.max(1));
        let running = asked.min(most).min(room.sequences.likely.floor().max(1.0));
        let data = f64::from(self.shape.data.max(1));
        let step = calibration.seconds(&self.decode(running / data, load.prompt + load.answer / 2));
        let prompt = calibration.seconds(&self.prefill(load.prompt)) / data;
        let answer = load.answer.max(1).approximate();
        let request = prompt + answer * step / running;
        let busy = prompt / request;
        let waits = (asked - running) * request;
        // A prompt waits for the step that runs, and for half of another prompt where one is read.
        let first = waits + step + prompt * data * (1.0 + busy / 2.0);
        let next = step + prompt * (running - 1.0).max(0.0) / answer;
        Ok(Speed {
            running,
            ttft_seconds: calibration.band(first),
            tpot_seconds: calibration.band(next),
            tokens_per_second: calibration.band(answer / request),
            requests_per_second: calibration.band(1.0 / request),
        })
    }

    /// What a step costs besides its work, a step of a model without experts being 1.
    fn step_share(&self) -> f64 {
        let layers = self.facts.layers.iter().filter(|layer| layer.experts).count();
        1.0 + EXPERT_LAYER_STEPS * layers as f64
    }

    /// Bytes of weights that a rank of one stage reads for so many tokens.
    fn weight_bytes(&self, tokens: f64) -> f64 {
        let weights = &self.facts.weights;
        let tensor = f64::from(self.shape.tensor.max(1));
        let kv_ranks = f64::from(self.shape.tensor.clamp(1, self.facts.kv_heads.max(1)));
        // Tied embeddings are the head; others are looked up.
        let head = if weights.head > 0 { weights.head } else { weights.embeddings };
        let shared = weights.divided.approximate() / tensor
            + weights.key_value.approximate() / kv_ranks
            + weights.replicated.approximate()
            + head.approximate() / tensor;
        let ranks = if self.shape.expert_parallel {
            tensor * f64::from(self.shape.data.max(1))
        } else {
            tensor
        };
        let touched = self.touched(tokens * f64::from(self.shape.data.max(1)));
        let experts = weights.experts.approximate() * touched / ranks;
        (shared + experts) / f64::from(self.shape.pipeline.max(1))
    }

    /// The share of a layer's experts that so many tokens are sent to, if each chooses at random.
    fn touched(&self, tokens: f64) -> f64 {
        self.facts.experts.map_or(0.0, |experts| {
            let share = f64::from(experts.per_token) / f64::from(experts.count.max(1));
            1.0 - (1.0 - share).powf(tokens)
        })
    }

    /// Seconds of arithmetic for so many tokens, without attention. Ranks share it.
    fn arithmetic(&self, tokens: f64) -> f64 {
        let facts = self.facts;
        let embedding = if facts.weights.head > 0 { facts.weights.embeddings } else { 0 };
        let looked_up = embedding.approximate() / facts.dtype.bytes();
        let multiplied = (facts.active_parameters.approximate() - looked_up).max(0.0);
        let ranks = f64::from(self.shape.tensor.max(1));
        let linear = self.accelerator.flops_in(facts.quantization.computes_in(facts.dtype));
        2.0 * multiplied * tokens / linear / ranks
    }

    /// Seconds of so many operations of attention. Ranks share them.
    fn attention(&self, operations: f64) -> f64 {
        let ranks = f64::from(self.shape.tensor.max(1));
        operations / self.accelerator.flops_in(self.facts.dtype) / ranks
    }

    /// Operations of attention for the last `new` of `all` tokens of one sequence.
    fn attended(&self, all: u64, new: u64) -> f64 {
        let (all, new) = (all.approximate(), new.approximate());
        let pairs = |window: f64| {
            // Each of the new ones sees those before it, on average all but half of the new ones.
            new * (all - new / 2.0).max(0.5).min(window)
        };
        let heads = f64::from(self.facts.heads);
        let operations = |attention: &Attention| match *attention {
            Attention::Full { pair_width, .. } => {
                2.0 * heads * f64::from(pair_width) * pairs(f64::MAX)
            }
            Attention::Window { pair_width, tokens, .. } => {
                2.0 * heads * f64::from(pair_width) * pairs(f64::from(tokens))
            }
            Attention::Latent { rank, rope, .. } => {
                2.0 * heads * (2.0 * f64::from(rank) + f64::from(rope)) * pairs(f64::MAX)
            }
            Attention::State { bytes } => 2.0 * bytes.approximate() * new,
            Attention::None => 0.0,
        };
        self.facts.layers.iter().map(|layer| operations(&layer.attention)).sum()
    }

    /// Seconds that ranks send each other the hidden states of so many tokens, over all layers.
    fn link_seconds(&self, tokens: f64) -> f64 {
        let bytes = tokens * f64::from(self.facts.hidden) * HIDDEN_BYTES;
        let ranks = f64::from(self.shape.tensor.saturating_mul(self.shape.data).max(1));
        let layers = self.facts.layers.len() as f64;
        let inside = ranks <= f64::from(self.accelerator.per_node);
        let link = if inside { &self.accelerator.link } else { &self.accelerator.node_link };
        let mut seconds = 0.0;
        if ranks > 1.0 {
            let each = 2.0 * (ranks - 1.0) / ranks * bytes / link.bandwidth + link.latency_seconds;
            seconds += REDUCES_A_LAYER * layers * each;
        }
        let hops = f64::from(self.shape.pipeline.saturating_sub(1));
        let all = ranks * f64::from(self.shape.pipeline);
        let link = if all <= f64::from(self.accelerator.per_node) {
            link
        } else {
            &self.accelerator.node_link
        };
        seconds + hops * (bytes / link.bandwidth + link.latency_seconds)
    }
}
