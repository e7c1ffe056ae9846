//! What an engine's steps cost: a handful of constants, from measurements of real ones.

use pilotage_core::{Span, Stop};
use pilotage_plan::size::Pace;
use serde::Serialize;

const NANOS_PER_MS: f64 = 1e6;

/// What the paper's engine takes for each phase besides computing (Python, and copies between its
/// processes). Not in the cost profile: of 3, 4 and 5 the one with which the two runs of the suite
/// `overload` together come nearest to their measured throughput. What else was chosen is in `docs/simulation.md`.
const OVERHEAD_MS: f64 = 4.0;

/// The constants of one engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineModel {
    /// What it is called in reports.
    pub name: String,
    /// Milliseconds of computing the prompts of a batch, whatever is in it.
    pub prefill_ms: f64,
    /// Milliseconds more for each token of them.
    pub prefill_ms_per_token: f64,
    /// Milliseconds more for each pair of such a token and one before it, which it attends to.
    pub prefill_ms_per_pair: f64,
    /// Milliseconds of a decode step, whatever is in it.
    pub step_ms: f64,
    /// Milliseconds more for each sequence in it.
    pub step_ms_per_sequence: f64,
    /// Milliseconds more for each token that those hold in the KV cache.
    pub step_ms_per_kv_token: f64,
    /// Tokens that the KV cache holds.
    pub kv_tokens: u64,
    /// Sequences in a batch.
    pub sequences_max: u32,
    /// Prompt tokens computed in one go.
    pub prefill_tokens_max: u64,
    /// Tokens of one step, where prompts are computed in pieces beside others' decode steps, as vLLM
    /// does; none for an engine that works in phases.
    pub step_tokens_max: Option<u32>,
    /// Stages that divide the layers: as many parts of a step are under way at once, one in each.
    #[serde(skip_serializing_if = "is_one")]
    pub stages: u32,
    /// Decode steps after which new requests are let into the batch. With one, after each step.
    pub formation_steps: u32,
    /// Sequences that it can pause by itself.
    pub pauses_max: u32,
    /// Blocks that its prefix cache keeps; none is no cache.
    pub cache_blocks: Option<u32>,
    /// What may be done to a request that runs.
    pub stop: Stop,
    /// What few engines do.
    #[serde(skip_serializing_if = "Extras::is_none")]
    pub extras: Extras,
}

/// What engines that share their steps may do besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Extras {
    /// Tokens drafted for each step of an answer.
    pub drafts: u32,
    /// The part of the drafted tokens that is right, as long as those before them are.
    pub draft_accept: f64,
    /// Adapters in one batch; with none, requests have no adapters.
    pub adapters_max: u32,
    /// Milliseconds to load one.
    pub adapter_ms: f64,
}

impl Extras {
    /// What a drafted token adds to a step, as a part of it: a small model runs once, and the large one looks at a
    /// token more.
    const DRAFT_COST: f64 = 0.12;

    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How many times longer a decode step takes.
    pub(super) fn step_factor(self) -> f64 {
        1.0 + Self::DRAFT_COST * f64::from(self.drafts)
    }
}

