//! KubeAI's consistent hashing with bounded load: the hundred first characters decide, and whoever
//! has an eighth more than its part of all requests is passed over.

use pilotage_core::route::{Pick, View};

use super::{Ring, least_requests, lot};

/// Points of each replica on the ring.
const POINTS: u32 = 256;

/// What a replica's load may be of the mean.
const LOAD: f64 = 1.25;

#[derive(Debug)]
pub(super) struct Chwbl(Ring);

impl Chwbl {
    pub(super) fn new(replicas: usize) -> Self {
        Self(Ring::new(replicas, POINTS))
    }
}

impl Pick for Chwbl {
    fn name(&self) -> &'static str {
        "kubeai-chwbl"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let key = view.prompt.blocks().first().copied().unwrap_or_else(|| lot(view, 0));
        let all: u32 = view.candidates.iter().map(|one| one.replica.requests).sum();
        let most = (LOAD * f64::from(all + 1) / view.candidates.len().max(1) as f64).ceil();
        let bounded = |at: &usize| {
            let candidate = view.candidates.get(*at);
            candidate.is_some_and(|one| f64::from(one.replica.requests) < most)
        };
        self.0.from(key).find(bounded).or_else(|| least_requests(view))
    }
}
