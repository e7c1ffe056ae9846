//! What came of the requests of one arm: counts, tokens and times, in bounded space.

use serde::{Deserialize, Serialize};

use crate::Span;
use crate::sketch::Sketch;

/// How one request ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Whether a replica failed it. One that its client left, or that was wrong itself, is no sample.
    pub failed: bool,
    /// Prompt tokens that had to be computed.
    pub prefill: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Until the first token, from when it was sent to a replica; until the end, of what has no tokens.
    pub ttft: Option<Span>,
    /// For each further token; for each, of an answer in one piece.
    pub tpot: Option<Span>,
    /// From its arrival to its end.
    pub total: Span,
}

/// What came of many.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tally {
    /// Requests that ended.
    pub requests: u64,
    /// Of those, how many failed.
    pub failed: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Tokens of answers.
    pub output: u64,
    /// Times until the first token.
    pub ttft: Sketch,
    /// Times for each further token.
    pub tpot: Sketch,
    /// Times from arrival to end.
    pub total: Sketch,
}

impl Tally {
    /// Takes in one.
    pub fn note(&mut self, sample: &Sample) {
        self.requests += 1;
        self.failed += u64::from(sample.failed);
        self.input = self.input.saturating_add(sample.input);
        self.output = self.output.saturating_add(sample.output);
        if let Some(ttft) = sample.ttft {
            self.ttft.add(ttft);
        }
        if let Some(tpot) = sample.tpot {
            self.tpot.add(tpot);
        }
        if !sample.failed {
            self.total.add(sample.total);
        }
    }

    /// The part that failed, 0 to 1.
    pub fn error_rate(&self) -> f64 {
        self.failed as f64 / self.requests.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up() {
        let mut tally = Tally::default();
        let ms = |ms: u64| Some(Span::from_millis(ms));
        let good =
            Sample { input: 10, output: 5, ttft: ms(100), tpot: ms(20), ..Sample::default() };
        (0..9).for_each(|_| tally.note(&good));
        tally.note(&Sample { failed: true, ..Sample::default() });
        assert_eq!((tally.requests, tally.failed, tally.input, tally.output), (10, 1, 90, 45));
        assert!((tally.error_rate() - 0.1).abs() < 1e-12);
        assert_eq!((tally.ttft.count(), tally.total.count()), (9, 9));
    }
}
