//! How fast a server is, without asking why: lines through what was measured of it. What a simulated engine and
//! the gateway's placement reckon with.
//!
//! ```text
//! prompt: seconds = prefill + token × its tokens + pair × pairs of a token and one before it
//! step:   seconds = step + sequence × sequences + context × tokens that they hold together
//! ```

use serde::{Deserialize, Serialize};

use super::calibration::{FitError, typical_error};
use super::memory::Band;
use super::number::Number as _;
use super::speed::{Load, Speed};
use super::squares::Equations;

/// The least measurements of prompts, and of steps.
const POINTS_MIN: usize = 3;

/// What was measured.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading a prompt, alone: the time to its first token.
    Prefill {
        /// Its tokens.
        tokens: u64,
    },
    /// One more token for each of several sequences.
    Decode {
        /// How many.
        sequences: u32,
        /// Tokens that each holds, on average.
        context: u64,
    },
}

/// A measurement of a server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Point {
    /// Of what.
    pub phase: Phase,
    /// How long it took: the median.
    pub seconds: f64,
    /// How far single measurements are from it, as a share of it.
    pub spread: f64,
    /// How often it was measured.
    pub times: usize,
}

/// Lines through measurements.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pace {
    /// Seconds that any prompt takes.
    pub prefill_seconds: f64,
    /// Seconds more for each of its tokens.
    pub token_seconds: f64,
    /// Seconds more for each pair of a token and one before it, which it attends to: a prompt of n tokens has n²/2.
    pub pair_seconds: f64,
    /// Seconds that any step takes.
    pub step_seconds: f64,
    /// Seconds more for each sequence in it.
    pub sequence_seconds: f64,
    /// Seconds more for each token that those hold, prompts and answers.
    pub context_seconds: f64,
    /// How far off a prediction may be, as a share of it.
    pub off: f64,
}

impl Pace {
    /// The lines that are least off, by relative squares. What sequences and contexts add is only told apart where both vary.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(points: &[Point]) -> Result<Self, FitError> {
        let usable = |point: &Point| point.seconds.is_finite() && point.seconds > 0.0;
        if let Some(at) = points.iter().position(|point| !usable(point)) {
            return Err(FitError::NoTime(at));
        }
        let (mut prompts, mut steps) = (Equations::<3>::new(), Equations::<3>::new());
        let (mut prompts_seen, mut steps_seen) = (0, 0);
        for point in points {
            let weight = 1.0 / point.seconds;
            match point.phase {
                Phase::Prefill { tokens } => {
                    prompts_seen += 1;
                    let tokens = tokens.approximate();
                    prompts.add([1.0, tokens, pairs(tokens)], point.seconds, weight);
                }
                Phase::Decode { sequences, context } => {
                    steps_seen += 1;
                    let sequences = f64::from(sequences);
                    let terms = [1.0, sequences, sequences * context.approximate()];
                    steps.add(terms, point.seconds, weight);
                }
            }
        }
        for (kind, seen) in [("prompts", prompts_seen), ("steps", steps_seen)] {
            if seen < POINTS_MIN {
                return Err(FitError::TooFew(kind, seen));
            }
        }
        // With as many unknowns as measurements noise would be fitted.
        let bent = (prompts_seen > POINTS_MIN).then(|| prompts.solve(&[0, 1, 2], [0.0; 3]));
        let prompts = bent.flatten().or_else(|| prompts.solve(&[0, 1], [0.0; 3]));
        let [prefill_seconds, token_seconds, pair_seconds] = prompts.ok_or(FitError::Alike)?;
        let steps = steps.solve(&[0, 1, 2], [0.0; 3]).or_else(|| steps.solve(&[0, 1], [0.0; 3]));
        let [step_seconds, sequence_seconds, context_seconds] = steps.ok_or(FitError::Alike)?;
        let found = Self {
            prefill_seconds,
            token_seconds,
            pair_seconds,
            step_seconds,
            sequence_seconds,
            context_seconds,
            off: 0.0,
        };
        let off = typical_error(points.iter().map(|point| found.error(point)));
        Ok(Self { off, ..found })
    }

    /// Seconds until a prompt of that many tokens has its first token, alone.
    pub fn prefill(&self, tokens: f64) -> f64 {
        self.prefill_seconds + self.token_seconds * tokens + self.pair_seconds * pairs(tokens)
    }

    /// Seconds of a step for so many sequences that hold so many tokens each.
    pub fn step(&self, sequences: f64, context: f64) -> f64 {
        self.step_seconds + sequences * (self.sequence_seconds + self.context_seconds * context)
    }

    /// Seconds for what was measured.
    pub fn seconds(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Prefill { tokens } => self.prefill(tokens.approximate()),
            Phase::Decode { sequences, context } => {
                self.step(f64::from(sequences), context.approximate())
            }
        }
    }

    /// How far off it is for a measurement, as a share of that.
    pub fn error(&self, point: &Point) -> f64 {
        self.seconds(point.phase) / point.seconds - 1.0
    }

    /// How fast a load is served that follows without pause, as in [`Setting::speed`](super::Setting::speed).
    pub fn speed(&self, load: &Load) -> Speed {
        let running = f64::from(load.concurrency.max(1));
        let answer = load.answer.max(1).approximate();
        let step = self.step(running, (load.prompt + load.answer / 2).approximate());
        let prompt = self.prefill(load.prompt.approximate());
        let request = prompt + answer * step / running;
        let first = step + prompt * (1.0 + prompt / request / 2.0);
        let next = step + prompt * (running - 1.0) / answer;
        Speed {
            running,
            ttft_seconds: self.band(first),
            tpot_seconds: self.band(next),
            tokens_per_second: self.band(answer / request),
            requests_per_second: self.band(1.0 / request),
        }
    }

    fn band(&self, likely: f64) -> Band {
        Band { low: likely / (1.0 + self.off), likely, high: likely * (1.0 + self.off) }
    }
}

