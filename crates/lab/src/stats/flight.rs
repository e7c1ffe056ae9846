//! How many requests were in some state over a span of time, weighted by how long.

use serde::{Deserialize, Serialize};

/// How many at once.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Occupancy {
    /// On average over time.
    pub mean: f64,
    /// The variance over time.
    pub variance: f64,
    /// What it was or was below for 99 % of the time.
    pub most: f64,
}

impl Occupancy {
    /// Of `(begin, end)` pairs, over the time from `from` to `to`.
    pub fn of(stays: impl Iterator<Item = (u64, u64)>, from: u64, to: u64) -> Self {
        let mut changes: Vec<(u64, i64)> = Vec::new();
        for (begin, end) in stays {
            if begin < end && begin < to && end > from {
                changes.push((begin.max(from), 1));
                changes.push((end.min(to), -1));
            }
        }
        changes.sort_unstable();
        let mut held = Vec::<u64>::new();
        let (mut count, mut last) = (0_i64, from);
        for (at, change) in changes.into_iter().chain([(to, 0)]) {
            let level = usize::try_from(count).unwrap_or_default();
            if held.len() <= level {
                held.resize(level + 1, 0);
            }
            held[level] += at.saturating_sub(last);
            (count, last) = (count + change, at);
        }
        Self::of_times(&held)
    }

    /// From how long each number was held.
    fn of_times(held: &[u64]) -> Self {
        let whole = held.iter().sum::<u64>().max(1) as f64;
        let parts =
            || held.iter().enumerate().map(|(level, time)| (level as f64, *time as f64 / whole));
        let mean = parts().map(|(level, part)| level * part).sum::<f64>();
        let variance = parts().map(|(level, part)| (level - mean).powi(2) * part).sum();
        let mut below = 0.0;
        let most = parts().find(|(_, part)| {
            below += part;
            below >= 0.99
        });
        Self { mean, variance, most: most.map_or(0.0, |(level, _)| level) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_weighs() {
        let check = |stays: &[(u64, u64)], expect: (f64, f64, f64)| {
            let got = Occupancy::of(stays.iter().copied(), 100, 200);
            assert_eq!((got.mean, got.most), (expect.0, expect.2), "{stays:?}");
            assert!((got.variance - expect.1).abs() < 1e-12, "{stays:?}");
        };
        check(&[], (0.0, 0.0, 0.0));
        check(&[(0, 300)], (1.0, 0.0, 1.0));
        check(&[(0, 150)], (0.5, 0.25, 1.0));
        check(&[(0, 150), (150, 160), (160, 400), (500, 600), (7, 7)], (1.0, 0.0, 1.0));
        check(&[(100, 200), (100, 200), (120, 121)], (2.01, 0.0099, 2.0));
    }

    proptest! {
        #[test]
        fn the_mean_is_the_sum_of_stays(stays in prop::collection::vec((0_u64..1_000, 0_u64..500), 0..40)) {
            let stays: Vec<(u64, u64)> = stays.iter().map(|(at, long)| (*at, at + long)).collect();
            let got = Occupancy::of(stays.iter().copied(), 200, 700);
            let inside = |stay: &(u64, u64)| stay.1.clamp(200, 700) - stay.0.clamp(200, 700);
            let sum = stays.iter().map(inside).sum::<u64>();
            prop_assert!((got.mean * 500.0 - sum as f64).abs() < 1e-6);
        }
    }
}
