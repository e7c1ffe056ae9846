//! Dynamo's KV router: blocks to compute and blocks in use, less what the cache has, the least wins.
//! It is given what engines' events would tell it, at once and without loss.

use std::sync::Arc;

use pilotage_core::route::{Candidate, Pick, View};

use super::{Board, best};

/// Tokens of a block.
const BLOCK: f64 = 16.0;

#[derive(Debug)]
pub(super) struct Kv {
    board: Arc<Board>,
    name: &'static str,
    /// How fast the credit for cached blocks decays with the prompts that wait there.
    decay: f64,
}

impl Kv {
    pub(super) fn new(board: Arc<Board>, name: &'static str, decay: f64) -> Self {
        Self { board, name, decay }
    }
}

impl Pick for Kv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let request = f64::from(view.tokens.input.max(1)) / BLOCK;
        let prefill = |candidate: &Candidate<'_>| candidate.replica.prefill as f64 / BLOCK;
        let least = view.candidates.iter().map(prefill).fold(f64::MAX, f64::min);
        best(view, |at| {
            let candidate = &view.candidates[at];
            let excess = prefill(candidate) - least;
            let overlap = f64::from(self.board.cached(candidate)) / BLOCK;
            let credit = overlap / (1.0 + self.decay * excess / request);
            let decode = candidate.replica.tokens as f64 / BLOCK;
            -((prefill(candidate) + request - credit).max(0.0) + decode)
        })
    }
}
