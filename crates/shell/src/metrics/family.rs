//! Series of one name, told apart by labels, of which there are never more than a limit says. Labels are
//! either names, which somebody gave to a lane, a tenant or a replica, or words of our own, of which there
//! are few. A name that is one too many, or that is none, counts as `_other`, and so does what comes late for
//! something that is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::histogram::Histogram;
use super::model::{self, Kind};

/// What names count as that are too many, or none.
pub const OTHER: &str = "_other";

/// Different names in a family, `_other` not counted, where nothing else is said.
pub const NAMES_MAX: usize = 512;

/// Longest name that is shown.
const NAME_BYTES_MAX: usize = 128;

/// The labels of a family: first names, then words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels {
    /// Those with names.
    pub names: &'static [&'static str],
    /// Those with words, all of which are known beforehand.
    pub words: &'static [&'static str],
}

impl Labels {
    /// Names alone.
    pub const fn names(names: &'static [&'static str]) -> Self {
        Self { names, words: &[] }
    }

    /// Names and words.
    pub const fn new(names: &'static [&'static str], words: &'static [&'static str]) -> Self {
        Self { names, words }
    }

    pub(super) fn all(self) -> impl Iterator<Item = &'static str> {
        self.names.iter().chain(self.words).copied()
    }
}

/// What can be a series.
pub trait Series: Clone + fmt::Debug + Send + Sync + 'static {
    /// What it is.
    const KIND: Kind;

    /// Its value now.
    #[doc(hidden)]
    fn sample(&self) -> Sample;
}

/// A value.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sample(pub(super) model::Metric);

fn gauge(value: f64) -> Sample {
    let gauge = Some(model::Number { value });
    Sample(model::Metric { gauge, ..Default::default() })
}

fn counter(value: f64) -> Sample {
    let counter = Some(model::Number { value });
    Sample(model::Metric { counter, ..Default::default() })
}

impl Series for Counter {
    const KIND: Kind = Kind::Counter;

    fn sample(&self) -> Sample {
        counter(self.get() as f64)
    }
}

impl Series for Counter<f64, AtomicU64> {
    const KIND: Kind = Kind::Counter;

    fn sample(&self) -> Sample {
        counter(self.get())
    }
}

impl Series for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn sample(&self) -> Sample {
        gauge(self.get() as f64)
    }
}

impl Series for Gauge<u64, AtomicU64> {
    const KIND: Kind = Kind::Gauge;

    fn sample(&self) -> Sample {
        gauge(self.get() as f64)
    }
}

impl Series for Gauge<f64, AtomicU64> {
    const KIND: Kind = Kind::Gauge;

    fn sample(&self) -> Sample {
        gauge(self.get())
    }
}

impl Series for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn sample(&self) -> Sample {
        let histogram = Some(Self::sample(self));
        Sample(model::Metric { histogram, ..Default::default() })
    }
}

type Names = Box<[Box<str>]>;
type Words<M> = Vec<(Box<[&'static str]>, M)>;

/// All series of one name. Clones share them.
#[derive(Clone)]
pub struct Family<M> {
    inner: Arc<Inner<M>>,
}

struct Inner<M> {
    labels: Labels,
    names_max: usize,
    make: Box<dyn Fn() -> M + Send + Sync>,
    rows: RwLock<BTreeMap<Names, Words<M>>>,
}

impl<M> fmt::Debug for Family<M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Family")
            .field("labels", &self.inner.labels)
            .field("names", &self.inner.rows.read().len())
            .finish()
    }
}

