//! Randomness that a seed decides. Streams of one seed with different names are independent, so
//! that another distribution of lengths leaves the times of arrival as they are.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draws(Pcg64Mcg);

impl Draws {
    /// The stream of that name.
    pub fn new(seed: u64, stream: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let name = stream.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        Self(Pcg64Mcg::seed_from_u64(derive(seed, name)))
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

    /// Exponentially distributed around a mean of one.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Normally distributed around zero with a deviation of one (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
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

    /// A position in `weights`, as often as its weight says; the last where rounding leaves a crumb.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (at, weight) in weights.iter().enumerate() {
            if left < *weight {
                return at;
            }
            left -= weight;
        }
        weights.len().saturating_sub(1)
    }
}

/// The seed of one of many parts that together have `seed` (splitmix64).
pub fn derive(seed: u64, part: u64) -> u64 {
    let mix = |number: u64| {
        let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    };
    mix(seed ^ mix(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_moments() {
        let check = |draw: &dyn Fn(&mut Draws) -> f64, mean: f64, deviation: f64| {
            let mut draws = Draws::new(7, "test");
            let values: Vec<f64> = (0..50_000).map(|_| draw(&mut draws)).collect();
            let got = values.iter().sum::<f64>() / values.len() as f64;
            let squares = values.iter().map(|value| (value - got).powi(2)).sum::<f64>();
            let spread = (squares / values.len() as f64).sqrt();
            assert!((got - mean).abs() < 0.04 && (spread - deviation).abs() < 0.04);
        };
        check(&Draws::unit, 0.5, 1.0 / 12.0_f64.sqrt());
        check(&Draws::exponential, 1.0, 1.0);
        check(&Draws::normal, 0.0, 1.0);
        check(&|draws| draws.gamma(4.0), 4.0, 2.0);
        check(&|draws| draws.gamma(0.25), 0.25, 0.5);
        check(&|draws| draws.below(3) as f64, 1.0, (2.0_f64 / 3.0).sqrt());
        check(&|draws| draws.weighted(&[1.0, 0.0, 1.0]) as f64, 1.0, 1.0);
    }

    #[test]
    fn streams_and_seeds_differ_and_repeat() {
        let first = |seed: u64, stream: &str| Draws::new(seed, stream).bits();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(derive(0, 1), derive(1, 0));
    }
}
