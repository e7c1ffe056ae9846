//! AIBrix's `prefix-cache`: who has most of the prompt among those whose load is near the mean; the
//! fewest requests where loads are too unequal or nobody has any of it.

use pilotage_core::Span;
use pilotage_core::route::{Pick, View};

use super::{Board, Memory, best_of, least_requests};

/// Requests by which loads may differ.
const UNEQUAL: u32 = 8;

/// Deviations that a load may be above the mean.
const DEVIATIONS: f64 = 1.0;

/// Blocks that are remembered, and for how long.
const BLOCKS_MAX: usize = 200_000;
const AGE_MAX: Span = Span::from_secs(20 * 60);

#[derive(Debug)]
pub(super) struct PrefixCache {
    memory: Memory,
}

impl PrefixCache {
    pub(super) fn new(board: &Board) -> Self {
        Self { memory: Memory::new(board.len(), BLOCKS_MAX, Some(AGE_MAX)) }
    }

    fn matching(&self, view: &View<'_>, found: &[usize]) -> Option<usize> {
        let loads: Vec<f64> =
            view.candidates.iter().map(|one| f64::from(one.replica.requests)).collect();
        let count = loads.len().max(1) as f64;
        let mean = loads.iter().sum::<f64>() / count;
        let squares = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>();
        let most = mean + DEVIATIONS * (squares / count).sqrt();
        let has = |at: usize| found[view.candidates[at].replica.id.0 as usize % found.len()];
        let near = (0..loads.len()).filter(|at| has(*at) > 0 && loads[*at] <= most);
        best_of(view, near, |at| has(at) as f64 * 1e6 - loads[at])
    }
}

impl Pick for PrefixCache {
    fn name(&self) -> &'static str {
        "aibrix-prefix-cache"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let found = self.memory.find(view.now, view.prompt.blocks());
        let loads = view.candidates.iter().map(|candidate| candidate.replica.requests);
        let unequal = loads.clone().max().unwrap_or(0) - loads.min().unwrap_or(0) > UNEQUAL;
        let matching = if unequal { None } else { self.matching(view, &found) };
        let picked = matching.or_else(|| least_requests(view))?;
        let place = view.candidates[picked].replica.id.0 as usize % found.len().max(1);
        self.memory.keep(view.now, place, view.prompt.blocks());
        Some(picked)
    }
}
