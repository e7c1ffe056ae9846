//! The sum of an engine's KV events: what left its cache, and how much that holds.
//!
//! How much the cache holds shows when something has to leave it: as much as was there at that moment.
//! It is known only where every event since an empty cache was heard.

use pilotage_core::prefix::BLOCK_TOKENS;
use pilotage_wire::kv_events::{Batch, Event, Medium};

use crate::metrics::KvCounts;

/// Tokens of a block before an engine has said so: vLLM's default.
const BLOCK_TOKENS_PRIOR: u32 = 16;

/// What is less than one part in so many of what was told is not told again.
const PART: u64 = 16;

/// What came since the lane was told last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct News {
    /// The cache was empty at some moment.
    pub(super) cleared: bool,
    /// Tokens that left it after that.
    pub(super) evicted: u64,
    /// Tokens that it holds in the accelerator's memory, where that shows and is news.
    pub(super) device: Option<u64>,
    /// In the host's.
    pub(super) host: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Book {
    /// The number of the next message.
    next: Option<u64>,
    block_tokens: u32,
    cleared: bool,
    /// Tokens that left the cache and were not told.
    evicted: u64,
    device: Shelf,
    host: Shelf,
}

/// One memory.
#[derive(Debug, Default)]
struct Shelf {
    /// Blocks there; none where events are missing.
    blocks: Option<u64>,
    /// Something leaves, and nothing has come since.
    leaving: bool,
    /// Blocks that it has shown to hold.
    holds: u64,
    /// The same, as it was told last.
    told: u64,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            next: None,
            block_tokens: BLOCK_TOKENS_PRIOR,
            cleared: false,
            evicted: 0,
            device: Shelf::default(),
            host: Shelf::default(),
        }
    }
}

impl Book {
    /// A message of this number came: how many before it did not.
    pub(super) fn number(&mut self, number: u64) -> u64 {
        let next = self.next.replace(number.wrapping_add(1));
        match next {
            Some(next) if number == next => 0,
            // One that counts from the begin again has started again, with nothing in its cache.
            Some(next) if number < next => {
                self.clear();
                if number > 0 {
                    self.forget();
                }
                number
            }
            Some(next) => {
                self.forget();
                number - next
            }
            None => {
                if number == 0 {
                    self.device.blocks = Some(0);
                    self.host.blocks = Some(0);
                }
                0
            }
        }
    }

    /// A batch came.
    pub(super) fn take(&mut self, batch: &Batch, counts: &KvCounts) {
        for event in &batch.events {
            match *event {
                Event::Stored { blocks, block_tokens, medium } => {
                    counts.stored(blocks.into());
                    self.block_tokens = block_tokens.unwrap_or(self.block_tokens).max(1);
                    if let Some(shelf) = self.shelf(medium) {
                        shelf.stored(blocks.into());
                    }
                }
                Event::Removed { blocks, medium } => {
                    counts.removed(blocks.into());
                    if medium == Medium::Device {
                        let tokens = u64::from(blocks) * u64::from(self.block_tokens);
                        self.evicted = self.evicted.saturating_add(tokens);
                    }
                    if let Some(shelf) = self.shelf(medium) {
                        shelf.removed(blocks.into());
                    }
                }
                Event::Cleared => {
                    counts.cleared();
                    self.clear();
                }
                Event::Unknown => counts.unknown(),
            }
        }
        // What spills over is kept in the host's memory at once, before that is full.
        self.host.holds = self.host.holds.max(self.host.blocks.unwrap_or(0));
    }

    /// What has not been told; what is less than a block of the index is told later.
    pub(super) fn news(&mut self) -> News {
        let rest = self.evicted % u64::from(BLOCK_TOKENS);
        let evicted = self.evicted - rest;
        self.evicted = rest;
        let tokens = u64::from(self.block_tokens);
        News {
            cleared: std::mem::take(&mut self.cleared),
            evicted,
            device: self.device.news().map(|blocks| blocks.saturating_mul(tokens)),
            host: self.host.news().map(|blocks| blocks.saturating_mul(tokens)),
        }
    }

    fn clear(&mut self) {
        self.cleared = true;
        self.evicted = 0;
        self.device.blocks = Some(0);
        self.host.blocks = Some(0);
    }

