//! An engine's limits, each with its default and its reason.

use std::path::PathBuf;

use pilotage_core::{FairConfig, QueueLimits};
use thiserror::Error;

use crate::batch::BatchConfig;

/// What an engine runs and how much of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EngineConfig {
    /// The weights, a GGUF file.
    pub model: PathBuf,
    /// The name clients use.
    pub served_name: String,
    /// Sequences computed at once; each has a KV stream.
    pub slots: u32,
    /// Tokens of each sequence, prompt and answer together.
    pub context: u32,
    /// Threads to compute with.
    pub threads: u32,
    /// Tokens of one step: larger computes prompts faster, smaller keeps running answers smoother.
    pub step_tokens: u32,
    /// Sequences that may wait.
    pub queue_max: u32,
    /// Memory for sequences swapped out, in bytes.
    pub swap_bytes_max: u64,
    /// Layers on the GPU; none means all in a CUDA build and none in another.
    pub gpu_layers: Option<u32>,
}

/// Sequences at once when nothing is said.
pub const SLOTS: u32 = 8;

/// Most sequences at once: `LLAMA_MAX_SEQ`.
pub const SLOTS_MAX: u32 = 256;

/// Context when nothing is said.
pub const CONTEXT: u32 = 2048;

/// Tokens of one step when nothing is said.
pub const STEP_TOKENS: u32 = 512;

/// Sequences that may wait when nothing is said.
pub const QUEUE_MAX: u32 = 64;

/// Memory for sequences swapped out when nothing is said.
pub const SWAP_BYTES_MAX: u64 = 1 << 30;

/// Tokens that a sequence generates before it can be swapped out. Moving one costs a few
/// milliseconds, about one step.
const SWAP_AFTER_TOKENS: u32 = 8;

/// How often one sequence can be swapped out: once more than the gateway's own limit, so that what
/// it decided is done.
const SWAPS_MAX: u32 = 4;

/// Tenants of the batch that differ by no more are equal, in thousandths of a weighted token: about
/// one step of prompts, in which a shared prefix saves more than strict order is worth.
const QUANTUM: u64 = 512_000;

/// A setting that cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{name} is {value}, it must be {from} to {to}")]
pub struct BadSetting {
    name: &'static str,
    value: u32,
    from: u32,
    to: u32,
}

impl EngineConfig {
    /// A configuration with defaults for everything but the model and the threads.
    pub fn new(model: PathBuf, threads: u32) -> Self {
        let stem = model.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self {
            served_name: stem.unwrap_or_else(|| "model".to_owned()),
            model,
            slots: SLOTS,
            context: CONTEXT,
            threads,
            step_tokens: STEP_TOKENS,
            queue_max: QUEUE_MAX,
            swap_bytes_max: SWAP_BYTES_MAX,
            gpu_layers: None,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), BadSetting> {
        let rows = [
            ("--parallel", self.slots, 1, SLOTS_MAX),
            ("--context", self.context, 16, 1 << 20),
            ("--threads", self.threads, 1, 1024),
            ("--batch-tokens", self.step_tokens, 16, 16_384),
            ("--queue-max", self.queue_max, 1, 65_536),
        ];
        let wrong = rows.into_iter().find(|(_, value, from, to)| !(from..=to).contains(&value));
        wrong.map_or(Ok(()), |(name, value, from, to)| Err(BadSetting { name, value, from, to }))
    }

    /// The batcher's part, for a model with cells of that many bytes.
    pub fn batch(&self, cell_bytes: u64, recurrent: bool) -> BatchConfig {
        let tokens_max = u64::from(self.queue_max + self.slots) * u64::from(self.context);
        BatchConfig {
            slots: self.slots,
            context: self.context,
            // Every running sequence gets its token in every step.
            step_tokens: self.step_tokens.max(self.slots),
            queue: QueueLimits { requests_max: self.queue_max + self.slots, tokens_max },
            prefix_reuse: !recurrent,
            swapped_cells_max: if recurrent { 0 } else { self.swap_bytes_max / cell_bytes.max(1) },
            swap_after_tokens: SWAP_AFTER_TOKENS,
            swaps_max: SWAPS_MAX,
            fair: FairConfig { quantum: QUANTUM, ..FairConfig::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = EngineConfig::new("a/model-Q4.gguf".into(), 2);
        assert_eq!(good.served_name, "model-Q4");
        assert_eq!(good.check(), Ok(()));
        let bad = EngineConfig { slots: 300, ..good };
        assert_eq!(bad.check().unwrap_err().to_string(), "--parallel is 300, it must be 1 to 256");
    }
}
