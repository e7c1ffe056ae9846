//! Who leaves a full queue: not always the one who comes last. A tenant that fills the queue must not
//! keep out those who have little in it.

use super::fair::{Fair, ROOT, Slot};
use super::{Queue, Ticket};
use crate::{Band, RequestId};

impl Queue {
    /// Takes out the request that has the least right to its place, where that has less than the new
    /// one: of the tenant with the most waiting requests for its weight, at the level at which the two
    /// tenants part, the newest of the least urgent. None, and nothing changes, where the new one
    /// itself has the least right.
    ///
    /// Looks at every tenant; it is called only when the queue is full.
    pub fn make_place(&mut self, new: &Ticket) -> Option<Ticket> {
        let leaf = self.fair.leaf(new.tenant);
        let crowded = self.fair.most_crowded(leaf)?;
        let (id, band) = Band::ALL.into_iter().rev().find_map(|band| self.newest(crowded, band))?;
        let more_right = crowded != leaf || band > new.band;
        let freed = self.waiting.get(&id)?.ticket.tokens.total();
        let tokens = self.tokens.saturating_sub(freed).saturating_add(new.tokens.total());
        let fits = tokens <= self.limits.tokens_max || self.requests == 1;
        if more_right && fits { self.remove(id) } else { None }
    }

    fn newest(&self, leaf: Slot, band: Band) -> Option<(RequestId, Band)> {
        let line = self.fair.line(leaf, band);
        // Who had a turn before has a client that reads: it stays.
        let leaves = |entry: &&(RequestId, u64)| {
            self.in_line(entry).is_some_and(|waiting| !waiting.spent.has_begun())
        };
        line.iter().rev().find(leaves).map(|(id, _)| (*id, band))
    }
}

impl Fair {
    /// The leaf whose requests crowd the queue, seen from a leaf that one more comes to: that leaf
    /// itself where nobody has more for its weight. None when nobody waits.
    fn most_crowded(&self, comer: Slot) -> Option<Slot> {
        let mine: Vec<Slot> = self.path(comer).collect();
        let mut at = ROOT;
        loop {
            let own = mine.iter().copied().find(|slot| self.node(*slot).parent == at);
            let crowd = |slot: Slot| {
                let new = u64::from(Some(slot) == own);
                let queued: u64 =
                    Band::ALL.into_iter().map(|band| u64::from(self.queued(slot, band))).sum();
                // As fractions with one denominator: queued / weight.
                u128::from(queued + new) * u128::from(u32::MAX) / u128::from(self.node(slot).weight)
            };
            let next = self.children(at).max_by_key(|slot| (crowd(*slot), Some(*slot) == own));
            match next {
                Some(next) => at = next,
                None => return (at != ROOT).then_some(at),
            }
        }
    }
}
