//! A KV cache in blocks, as vLLM keeps it: those of sequences that have ended are found by name until
//! others need their place, and whose use ended first is given away first.

use hashbrown::HashTable;

/// No block.
const NONE: u32 = u32::MAX;

/// A name that no block is looked up by.
pub(super) const NAMELESS: u64 = 0;

/// Blocks, in use and not.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    all: Vec<Block>,
    /// Blocks by their names, which are hashes already.
    named: HashTable<u32>,
    /// Blocks that nobody uses, the next to be given away first.
    first: u32,
    last: u32,
    free: u32,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    users: u32,
    name: u64,
    before: u32,
    after: u32,
}

impl Blocks {
    pub(super) fn new(count: u32) -> Self {
        let block = Block { users: 0, name: NAMELESS, before: NONE, after: NONE };
        let mut blocks = Self {
            all: vec![block; count as usize],
            named: HashTable::new(),
            first: NONE,
            last: NONE,
            free: 0,
        };
        (0..count).for_each(|at| blocks.append(at));
        blocks
    }

    /// Blocks that nobody uses.
    pub(super) const fn free(&self) -> u32 {
        self.free
    }

    /// Blocks that somebody uses.
    pub(super) fn used(&self) -> u32 {
        u32::try_from(self.all.len()).unwrap_or(u32::MAX) - self.free
    }

    /// The block of that name.
    pub(super) fn find(&self, name: u64) -> Option<u32> {
        self.named.find(name, |at| self.all[*at as usize].name == name).copied()
    }

    /// One more uses it.
    pub(super) fn hold(&mut self, at: u32) {
        if self.all[at as usize].users == 0 {
            self.unlink(at);
        }
        self.all[at as usize].users += 1;
    }

    /// The block whose use ended first, for something else.
    pub(super) fn take(&mut self) -> Option<u32> {
        let at = self.first;
        let name = self.all.get(at as usize)?.name;
        self.unlink(at);
        if name != NAMELESS
            && let Ok(found) = self.named.find_entry(name, |other| *other == at)
        {
            found.remove();
        }
        let block = &mut self.all[at as usize];
        (block.users, block.name) = (1, NAMELESS);
        Some(at)
    }

    /// What is in a block has a name from now on, unless another has the same.
    pub(super) fn name(&mut self, at: u32, name: u64) {
        if name == NAMELESS || self.find(name).is_some() {
            return;
        }
        self.all[at as usize].name = name;
        let all = &self.all;
        self.named.insert_unique(name, at, |other| all[*other as usize].name);
    }

    /// One fewer uses it.
    pub(super) fn release(&mut self, at: u32) {
        let block = &mut self.all[at as usize];
        block.users -= 1;
        if block.users == 0 {
            self.append(at);
        }
    }

    fn append(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.last, at);
        let block = &mut self.all[at as usize];
        (block.before, block.after) = (last, NONE);
        match self.all.get_mut(last as usize) {
            Some(block) => block.after = at,
            None => self.first = at,
        }
        self.free += 1;
    }

    fn unlink(&mut self, at: u32) {
        let Block { before, after, .. } = self.all[at as usize];
        match self.all.get_mut(before as usize) {
            Some(block) => block.after = after,
            None => self.first = after,
        }
        match self.all.get_mut(after as usize) {
            Some(block) => block.before = before,
            None => self.last = before,
        }
        self.free -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_use_ended_first_is_given_away_first() {
        let mut blocks = Blocks::new(3);
        let all: Vec<u32> = std::iter::from_fn(|| blocks.take()).collect();
        assert_eq!((all.len(), blocks.free(), blocks.used()), (3, 0, 3));
        for (name, at) in (10..).zip(&all) {
            blocks.name(*at, name);
        }
        blocks.name(all[0], 11);
        assert_eq!(blocks.find(11), Some(all[1]), "a name is given once");
        all.iter().for_each(|at| blocks.release(*at));
        blocks.hold(all[0]);
        assert_eq!((blocks.take(), blocks.find(11)), (Some(all[1]), None));
        blocks.release(all[0]);
        assert_eq!((blocks.find(10), blocks.take()), (Some(all[0]), Some(all[2])));
        assert_eq!((blocks.take(), blocks.take(), blocks.find(10)), (Some(all[0]), None, None));
    }
}
