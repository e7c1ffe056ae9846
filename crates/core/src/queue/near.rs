//! Which of those that may go now finds most of its prompt in a cache: locality inside the quantum
//! (deficit longest prefix match, arXiv 2501.14312).
//!
//! Tenants within the quantum of each other are equal, and so are the first few requests of one
//! tenant's line, until its oldest has been passed over often enough. How many are looked at is
//! limited, so that a turn costs the same however many wait.

use super::fair::Slot;
use super::{Queue, Ticket, Waiting};
use crate::{Band, RequestId};

/// Tenants that are looked at.
const TENANTS_MAX: usize = 16;

/// Requests of each that are looked at.
const LINE_MAX: usize = 8;

/// How often the oldest request of a line is passed over.
const PASSED_MAX: u32 = 16;

impl Queue {
    /// The first of equals is the one whose turn it is without caches.
    pub(super) fn warmest(&self, band: Band, cached: impl Fn(&Ticket) -> u32) -> Option<&Ticket> {
        let near = self.fair.near(band, self.config.quantum, TENANTS_MAX);
        let all = near.into_iter().flat_map(|leaf| self.front(leaf, band));
        let best = all.fold(None, |best: Option<(u32, &Ticket)>, waiting| {
            let found = cached(&waiting.ticket);
            let is_better = best.is_none_or(|(most, _)| found > most);
            if is_better { Some((found, &waiting.ticket)) } else { best }
        });
        best.map(|(_, ticket)| ticket)
    }

    /// The oldest requests of a leaf that may go: one, once that was passed over often enough.
    fn front(&self, leaf: Slot, band: Band) -> impl Iterator<Item = &Waiting> {
        let line = self.fair.line(leaf, band);
        let waiting = line.iter().filter_map(|entry| self.in_line(entry));
        let mut most = LINE_MAX;
        waiting.take_while(move |waiting| {
            let goes_on = most > 0;
            most = if waiting.passed >= PASSED_MAX { 0 } else { most.saturating_sub(1) };
            goes_on
        })
    }

    /// Those of a band who come after a request in their order, at most so many of whom may go at all:
    /// the line of its tenant, and the lines of the tenants that are next.
    pub(crate) fn behind(
        &self,
        first: RequestId,
        band: Band,
        most: usize,
        may: impl Fn(RequestId) -> bool,
    ) -> Vec<Ticket> {
        let leaves = self.fair.near(band, u64::MAX, TENANTS_MAX);
        let lines = leaves.into_iter().flat_map(|leaf| {
            let line = self.fair.line(leaf, band);
            let waiting = line.iter().filter_map(|entry| self.in_line(entry));
            waiting.filter(|waiting| may(waiting.ticket.id)).take(most)
        });
        let again = self.again[band as usize].values().filter_map(|id| self.waiting.get(id));
        let all = again.chain(lines).map(|waiting| waiting.ticket);
        all.filter(|ticket| ticket.id != first && may(ticket.id)).take(most).collect()
    }

    /// A request gets its turn: the one in front of it, if there is one, was passed over.
    pub(super) fn pass(&mut self, id: RequestId) {
        let Some(waiting) = self.waiting.get(&id).filter(|waiting| !waiting.again) else { return };
        let oldest = self.head(waiting.leaf, waiting.ticket.band).map(|ticket| ticket.id);
        let passed = oldest.filter(|oldest| *oldest != id);
        if let Some(oldest) = passed.and_then(|oldest| self.waiting.get_mut(&oldest)) {
            oldest.passed += 1;
        }
    }
}
