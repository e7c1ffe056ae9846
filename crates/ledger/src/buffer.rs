//! What waits in memory for the journal: records as they come, and beyond their limit sums over them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pilotage_lens::usage::{Entitlement, Group, Meters, Occupied, Reading, Row, Sums};
use pilotage_lens::{Piece, Record};

use crate::entry::{Entry, Folded, hour};
use crate::meter::{Key, Seen};

/// Readings of one entry, so that it fits a frame of the journal with names of the longest.
const READINGS_AT_ONCE: usize = 256;

/// Tenants of one entry, for the same reason.
const ENTITLED_AT_ONCE: usize = 1000;

/// Readings that wait at most, while the disk is full: some days of a hundred replicas. What comes beyond them is not
/// counted here.
const READINGS_MAX: usize = 20_000;

/// Lists of who can count on what that wait at most; readings whose list went count nobody's.
const LISTS_MAX: usize = 16;

/// What waits.
#[derive(Debug)]
pub(crate) struct Buffer {
    inner: Mutex<Inner>,
    came: Condvar,
    waiting_max: usize,
    folds_max: usize,
}

#[derive(Debug)]
struct Inner {
    /// The number given last.
    last: u64,
    records: VecDeque<(u64, Arc<Record>)>,
    folds: BTreeMap<(u64, Group), Sums>,
    /// What was seen of replicas, by the list of who could count on what of them.
    readings: BTreeMap<(u64, String, Key), Reading>,
    entitled: Vec<Entitlement>,
    /// Accelerators of replicas that have several.
    accelerators: BTreeMap<String, u32>,
    occupied: Occupied,
    sleeps: bool,
    closed: bool,
    folded: u64,
}

/// What was taken to be written.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Records with their numbers, in order.
    pub(crate) records: VecDeque<(u64, Arc<Record>)>,
    /// Sums and up times, with numbers of their own, above all of those.
    pub(crate) others: Vec<(u64, Entry)>,
    /// The number given last when it was taken.
    pub(crate) last: u64,
}

impl Buffer {
    /// An empty one. What it holds is allocated at once, so that adding allocates nothing.
    pub(crate) fn new(waiting_max: usize, folds_max: usize) -> Self {
        let inner = Inner {
            last: 0,
            records: VecDeque::with_capacity(waiting_max),
            folds: BTreeMap::new(),
            readings: BTreeMap::new(),
            entitled: Vec::new(),
            accelerators: BTreeMap::new(),
            occupied: Occupied::default(),
            sleeps: false,
            closed: false,
            folded: 0,
        };
        Self { inner: Mutex::new(inner), came: Condvar::new(), waiting_max, folds_max }
    }

    /// A record, and the number it gets.
    pub(crate) fn add(&self, record: &Arc<Record>) -> u64 {
        let mut inner = self.inner.lock();
        inner.last += 1;
        let sequence = inner.last;
        if inner.records.len() < self.waiting_max {
            inner.records.push_back((sequence, Arc::clone(record)));
        } else {
            inner.fold(record, self.folds_max);
        }
        let wake = std::mem::take(&mut inner.sleeps);
        drop(inner);
        if wake {
            self.came.notify_one();
        }
        sequence
    }

    /// Something was seen of replicas; what was seen of one in one hour is put together.
    pub(crate) fn add_seen(&self, seen: Seen) {
        let mut inner = self.inner.lock();
        if let Some(list) = seen.entitled {
            if inner.entitled.len() >= LISTS_MAX {
                inner.entitled.remove(0);
            }
            inner.entitled.push(list);
        }
        for (key, reading) in seen.readings {
            let place = (key.hour, seen.digest.clone(), key);
            if let Some(known) = inner.readings.get_mut(&place) {
                let mut seconds = std::mem::take(&mut known.seconds);
                seconds.add_all(&reading.seconds);
                *known = Reading { seconds, ..reading };
            } else if inner.readings.len() < READINGS_MAX {
                inner.readings.insert(place, reading);
            }
        }
    }

