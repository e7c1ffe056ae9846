//! Metrics in Prometheus' formats: families are registered where they are made, with their help, and one
//! list of what exists feeds the reference page. Families of ours have limits, and histograms with native
//! buckets and examples; whoever needs neither may register what `prometheus-client` has.

mod accept;
mod alias;
mod buckets;
mod family;
mod histogram;
mod model;
mod names;
mod native;
mod process;
mod read;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use prost::Message as _;

pub use accept::Format;
use alias::Alias;
pub use alias::{Relabel, Relabelled};
pub use buckets::{DURATION_SECONDS, OVERHEAD_SECONDS, TOKENS, TPOT_SECONDS, TTFT_SECONDS};
use family::Collect;
pub use family::{Family, Labels, NAMES_MAX, OTHER, Series};
pub use histogram::{Example, Histogram};
pub use model::Kind;
pub use names::{GenAi, Names, UnknownOptIn};
pub use native::BUCKETS_MAX as NATIVE_BUCKETS_MAX;

/// A gauge of whole numbers that are not negative.
pub type Level = Gauge<u64, AtomicU64>;
/// A gauge of any number.
pub type Measure = Gauge<f64, AtomicU64>;
/// A counter of what comes in parts, such as seconds.
pub type Amount = Counter<f64, AtomicU64>;

/// One metric, as the reference page shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Its name; that of a counter ends in `_total` in every format.
    pub name: String,
    /// What it counts.
    pub help: String,
    /// Counter, gauge or histogram.
    pub kind: &'static str,
    /// Its labels, where it is a family of ours.
    pub labels: Vec<&'static str>,
}

/// A name and what is meant by it.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// As it is shown, without the suffix `_total` of counters.
    pub name: &'static str,
    /// What it counts, without a full stop.
    pub help: &'static str,
    /// What tells its series apart.
    pub labels: Labels,
    /// Most different names in it.
    pub names_max: usize,
}

impl About {
    /// A family with as many names as is usual.
    pub const fn new(name: &'static str, help: &'static str, labels: Labels) -> Self {
        Self { name, help, labels, names_max: NAMES_MAX }
    }

    /// With another limit of names.
    pub const fn at_most(mut self, names_max: usize) -> Self {
        self.names_max = names_max;
        self
    }
}

/// Everything at one moment, in a format.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// The answer's body.
    pub body: Bytes,
}

/// Where metrics are registered and read. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    names: Names,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// What is registered as `prometheus-client` has it.
    registry: Registry,
    own: Vec<Own>,
    described: Vec<Described>,
}

struct Own {
    name: String,
    help: String,
    kind: Kind,
    series: Box<dyn Collect>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Inner").field("described", &self.described.len()).finish()
    }
}

impl Metrics {
    /// A registry that holds the process's own metrics.
    pub fn new() -> Self {
        Self::named(Names::default())
    }

    /// One in which measures have more names than our own.
    pub fn named(names: Names) -> Self {
        let process = process::ROWS.iter().map(|(name, help, kind, _)| Described {
            name: name.trim_end_matches("_total").to_owned(),
            help: (*help).to_owned(),
            kind: kind.name(),
            labels: Vec::new(),
        });
        let described = process.collect();
        let inner = Inner { registry: Registry::default(), own: Vec::new(), described };
        Self { names, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Which names there are besides our own.
    pub const fn names(&self) -> Names {
        self.names
    }

    /// Adds a metric of `prometheus-client` and gives it back. `name` is without the suffix `_total` of
    /// counters.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut inner = self.inner.lock();
        let kind = match metric.metric_type().as_str() {
            "counter" => "counter",
            "histogram" => "histogram",
            "unknown" => "untyped",
            _ => "gauge",
        };
        inner.described.push(Described {
            name: name.to_owned(),
            help: help.to_owned(),
            kind,
            labels: Vec::new(),
        });
        inner.registry.register(name, help.trim_end_matches('.'), metric.clone());
        metric
    }

    /// Adds a family of counters or gauges.
    pub fn family<M: Series + Default>(&self, about: About) -> Family<M> {
        self.add(about, M::default)
    }

    /// Adds a family of histograms with these boundaries, native buckets, and room for examples.
    pub fn histograms(&self, about: About, bounds: &'static [f64]) -> Family<Histogram> {
        self.add(about, move || Histogram::new(bounds))
    }

    fn add<M: Series>(
        &self,
        about: About,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Family<M> {
        let family = Family::new(about.labels, about.names_max, make);
        let labels = about.labels.all().collect();
        self.inner.lock().add(about, M::KIND, labels, Box::new(family.clone()));
        family
    }

    /// Shows a family under another's name, with labels as `relabel` says, and `more` of them.
    pub fn alias<M: Series>(
        &self,
        about: About,
        of: &Family<M>,
        relabel: Relabel,
        more: &'static [(&'static str, &'static str)],
    ) {
        let labels = about.labels.all().chain(more.iter().map(|(name, _)| *name)).collect();
        let alias = Alias { of: Box::new(of.clone()), relabel, more };
        self.inner.lock().add(about, M::KIND, labels, Box::new(alias));
    }

    /// Everything in the format that an `Accept` header asks for.
    pub fn expose(&self, accept: Option<&str>) -> Exposition {
        let format = Format::of(accept);
        let families = self.inner.lock().families();
        let body = match format {
            Format::OpenMetrics => text::open_metrics(&families).into(),
            Format::Plain => text::plain(&families).into(),
            Format::Protobuf => {
                let each = families.iter().flat_map(model::Family::encode_length_delimited_to_vec);
                Bytes::from_iter(each)
            }
        };
        Exposition { content_type: format.content_type(), body }
    }

    /// Everything in the text format of OpenMetrics.
    pub fn encode(&self) -> String {
        text::open_metrics(&self.inner.lock().families())
    }

    /// What is registered, by name.
    pub fn described(&self) -> Vec<Described> {
        let mut described = self.inner.lock().described.clone();
        described.sort_by(|one, other| one.name.cmp(&other.name));
        described
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn add(
        &mut self,
        about: About,
        kind: Kind,
        labels: Vec<&'static str>,
        series: Box<dyn Collect>,
    ) {
        let About { name, help, .. } = about;
        self.described.push(Described {
            name: name.to_owned(),
            help: help.to_owned(),
            kind: kind.name(),
            labels,
        });
        let suffix = if kind == Kind::Counter { "_total" } else { "" };
        let name = format!("{name}{suffix}");
        self.own.push(Own { name, help: format!("{help}."), kind, series });
    }

    /// All that there is now. A family without a series is left out.
    fn families(&self) -> Vec<model::Family> {
        let mut text = String::new();
        // Writing into a string fails only when a metric's own encoder does.
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("a metric could not be encoded");
        }
        let mut families = process::families();
        families.extend(read::families(&text));
        families.extend(self.own.iter().map(|own| model::Family {
            name: own.name.clone(),
            help: own.help.clone(),
            kind: own.kind as i32,
            metric: own.series.collect(),
        }));
        families.retain(|family| !family.metric.is_empty());
        families
    }
}
