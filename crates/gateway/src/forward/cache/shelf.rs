//! Answers by their keys, bounded by number, bytes and age.
//!
//! Room is shared fairly: what goes is the answer asked for longest ago of the tenant that has most, so
//! that a tenant with less than its part never loses an answer to another's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pilotage_core::{Span, TenantId, Time};

use super::Answer;
use crate::config::CacheConfig;
use crate::forward::generation::Key;
use crate::forward::span;

/// What an answer takes beside its body: its headers and its place in the tables.
pub(super) const ENTRY_BYTES: usize = 1024;

/// Answers.
#[derive(Debug)]
pub(super) struct Shelf {
    config: CacheConfig,
    entries: HashMap<Key, Entry>,
    rows: HashMap<TenantId, Row>,
    /// Tenants by what they have of the whole.
    largest: BTreeSet<(u128, TenantId)>,
    /// Entries by their age, the oldest first.
    ages: BTreeMap<u64, Key>,
    bytes: usize,
    /// A number for each time that something is put or asked for.
    turn: u64,
    gone: Gone,
}

/// Answers that are kept no more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Gone {
    /// They made room.
    pub(super) displaced: u64,
    /// They were too old.
    pub(super) expired: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Answer>,
    tenant: TenantId,
    bytes: usize,
    since: Time,
    put: u64,
    used: u64,
}

/// What one tenant has.
#[derive(Debug, Default)]
struct Row {
    /// The one asked for longest ago first.
    order: BTreeMap<u64, Key>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(config: CacheConfig) -> Self {
        Self {
            config,
            entries: HashMap::new(),
            rows: HashMap::new(),
            largest: BTreeSet::new(),
            ages: BTreeMap::new(),
            bytes: 0,
            turn: 0,
            gone: Gone::default(),
        }
    }

    /// Limits from now on.
    pub(super) fn set_config(&mut self, config: CacheConfig) {
        if self.config == config {
            return;
        }
        self.config = config;
        // What a tenant has of the whole is reckoned with the limits.
        self.largest =
            self.rows.iter().map(|(tenant, row)| (part(&config, row), *tenant)).collect();
        self.make_room();
    }

    /// The answer of that key, unless it is older than that or than any may be.
    pub(super) fn get(&mut self, now: Time, key: &Key, age_max: Span) -> Option<Arc<Answer>> {
        self.expire(now);
        let entry = self.entries.get_mut(key)?;
        // Nothing is young enough for who wants none.
        if age_max == Span::ZERO || now.since(entry.since) > age_max {
            return None;
        }
        self.turn += 1;
        let before = std::mem::replace(&mut entry.used, self.turn);
        let answer = Arc::clone(&entry.answer);
        if let Some(row) = self.rows.get_mut(&entry.tenant) {
            row.order.remove(&before);
            row.order.insert(self.turn, *key);
        }
        Some(answer)
    }

