//! Blocks in the order of their last use: what leaves a cache first.

use std::collections::VecDeque;

/// The name of blocks that nobody looks for.
pub(super) const NOBODY: u64 = 0;

/// Uses of blocks, the oldest first. A block that was used again has its old use in the line still,
/// until that comes to the front.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Blocks in it.
    pub(super) held: u32,
    /// Blocks that it may hold.
    pub(super) most: u32,
    uses: VecDeque<(u64, u32)>,
}

impl Line {
    /// A block that is held already was not used any more.
    pub(super) fn uses_end(&mut self, name: u64, stamp: u32) {
        self.uses.push_back((name, stamp));
    }

    pub(super) fn push(&mut self, name: u64, stamp: u32) {
        self.held += 1;
        self.uses.push_back((name, stamp));
    }

    /// The block that was not used for longest.
    pub(super) fn pop(&mut self, is_current: impl Fn(u64, u32) -> bool) -> Option<(u64, u32)> {
        while let Some((name, stamp)) = self.uses.pop_front() {
            if name == NOBODY || is_current(name, stamp) {
                self.held -= 1;
                return Some((name, stamp));
            }
        }
        None
    }

    /// Drops old uses when they are the most.
    pub(super) fn tidy(&mut self, is_current: impl Fn(u64, u32) -> bool) {
        if self.uses.len() > 2 * self.held as usize + 64 {
            self.uses.retain(|(name, stamp)| *name == NOBODY || is_current(*name, *stamp));
        }
    }
}
