//! A histogram with the same observations twice: in the classic buckets that every dashboard knows, with an
//! example of a trace for each, and in native ones, which are exact to 9 % everywhere. Counting takes
//! one lock that is held for some nanoseconds, and allocates nothing.

use std::sync::Arc;

use parking_lot::Mutex;

use super::model;
use super::native::{Native, ZERO_THRESHOLD};

/// Which trace an observation belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Example {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// The trace, which should be one that is kept: a link to one that is not leads nowhere.
    pub trace_id: u128,
}

/// Counts of values by size. Clones share them.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    sum: f64,
    count: u64,
    /// One for each boundary, and what is larger than all.
    buckets: Box<[u64]>,
    examples: Box<[Option<(Example, f64)>]>,
    native: Option<Native>,
}

impl Histogram {
    /// One with these boundaries, which rise, and native buckets.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self::with(bounds, Some(Native::new()))
    }

    /// One with classic buckets alone.
    pub fn classic(bounds: &'static [f64]) -> Self {
        Self::with(bounds, None)
    }

    fn with(bounds: &'static [f64], native: Option<Native>) -> Self {
        debug_assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "boundaries rise");
        let inner = Inner {
            sum: 0.0,
            count: 0,
            buckets: vec![0; bounds.len() + 1].into(),
            examples: vec![None; bounds.len() + 1].into(),
            native,
        };
        Self { bounds, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Counts a value. What is no number is not counted, and what is negative counts as 0.
    pub fn observe(&self, value: f64) {
        self.count(value, 1, None);
    }

    /// Counts a value that many times.
    pub fn observe_times(&self, value: f64, times: u64) {
        self.count(value, times, None);
    }

    /// Counts a value, as an example of which the bucket keeps the latest.
    pub fn observe_example(&self, value: f64, example: Option<Example>) {
        self.count(value, 1, example);
    }

    fn count(&self, value: f64, times: u64, example: Option<Example>) {
        if !value.is_finite() || times == 0 {
            return;
        }
        let value = value.max(0.0);
        let at = self.bounds.partition_point(|bound| *bound < value);
        let mut inner = self.inner.lock();
        inner.sum += value * times as f64;
        inner.count += times;
        inner.buckets[at] += times;
        if let Some(example) = example {
            inner.examples[at] = Some((example, value));
        }
        if let Some(native) = &mut inner.native {
            native.count(value, times);
        }
    }

    /// How many values were counted.
    pub fn observations(&self) -> u64 {
        self.inner.lock().count
    }

    pub(super) fn sample(&self) -> model::Histogram {
        let inner = self.inner.lock();
        let mut cumulative = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let rows = bounds.zip(&inner.buckets).zip(&inner.examples);
        let bucket = rows.map(|((upper_bound, count), example)| {
            cumulative += count;
            let exemplar = example.map(|(example, value)| exemplar(example, value));
            model::Bucket { cumulative_count: cumulative, upper_bound, exemplar }
        });
        let mut sample = model::Histogram {
            sample_count: inner.count,
            sample_sum: inner.sum,
            bucket: bucket.collect(),
            ..Default::default()
        };
        if let Some(native) = &inner.native {
            sample.schema = native.schema();
            sample.zero_threshold = ZERO_THRESHOLD;
            sample.zero_count = native.zero();
            (sample.positive_span, sample.positive_delta) = spans(native.buckets());
        }
        sample
    }
}

fn exemplar(example: Example, value: f64) -> model::Exemplar {
    let label = model::LabelPair {
        name: "trace_id".to_owned(),
        value: format!("{:032x}", example.trace_id),
    };
    let seconds = i64::try_from(example.unix_ms / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(example.unix_ms % 1000).unwrap_or_default() * 1_000_000;
    model::Exemplar {
        label: vec![label],
        value,
        timestamp: Some(model::Timestamp { seconds, nanos }),
    }
}

/// Runs of neighbouring buckets, and each bucket's difference to the one before.
fn spans(buckets: &[(i32, u64)]) -> (Vec<model::BucketSpan>, Vec<i64>) {
    let mut spans: Vec<model::BucketSpan> = Vec::new();
    let mut deltas = Vec::with_capacity(buckets.len());
    let (mut next, mut before) = (0, 0);
    for (index, count) in buckets {
        match spans.last_mut().filter(|_| *index == next) {
            Some(span) => span.length += 1,
            None => spans.push(model::BucketSpan { offset: index - next, length: 1 }),
        }
        next = index + 1;
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        before = count;
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [0.1, 1.0, 10.0];

    #[test]
    fn a_value_counts_in_both_sorts_of_buckets() {
        let histogram = Histogram::new(&BOUNDS);
        for value in [0.0, 0.1, 0.5, 1.0, 1.05, 100.0, -3.0, f64::NAN, f64::INFINITY] {
            histogram.observe(value);
        }
        let sample = histogram.sample();
        let counts: Vec<u64> = sample.bucket.iter().map(|each| each.cumulative_count).collect();
        assert_eq!(counts, [3, 5, 6, 7], "what is no number is not counted");
        assert_eq!(sample.sample_count, 7);
        assert_eq!(sample.zero_count, 2);
        let mut count = 0;
        let natives: i64 = sample
            .positive_delta
            .iter()
            .map(|delta| {
                count += delta;
                count
            })
            .sum();
        assert_eq!(natives, 5);
    }

    #[test]
    fn runs_of_buckets_are_told_by_their_distance() {
        let (spans, deltas) = spans(&[(-3, 2), (-2, 5), (1, 1), (2, 1)]);
        let spans: Vec<(i32, u32)> = spans.iter().map(|each| (each.offset, each.length)).collect();
        assert_eq!(spans, [(-3, 2), (2, 2)]);
        assert_eq!(deltas, [2, 3, -4, 0]);
    }

    #[test]
    fn a_bucket_keeps_the_latest_example() {
        let histogram = Histogram::classic(&BOUNDS);
        for trace_id in [1, 2] {
            histogram.observe_example(0.5, Some(Example { unix_ms: 1_234, trace_id }));
        }
        histogram.observe_example(0.7, None);
        let sample = histogram.sample();
        let kept = sample.bucket[1].exemplar.as_ref().unwrap();
        assert_eq!(kept.label[0].value, format!("{:032x}", 2));
        assert_eq!(kept.timestamp.unwrap().nanos, 234_000_000);
        assert!(sample.bucket[0].exemplar.is_none());
    }
}