    /// How many accelerators replicas have, by their names.
    pub(crate) fn set_accelerators(&self, accelerators: BTreeMap<String, u32>) {
        self.inner.lock().accelerators = accelerators;
    }

    /// Everything, once there is something or it was so long; nothing once it is closed and empty. What is given
    /// back is empty and used again.
    pub(crate) fn take(
        &self,
        mut empty: VecDeque<(u64, Arc<Record>)>,
        wait: Duration,
    ) -> Option<Taken> {
        let mut inner = self.inner.lock();
        if inner.is_empty() && !inner.closed {
            inner.sleeps = true;
            self.came.wait_for(&mut inner, wait);
            inner.sleeps = false;
        }
        if inner.is_empty() && inner.closed {
            return None;
        }
        std::mem::swap(&mut inner.records, &mut empty);
        let others = inner.others();
        Some(Taken { records: empty, others, last: inner.last })
    }

    /// The row of a record.
    pub(crate) fn row(&self, record: &Record) -> Row {
        let busy_us = self.inner.lock().busy_us(record);
        Row::of_attempts(record, &busy_us)
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.came.notify_all();
    }

    /// Waits so long, or until it is closed; whether it is.
    pub(crate) fn pause(&self, wait: Duration) -> bool {
        let mut inner = self.inner.lock();
        let closed = inner.closed;
        // Once closed there is nobody who would wake it.
        self.came.wait_for(&mut inner, wait);
        closed
    }

    /// Rows that wait, rows folded so far, and sums that wait.
    pub(crate) fn lengths(&self) -> (usize, u64, usize) {
        let inner = self.inner.lock();
        (inner.records.len(), inner.folded, inner.folds.len())
    }
}

impl Inner {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.folds.is_empty() && self.readings.is_empty()
    }

    /// What is no record, each with a number of its own: sums, then lists, then readings that go with those.
    fn others(&mut self) -> Vec<(u64, Entry)> {
        let mut others = Vec::new();
        for ((hour, group), sums) in std::mem::take(&mut self.folds) {
            others.push(Entry::Folded(Box::new(Folded { hour, group, sums })));
        }
        others.extend(std::mem::take(&mut self.entitled).into_iter().flat_map(parts));
        let mut all: BTreeMap<(u64, String), Vec<Reading>> = BTreeMap::new();
        for ((hour, digest, _), reading) in std::mem::take(&mut self.readings) {
            all.entry((hour, digest)).or_default().push(reading);
        }
        for ((hour, entitled), readings) in all {
            for some in readings.chunks(READINGS_AT_ONCE) {
                let entitled = entitled.clone();
                let meters = Meters { hour, entitled, readings: some.to_vec() };
                others.push(Entry::Meters(Box::new(meters)));
            }
        }
        let numbered = others.into_iter().map(|entry| {
            self.last += 1;
            (self.last, entry)
        });
        numbered.collect()
    }

    fn fold(&mut self, record: &Record, folds_max: usize) {
        let busy_us = self.busy_us(record);
        for (group, sums) in Row::of_attempts(record, &busy_us).shares() {
            let mut key = (hour(record.unix_ms), group);
            if self.folds.len() >= folds_max && !self.folds.contains_key(&key) {
                // Tenants are as many as are configured, so that this is bounded, too.
                key.1 = key.1.coarse();
            }
            *self.folds.entry(key).or_default() += sums;
        }
        self.folded += 1;
    }

    /// Accelerator-microseconds that each attempt of this request alone made busy.
    fn busy_us(&mut self, record: &Record) -> Vec<u64> {
        let end = record.unix_ms * 1000;
        if let Some(ran) = &record.ran {
            let ago = |nanos: u64| end.saturating_sub(nanos / 1000);
            let times = |one: &Piece| (ago(one.from_ago.as_nanos()), ago(one.until_ago.as_nanos()));
            let busy = |one: &Piece| self.busy_at(&one.at.replica, times(one));
            return ran.pieces.iter().map(busy).collect();
        }
        let Some(replica) = record.replica.as_deref() else { return Vec::new() };
        if record.merged || record.cache == Some("hit") {
            return Vec::new();
        }
        let phases = &record.phases;
        let micros = |nanos: u64| nanos / 1000;
        let after = micros(phases.other.as_nanos() + phases.client_blocked.as_nanos());
        let ran = micros((phases.connect + phases.prefill + phases.decode).as_nanos());
        let until = end.saturating_sub(after);
        vec![self.busy_at(replica, (until.saturating_sub(ran), until))]
    }

    fn busy_at(&mut self, replica: &str, (from, until): (u64, u64)) -> u64 {
        let accelerators = self.accelerators.get(replica).copied().unwrap_or(1).max(1);
        self.occupied.add(replica, from, until) * u64::from(accelerators)
    }
}

