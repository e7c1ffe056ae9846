//! Families under names that others gave to the same measure, so that boards and autoscalers made for those
//! go on. They are made of ours at each scrape: counting costs nothing more.

use super::family::Collect;
use super::model::{LabelPair, Metric};

/// What becomes of a series' labels; none where it does not belong to the alias.
pub type Relabel = fn(&str, &str) -> Relabelled;

/// What becomes of one label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Relabelled {
    /// It has these names, with the value that it has here.
    As(&'static [&'static str]),
    /// It is left out, and series that are then alike are added up.
    LeftOut,
    /// The whole series is left out.
    NoSeries,
}

/// A family as others call it.
pub(super) struct Alias {
    pub(super) of: Box<dyn Collect>,
    pub(super) relabel: Relabel,
    /// Labels that all its series have.
    pub(super) more: &'static [(&'static str, &'static str)],
}

impl Collect for Alias {
    fn collect(&self) -> Vec<Metric> {
        let mut all: Vec<Metric> = Vec::new();
        for metric in self.of.collect() {
            let Some(label) = self.labels(&metric.label) else { continue };
            match all.iter_mut().find(|known| known.label == label) {
                Some(known) => add(known, &metric),
                None => all.push(Metric { label, ..metric }),
            }
        }
        all
    }
}

impl Alias {
    fn labels(&self, labels: &[LabelPair]) -> Option<Vec<LabelPair>> {
        let pair =
            |name: &str, value: &str| LabelPair { name: name.to_owned(), value: value.to_owned() };
        let mut out = Vec::new();
        for LabelPair { name, value } in labels {
            match (self.relabel)(name, value) {
                Relabelled::As(names) => out.extend(names.iter().map(|name| pair(name, value))),
                Relabelled::LeftOut => {}
                Relabelled::NoSeries => return None,
            }
        }
        out.extend(self.more.iter().map(|(name, value)| pair(name, value)));
        Some(out)
    }
}

/// Adds what one counter or gauge says to another. Histograms are never left with equal labels.
fn add(sum: &mut Metric, more: &Metric) {
    debug_assert!(more.histogram.is_none(), "histograms are not added up");
    for (sum, more) in [(&mut sum.counter, more.counter), (&mut sum.gauge, more.gauge)] {
        if let (Some(sum), Some(more)) = (sum, more) {
            sum.value += more.value;
        }
    }
}
