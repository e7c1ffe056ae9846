//! Distributions of times: exact while there is room for each value, a histogram beyond that.

use hdrhistogram::Histogram;

/// Digits that a histogram keeps of a value.
const DIGITS: u8 = 3;

/// A histogram of times, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Spread {
    /// None only where its own constants were wrong.
    counts: Option<Histogram<u64>>,
}

impl Default for Spread {
    fn default() -> Self {
        Self { counts: Histogram::new(DIGITS).ok() }
    }
}

impl Spread {
    /// One more value, in seconds.
    pub fn add(&mut self, seconds: f64) {
        if let Some(counts) = &mut self.counts {
            // Times beyond what the histogram can grow to do not occur: they would take centuries.
            let _ = counts.record((seconds * 1e9) as u64);
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.as_ref().map_or(0, Histogram::len)
    }

    /// The value, in seconds, that such a part of all lies below.
    pub fn quantile(&self, part: f64) -> f64 {
        self.counts.as_ref().map_or(0.0, |counts| counts.value_at_quantile(part) as f64 / 1e9)
    }

    /// Mean and standard deviation, in seconds.
    pub fn moments(&self) -> (f64, f64) {
        let counts = self.counts.as_ref();
        counts.map_or((0.0, 0.0), |counts| (counts.mean() / 1e9, counts.stdev() / 1e9))
    }

    /// The least and the most, in seconds.
    pub fn ends(&self) -> (f64, f64) {
        let counts = self.counts.as_ref();
        counts.map_or((0.0, 0.0), |counts| (counts.min() as f64 / 1e9, counts.max() as f64 / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_to_three_digits() {
        let mut spread = Spread::default();
        (1..=1_000).for_each(|number| spread.add(f64::from(number) / 1e3));
        let near = |got: f64, expect: f64| assert!((got / expect - 1.0).abs() < 2e-3, "{got}");
        assert_eq!(spread.count(), 1_000);
        near(spread.quantile(0.5), 0.5);
        near(spread.quantile(0.99), 0.99);
        near(spread.moments().0, 0.5005);
        near(spread.ends().0, 0.001);
        near(spread.ends().1, 1.0);
    }
}
