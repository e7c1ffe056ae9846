//! agentgateway's choice between two at random, which may be the same: health, divided by the mean
//! latency and a tenth more for each pending request.

use std::sync::Arc;

use pilotage_core::route::{Pick, View};

use super::{Board, lot};

/// What a pending request adds.
const PENDING: f64 = 0.1;

#[derive(Debug)]
pub(super) struct PowerOfTwo(pub(super) Arc<Board>);

impl Pick for PowerOfTwo {
    fn name(&self) -> &'static str {
        "agentgateway-p2c"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let count = view.candidates.len().max(1) as u64;
        let draw = |which: u64| usize::try_from(lot(view, which) % count).unwrap_or(0);
        let score = |at: usize| {
            let candidate = &view.candidates[at];
            let pending = f64::from(candidate.replica.requests);
            1.0 / (1.0 + self.0.latency(candidate) * (1.0 + PENDING * pending))
        };
        let (one, other) = (draw(1), draw(2));
        Some(if score(other) > score(one) { other } else { one })
    }
}