/// Pairs of tokens of a prompt.
fn pairs(tokens: f64) -> f64 {
    tokens * tokens / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(truth: &Pace) -> Vec<Point> {
        let prompts = [32, 64, 128, 512, 1024].map(|tokens| Phase::Prefill { tokens });
        let steps = [(1, 64), (1, 512), (2, 80), (4, 512), (8, 64), (8, 512)];
        let steps = steps.map(|(sequences, context)| Phase::Decode { sequences, context });
        let point = |phase| Point { phase, seconds: truth.seconds(phase), spread: 0.0, times: 5 };
        prompts.into_iter().chain(steps).map(point).collect()
    }

    proptest! {
        #[test]
        fn a_fit_finds_what_made_the_points(
            prefill in 0.0_f64..0.05, token in 1e-5_f64..1e-2, pair in 0.0_f64..1e-5, step in 1e-3_f64..0.1,
            sequence in 0.0_f64..5e-3, context in 0.0_f64..1e-5,
        ) {
            let truth = Pace {
                prefill_seconds: prefill, token_seconds: token, pair_seconds: pair, step_seconds: step,
                sequence_seconds: sequence, context_seconds: context, off: 0.0,
            };
            let found = Pace::fit(&points(&truth)).unwrap();
            for point in points(&truth) {
                prop_assert!(found.error(&point).abs() < 1e-4, "{found:?} for {point:?}");
            }
        }
    }

    #[test]
    fn too_little_is_refused() {
        let truth = Pace {
            prefill_seconds: 0.01,
            token_seconds: 1e-3,
            pair_seconds: 0.0,
            step_seconds: 0.02,
            sequence_seconds: 1e-3,
            context_seconds: 0.0,
            off: 0.0,
        };
        let all = points(&truth);
        let check = |points: &[Point], expect: FitError| {
            assert_eq!(Pace::fit(points), Err(expect));
        };
        check(&all[..5], FitError::TooFew("steps", 0));
        check(&all[4..], FitError::TooFew("prompts", 1));
        check(&[all[0], all[0], all[0], all[5], all[6], all[7]], FitError::Alike);
        check(&[Point { seconds: f64::NAN, ..all[0] }], FitError::NoTime(0));
    }

    #[test]
    fn a_load_takes_turns_with_its_prompts() {
        let pace = Pace {
            prefill_seconds: 0.0,
            token_seconds: 1e-3,
            pair_seconds: 0.0,
            step_seconds: 0.010,
            sequence_seconds: 0.0,
            context_seconds: 0.0,
            off: 0.1,
        };
        let speed = pace.speed(&Load { prompt: 100, answer: 100, concurrency: 4 });
        // 0.1 s of prompt and a quarter of 100 steps.
        assert!((speed.tokens_per_second.likely - 100.0 / 0.35).abs() < 1e-9);
        assert!((speed.tpot_seconds.likely - 0.013).abs() < 1e-9);
    }
}
