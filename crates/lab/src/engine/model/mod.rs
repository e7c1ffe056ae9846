//! What an inference server does with its requests, step by step, in the manner of vLLM: so many
//! sequences at once, prompts computed in pieces between the tokens of others, a cache of prefixes,
//! and whoever came last begins again when the cache is full. It knows no clock: a step says how long
//! it takes.

mod blocks;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use blocks::Blocks;
use sequence::Sequence;
pub use sequence::{Job, SequenceId};

use super::metrics::{Gauges, STEP_BOUNDS};

/// An engine's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// Sequences that are computed at once.
    pub sequences_max: usize,
    /// Time for one token of a prompt.
    pub prefill_token: Duration,
    /// Time for one more token of all sequences.
    pub decode_step: Duration,
    /// Tokens in one step.
    pub step_tokens_max: usize,
    /// Blocks of the KV cache.
    pub blocks: u32,
    /// Tokens of a block.
    pub block_tokens: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            sequences_max: 8,
            prefill_token: Duration::from_micros(200),
            decode_step: Duration::from_millis(15),
            step_tokens_max: 512,
            blocks: 4096,
            block_tokens: 16,
        }
    }
}

/// What became of the KV cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheEvent {
    /// Blocks that follow each other are remembered.
    Stored {
        /// Their hashes.
        hashes: Vec<u64>,
        /// The hash of the block before them.
        parent: Option<u64>,
        /// All their tokens.
        tokens: Vec<u32>,
        /// The adapter that computed them.
        adapter: Option<String>,
    },
    /// Blocks are forgotten.
    Removed {
        /// Their hashes.
        hashes: Vec<u64>,
    },
}

/// News of a sequence at the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub sequence: SequenceId,
    /// Its next token.
    pub token: u32,
    /// Whether that was the last one.
    pub last: bool,
    /// Tokens of its prompt that were in the cache when it was first looked up.
    pub cached: usize,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// How long it takes.
    pub time: Duration,
    /// What comes out of it.
    pub told: Vec<Told>,
    /// What becomes of the cache.
    pub cache: Vec<CacheEvent>,
}

/// The engine's state.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    blocks: Blocks,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    counts: Gauges,
}

impl Model {
    /// An engine at rest with an empty cache.
    pub fn new(config: ModelConfig) -> Self {
        Self {
            config,
            blocks: Blocks::new(config.blocks),
            waiting: VecDeque::new(),
            running: Vec::new(),
            counts: Gauges::default(),
        }
    }

    /// Tokens of a prompt and its answer together, at most.
    pub const fn context_tokens(&self) -> usize {
        self.config.blocks as usize * self.config.block_tokens
    }

    /// One more sequence waits; its answer is cut to the engine's length. False when its prompt alone
    /// is too long.
    pub fn submit(&mut self, job: Job) -> bool {
        let room = self.context_tokens().saturating_sub(job.prompt.len().max(1));
        if room > 0 {
            self.waiting.push_back(Sequence::new(job, room));
        }
        room > 0
    }

    /// A sequence whose client went away is no more.
    pub fn abort(&mut self, id: SequenceId) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id() == id) {
            self.waiting.remove(at);
            self.counts.aborted += 1;
        } else if let Some(at) = self.running.iter().position(|running| running.id() == id) {
            self.running.remove(at).release(&mut self.blocks);
            self.counts.aborted += 1;
        }
    }

    /// The next step; none when there is nothing to do.
    pub fn step(&mut self) -> Option<Step> {
        if self.running.is_empty() && self.waiting.is_empty() {
            return None;
        }
        let mut step = Step::default();
        let mut left = self.config.step_tokens_max;
        let calm = self.serve_running(&mut left, &mut step.cache);
        if calm {
            self.admit(&mut left, &mut step.cache);
        }
        self.compute(&mut step);
        Some(step)
    }

    /// What its metrics tell.
    pub fn gauges(&self) -> Gauges {
        let adapters = |sequences: &mut dyn Iterator<Item = &Sequence>| {
            let mut names: Vec<String> =
                sequences.filter_map(|sequence| sequence.adapter().map(str::to_owned)).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        Gauges {
            running: self.running.len() as u64,
            waiting: self.waiting.len() as u64,
            kv_usage: self.blocks.usage(),
            adapters_running: adapters(&mut self.running.iter()),
            adapters_waiting: adapters(&mut self.waiting.iter()),
            ..self.counts.clone()
        }
    }

    /// Gives what runs its tokens of this step; whether nobody had to stand aside for that.
    fn serve_running(&mut self, left: &mut usize, cache: &mut Vec<CacheEvent>) -> bool {
        let mut calm = true;
        let mut at = 0;
        while let Some(sequence) = self.running.get_mut(at) {
            if sequence.plan(
                (*left).min(sequence.missing()),
                self.config.block_tokens,
                &mut self.blocks,
                cache,
            ) {
                *left -= sequence.planned();
                at += 1;
                continue;
            }
            // The cache is full: the last to come stands aside, this one in the end.
            calm = false;
            let Some(mut last) = self.running.pop() else { break };
            *left += last.planned();
            last.restart(&mut self.blocks);
            self.counts.preemptions += 1;
            self.waiting.push_front(last);
        }
        calm
    }

    /// Takes in those who wait, in their order, as long as there is room.
    fn admit(&mut self, left: &mut usize, cache: &mut Vec<CacheEvent>) {
        while *left > 0 && self.running.len() < self.config.sequences_max {
            let Some(mut next) = self.waiting.pop_front() else { return };
            let first_time = next.look_up(self.config.block_tokens, &mut self.blocks);
            let tokens = (*left).min(next.missing());
            if !next.plan(tokens, self.config.block_tokens, &mut self.blocks, cache) {
                next.restart(&mut self.blocks);
                self.waiting.push_front(next);
                return;
            }
            if let Some((queried, hit)) = first_time {
                self.counts.prefix_queries += queried as u64;
                self.counts.prefix_hits += hit as u64;
            }
            *left -= tokens;
            self.running.push(next);
        }
    }

    /// Computes what was planned.
    fn compute(&mut self, step: &mut Step) {
        let (mut prefill, mut decode) = (0, 0);
        for sequence in &mut self.running {
            let planned = sequence.planned();
            if sequence.decodes() {
                decode += planned;
            } else {
                prefill += planned;
            }
            if let Some(told) =
                sequence.advance(self.config.block_tokens, &mut self.blocks, &mut step.cache)
            {
                self.counts.generation_tokens += 1;
                if told.first {
                    self.counts.prompt_tokens += sequence.prompt() as u64;
                }
                step.told.push(told.told);
            }
        }
        let model = self.config;
        step.time = model.prefill_token * u32::try_from(prefill).unwrap_or(u32::MAX);
        if decode > 0 {
            step.time += model.decode_step;
        }
        self.count_step((prefill + decode) as u64);
        let counts = &mut self.counts;
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            let over = sequence.is_over();
            if over {
                if sequence.is_cut() {
                    counts.cut += 1;
                } else {
                    counts.stopped += 1;
                }
                sequence.release(blocks);
            }
            !over
        });
    }

    fn count_step(&mut self, tokens: u64) {
        self.counts.step_tokens += tokens;
        let bounds = STEP_BOUNDS.iter().map(|bound| u64::from(*bound)).chain([u64::MAX]);
        for (bound, count) in bounds.zip(&mut self.counts.steps) {
            *count += u64::from(tokens <= bound);
        }
    }
}
