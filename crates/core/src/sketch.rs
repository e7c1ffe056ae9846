//! What durations were like, in a few hundred bytes: counts in buckets that grow by a fourth root of
//! two, so that a quantile is right to about a tenth at every scale.
//!
//! Old counts fade: when there are many, all are halved, so that a sketch follows what changes.

use serde::{Deserialize, Serialize};

use crate::Span;

/// Buckets for each doubling.
const PER_OCTAVE: f64 = 4.0;

/// Buckets: from 0.1 ms to about 28 minutes.
const BUCKETS: usize = 96;

/// The upper end of the first bucket, in seconds.
const FIRST_SECS: f64 = 1e-4;

/// Durations, as a histogram of bounded size.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Sketch {
    counts: Vec<u32>,
    count: u64,
    sum_secs: f64,
    /// Halve everything beyond this many; never where zero.
    fade_at: u64,
}

impl Sketch {
    /// One that keeps everything.
    pub fn lasting() -> Self {
        Self::default()
    }

    /// One in which so many count at most, and older ones less.
    pub fn fading(fade_at: u64) -> Self {
        Self { fade_at, ..Self::default() }
    }

    /// Takes in a duration.
    pub fn add(&mut self, span: Span) {
        let secs = span.as_secs_f64();
        let at = bucket(secs);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
        self.count += 1;
        self.sum_secs += secs;
        if self.fade_at > 0 && self.count > self.fade_at {
            self.fade();
        }
    }

    /// How many count at the moment.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean, if there is any.
    pub fn mean_secs(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_secs / self.count as f64)
    }

    /// The duration below which this part of all lies: 0.5 is the median.
    pub fn quantile(&self, part: f64) -> Option<Span> {
        let rank = (part.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0);
        let mut below = 0.0;
        let at = self.counts.iter().position(|count| {
            below += f64::from(*count);
            below >= rank
        })?;
        let middle = FIRST_SECS * ((at as f64 - 0.5) / PER_OCTAVE).exp2();
        Some(Span::from_nanos((middle * 1e9) as u64))
    }

    /// Upper ends in seconds and counts, for an exposition; the last end stands for everything above.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u32)> + '_ {
        let ends = (0..).map(|at| FIRST_SECS * (f64::from(at) / PER_OCTAVE).exp2());
        ends.zip(self.counts.iter().copied())
    }

    fn fade(&mut self) {
        let before = self.count;
        for count in &mut self.counts {
            *count /= 2;
        }
        self.count = self.counts.iter().copied().map(u64::from).sum();
        self.sum_secs *= self.count as f64 / before as f64;
    }
}

fn bucket(secs: f64) -> usize {
    if secs <= FIRST_SECS {
        return 0;
    }
    let at = ((secs / FIRST_SECS).log2() * PER_OCTAVE).ceil();
    (at as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_tenth() {
        let mut sketch = Sketch::lasting();
        (1..=1000).for_each(|ms| sketch.add(Span::from_millis(ms)));
        for (part, expect) in [(0.05, 0.05), (0.5, 0.5), (0.95, 0.95), (1.0, 1.0)] {
            let found = sketch.quantile(part).unwrap().as_secs_f64();
            assert!((found / expect - 1.0).abs() < 0.1, "{part}: {found}");
        }
        assert!((sketch.mean_secs().unwrap() - 0.5005).abs() < 1e-9);
        assert_eq!(Sketch::lasting().quantile(0.5), None);
        assert_eq!(sketch.buckets().map(|(_, count)| count).sum::<u32>(), 1000);
    }

    #[test]
    fn old_ones_fade_and_the_size_is_bounded() {
        let mut sketch = Sketch::fading(100);
        (0..1000).for_each(|_| sketch.add(Span::from_secs(10)));
        assert!(sketch.count() <= 100);
        (0..300).for_each(|_| sketch.add(Span::from_millis(10)));
        assert!(sketch.quantile(0.9).unwrap() < Span::from_millis(12));
        for nanos in [0, 1, u64::MAX] {
            sketch.add(Span::from_nanos(nanos));
        }
        assert!(sketch.counts.len() <= BUCKETS);
    }
}
