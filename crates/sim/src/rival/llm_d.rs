//! llm-d's endpoint picker (the Gateway API inference extension's): the default profile, and the
//! baseline that its guides call optimized.

use std::sync::Arc;

use pilotage_core::prefix::BLOCK_TOKENS;
use pilotage_core::route::{Candidate, Pick, View};

use super::{Board, Memory, best, blocks, chance};

/// Blocks of 64 tokens that are remembered of each server.
const BLOCKS_MAX: usize = 31_250;

/// Weights of queue, KV cache and prefix.
const WEIGHTS: [f64; 3] = [2.0, 2.0, 3.0];

/// The sum of weighted scores, the highest wins.
#[derive(Debug)]
pub(super) struct Weighted {
    board: Arc<Board>,
    memory: Memory,
}

impl Weighted {
    pub(super) fn new(board: Arc<Board>) -> Self {
        let memory = Memory::new(board.len(), BLOCKS_MAX, None);
        Self { board, memory }
    }
}

impl Pick for Weighted {
    fn name(&self) -> &'static str {
        "llm-d-default"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let found = self.memory.find(view.now, view.prompt.blocks());
        let queue = |at: usize| self.board.waiting(&view.candidates[at]);
        let all = (0..view.candidates.len()).map(queue);
        let (most, least) = (all.clone().fold(0.0, f64::max), all.fold(f64::MAX, f64::min));
        let picked = best(view, |at| {
            let candidate = &view.candidates[at];
            let spread = most - least;
            let queue = if spread > 0.0 { (most - queue(at)) / spread } else { 1.0 };
            let memory = 1.0 - self.board.kv_usage(candidate);
            let prefix = found[self.board.place(candidate)] as f64 / blocks(view);
            WEIGHTS[0] * queue + WEIGHTS[1] * memory + WEIGHTS[2] * prefix
        })?;
        let place = self.board.place(&view.candidates[picked]);
        self.memory.keep(view.now, place, view.prompt.blocks());
        Some(picked)
    }
}

/// The part of a prompt from which on a server counts as having it.
const MATCH_MIN: f64 = 0.8;

/// Seconds by which the best of those may be worse than the best of all.
const WORSE_MAX: f64 = 18.0;

/// Tokens a second by which tokens in flight become seconds (Qwen 32B on two H100).
const TOKENS_PER_SECOND: f64 = 15_928.0;

/// Tokens at which a server counts as full: 128 requests of 32,768.
const TOKENS_FULL: f64 = 4_194_304.0;

/// Those that have the prompt, unless they are much worse; among them by chance, the less loaded the
/// likelier.
#[derive(Debug)]
pub(super) struct Affinity {
    memory: Memory,
}

impl Affinity {
    pub(super) fn new(board: &Board) -> Self {
        Self { memory: Memory::new(board.len(), BLOCKS_MAX, None) }
    }
}

impl Pick for Affinity {
    fn name(&self) -> &'static str {
        "llm-d-affinity"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let found = self.memory.find(view.now, view.prompt.blocks());
        let place = |at: usize| view.candidates[at].replica.id.0 as usize % found.len().max(1);
        let seconds =
            |candidate: &Candidate<'_>| candidate.replica.tokens as f64 / TOKENS_PER_SECOND;
        let all = 0..view.candidates.len();
        let has = |at: &usize| found[place(*at)] as f64 / blocks(view) >= MATCH_MIN;
        let least = |those: &mut dyn Iterator<Item = usize>| {
            those.map(|at| seconds(&view.candidates[at])).fold(f64::MAX, f64::min)
        };
        let sticky = least(&mut all.clone().filter(has));
        let other = least(&mut all.clone().filter(|at| !has(at)));
        let stays = sticky < f64::MAX && sticky - other <= WORSE_MAX;
        let score = |at: usize| {
            if stays && !has(&at) {
                return 0.0;
            }
            let new = view.tokens.input.saturating_sub(found[place(at)] as u32 * BLOCK_TOKENS);
            let tokens = view.candidates[at].replica.tokens as f64 + f64::from(new);
            1.0 - (tokens / TOKENS_FULL).min(1.0)
        };
        let mut left = chance(view, 1) * all.clone().map(score).sum::<f64>();
        let picked = all.clone().find(|at| {
            left -= score(*at);
            left < 0.0
        });
        let picked = picked.or_else(|| all.last())?;
        self.memory.keep(view.now, place(picked), view.prompt.blocks());
        Some(picked)
    }
}
