//! One distribution of times in a few numbers, those left out that so few values cannot tell.

use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// Values beyond a percentile without which it is an accident. The 99th needs 500 values then.
pub const BEYOND_MIN: f64 = 5.0;

/// A distribution of times, in milliseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Latency {
    /// How many values there are.
    pub count: u64,
    /// Their mean.
    pub mean: Option<f64>,
    /// Their standard deviation.
    pub std: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
    /// The quarter lies below.
    pub p25: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// Three quarters lie below.
    pub p75: Option<f64>,
    /// 90 of a hundred lie below.
    pub p90: Option<f64>,
    /// 95 of a hundred lie below.
    pub p95: Option<f64>,
    /// 99 of a hundred lie below.
    pub p99: Option<f64>,
    /// 999 of a thousand lie below.
    pub p999: Option<f64>,
    /// Where the median lies, at 95 % confidence.
    pub p50_between: Option<(f64, f64)>,
    /// Where the 99th percentile lies, at 95 % confidence.
    pub p99_between: Option<(f64, f64)>,
}

impl Latency {
    /// Of exact values in seconds.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_unstable_by(f64::total_cmp);
        let count = seconds.len();
        if count == 0 {
            return Self::default();
        }
        let mean = seconds.iter().sum::<f64>() / count as f64;
        let squares = seconds.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let at = |part: f64| enough(count as u64, part).then(|| quantile(&seconds, part) * 1e3);
        Self {
            count: count as u64,
            mean: Some(mean * 1e3),
            std: Some((squares / count as f64).sqrt() * 1e3),
            min: seconds.first().map(|value| value * 1e3),
            max: seconds.last().map(|value| value * 1e3),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p50_between: between(&seconds, 0.5),
            p99_between: between(&seconds, 0.99),
        }
    }

    /// Of a histogram.
    pub fn of_spread(spread: &Spread) -> Self {
        let count = spread.count();
        if count == 0 {
            return Self::default();
        }
        let (mean, std) = spread.moments();
        let (min, max) = spread.ends();
        let at = |part: f64| enough(count, part).then(|| spread.quantile(part) * 1e3);
        Self {
            count,
            mean: Some(mean * 1e3),
            std: Some(std * 1e3),
            min: Some(min * 1e3),
            max: Some(max * 1e3),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p50_between: None,
            p99_between: None,
        }
    }

    /// Its percentiles by name.
    pub fn percentiles(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("p25", self.p25),
            ("p50", self.p50),
            ("p75", self.p75),
            ("p90", self.p90),
            ("p95", self.p95),
            ("p99", self.p99),
            ("p99.9", self.p999),
        ]
    }
}

/// Whether enough values lie beyond on either side.
fn enough(count: u64, part: f64) -> bool {
    count as f64 * part.min(1.0 - part) >= BEYOND_MIN - 1e-9
}

/// The value that such a part of sorted values lies below, between two where it falls between them.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * sorted.len().saturating_sub(1) as f64;
    let low = sorted.get(place as usize).copied().unwrap_or_default();
    let high = sorted.get(place as usize + 1).copied().unwrap_or(low);
    low + (high - low) * place.fract()
}

/// The order statistics that hold a quantile in 95 of a hundred experiments.
fn between(sorted: &[f64], part: f64) -> Option<(f64, f64)> {
    let count = sorted.len() as f64;
    let spread = 1.96 * (count * part * (1.0 - part)).sqrt();
    let low = (count * part - spread).floor() - 1.0;
    let high = (count * part + spread).ceil();
    (low >= 0.0).then_some(())?;
    Some((sorted.get(low as usize)? * 1e3, sorted.get(high as usize)? * 1e3))
}

#[cfg(test)]
mod tests {
    use pilotage_chance::Draws;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_need_values_beyond_them() {
        let check = |count: usize, expect: [bool; 7]| {
            let latency = Latency::of((0..count).map(|value| value as f64).collect());
            let shown = latency.percentiles().map(|(_, value)| value.is_some());
            assert_eq!(shown, expect, "{count}");
        };
        check(0, [false; 7]);
        check(9, [false; 7]);
        check(10, [false, true, false, false, false, false, false]);
        check(50, [true, true, true, true, false, false, false]);
        check(499, [true, true, true, true, true, false, false]);
        check(500, [true, true, true, true, true, true, false]);
        check(5_000, [true; 7]);
    }

    #[test]
    fn numbers_are_what_numpy_says() {
        let latency = Latency::of((1..=20).rev().map(f64::from).collect());
        assert_eq!(latency.p50, Some(10_500.0));
        assert_eq!(latency.p75, Some(15_250.0));
        assert_eq!(latency.mean, Some(10_500.0));
        assert!((latency.std.unwrap() - 5_766.281).abs() < 0.001);
        assert_eq!((latency.min, latency.max), (Some(1_000.0), Some(20_000.0)));
    }

    #[test]
    fn intervals_hold_the_true_value_as_often_as_they_say() {
        let held = |part: f64, truth: f64| {
            let mut draws = Draws::of_part(1, "intervals");
            let held = (0..400).filter(|_| {
                let mut values: Vec<f64> = (0..1_000).map(|_| draws.unit()).collect();
                values.sort_unstable_by(f64::total_cmp);
                let (low, high) = between(&values, part).unwrap();
                (low..=high).contains(&(truth * 1e3))
            });
            held.count()
        };
        assert!((368..=398).contains(&held(0.5, 0.5)), "{}", held(0.5, 0.5));
        assert!((368..=400).contains(&held(0.99, 0.99)), "{}", held(0.99, 0.99));
    }

    proptest! {
        #[test]
        fn quantiles_grow_and_stay_between_the_ends(mut values in prop::collection::vec(0.0..1e6, 1..50)) {
            values.sort_unstable_by(f64::total_cmp);
            let all: Vec<f64> = (0..=20).map(|part| quantile(&values, f64::from(part) / 20.0)).collect();
            prop_assert!(all.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert_eq!((all[0], all[20]), (values[0], values[values.len() - 1]));
        }
    }
}