    fn forget(&mut self) {
        self.device.blocks = None;
        self.host.blocks = None;
    }

    fn shelf(&mut self, medium: Medium) -> Option<&mut Shelf> {
        match medium {
            Medium::Device => Some(&mut self.device),
            Medium::Host => Some(&mut self.host),
            Medium::Other => None,
        }
    }
}

impl Shelf {
    fn stored(&mut self, blocks: u64) {
        self.leaving = false;
        self.blocks = self.blocks.map(|there| there.saturating_add(blocks));
    }

    fn removed(&mut self, blocks: u64) {
        if let Some(there) = self.blocks.filter(|_| !self.leaving) {
            self.holds = there;
        }
        self.leaving = true;
        self.blocks = self.blocks.map(|there| there.saturating_sub(blocks));
    }

    fn news(&mut self) -> Option<u64> {
        if self.holds == 0 || self.holds.abs_diff(self.told) <= self.told / PART {
            return None;
        }
        self.told = self.holds;
        Some(self.holds)
    }
}

#[cfg(test)]
mod tests {
    use pilotage_shell::metrics::Metrics;

    use super::*;
    use crate::metrics::GatewayMetrics;

    fn stored(blocks: u32, medium: Medium) -> Event {
        Event::Stored { blocks, block_tokens: Some(32), medium }
    }

    fn removed(blocks: u32, medium: Medium) -> Event {
        Event::Removed { blocks, medium }
    }

    fn book(batches: &[(u64, &[Event])]) -> (Book, u64) {
        let counts = GatewayMetrics::new(&Metrics::new()).lane("lane").kv;
        let (mut book, mut lost) = (Book::default(), 0);
        for (number, events) in batches {
            lost += book.number(*number);
            book.take(&Batch { events: events.to_vec(), rank: None }, &counts);
        }
        (book, lost)
    }

    use Medium::{Device, Host};

    #[test]
    fn a_cache_is_as_large_as_it_was_when_something_had_to_leave() {
        let check = |batches: &[(u64, &[Event])], lost: u64, expect: News| {
            let (mut book, gaps) = book(batches);
            assert_eq!((book.news(), gaps), (expect, lost), "{batches:?}");
        };
        let none = News::default();
        check(&[(0, &[stored(100, Device)])], 0, none);
        let full: (u64, &[Event]) =
            (1, &[removed(3, Device), removed(3, Device), stored(6, Device)]);
        let news = News { evicted: 192, device: Some(3200), ..none };
        check(&[(0, &[stored(100, Device)]), full], 0, news);
        // Who came in the middle, or missed something, does not know.
        let part = News { evicted: 192, ..none };
        check(&[(7, &[stored(100, Device)]), (8, full.1)], 0, part);
        check(&[(0, &[stored(100, Device)]), (3, full.1)], 2, part);
        // After a start from nothing it is known again, even in the middle.
        let anew = News { cleared: true, ..news };
        check(
            &[(7, &[removed(9, Device), Event::Cleared, stored(100, Device)]), (8, full.1)],
            0,
            anew,
        );
        check(&[(7, &[]), (0, &[stored(100, Device)]), full], 0, anew);
        check(&[(7, &[]), (2, &[])], 2, News { cleared: true, ..none });
        // What lies on the host's side is kept there until that is full.
        let host = News { host: Some(640), ..none };
        check(&[(0, &[stored(20, Host), removed(1, Host), stored(1, Host)])], 0, host);
        check(&[(0, &[stored(20, Medium::Other), removed(9, Medium::Other)])], 0, none);
    }

    #[test]
    fn small_change_is_told_later() {
        let (mut book, _) = book(&[(0, &[stored(100, Device), removed(1, Device)])]);
        assert_eq!(book.news(), News { device: Some(3200), ..News::default() });
        assert_eq!(book.news(), News::default());
        let counts = GatewayMetrics::new(&Metrics::new()).lane("lane").kv;
        let again = vec![stored(3, Device), removed(1, Device)];
        book.take(&Batch { events: again, rank: None }, &counts);
        let news = book.news();
        assert_eq!(news, News { evicted: 64, ..News::default() }, "102 blocks are nearly 100");
    }
}