impl<M: Series> Family<M> {
    pub(super) fn new(
        labels: Labels,
        names_max: usize,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner { labels, names_max, make: Box::new(make), rows: RwLock::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The series of these names and words, made if there is none. Whoever counts often keeps it. Of names that are
    /// one too many, the last is `_other`.
    ///
    /// # Panics
    /// In debug builds, when there are more or fewer than the family has labels.
    pub fn get(&self, names: &[&str], words: &[&'static str]) -> M {
        let names = self.shown(names, words);
        let mut rows = self.inner.rows.write();
        let names = self.place(&rows, names);
        self.series(rows.entry(names).or_default(), words)
    }

    /// Makes room for what has these names, whose series come with the first that [`Self::of`] is asked for.
    pub fn enter(&self, names: &[&str]) {
        let names: Names = names.iter().map(|name| shown(name).into()).collect();
        let mut rows = self.inner.rows.write();
        let names = self.place(&rows, names);
        rows.entry(names).or_default();
    }

    /// The series of these names if they are there, and else that of `_other`: what ends late must not bring
    /// back the series of something that is gone.
    ///
    /// # Panics
    /// As [`Self::get`].
    pub fn of(&self, names: &[&str], words: &[&'static str]) -> M {
        let names = self.shown(names, words);
        let mut rows = self.inner.rows.write();
        let last = others(&names);
        let names = match (rows.contains_key(&names), rows.contains_key(&last)) {
            (true, _) => names,
            (false, true) => last,
            (false, false) => names.iter().map(|_| OTHER.into()).collect(),
        };
        self.series(rows.entry(names).or_default(), words)
    }

    fn shown(&self, names: &[&str], words: &[&'static str]) -> Names {
        debug_assert_eq!(names.len(), self.inner.labels.names.len(), "a name for each label");
        debug_assert_eq!(words.len(), self.inner.labels.words.len(), "a word for each label");
        names.iter().map(|name| shown(name).into()).collect()
    }

    /// Where names go: to their own row, or where there are enough of them to that of the others.
    fn place<T>(&self, rows: &BTreeMap<Names, T>, names: Names) -> Names {
        let is_full = || self.room(rows) == 0;
        if rows.contains_key(&names) || rows.len() < self.inner.names_max || !is_full() {
            return names;
        }
        let last = others(&names);
        let too_many = || rows.len() >= self.inner.names_max.saturating_mul(2);
        if !rows.contains_key(&last) && too_many() {
            return names.iter().map(|_| OTHER.into()).collect();
        }
        last
    }

    /// How many more names there may be.
    fn room<T>(&self, rows: &BTreeMap<Names, T>) -> usize {
        let own = rows.keys().filter(|row| !is_other(row)).count();
        self.inner.names_max.saturating_sub(own)
    }

    fn series(&self, row: &mut Words<M>, words: &[&'static str]) -> M {
        if let Some((_, known)) = row.iter().find(|(known, _)| **known == *words) {
            return known.clone();
        }
        let made = (self.inner.make)();
        row.push((words.into(), made.clone()));
        made
    }

    /// Whatever these names are of is gone, and its series with it. Fewer names than labels mean all that
    /// begin so. Who has kept one of them counts for nobody.
    pub fn remove(&self, names: &[&str]) {
        let names: Names = names.iter().map(|name| shown(name).into()).collect();
        if names.first().is_some_and(|first| &**first == OTHER) {
            return;
        }
        self.inner.rows.write().retain(|row, _| !row.starts_with(&names));
    }

    /// Only those of these names stay, beside `_other`.
    pub fn keep(&self, wanted: impl Fn(&[Box<str>]) -> bool) {
        let other = |row: &Names| row.first().is_some_and(|first| &**first == OTHER);
        self.inner.rows.write().retain(|row, _| other(row) || wanted(row));
    }
}

impl Family<Gauge<u64, AtomicU64>> {
    /// Shows these and nothing else, of a family without words. What has the same names is added up, and so is what
    /// is one too many: `_other` is the sum of those, and there only while there are any. Who has a series keeps it.
    pub fn show<'a, const N: usize>(&self, now: impl IntoIterator<Item = ([&'a str; N], u64)>) {
        let mut wanted: BTreeMap<Names, u64> = BTreeMap::new();
        for (names, value) in now {
            let sum = wanted.entry(self.shown(&names, &[])).or_default();
            *sum = sum.saturating_add(value);
        }
        let mut rows = self.inner.rows.write();
        rows.retain(|row, _| wanted.contains_key(row));
        let mut room = self.room(&rows);
        let mut rest: BTreeMap<Names, u64> = BTreeMap::new();
        for (names, value) in wanted {
            let fits = rows.contains_key(&names) || room > 0;
            if is_other(&names) || !fits {
                let sum = rest.entry(others(&names)).or_default();
                *sum = sum.saturating_add(value);
                continue;
            }
            if !rows.contains_key(&names) {
                room -= 1;
            }
            self.series(rows.entry(names).or_default(), &[]).set(value);
        }
        for (names, value) in rest {
            self.series(rows.entry(names).or_default(), &[]).set(value);
        }
    }
}

/// What can be read at a scrape.
pub(super) trait Collect: Send + Sync {
    fn collect(&self) -> Vec<model::Metric>;
}

impl<M: Series> Collect for Family<M> {
    fn collect(&self) -> Vec<model::Metric> {
        let labels = self.inner.labels;
        let mut all = Vec::new();
        for (names, words) in &*self.inner.rows.read() {
            for (words, series) in words {
                let values = names.iter().map(|name| &**name).chain(words.iter().copied());
                let label = labels.all().zip(values).map(|(name, value)| model::LabelPair {
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
                all.push(model::Metric { label: label.collect(), ..series.sample().0 });
            }
        }
        all
    }
}

/// The row of those that are too many, or no names: all names but the last stay.
fn others(names: &Names) -> Names {
    let mut names = names.clone();
    if let Some(last) = names.last_mut() {
        *last = OTHER.into();
    }
    names
}

fn is_other(names: &Names) -> bool {
    names.last().is_some_and(|last| &**last == OTHER)
}

/// A name as it is shown: as it is, unless it is too long or holds what no name does.
fn shown(name: &str) -> &str {
    let usual = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(usual);
    if fits { name } else { OTHER }
}
