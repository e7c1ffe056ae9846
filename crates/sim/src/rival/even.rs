//! Spreading requests without looking at anything.

use pilotage_core::route::{Pick, View};

use super::lot;

#[derive(Debug)]
pub(super) struct RoundRobin;

impl Pick for RoundRobin {
    fn name(&self) -> &'static str {
        "even-round-robin"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        usize::try_from(view.turn % view.candidates.len().max(1) as u64).ok()
    }
}

#[derive(Debug)]
pub(super) struct Random;

impl Pick for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        usize::try_from(lot(view, 1) % view.candidates.len().max(1) as u64).ok()
    }
}
