//! The KV cache of a modelled engine: blocks of tokens, those of finished requests kept by the hash
//! of their tokens and everything before them, and the least recently used taken first.

use std::collections::HashMap;

use crate::engine::text::mix;

/// A block's place in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockId(u32);

/// No block.
const NONE: u32 = u32::MAX;

/// Blocks, in use and not.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// Which block has the tokens of a hash.
    cached: HashMap<u64, u32>,
    /// The unused blocks, from the one to take first.
    first: u32,
    last: u32,
    unused: u32,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    users: u32,
    hash: Option<u64>,
    before: u32,
    after: u32,
}

impl Blocks {
    pub(super) fn new(count: u32) -> Self {
        let block = Block { users: 0, hash: None, before: NONE, after: NONE };
        let mut blocks = Self {
            blocks: vec![block; count as usize],
            cached: HashMap::with_capacity(count as usize),
            first: NONE,
            last: NONE,
            unused: 0,
        };
        (0..count).for_each(|id| blocks.push_unused(id));
        blocks
    }

    /// Blocks that nobody uses, with remembered tokens or without.
    pub(super) const fn unused(&self) -> u32 {
        self.unused
    }

    /// Blocks whose tokens are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.cached.len()
    }

    /// The part of the blocks that somebody uses.
    pub(super) fn usage(&self) -> f64 {
        let all = self.blocks.len().max(1) as f64;
        1.0 - f64::from(self.unused) / all
    }

    /// The block with these tokens after those before.
    pub(super) fn find(&self, hash: u64) -> Option<BlockId> {
        self.cached.get(&hash).copied().map(BlockId)
    }

    /// Whether using it takes one from the unused.
    pub(super) fn is_unused(&self, BlockId(id): BlockId) -> bool {
        self.get(id).is_some_and(|block| block.users == 0)
    }

    /// One more uses it.
    pub(super) fn hold(&mut self, BlockId(id): BlockId) {
        if self.is_unused(BlockId(id)) {
            self.unlink(id);
        }
        if let Some(block) = self.get_mut(id) {
            block.users += 1;
        }
    }

    /// Takes the unused block that was not used for longest, and tells what it forgets.
    pub(super) fn take(&mut self) -> Option<(BlockId, Option<u64>)> {
        let id = self.first;
        if id == NONE {
            return None;
        }
        self.unlink(id);
        let block = self.get_mut(id)?;
        block.users = 1;
        let forgotten = block.hash.take();
        if let Some(hash) = forgotten {
            self.cached.remove(&hash);
        }
        Some((BlockId(id), forgotten))
    }

    /// Remembers a full block by its hash; whether it is news.
    pub(super) fn remember(&mut self, BlockId(id): BlockId, hash: u64) -> bool {
        if self.cached.contains_key(&hash) {
            return false;
        }
        let Some(block) = self.get_mut(id) else { return false };
        block.hash = Some(hash);
        self.cached.insert(hash, id);
        true
    }

    /// One fewer uses it.
    pub(super) fn release(&mut self, BlockId(id): BlockId) {
        let Some(block) = self.get_mut(id) else { return };
        block.users = block.users.saturating_sub(1);
        if block.users == 0 {
            self.push_unused(id);
        }
    }

    fn push_unused(&mut self, id: u32) {
        let last = std::mem::replace(&mut self.last, id);
        if let Some(block) = self.get_mut(id) {
            (block.before, block.after) = (last, NONE);
        }
        match self.get_mut(last) {
            Some(block) => block.after = id,
            None => self.first = id,
        }
        self.unused += 1;
    }

    fn unlink(&mut self, id: u32) {
        let Some(Block { before, after, .. }) = self.get(id).copied() else { return };
        match self.get_mut(before) {
            Some(block) => block.after = after,
            None => self.first = after,
        }
        match self.get_mut(after) {
            Some(block) => block.before = before,
            None => self.last = before,
        }
        self.unused -= 1;
    }

    fn get(&self, id: u32) -> Option<&Block> {
        self.blocks.get(id as usize)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Block> {
        self.blocks.get_mut(id as usize)
    }
}

/// The hash of a block's tokens after a block with hash `parent`.
pub(super) fn chain(parent: u64, tokens: &[u32]) -> u64 {
    tokens.iter().fold(mix(parent), |hash, token| mix(hash ^ u64::from(*token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_was_not_used_for_longest() {
        let mut blocks = Blocks::new(3);
        let taken: Vec<_> = (0..3).map(|_| blocks.take().unwrap().0).collect();
        assert_eq!(blocks.take(), None);
        for (hash, id) in (10..).zip(&taken) {
            assert!(blocks.remember(*id, hash));
        }
        assert!(!blocks.remember(taken[0], 11), "another has these tokens");
        for id in &taken {
            blocks.release(*id);
        }
        assert_eq!((blocks.unused(), blocks.usage()), (3, 0.0));

        let first = blocks.find(10).unwrap();
        blocks.hold(first);
        assert_eq!(blocks.take(), Some((taken[1], Some(11))));
        assert_eq!(blocks.find(11), None);
        blocks.release(first);
        assert_eq!(blocks.take(), Some((taken[2], Some(12))));
        assert_eq!(blocks.take(), Some((taken[0], Some(10))));
    }
}
