//! How many prompt tokens the engine computes in a given time, from the steps that computed many.

use pilotage_core::Span;

/// Tokens of a step from which on it tells the speed of prompts: with fewer, reading the weights is
/// what takes the time.
const TELLING: usize = 16;

/// How much the newest step counts.
const NEWEST: f64 = 0.3;

/// Fewest tokens that are worth a step of their own.
const FEWEST: u32 = 16;

/// The measured speed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Tokens in a nanosecond.
    rate: Option<f64>,
}

impl Pace {
    /// A step computed so many tokens.
    pub(super) fn observe(&mut self, tokens: usize, took: Span) {
        if tokens < TELLING || took == Span::ZERO {
            return;
        }
        let rate = tokens as f64 / took.as_nanos() as f64;
        self.rate = Some(self.rate.map_or(rate, |old| old + NEWEST * (rate - old)));
    }

    /// Tokens that can be computed in that time; no limit before anything was measured.
    pub(super) fn tokens_in(&self, span: Span) -> u32 {
        self.rate.map_or(u32::MAX, |rate| (rate * span.as_nanos() as f64) as u32).max(FEWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_telling_steps() {
        let mut pace = Pace::default();
        assert_eq!(pace.tokens_in(Span::from_millis(50)), u32::MAX);
        pace.observe(1, Span::from_millis(10));
        assert_eq!(pace.tokens_in(Span::from_millis(50)), u32::MAX);
        pace.observe(500, Span::from_millis(500));
        assert_eq!(pace.tokens_in(Span::from_millis(50)), 50);
        for _ in 0..40 {
            pace.observe(500, Span::from_millis(250));
        }
        assert_eq!(pace.tokens_in(Span::from_millis(50)), 99);
        assert_eq!(pace.tokens_in(Span::ZERO), FEWEST);
    }
}
