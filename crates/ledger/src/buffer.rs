//! What waits in memory for the journal: records as they come, and beyond their limit sums over them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pilotage_lens::Record;
use pilotage_lens::usage::{Group, Occupied, Row, Sums, UpTime};

use crate::entry::{Entry, Folded, hour};

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
    ups: BTreeMap<(u64, String, String), UpTime>,
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
            ups: BTreeMap::new(),
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

    /// Replicas were up; times of one hour add up.
    pub(crate) fn add_up(&self, up: UpTime) {
        let mut inner = self.inner.lock();
        let key = (up.hour, up.model.clone(), up.hardware.clone());
        let sum = inner.ups.entry(key).or_insert_with(|| UpTime {
            up_ms: 0,
            cost_micros: 0,
            ..up.clone()
        });
        sum.up_ms += up.up_ms;
        sum.cost_micros += up.cost_micros;
        sum.entitled = up.entitled;
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
        let mut others = Vec::new();
        for ((hour, group), sums) in std::mem::take(&mut inner.folds) {
            others.push(Entry::Folded(Box::new(Folded { hour, group, sums })));
        }
        others
            .extend(std::mem::take(&mut inner.ups).into_values().map(|up| Entry::Up(Box::new(up))));
        let others = others.into_iter().map(|entry| {
            inner.last += 1;
            (inner.last, entry)
        });
        let others = others.collect();
        Some(Taken { records: empty, others, last: inner.last })
    }

    /// The row of a record.
    pub(crate) fn row(&self, record: &Record) -> Row {
        let busy_us = self.inner.lock().busy_us(record);
        Row::of(record, busy_us)
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
        self.records.is_empty() && self.folds.is_empty() && self.ups.is_empty()
    }

    fn fold(&mut self, record: &Record, folds_max: usize) {
        let busy_us = self.busy_us(record);
        let sums = Row::of(record, busy_us).sums();
        let mut key = (hour(record.unix_ms), Group::of(record));
        if self.folds.len() >= folds_max && !self.folds.contains_key(&key) {
            // Tenants are as many as are configured, so that this is bounded, too.
            key.1 = key.1.coarse();
        }
        *self.folds.entry(key).or_default() += sums;
        self.folded += 1;
    }

    /// Accelerator-microseconds that this request alone made busy.
    fn busy_us(&mut self, record: &Record) -> u64 {
        let Some(replica) = record.replica.as_deref() else { return 0 };
        if record.merged || record.cache == Some("hit") {
            return 0;
        }
        let phases = &record.phases;
        let micros = |nanos: u64| nanos / 1000;
        let after = micros(phases.other.as_nanos() + phases.client_blocked.as_nanos());
        let ran = micros((phases.connect + phases.prefill + phases.decode).as_nanos());
        let until = (record.unix_ms * 1000).saturating_sub(after);
        let accelerators = self.accelerators.get(replica).copied().unwrap_or(1).max(1);
        self.occupied.add(replica, until.saturating_sub(ran), until) * u64::from(accelerators)
    }
}
