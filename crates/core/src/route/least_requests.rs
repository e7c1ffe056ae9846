//! The fewest requests in flight.

use super::{Pick, View};

#[derive(Debug)]
pub(super) struct LeastRequests;

impl Pick for LeastRequests {
    fn name(&self) -> &'static str {
        "least_requests"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        view.least(|candidate| candidate.replica.requests)
    }
}
