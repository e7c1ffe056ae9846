//! By a hash of the prompt's begin: the same begin goes to the same replica, as long as that has not
//! much more to do than the others.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998), so that a replica that comes or goes moves only
//! its own part; with bounded load (Mirrokni et al., 2018), so that a begin that all share does not
//! end on one replica.

use super::{Candidate, Pick, View};
use crate::prefix::blocks::digest;

/// Blocks of the begin that count: 256 tokens, as in SMG's `prefix_hash`.
const BLOCKS: usize = 4;

/// A replica's load may be so many percent of the mean's.
pub(super) const LOAD_PERCENT: u64 = 125;

#[derive(Debug)]
pub(super) struct PrefixHash;

impl Pick for PrefixHash {
    fn name(&self) -> &'static str {
        "prefix_hash"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let blocks = view.prompt.blocks();
        let key = blocks.get(..BLOCKS.min(blocks.len())).and_then(<[u64]>::last);
        match key {
            Some(key) => ranked(view, *key),
            None => view.least(|candidate| candidate.replica.requests),
        }
    }
}

/// The open candidate that comes first for a key, among those whose load is bounded.
pub(super) fn ranked(view: &View<'_>, key: u64) -> Option<usize> {
    let load = |candidate: &Candidate<'_>| u64::from(candidate.replica.requests) + 1;
    let sum: u64 = view.candidates.iter().map(load).sum();
    let count = view.candidates.len() as u64;
    let bounded = |at: &usize| load(&view.candidates[*at]) * 100 * count <= sum * LOAD_PERCENT;
    let rank = |at: &usize| digest(key, &view.candidates[*at].replica.id.0.to_le_bytes());
    view.open().filter(bounded).max_by_key(rank).or_else(|| view.open().max_by_key(rank))
}
