//! How long an answer will be, from how long the tenant's last ones were.

use serde::{Deserialize, Serialize};

/// Answers after which a prediction is used to reserve room.
const SAMPLES_MIN: u32 = 5;

/// A moving average of answer lengths in tokens: `(4·old + new) / 5`, the predictor of the VTC
/// paper's artifact, beginning with the first length.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Predictor {
    /// In fifths of fifths of … a token; kept as a fraction so that it does not stick to integers.
    mean: f64,
    samples: u32,
}

impl Predictor {
    /// Takes in one answer's length.
    pub fn learn(&mut self, tokens: u32) {
        let tokens = f64::from(tokens);
        self.mean = if self.samples == 0 { tokens } else { (4.0 * self.mean + tokens) / 5.0 };
        self.samples = self.samples.saturating_add(1);
    }

    /// The expected length, at most `most`; `most` itself before anything is known.
    pub fn expect(&self, most: u32) -> u32 {
        if self.samples == 0 { most } else { (self.mean.round() as u32).clamp(1, most.max(1)) }
    }

    /// What to reserve: twice the expected length once that is based on enough, at most `most`.
    /// Twice, because a short average must not be a way to overfill a replica.
    pub fn reserve(&self, most: u32) -> u32 {
        if self.samples < SAMPLES_MIN {
            most
        } else {
            self.expect(most).saturating_mul(2).min(most)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_last_lengths() {
        let mut predictor = Predictor::default();
        assert_eq!((predictor.expect(100), predictor.reserve(100)), (100, 100));
        predictor.learn(10);
        assert_eq!((predictor.expect(100), predictor.reserve(100)), (10, 100));
        predictor.learn(20);
        assert_eq!(predictor.expect(100), 12);
        for _ in 0..50 {
            predictor.learn(30);
        }
        assert_eq!((predictor.expect(100), predictor.reserve(100)), (30, 60));
        assert_eq!((predictor.expect(7), predictor.reserve(7)), (7, 7));
        assert_eq!(predictor.expect(0), 1);
    }
}
