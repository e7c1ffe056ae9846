//! How long replicas were busy, from requests that ended: the time in which at least one of them ran there.

use std::collections::{BTreeMap, VecDeque};

/// The most pieces of busy time that are remembered of a replica. Requests that began before the oldest of
/// them count from there on.
const PIECES_MAX: usize = 1024;

/// The most replicas that are remembered.
const REPLICAS_MAX: usize = 10_000;

/// Time covered by requests, for each replica.
///
/// Each request adds what nobody before it covered. So the sum over a replica's requests is the time in which
/// it had any, however many ran at once.
#[derive(Debug, Default)]
pub struct Occupied {
    replicas: BTreeMap<String, Covered>,
}

/// Pieces of time, in order, that neither touch nor overlap.
#[derive(Debug, Default)]
struct Covered {
    pieces: VecDeque<(u64, u64)>,
    /// Everything before is over.
    floor: u64,
}

impl Occupied {
    /// A request ran there between these moments: what of it was not covered yet, in the same unit.
    pub fn add(&mut self, replica: &str, from: u64, until: u64) -> u64 {
        if !self.replicas.contains_key(replica) {
            if self.replicas.len() >= REPLICAS_MAX {
                self.forget();
            }
            self.replicas.insert(replica.to_owned(), Covered::default());
        }
        self.replicas.get_mut(replica).map_or(0, |covered| covered.add(from, until))
    }

    /// The replica that was busy longest ago goes.
    fn forget(&mut self) {
        let last = |covered: &Covered| covered.pieces.back().map(|(_, until)| *until);
        let oldest = self.replicas.iter().min_by_key(|(_, covered)| last(covered));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.replicas.remove(&name);
        }
    }
}

impl Covered {
    fn add(&mut self, from: u64, until: u64) -> u64 {
        let (mut from, mut until) = (from.max(self.floor), until);
        if from >= until {
            return 0;
        }
        let mut new = until - from;
        // Requests come roughly in the order of their ends, so that what they touch is at the back.
        let first = self.pieces.partition_point(|(_, end)| *end < from);
        let last = self.pieces.partition_point(|(begin, _)| *begin <= until);
        for (begin, end) in self.pieces.drain(first..last) {
            new -= end.min(until).saturating_sub(begin.max(from)).min(new);
            from = from.min(begin);
            until = until.max(end);
        }
        self.pieces.insert(first, (from, until));
        if self.pieces.len() > PIECES_MAX
            && let Some((_, end)) = self.pieces.pop_front()
        {
            self.floor = end;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_ran_at_once_counts_once() {
        let mut occupied = Occupied::default();
        let mut check = |from, until, expect| assert_eq!(occupied.add("r", from, until), expect);
        check(10, 20, 10);
        check(15, 25, 5);
        check(0, 30, 15);
        check(40, 50, 10);
        check(30, 40, 10);
        check(0, 50, 0);
        check(9, 3, 0);
        assert_eq!(occupied.add("other", 10, 20), 10);
    }

    proptest! {
        #[test]
        fn the_sum_is_the_union(spans in prop::collection::vec((0u64..200, 0u64..40), 0..60)) {
            let mut occupied = Occupied::default();
            let mut seconds = [false; 256];
            let mut sum = 0;
            for (from, len) in spans {
                sum += occupied.add("r", from, from + len);
                seconds[from as usize..(from + len) as usize].fill(true);
            }
            prop_assert_eq!(sum, seconds.iter().filter(|busy| **busy).count() as u64);
        }
    }
}
