//! One request on its way from the plan to a connection.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::workload::Item;

use super::target::Role;

/// A request to send.
#[derive(Debug)]
pub(super) struct Job {
    /// When it is meant to be sent, in nanoseconds since the run began.
    pub(super) intended: u64,
    /// When the pacer handed it out.
    pub(super) paced: u64,
    /// Which conversation it belongs to.
    pub(super) item: Item,
    /// Which turn of it.
    pub(super) turn: u32,
    /// Tokens of the whole prompt, as asked for.
    pub(super) input: u32,
    /// Tokens that the answer may have.
    pub(super) output: u32,
    /// What is sent.
    pub(super) body: Bytes,
    /// What was said so far, where more turns may follow.
    pub(super) talk: Vec<(Role, String)>,
    /// Whether it only warms up.
    pub(super) warm: bool,
}

/// A job in order of its time.
#[derive(Debug)]
pub(super) struct Due(pub(super) Job);

impl Due {
    fn key(&self) -> (u64, u64) {
        (self.0.intended, self.0.item.number)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
