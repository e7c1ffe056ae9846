//! The gaps between the tokens of one answer (inter-token latency, ITL): percentiles and stalls, from a
//! sketch of fixed size that costs a few nanoseconds for each token.

use pilotage_core::Span;
use serde::{Deserialize, Serialize};

use crate::timeline::millis;

/// Buckets of the sketch.
const BUCKETS: usize = 80;

/// Where the second bucket begins, in nanoseconds: shorter gaps are all alike, they came in one write.
const FIRST_NANOS: f64 = 50_000.0;

/// Each bucket is so much wider than the one before: percentiles are off by at most a tenth. The last begins
/// at 50 µs · 1.2^78, which is 75 s.
const RATIO: f64 = 1.2;

/// A gap is a stall when it is this many times as long as the answer's mean gap so far: the pace falls
/// below a quarter, which is where vllm-top draws the line, too.
const STALL_TIMES: u64 = 4;

/// Shorter gaps are no stalls: nobody who reads along sees them.
const STALL_LEAST: Span = Span::from_millis(200);

/// Gaps that come before any is called a stall.
const STALL_AFTER: u64 = 4;

/// Stalls of which it is kept when they were.
const STALLS_MAX: usize = 8;

/// A stall, and when it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stall {
    /// When it began, from the first token.
    pub after: Span,
    /// How long it was.
    pub gap: Span,
}

/// The gaps of one answer, as far as it has come.
#[derive(Clone, Debug)]
pub struct Gaps {
    buckets: [u16; BUCKETS],
    count: u64,
    sum: Span,
    max: Span,
    stalls: u32,
    stalled: Span,
    moments: Vec<Stall>,
}

/// What they came to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Itl {
    /// The median.
    #[serde(rename = "p50_ms", with = "millis")]
    pub p50: Span,
    /// Nine in ten are at most that.
    #[serde(rename = "p90_ms", with = "millis")]
    pub p90: Span,
    /// All but one in a hundred are at most that.
    #[serde(rename = "p99_ms", with = "millis")]
    pub p99: Span,
    /// The longest.
    #[serde(rename = "max_ms", with = "millis")]
    pub max: Span,
    /// Gaps that were much longer than those before: see [`Gaps::add`].
    pub stalls: u32,
    /// Their time, together.
    #[serde(rename = "stalled_ms", with = "millis")]
    pub stalled: Span,
}

impl Default for Gaps {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            count: 0,
            sum: Span::ZERO,
            max: Span::ZERO,
            stalls: 0,
            stalled: Span::ZERO,
            moments: Vec::new(),
        }
    }
}

impl Gaps {
    /// When its first stalls were.
    pub fn stalls(&self) -> &[Stall] {
        &self.moments
    }

    /// One more gap. It is a stall when it is at least 200 ms, and four times as long as those before were
    /// in the mean, of which there are at least four.
    pub fn add(&mut self, gap: Span) {
        let mean = self.sum.as_nanos().checked_div(self.count).unwrap_or(0);
        let is_long = gap >= STALL_LEAST && gap.as_nanos() >= mean.saturating_mul(STALL_TIMES);
        if is_long && self.count >= STALL_AFTER {
            self.stalls = self.stalls.saturating_add(1);
            self.stalled = self.stalled + gap;
            if self.moments.len() < STALLS_MAX {
                self.moments.push(Stall { after: self.sum, gap });
            }
        }
        let bucket = &mut self.buckets[bucket(gap)];
        // Beyond 65,535 gaps of one length the others weigh a little more than they should.
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.sum = self.sum + gap;
        self.max = self.max.max(gap);
    }

    /// What they came to; none where there was no gap.
    pub fn itl(&self) -> Option<Itl> {
        (self.count > 0).then(|| Itl {
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            max: self.max,
            stalls: self.stalls,
            stalled: self.stalled,
        })
    }

    /// How long gaps were, within a tenth, and how many were that long; none is longer than the longest.
    pub fn counts(&self) -> impl Iterator<Item = (Span, u64)> {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(at, count)| (middle(at).min(self.max), u64::from(*count)))
    }

    fn quantile(&self, part: f64) -> Span {
        let counted: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let wanted = ((counted as f64) * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return middle(at).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(gap: Span) -> usize {
    let ratio = gap.as_nanos() as f64 / FIRST_NANOS;
    if ratio < 1.0 {
        return 0;
    }
    (1 + (ratio.ln() / RATIO.ln()) as usize).min(BUCKETS - 1)
}

/// The geometric middle of a bucket.
fn middle(bucket: usize) -> Span {
    let exponent = bucket as f64 - 0.5;
    Span::from_nanos((FIRST_NANOS * RATIO.powf(exponent)) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaps(ms: impl IntoIterator<Item = u64>) -> Gaps {
        let mut gaps = Gaps::default();
        for ms in ms {
            gaps.add(Span::from_millis(ms));
        }
        gaps
    }

    #[test]
    fn a_gap_among_shorter_ones_is_a_stall() {
        let check = |ms: Vec<u64>, stalls: u32, stalled: u64| {
            let itl = gaps(ms.clone()).itl().unwrap();
            assert_eq!((itl.stalls, itl.stalled.as_millis()), (stalls, stalled), "{ms:?}");
        };
        check(vec![20; 10], 0, 0);
        check(vec![20, 20, 20, 20, 500, 20, 20], 1, 500);
        // Four times as long, but nobody sees it.
        check(vec![20, 20, 20, 20, 190], 0, 0);
        // Slow all the way is no stall, and the first gaps have nothing to be measured by.
        check(vec![400; 10], 0, 0);
        check(vec![20, 900], 0, 0);
    }

    #[test]
    fn stalls_are_found_again_in_their_answer() {
        let many: Vec<u64> = (0..20).flat_map(|_| [10, 10, 10, 10, 10, 10, 10, 10, 900]).collect();
        let gaps = gaps(many);
        let first = Stall { after: Span::from_millis(80), gap: Span::from_millis(900) };
        assert_eq!(gaps.stalls()[0], first);
        assert!(gaps.stalls().len() <= STALLS_MAX);
        assert!(gaps.itl().unwrap().stalls as usize >= gaps.stalls().len());
    }

    #[test]
    fn no_gaps_come_to_nothing() {
        assert_eq!(Gaps::default().itl(), None);
    }

    proptest! {
        #[test]
        fn percentiles_are_off_by_a_tenth_at_most(mut ms in prop::collection::vec(1u64..60_000, 1..200)) {
            let itl = gaps(ms.clone()).itl().unwrap();
            ms.sort_unstable();
            for (part, got) in [(0.5, itl.p50), (0.9, itl.p90), (0.99, itl.p99)] {
                let rank = ((ms.len() as f64 * part).ceil() as usize).max(1) - 1;
                let expect = ms[rank] as f64;
                let got = got.as_nanos() as f64 / 1e6;
                prop_assert!((got / expect - 1.0).abs() < 0.1, "p{part}: {got} for {expect}");
            }
            prop_assert_eq!(itl.max.as_millis(), *ms.last().unwrap());
        }
    }
}
