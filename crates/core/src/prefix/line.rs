//! Blocks in the order of their last use: what leaves a cache first.

use std::collections::VecDeque;

/// The name of blocks that nobody looks for.
pub(super) const NOBODY: u64 = 0;

/// Old uses that are looked at for each new one, while the line is tidied.
const TIDY_RATE: usize = 2;

/// Uses of blocks, the oldest first. A block that was used again has its old use in the line still,
/// until that comes to the front or the line is tidied: a little at a time, so that nobody waits for all
/// of it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Blocks in it.
    pub(super) held: u32,
    /// Blocks that it may hold.
    pub(super) most: u32,
    uses: VecDeque<(u64, u32)>,
    /// Uses that came since the line was last looked at.
    fresh: usize,
    /// Uses at the front that were looked at since tidying began,
    looked_at: usize,
    /// and those of them that count, which come first. What lies between means nothing.
    kept: usize,
}

impl Line {
    /// A block that is held already was not used any more.
    pub(super) fn uses_end(&mut self, name: u64, stamp: u32) {
        self.uses.push_back((name, stamp));
        self.fresh += 1;
    }

    pub(super) fn push(&mut self, name: u64, stamp: u32) {
        self.held += 1;
        self.uses_end(name, stamp);
    }

    /// The block that was not used for longest.
    pub(super) fn pop(&mut self, is_current: impl Fn(u64, u32) -> bool) -> Option<(u64, u32)> {
        loop {
            if self.kept == 0 && self.looked_at > 0 {
                self.uses.drain(..self.looked_at);
                self.looked_at = 0;
            }
            let (name, stamp) = self.uses.pop_front()?;
            self.kept = self.kept.saturating_sub(1);
            self.looked_at = self.looked_at.saturating_sub(1);
            if name == NOBODY || is_current(name, stamp) {
                self.held -= 1;
                return Some((name, stamp));
            }
        }
    }

    /// Drops old uses when they are the most: some of them each time, more than came since the last.
    pub(super) fn tidy(&mut self, is_current: impl Fn(u64, u32) -> bool) {
        let fresh = std::mem::take(&mut self.fresh);
        if self.looked_at == 0 && self.uses.len() <= 2 * self.held as usize + 64 {
            return;
        }
        let until = self.uses.len().min(self.looked_at + TIDY_RATE * fresh + 1);
        for at in self.looked_at..until {
            let (name, stamp) = self.uses[at];
            if name == NOBODY || is_current(name, stamp) {
                self.uses[self.kept] = (name, stamp);
                self.kept += 1;
            }
        }
        self.looked_at = until;
        if until == self.uses.len() {
            self.uses.truncate(self.kept);
            (self.looked_at, self.kept) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Like a list from which old uses are taken at once.
        #[test]
        fn blocks_leave_in_the_order_of_their_last_use(
            steps in prop::collection::vec((0..4_u8, 1..40_u64), 1..600),
        ) {
            let (mut line, mut current) = (Line::default(), BTreeMap::<u64, u32>::new());
            for (stamp, (step, name)) in (1..).zip(steps) {
                if step == 0 {
                    let first = current.iter().min_by_key(|(_, stamp)| **stamp);
                    let first = first.map(|(name, stamp)| (*name, *stamp));
                    let out = line.pop(|name, stamp| current.get(&name) == Some(&stamp));
                    prop_assert_eq!(out, first);
                    if let Some((name, _)) = out {
                        current.remove(&name);
                    }
                } else {
                    match current.insert(name, stamp) {
                        Some(_) => line.uses_end(name, stamp),
                        None => line.push(name, stamp),
                    }
                    line.tidy(|name, stamp| current.get(&name) == Some(&stamp));
                }
                prop_assert_eq!(line.held as usize, current.len());
                prop_assert!(line.uses.len() <= 4 * current.len() + 130, "{}", line.uses.len());
            }
        }
    }
}