/// A list in entries that fit.
fn parts(whole: Entitlement) -> Vec<Entry> {
    let Entitlement { digest, hour, entitled, .. } = whole;
    let chunks = entitled.chunks(ENTITLED_AT_ONCE).zip(0..);
    let part = |(some, part): (&[_], u64)| {
        let entitled = some.to_vec();
        Entry::Entitled(Box::new(Entitlement { digest: digest.clone(), part, hour, entitled }))
    };
    chunks.map(part).collect()
}

#[cfg(test)]
mod tests {
    use pilotage_lens::usage::{Entitled, NAME_BYTES_MAX, Seconds};

    use super::*;
    use crate::frame::{self, Read};

    /// As much as a gateway can have to say at once.
    fn seen(replicas: usize, tenants: usize) -> Seen {
        let long =
            |what: &str, at: usize| format!("{what}{at:0width$}", width = NAME_BYTES_MAX - 1);
        let entitled = (0..tenants).map(|at| Entitled {
            tenant: long("t", at),
            guaranteed: 1000,
            weight: u32::MAX,
        });
        let entitled = entitled.collect();
        let list = Entitlement { digest: "#".to_owned(), part: 0, hour: 1, entitled };
        let readings = (0..replicas).map(|at| {
            let (model, replica) = (long("m", at), long("r", at));
            let key = Key { hour: 1, model: model.clone(), replica: replica.clone() };
            let hardware = long("h", at);
            let seconds = Seconds::stretch(0, 60);
            let micros_per_hour = u64::MAX;
            let reading =
                Reading { replica, model, hardware, accelerators: 8, micros_per_hour, seconds };
            (key, reading)
        });
        Seen { digest: "#".to_owned(), entitled: Some(list), readings: readings.collect() }
    }

    #[test]
    fn everything_fits_a_frame() {
        let buffer = Buffer::new(10, 10);
        buffer.add_seen(seen(1000, 10_000));
        let taken = buffer.take(VecDeque::new(), Duration::ZERO).unwrap();
        let (mut readings, mut tenants, mut lists_are_over) = (0, 0, false);
        for (sequence, entry) in &taken.others {
            let mut bytes = Vec::new();
            frame::write(*sequence, entry, &mut bytes).unwrap();
            let Read::Entry(_, again, _) = frame::read(&bytes, 0) else { panic!("no frame") };
            assert_eq!(&*again, entry);
            match entry {
                Entry::Entitled(list) => {
                    assert!(!lists_are_over);
                    tenants += list.entitled.len();
                }
                Entry::Meters(meters) => {
                    lists_are_over = true;
                    readings += meters.readings.len();
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((readings, tenants), (1000, 10_000));
    }

    #[test]
    fn what_waits_is_put_together_and_bounded() {
        let buffer = Buffer::new(10, 10);
        (0..LISTS_MAX + 3).for_each(|_| buffer.add_seen(seen(3, 1)));
        assert_eq!(buffer.inner.lock().readings.len(), 3);
        assert_eq!(buffer.inner.lock().entitled.len(), LISTS_MAX);
        buffer.add_seen(seen(READINGS_MAX + 1, 0));
        assert_eq!(buffer.inner.lock().readings.len(), READINGS_MAX);
    }
}
