//! Series of one name, told apart by labels, of which there are never more than a limit says. Labels are
//! either names, which somebody gave to a lane, a tenant or a replica, or words of our own, of which there
//! are few. A name that is one too many, or that is none, counts as `_other`.

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

    /// The series of these names and words, made if there is none. Whoever counts often keeps it.
    ///
    /// # Panics
    /// In debug builds, when there are more or fewer than the family has labels.
    pub fn get(&self, names: &[&str], words: &[&'static str]) -> M {
        debug_assert_eq!(names.len(), self.inner.labels.names.len(), "a name for each label");
        debug_assert_eq!(words.len(), self.inner.labels.words.len(), "a word for each label");
        let mut names: Names = names.iter().map(|name| shown(name).into()).collect();
        let mut rows = self.inner.rows.write();
        if rows.len() >= self.inner.names_max && !rows.contains_key(&names) {
            names.fill(OTHER.into());
        }
        let row = rows.entry(names).or_default();
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

/// A name as it is shown: as it is, unless it is too long or holds what no name does.
fn shown(name: &str) -> &str {
    let usual = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(usual);
    if fits { name } else { OTHER }
}
