//! The two text formats. They differ in what a counter's family is called, in examples and in the end.

use std::fmt::Write as _;

use super::model::{Exemplar, Family, Histogram, Kind, LabelPair, Metric};

/// OpenMetrics 1.0.
pub(super) fn open_metrics(families: &[Family]) -> String {
    let mut out = Text { text: String::new(), examples: true };
    families.iter().for_each(|family| out.family(family));
    out.text.push_str("# EOF\n");
    out.text
}

/// Prometheus' text format 0.0.4.
pub(super) fn plain(families: &[Family]) -> String {
    let mut out = Text { text: String::new(), examples: false };
    families.iter().for_each(|family| out.family(family));
    out.text
}

struct Text {
    text: String,
    examples: bool,
}

impl Text {
    fn family(&mut self, family: &Family) {
        let kind = Kind::try_from(family.kind).unwrap_or(Kind::Untyped);
        let (name, kind_name) = match kind {
            Kind::Counter if self.examples => {
                (family.name.strip_suffix("_total").unwrap_or(&family.name), kind.name())
            }
            Kind::Untyped if self.examples => (&*family.name, "unknown"),
            _ => (&*family.name, kind.name()),
        };
        let mut help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        if self.examples {
            // Which only OpenMetrics wants.
            help = help.replace('"', "\\\"");
        }
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind_name}\n");
        for metric in &family.metric {
            self.metric(&family.name, metric);
        }
    }

    fn metric(&mut self, name: &str, metric: &Metric) {
        if let Some(histogram) = &metric.histogram {
            self.histogram(name, &metric.label, histogram);
            return;
        }
        if let Some(number) = metric.counter.or(metric.gauge).or(metric.untyped) {
            self.sample(name, "", &metric.label, None);
            self.end(number.value, None);
        }
    }

    fn histogram(&mut self, name: &str, labels: &[LabelPair], histogram: &Histogram) {
        for bucket in &histogram.bucket {
            self.sample(name, "_bucket", labels, Some(bucket.upper_bound));
            self.end(bucket.cumulative_count as f64, bucket.exemplar.as_ref());
        }
        self.sample(name, "_sum", labels, None);
        self.end(histogram.sample_sum, None);
        self.sample(name, "_count", labels, None);
        self.end(histogram.sample_count as f64, None);
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[LabelPair], le: Option<f64>) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for LabelPair { name, value } in labels {
            self.text.push(before);
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{name}=\"{value}\"");
            before = ',';
        }
        if let Some(bound) = le {
            self.text.push(before);
            self.text.push_str("le=\"");
            // Boundaries are labels, and the same in every format only when they are floats in each.
            let at = self.text.len();
            self.number(bound);
            if bound.is_finite() && !self.text[at..].contains('.') {
                self.text.push_str(".0");
            }
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
    }

    fn end(&mut self, value: f64, example: Option<&Exemplar>) {
        self.text.push(' ');
        self.number(value);
        if let Some(example) = example.filter(|_| self.examples) {
            self.sample(" # ", "", &example.label, None);
            self.text.push(' ');
            self.number(example.value);
            if let Some(at) = example.timestamp {
                let _ = write!(self.text, " {}.{:03}", at.seconds, at.nanos / 1_000_000);
            }
        }
        self.text.push('\n');
    }

    fn number(&mut self, value: f64) {
        if value.is_infinite() {
            self.text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        } else {
            let _ = write!(self.text, "{value}");
        }
    }
}
