//! Nobody's router: it knows what is in every engine's cache and how much everybody has still to do,
//! and takes the one where the answer really is complete first. What it finds in caches, and how long
//! it takes, is what others are measured by.

use std::sync::Arc;

use pilotage_core::route::{Pick, View};

use super::Board;

#[derive(Debug)]
pub(super) struct Clairvoyant(pub(super) Arc<Board>);

impl Pick for Clairvoyant {
    fn name(&self) -> &'static str {
        super::CLAIRVOYANT
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        (0..view.candidates.len()).min_by_key(|at| {
            let candidate = &view.candidates[*at];
            (self.0.end(candidate), std::cmp::Reverse(self.0.cached(candidate)))
        })
    }
}
