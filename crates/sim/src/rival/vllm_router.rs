//! vllm-router's `consistent_hash`: a session stays where the ring puts it, whatever the load; what
//! has no session goes by its whole text.

use pilotage_core::route::{Pick, View};

use super::{Ring, lot};

/// Points of each replica on the ring.
const POINTS: u32 = 160;

#[derive(Debug)]
pub(super) struct ConsistentHash(Ring);

impl ConsistentHash {
    pub(super) fn new(replicas: usize) -> Self {
        Self(Ring::new(replicas, POINTS))
    }
}

impl Pick for ConsistentHash {
    fn name(&self) -> &'static str {
        "vllm-router-hash"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let key = match view.prompt.session {
            0 => view.prompt.blocks().last().copied().unwrap_or_else(|| lot(view, 0)),
            session => session,
        };
        self.0.from(key).find(|at| *at < view.candidates.len())
    }
}