    /// Keeps an answer, in place of the one of its key.
    pub(super) fn put(&mut self, now: Time, tenant: TenantId, key: Key, answer: Answer) {
        self.expire(now);
        self.remove(&key);
        let bytes = answer.body.len() + ENTRY_BYTES;
        if bytes > self.config.bytes_max {
            return;
        }
        self.turn += 1;
        let turn = self.turn;
        let answer = Arc::new(answer);
        let entry = Entry { answer, tenant, bytes, since: now, put: turn, used: turn };
        self.entries.insert(key, entry);
        self.ages.insert(turn, key);
        self.bytes += bytes;
        self.change(tenant, |row| {
            row.order.insert(turn, key);
            row.bytes += bytes;
        });
        self.make_room();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What went since this was last asked.
    pub(super) fn take_gone(&mut self) -> Gone {
        std::mem::take(&mut self.gone)
    }

    fn expire(&mut self, now: Time) {
        let ttl = span(self.config.ttl);
        while let Some((_, key)) = self.ages.first_key_value() {
            let key = *key;
            if self.entries.get(&key).is_some_and(|entry| now.since(entry.since) < ttl) {
                return;
            }
            self.remove(&key);
            self.gone.expired += 1;
        }
    }

    fn make_room(&mut self) {
        while self.bytes > self.config.bytes_max || self.entries.len() > self.config.entries_max {
            let largest = self.largest.last().and_then(|(_, tenant)| self.rows.get(tenant));
            let oldest = largest.and_then(|row| row.order.first_key_value());
            let Some((_, key)) = oldest else { return };
            let key = *key;
            self.remove(&key);
            self.gone.displaced += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.ages.remove(&entry.put);
        self.bytes -= entry.bytes;
        self.change(entry.tenant, |row| {
            row.order.remove(&entry.used);
            row.bytes -= entry.bytes;
        });
    }

    fn change(&mut self, tenant: TenantId, change: impl FnOnce(&mut Row)) {
        let row = self.rows.entry(tenant).or_default();
        self.largest.remove(&(part(&self.config, row), tenant));
        change(row);
        if row.order.is_empty() {
            self.rows.remove(&tenant);
        } else {
            self.largest.insert((part(&self.config, row), tenant));
        }
    }
}

/// What a tenant has of the whole, of bytes or of entries, whichever is more; only to be compared.
fn part(config: &CacheConfig, row: &Row) -> u128 {
    let of_bytes = row.bytes as u128 * config.entries_max as u128;
    let of_entries = row.order.len() as u128 * config.bytes_max as u128;
    of_bytes.max(of_entries)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;
    use pilotage_core::Tokens;

    use super::*;

    const FOREVER: Span = Span::from_secs(1 << 30);

    fn shelf(entries_max: usize, bytes_max: usize) -> Shelf {
        Shelf::new(CacheConfig { ttl: Duration::from_secs(60), entries_max, bytes_max })
    }

    fn put(shelf: &mut Shelf, secs: u64, tenant: u32, key: u8, bytes: usize) {
        let body = Bytes::from(vec![key; bytes]);
        let answer = Answer { headers: HeaderMap::new(), body, tokens: Tokens::default() };
        shelf.put(at(secs), TenantId(tenant), [key; 32], answer);
        check(shelf);
    }

    fn has(shelf: &mut Shelf, secs: u64, key: u8) -> bool {
        let found = shelf.get(at(secs), &[key; 32], FOREVER);
        check(shelf);
        assert!(found.iter().all(|answer| answer.body.iter().all(|byte| *byte == key)));
        found.is_some()
    }

    fn at(secs: u64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    /// Bounds hold, and the tables say the same.
    fn check(shelf: &Shelf) {
        let bytes: usize = shelf.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!((shelf.bytes, shelf.ages.len()), (bytes, shelf.entries.len()));
        assert!(bytes <= shelf.config.bytes_max);
        assert!(shelf.len() <= shelf.config.entries_max);
        let rows: usize = shelf.rows.values().map(|row| row.order.len()).sum();
        assert_eq!((rows, shelf.largest.len()), (shelf.len(), shelf.rows.len()));
        for (tenant, row) in &shelf.rows {
            assert!(shelf.largest.contains(&(part(&shelf.config, row), *tenant)));
            assert!(row.order.iter().all(|(used, key)| shelf.entries[key].used == *used));
        }
    }

    #[test]
    fn the_one_asked_for_longest_ago_makes_room() {
        let mut shelf = shelf(3, 1 << 20);
        for key in 1..=3 {
            put(&mut shelf, 0, 0, key, 10);
        }
        assert!(has(&mut shelf, 0, 1));
        put(&mut shelf, 0, 0, 4, 10);
        assert_eq!([1, 2, 3, 4].map(|key| has(&mut shelf, 0, key)), [true, false, true, true]);
        assert_eq!(shelf.take_gone(), Gone { displaced: 1, expired: 0 });
        // The same key again takes no more room.
        put(&mut shelf, 0, 0, 4, 20);
        assert_eq!((shelf.len(), shelf.bytes()), (3, 40 + 3 * ENTRY_BYTES));
    }

    #[test]
    fn bytes_are_bounded_and_what_is_larger_is_not_kept() {
        let mut shelf = shelf(100, 2 * ENTRY_BYTES + 100);
        put(&mut shelf, 0, 0, 1, 50);
        put(&mut shelf, 0, 0, 2, 50);
        assert_eq!(shelf.len(), 2);
        put(&mut shelf, 0, 0, 3, 51);
        assert_eq!([1, 2, 3].map(|key| has(&mut shelf, 0, key)), [false, false, true]);
        put(&mut shelf, 0, 0, 4, 2 * ENTRY_BYTES);
        assert!(!has(&mut shelf, 0, 4) && has(&mut shelf, 0, 3));
    }

    #[test]
    fn what_is_too_old_goes() {
        let mut shelf = shelf(100, 1 << 20);
        put(&mut shelf, 0, 0, 1, 10);
        put(&mut shelf, 30, 0, 2, 10);
        assert!(has(&mut shelf, 59, 1));
        assert!(!has(&mut shelf, 60, 1), "asking for it makes it no younger");
        assert_eq!((shelf.len(), shelf.take_gone()), (1, Gone { displaced: 0, expired: 1 }));
        let young =
            |shelf: &mut Shelf, secs| shelf.get(at(60), &[2; 32], Span::from_secs(secs)).is_some();
        assert!(young(&mut shelf, 30) && !young(&mut shelf, 29) && !young(&mut shelf, 0));
    }

    #[test]
    fn a_tenant_with_less_than_its_part_loses_nothing_to_others() {
        let mut shelf = shelf(10, 1 << 20);
        put(&mut shelf, 0, 1, 1, 10);
        put(&mut shelf, 0, 1, 2, 100_000);
        for key in 10..200 {
            put(&mut shelf, 0, 2, key, 10);
        }
        assert!(has(&mut shelf, 0, 1) && has(&mut shelf, 0, 2));
        assert_eq!(shelf.len(), 10);
    }

    #[test]
    fn smaller_limits_hold_at_once() {
        let mut shelf = shelf(10, 1 << 20);
        for key in 1..=9 {
            put(&mut shelf, 0, u32::from(key % 3), key, 10);
        }
        shelf.set_config(CacheConfig { entries_max: 4, ..shelf.config });
        check(&shelf);
        assert_eq!(shelf.len(), 4);
    }
}
