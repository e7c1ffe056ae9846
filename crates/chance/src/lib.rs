//! Randomness that a seed decides: streams of numbers, and the distributions that workloads need, for
//! what simulates and what measures alike.
//!
//! Streams of one seed with different names are independent, so that changing how lengths are drawn
//! leaves the times of arrival as they are. What a seed and a name give never changes: results that
//! were written down with a seed can be had again.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draws(Pcg64Mcg);

impl Draws {
    /// The stream of that name.
    pub fn new(seed: u64, stream: &str) -> Self {
        Self(Pcg64Mcg::seed_from_u64(mix(seed ^ hash(stream))))
    }

    /// Another stream of that name: that of a part of the seed, as [`derive()`] has it.
    pub fn of_part(seed: u64, stream: &str) -> Self {
        Self(Pcg64Mcg::seed_from_u64(derive(seed, hash(stream))))
    }

    /// Any number.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From zero up to but not including one.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `0..count`; zero where that is empty.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// One of `least..=most`; `least` where that is empty.
    pub fn within(&mut self, least: u32, most: u32) -> u32 {
        let choices = f64::from(most.saturating_sub(least)) + 1.0;
        least.saturating_add((self.unit() * choices) as u32)
    }

    /// Exponentially distributed around a mean of one.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Normally distributed around zero with a standard deviation of one (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma distributed with that shape and a scale of one (Marsaglia and Tsang).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let cube = (1.0 + c * normal).powi(3);
            let limit = 0.5 * normal * normal + d - d * cube + d * cube.ln();
            // Below zero the logarithm is not a number, and the comparison false.
            if (1.0 - self.unit()).ln() < limit {
                return d * cube;
            }
        }
    }

    /// A position in `weights`, as often as its weight says; the first where all are zero.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (at, weight) in weights.iter().enumerate() {
            if left < *weight {
                return at;
            }
            left -= weight;
        }
        // Rounding can leave a crumb over: it falls to the last that has any weight.
        weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
    }
}

/// The seed of one of many parts that together have `seed`.
pub fn derive(seed: u64, part: u64) -> u64 {
    mix(seed ^ mix(part))
}

/// Spreads a number over all bits; different numbers stay different (splitmix64).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A number for a text, the same on every machine (FNV-1a).
pub fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 100_000;

    /// Mean and standard deviation of many draws.
    fn moments(draw: impl Fn(&mut Draws) -> f64) -> (f64, f64) {
        let mut draws = Draws::new(7, "test");
        let values: Vec<f64> = (0..COUNT).map(|_| draw(&mut draws)).collect();
        let mean = values.iter().sum::<f64>() / COUNT as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        (mean, (squares / COUNT as f64).sqrt())
    }

    #[test]
    fn distributions_have_their_moments() {
        let check = |draw: &dyn Fn(&mut Draws) -> f64, mean: f64, deviation: f64| {
            let got = moments(draw);
            assert!((got.0 - mean).abs() < 0.03, "{got:?}");
            assert!((got.1 - deviation).abs() < 0.03, "{got:?}");
        };
        check(&Draws::unit, 0.5, 1.0 / 12.0_f64.sqrt());
        check(&Draws::exponential, 1.0, 1.0);
        check(&Draws::normal, 0.0, 1.0);
        check(&|draws| draws.gamma(4.0), 4.0, 2.0);
        check(&|draws| draws.gamma(0.25), 0.25, 0.5);
        check(&|draws| f64::from(draws.within(3, 6)), 4.5, 1.25_f64.sqrt());
        check(&|draws| draws.below(3) as f64, 1.0, (2.0_f64 / 3.0).sqrt());
    }

    #[test]
    fn weights_are_followed() {
        let mut draws = Draws::new(7, "test");
        let mut counts = [0_usize; 4];
        (0..COUNT).for_each(|_| counts[draws.weighted(&[1.0, 0.0, 3.0, 0.0])] += 1);
        assert_eq!((counts[1], counts[3]), (0, 0));
        assert!((counts[2] as f64 / counts[0] as f64 - 3.0).abs() < 0.1, "{counts:?}");
        assert_eq!(draws.weighted(&[0.0, 0.0]), 0);
        assert_eq!(draws.weighted(&[]), 0);
    }

    #[test]
    fn streams_and_seeds_differ_and_repeat() {
        let first = |seed: u64, stream: &str| Draws::new(seed, stream).unit();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(derive(1, 0), derive(1, 1));
        assert_ne!(derive(0, 1), derive(1, 0));
        assert_eq!(Draws::new(1, "a").below(0), 0);
    }

    /// Whoever changes these changes every result that was published with a seed.
    #[test]
    fn what_a_seed_gives_stays() {
        let bits = |mut draws: Draws| [draws.bits(), draws.bits()];
        let moments = [8_655_071_142_201_146_876, 1_400_802_793_419_972_463];
        assert_eq!(bits(Draws::new(42, "moments")), moments);
        let arrivals = [3_760_599_376_368_300_418, 3_343_658_246_024_009_596];
        assert_eq!(bits(Draws::of_part(42, "arrivals")), arrivals);
        let (part, name) = (7_974_615_062_405_353_404, 12_760_393_443_857_713_778);
        assert_eq!((derive(42, 7), hash("lengths")), (part, name));
    }
}
