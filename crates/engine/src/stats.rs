//! What the loop counts, readable from other threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// The counts of one engine.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sequences in slots.
    pub running: Number,
    /// Sequences without a slot.
    pub waiting: Number,
    /// Cells of sequences in slots.
    pub cells_held: Number,
    /// Cells there are.
    pub cells_total: Number,
    /// Prompt tokens that were looked for in the prefix cache.
    pub prefix_queries: Number,
    /// Those that were found.
    pub prefix_hits: Number,
    /// Prompt tokens of sequences that began, cached ones included.
    pub prompt_tokens: Number,
    /// Tokens generated.
    pub generation_tokens: Number,
    /// Sequences swapped out for more urgent ones.
    pub preemptions: Number,
    /// Batches computed.
    pub steps: Number,
    /// Batches that failed.
    pub failures: Number,
}
