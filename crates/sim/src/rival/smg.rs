//! SMG (Shepherd Model Gateway), the successor of SGLang's router: `cache_aware` and `least_load`.

use std::sync::Arc;

use pilotage_core::Time;
use pilotage_core::route::{Candidate, Pick, View};

use super::{Board, Memory, best, best_of, blocks, least_requests};

/// The longest prefix where it covers enough of the prompt, else the fewest requests; only the fewest
/// requests while replicas are too unequal. Its tree is larger than any run here fills.
#[derive(Debug)]
pub(super) struct CacheAware {
    name: &'static str,
    match_min: f64,
    /// Requests apart, and how many times: unequal is who is beyond both.
    unequal: (u32, f64),
    tree: Memory,
}

impl CacheAware {
    pub(super) fn new(
        board: &Board,
        name: &'static str,
        match_min: f64,
        unequal: (u32, f64),
    ) -> Self {
        Self { name, match_min, unequal, tree: Memory::new(board.len(), usize::MAX, None) }
    }

    fn is_unequal(&self, view: &View<'_>) -> bool {
        let loads = view.candidates.iter().map(|candidate| candidate.replica.requests);
        let (most, least) = (loads.clone().max().unwrap_or(0), loads.min().unwrap_or(0));
        most - least > self.unequal.0 && f64::from(most) > self.unequal.1 * f64::from(least)
    }
}

impl Pick for CacheAware {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let found = self.tree.find(view.now, view.prompt.blocks());
        let count = found.len().max(1);
        let of = |at: usize| found[view.candidates[at].replica.id.0 as usize % count];
        let longest = (0..view.candidates.len()).map(of).max().unwrap_or(0);
        let picked = if self.is_unequal(view) || longest as f64 / blocks(view) <= self.match_min {
            least_requests(view)
        } else {
            let matching = (0..view.candidates.len()).filter(|at| of(*at) == longest);
            best_of(view, matching, |at| -f64::from(view.candidates[at].replica.requests))
        }?;
        let place = view.candidates[picked].replica.id.0 as usize % count;
        self.tree.keep(view.now, place, view.prompt.blocks());
        Some(picked)
    }
}

/// Tokens a second where nothing was measured.
const TOKENS_PER_SECOND: f64 = 2000.0;

/// Tokens that a request in an engine's queue is taken to have.
const TOKENS_WAITING: f64 = 1024.0;

/// What a full KV cache weighs, in seconds.
const BARRIER: f64 = 0.15;

/// Seconds of work there at the throughput, and a barrier as the KV cache fills. What was sent since
/// an engine was asked is added.
#[derive(Debug)]
pub(super) struct LeastLoad {
    board: Arc<Board>,
    /// Tokens sent to each since it was asked, and when that was.
    sent: Vec<(Time, f64)>,
}

impl LeastLoad {
    pub(super) fn new(board: Arc<Board>) -> Self {
        let sent = vec![(Time::ZERO, 0.0); board.len()];
        Self { board, sent }
    }

    fn seconds(&self, candidate: &Candidate<'_>) -> f64 {
        let queued = self.board.waiting(candidate) * TOKENS_WAITING;
        let (asked, sent) = self.sent[self.board.place(candidate)];
        let since = if asked == self.board.asked(candidate) { sent } else { 0.0 };
        let used = self.board.kv_usage(candidate).min(0.98);
        (queued + since) / TOKENS_PER_SECOND + BARRIER * used / (1.0 - used)
    }
}

impl Pick for LeastLoad {
    fn name(&self) -> &'static str {
        "smg-least-load"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let picked = best(view, |at| -self.seconds(&view.candidates[at]))?;
        let candidate = &view.candidates[picked];
        let asked = self.board.asked(candidate);
        let sent = &mut self.sent[self.board.place(candidate)];
        if sent.0 != asked {
            *sent = (asked, 0.0);
        }
        sent.1 += f64::from(view.tokens.input);
        Some(picked)
    }
}
