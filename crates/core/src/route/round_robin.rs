//! One after the other, whatever they do.

use super::{Pick, View};

#[derive(Debug)]
pub(super) struct RoundRobin;

impl Pick for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    /// The first that is open from the turn's own place on, so that one that is full is passed over.
    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let count = view.candidates.len();
        let start = usize::try_from(view.turn % count.max(1) as u64).unwrap_or(0);
        (0..count).map(|step| (start + step) % count).find(|at| view.candidates[*at].open)
    }
}
