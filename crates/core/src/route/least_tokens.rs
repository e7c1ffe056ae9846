//! The fewest tokens in flight.

use super::{Pick, View};

#[derive(Debug)]
pub(super) struct LeastTokens;

impl Pick for LeastTokens {
    fn name(&self) -> &'static str {
        "least_tokens"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        view.least(|candidate| candidate.replica.tokens)
    }
}
