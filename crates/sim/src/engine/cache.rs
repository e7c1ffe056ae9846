//! A prefix cache: blocks of prompts that were computed, of which those not used for longest go first.

use std::collections::{BTreeMap, BTreeSet};

/// Blocks that are kept.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    blocks_max: usize,
    clock: u64,
    used: BTreeMap<u64, u64>,
    /// Blocks by when they were used last.
    oldest: BTreeSet<(u64, u64)>,
}

impl Cache {
    pub(super) fn new(blocks_max: u32) -> Self {
        Self {
            blocks_max: blocks_max as usize,
            clock: 0,
            used: BTreeMap::new(),
            oldest: BTreeSet::new(),
        }
    }

    /// How many of a prompt's first blocks are there.
    pub(super) fn find(&self, blocks: &[u64]) -> u32 {
        let found = blocks.iter().take_while(|block| self.used.contains_key(block)).count();
        u32::try_from(found).unwrap_or(u32::MAX)
    }

    /// A prompt was computed. Its first blocks outlive its last, without which they are useful still.
    pub(super) fn keep(&mut self, blocks: &[u64]) {
        for block in blocks.iter().rev() {
            self.clock += 1;
            if let Some(before) = self.used.insert(*block, self.clock) {
                self.oldest.remove(&(before, *block));
            }
            self.oldest.insert((self.clock, *block));
        }
        while self.used.len() > self.blocks_max {
            let Some((_, block)) = self.oldest.pop_first() else { return };
            self.used.remove(&block);
        }
    }

    pub(super) fn clear(&mut self) {
        self.used.clear();
        self.oldest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(4);
        cache.keep(&[1, 2, 3]);
        cache.keep(&[7]);
        assert_eq!((cache.find(&[1, 2, 3, 4]), cache.find(&[2])), (3, 1));
        cache.keep(&[8]);
        assert_eq!(cache.find(&[1, 2, 3]), 2, "a prompt's end goes before its begin");
        cache.keep(&[1, 2]);
        cache.keep(&[9]);
        assert_eq!((cache.find(&[1, 2]), cache.find(&[7]), cache.find(&[8])), (2, 0, 1));
        cache.clear();
        assert_eq!(cache.find(&[1]), 0);
    }
}
