//! How far apart two experiments' numbers are, and between which bounds the truth lies: by drawing
//! from what was seen again and again.
//!
//! Neighbouring requests share their fate, so that whole blocks of them are drawn, not one by one.

use pilotage_chance::Draws;

use crate::stats::latency::quantile;

/// Numbers drawn at most, which bounds the time.
const WORK_MAX: usize = 40_000_000;

/// Experiments drawn.
const RESAMPLES: (usize, usize) = (400, 1_000);

/// What is computed of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// The mean.
    Mean,
    /// The value that such a part lies below.
    Quantile(f64),
}

/// A ratio and its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The second against the first.
    pub ratio: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Statistic {
    /// Of values in any order, which is changed.
    pub fn of(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Mean => values.iter().sum::<f64>() / values.len().max(1) as f64,
            Self::Quantile(part) => {
                let whole = part * values.len().saturating_sub(1) as f64;
                let place = whole as usize;
                if place + 1 >= values.len() {
                    return values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                }
                let (_, low, above) = values.select_nth_unstable_by(place, f64::total_cmp);
                let next = above.iter().copied().fold(f64::INFINITY, f64::min);
                quantile(&[*low, next], whole.fract())
            }
        }
    }
}

/// The ratios of some statistics of `second` to those of `first`, with bounds that hold the truth but
/// for that part of experiments on either side. Values are in the order in which they came about.
pub fn ratios(
    (first, second): (&[f64], &[f64]),
    statistics: &[Statistic],
    miss: f64,
    seed: u64,
) -> Vec<Ratio> {
    let work = (first.len() + second.len()).max(1);
    let resamples = (WORK_MAX / work).clamp(RESAMPLES.0, RESAMPLES.1);
    drawn((first, second), statistics, (miss, resamples), seed)
}

fn drawn(
    (first, second): (&[f64], &[f64]),
    statistics: &[Statistic],
    (miss, resamples): (f64, usize),
    seed: u64,
) -> Vec<Ratio> {
    let mut draws = Draws::of_part(seed, "bootstrap");
    let mut all = vec![Vec::with_capacity(resamples); statistics.len()];
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for _ in 0..resamples {
        draw(first, &mut draws, &mut one);
        draw(second, &mut draws, &mut other);
        for (drawn, statistic) in all.iter_mut().zip(statistics) {
            drawn.push(ratio(statistic.of(&mut other), statistic.of(&mut one)));
        }
    }
    let whole = |(statistic, mut drawn): (&Statistic, Vec<f64>)| {
        drawn.sort_unstable_by(f64::total_cmp);
        Ratio {
            ratio: ratio(statistic.of(&mut second.to_vec()), statistic.of(&mut first.to_vec())),
            low: quantile(&drawn, miss),
            high: quantile(&drawn, 1.0 - miss),
        }
    };
    statistics.iter().zip(all).map(whole).collect()
}

/// Two zeros are the same.
fn ratio(second: f64, first: f64) -> f64 {
    if first == second { 1.0 } else { second / first.max(f64::MIN_POSITIVE) }
}

/// As many values as there are, in blocks that go round from the end to the begin.
fn draw(values: &[f64], draws: &mut Draws, into: &mut Vec<f64>) {
    into.clear();
    let block = (values.len() as f64).sqrt().ceil() as usize;
    while into.len() < values.len() {
        let from = draws.below(values.len());
        let long = block.min(values.len() - into.len());
        let straight = &values[from..values.len().min(from + long)];
        into.extend_from_slice(straight);
        into.extend_from_slice(&values[..long - straight.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_sorted_values() {
        let mut draws = Draws::of_part(3, "values");
        for count in [1, 2, 3, 10, 101, 500] {
            let values: Vec<f64> = (0..count).map(|_| draws.unit()).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            for part in [0.0, 0.5, 0.9, 0.99, 1.0] {
                let got = Statistic::Quantile(part).of(&mut values.clone());
                assert!((got - quantile(&sorted, part)).abs() < 1e-12, "{count} {part}");
            }
        }
        assert_eq!(Statistic::Mean.of(&mut [1.0, 2.0, 6.0]), 3.0);
    }

    /// Latencies with a long tail, each like the one before it to that part.
    fn latencies(seed: u64, count: usize, memory: f64, scale: f64) -> Vec<f64> {
        let mut draws = Draws::of_part(seed, "latencies");
        let mut state = 0.0;
        let next = |_| {
            state = memory * state + (1.0 - memory * memory).sqrt() * draws.normal();
            scale * (0.5_f64 * state).exp()
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn equal_experiments_are_seldom_found_different_and_others_always() {
        let statistics = [Statistic::Mean, Statistic::Quantile(0.5), Statistic::Quantile(0.9)];
        let found = |memory: f64, scale: f64| {
            let mut found = [0; 3];
            for seed in 0..40 {
                let first = latencies(seed, 300, memory, 1.0);
                let second = latencies(seed + 1_000, 300, memory, scale);
                let ratios = drawn((&first, &second), &statistics, (0.025, 400), seed);
                for (found, ratio) in found.iter_mut().zip(ratios) {
                    *found += usize::from(ratio.low > 1.0 || ratio.high < 1.0);
                }
            }
            found
        };
        // Five of a hundred are allowed to be: two of forty, and by chance some more.
        let check = |found: [usize; 3], allowed: std::ops::RangeInclusive<usize>| {
            assert!(found.iter().all(|count| allowed.contains(count)), "{found:?}");
        };
        check(found(0.0, 1.0), 0..=6);
        check(found(0.6, 1.0), 0..=8);
        check(found(0.0, 1.4), 38..=40);
    }
}