impl EngineModel {
    /// Names of the engines there are constants for.
    pub const PRESETS: [&'static str; 3] = ["a10g-llama2-7b", "a100-llama2-13b", "vllm-like"];

    /// The engine of that name.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "a10g-llama2-7b" => Some(Self::a10g_llama2_7b()),
            "a100-llama2-13b" => Some(Self::a100_llama2_13b()),
            "vllm-like" => Some(Self::vllm_like()),
            _ => None,
        }
    }

    /// Takes its times from what was measured of a server with that model.
    pub(crate) fn take_pace(&mut self, name: &str, pace: &Pace) {
        self.name = format!("calibrated {name}");
        self.prefill_ms = pace.prefill_seconds * 1e3;
        self.prefill_ms_per_token = pace.token_seconds * 1e3;
        self.prefill_ms_per_pair = pace.pair_seconds * 1e3;
        self.step_ms = pace.step_seconds * 1e3;
        self.step_ms_per_sequence = pace.sequence_seconds * 1e3;
        self.step_ms_per_kv_token = pace.context_seconds * 1e3;
    }

    /// Llama 2 7B on an A10G under S-LoRA, as the VTC paper ran it. The slopes are a fit to the cost
    /// profile in its artifact.
    fn a10g_llama2_7b() -> Self {
        let kv_tokens = 10_000;
        Self {
            name: "a10g-llama2-7b".to_owned(),
            prefill_ms: OVERHEAD_MS,
            prefill_ms_per_token: 0.2146,
            prefill_ms_per_pair: 0.0,
            step_ms: 16.3 + OVERHEAD_MS,
            step_ms_per_sequence: 0.245,
            step_ms_per_kv_token: 0.002_018,
            kv_tokens,
            sequences_max: 1000,
            prefill_tokens_max: prefill_max(kv_tokens),
            step_tokens_max: None,
            stages: 1,
            formation_steps: 10,
            pauses_max: 0,
            cache_blocks: None,
            stop: Stop::Never,
            extras: Extras::default(),
        }
    }

    /// Llama 2 13B on an A100 with 80 GB. Rough: a line through the two times per token that the
    /// paper's runs have, and a guess for prompts.
    fn a100_llama2_13b() -> Self {
        let kv_tokens = 35_000;
        Self {
            name: "a100-llama2-13b".to_owned(),
            prefill_ms_per_token: 0.12,
            step_ms: 11.2,
            step_ms_per_sequence: 0.0,
            step_ms_per_kv_token: 0.001_037,
            kv_tokens,
            prefill_tokens_max: prefill_max(kv_tokens),
            ..Self::a10g_llama2_7b()
        }
    }

    /// A small engine that does what vLLM does, with round numbers: what routers are compared on.
    fn vllm_like() -> Self {
        Self {
            name: "vllm-like".to_owned(),
            prefill_ms: 0.0,
            prefill_ms_per_token: 0.2,
            step_ms: 15.0,
            step_ms_per_sequence: 0.0,
            step_ms_per_kv_token: 0.0,
            kv_tokens: 65_536,
            sequences_max: 8,
            prefill_tokens_max: u64::MAX,
            step_tokens_max: Some(512),
            formation_steps: 1,
            ..Self::a10g_llama2_7b()
        }
    }

    /// How long the prompts of a batch take, with so many tokens and [`pairs`] of them.
    pub(super) fn prefill(&self, tokens: u64, pairs: f64) -> Span {
        let attention = self.prefill_ms_per_pair * pairs;
        span(self.prefill_ms + self.prefill_ms_per_token * tokens as f64 + attention)
    }

    /// How long a step's prompts take that come in so many pieces: they follow each other through the stages, of
    /// which the first and the last wait while those fill and drain. With one piece it takes as long as all
    /// stages in turn, with many the part of one stage (GPipe's bubble, arxiv.org/abs/1811.06965, section 2.3).
    pub(super) fn prefill_pieces(&self, (tokens, pairs): (u64, f64), pieces: usize) -> Span {
        let (stages, pieces) = (f64::from(self.stages.max(1)), pieces.max(1) as f64);
        let passing = (pieces + stages - 1.0) / (pieces * stages);
        let computing =
            self.prefill_ms_per_token * tokens as f64 + self.prefill_ms_per_pair * pairs;
        span(self.prefill_ms + computing * passing)
    }

    /// How long a decode step takes.
    pub(super) fn step(&self, sequences: usize, kv_tokens: u64) -> Span {
        let sequences = self.step_ms_per_sequence * sequences as f64;
        span(self.step_ms + sequences + self.step_ms_per_kv_token * kv_tokens as f64)
    }
}

/// Pairs of a token that is computed and one before it, of so many after others that are there already.
pub(super) fn pairs(before: u32, tokens: u32) -> f64 {
    f64::from(tokens) * (f64::from(before) + f64::from(tokens) / 2.0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields out by reference")]
fn is_one(stages: &u32) -> bool {
    *stages == 1
}

/// LightLLM's bound on the prompt tokens of one batch.
pub(crate) fn prefill_max(kv_tokens: u64) -> u64 {
    (kv_tokens / 6).max(3072)
}

fn span(ms: f64) -> Span {
    Span::from_nanos((ms * NANOS_PER_MS).round() as u64)
}
