//! The records of the last requests, newest first for who asks. Bounded: the oldest goes for the newest.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_lens::Record;

/// They, each with its number.
#[derive(Debug)]
pub(crate) struct Recent {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: VecDeque<Arc<Record>>,
    /// The number of the next one.
    next: u64,
}

impl Recent {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), inner: Mutex::default() }
    }

    pub(crate) fn push(&self, record: Arc<Record>) {
        let oldest = {
            let mut inner = self.inner.lock();
            let oldest =
                if inner.records.len() >= self.max { inner.records.pop_front() } else { None };
            inner.records.push_back(record);
            inner.next += 1;
            oldest
        };
        // Taken apart when nobody waits for the lock.
        drop(oldest);
    }

    /// At most so many that fit, with their numbers, newest first, from those before that number.
    pub(crate) fn page(
        &self,
        before: Option<u64>,
        most: usize,
        fits: impl Fn(&Record) -> bool,
    ) -> Vec<(u64, Arc<Record>)> {
        // Looking through all of them under the lock would hold up requests.
        let (records, next) = {
            let inner = self.inner.lock();
            (inner.records.iter().cloned().collect::<Vec<_>>(), inner.next)
        };
        let numbered = (0..next).rev().zip(records.into_iter().rev());
        let asked = numbered.filter(|(number, _)| before.is_none_or(|before| *number < before));
        asked.filter(|(_, record)| fits(record)).take(most).collect()
    }

    /// At most so many of those that ended since then, newest first; and when the oldest of them did, where older ones
    /// of them are forgotten or left out.
    pub(crate) fn since(&self, from_ms: u64, most: usize) -> (Vec<Arc<Record>>, Option<u64>) {
        let (mut records, is_full) = {
            let inner = self.inner.lock();
            let since = inner.records.iter().rev().filter(|record| record.unix_ms >= from_ms);
            let records: Vec<Arc<Record>> = since.take(most.saturating_add(1)).cloned().collect();
            let is_old = inner.records.front().is_none_or(|oldest| oldest.unix_ms < from_ms);
            (records, !is_old && inner.records.len() >= self.max)
        };
        let is_cut = is_full || records.len() > most;
        records.truncate(most);
        let oldest = records.last().filter(|_| is_cut).map(|record| record.unix_ms);
        (records, oldest)
    }

    /// The newest one of that id.
    pub(crate) fn find(&self, request_id: &str) -> Option<Arc<Record>> {
        let inner = self.inner.lock();
        let mut newest = inner.records.iter().rev();
        newest.find(|record| record.request_id.as_str() == request_id).cloned()
    }
}
