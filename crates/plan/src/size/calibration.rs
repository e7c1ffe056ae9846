//! How much of its full rates hardware reaches: assumed until somebody measures, then fitted to
//! what was measured.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::memory::Band;
use super::speed::Work;
use super::squares::Equations;
use crate::hardware::Accelerator;

/// Rounds of deciding which measurements arithmetic bounds and which memory does.
const ROUNDS_MAX: usize = 20;

/// The least share of a rate that a fit may find: below it the work is counted wrongly.
const SHARE_MIN: f64 = 0.01;

/// The most: measured times are noisy, and rates of a datasheet are sometimes exceeded.
const SHARE_MAX: f64 = 1.2;

/// The least that a prediction is said to be off.
const OFF_MIN: f64 = 0.02;

/// What is fitted: slowness of arithmetic and of memory, seconds a step and a sequence, slowness of attention.
const UNKNOWNS: usize = 5;

/// Those that are slowness: one through a share of a rate.
const SHARES: [usize; 3] = [0, 1, 4];

/// Which of them are looked for, most first: where measurements do not tell all apart, attention is taken to be as
/// slow as other arithmetic, and then what a sequence costs to be as assumed.
const FREE: [&[usize]; 3] = [&[0, 1, 2, 3, 4], &[0, 1, 2, 3], &[0, 1, 2]];

/// Measurements for each unknown below which attention is not told from other arithmetic.
const APART_MIN: usize = UNKNOWNS + 2;

/// Shares of full rates that are reached, and what a step costs besides.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Calibration {
    /// Of arithmetic.
    pub compute: f64,
    /// Of arithmetic, by attention.
    pub attention: f64,
    /// Of memory bandwidth.
    pub bandwidth: f64,
    /// Of links.
    pub link: f64,
    /// Seconds that a step takes however small it is.
    pub step_seconds: f64,
    /// Seconds that a sequence adds to a step besides its part of the model.
    pub sequence_seconds: f64,
    /// How far off a prediction may be, as a share of it.
    pub off: f64,
    /// Measurements it is made of; 0 where it is assumed.
    pub measurements: usize,
}

/// A measurement: the work that was done, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// The work.
    pub work: Work,
    /// Seconds it took.
    pub seconds: f64,
}

/// Why no calibration can be fitted.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum FitError {
    /// There are not enough measurements.
    #[error("only {1} {0} could be measured; a fit takes at least 3 of different sizes")]
    TooFew(&'static str, usize),
    /// A measurement is none.
    #[error("measurement {0} has no time or no work; leave it out")]
    NoTime(usize),
    /// All measurements are of work that differs too little.
    #[error("the measurements are too much alike to fit; vary batch and prompt lengths")]
    Alike,
}

impl Calibration {
    /// What is assumed of hardware that nobody measured: eight tenths of bandwidth, which both a
    /// published case (Qwen2.5-7B on an RTX 4090: 0.83) and NVIDIA's own configurator have; half of
    /// the arithmetic, which published runs of prompts reach on large batches; seven tenths of
    /// links; a millisecond a step and twenty microseconds a sequence in it. Processors reach less
    /// of their arithmetic and of their bandwidth. Published runs of large batches take up to 1.45
    /// times as long as that says, hence the band.
    pub const fn assumed(accelerator: &Accelerator) -> Self {
        let (compute, bandwidth) =
            if accelerator.is_processor() { (0.35, 0.65) } else { (0.5, 0.8) };
        Self {
            compute,
            attention: compute,
            bandwidth,
            link: 0.7,
            step_seconds: 1e-3,
            sequence_seconds: 20e-6,
            off: 0.5,
            measurements: 0,
        }
    }

    /// Seconds that the work takes.
    pub fn seconds(&self, work: &Work) -> f64 {
        let bound = self.arithmetic_seconds(work).max(work.memory_seconds / self.bandwidth);
        let besides = work.steps * self.step_seconds + work.sequences * self.sequence_seconds;
        bound + work.link_seconds / self.link + besides
    }

    /// A prediction with how far off it may be.
    pub fn band(&self, likely: f64) -> Band {
        Band { low: likely / (1.0 + self.off), likely, high: likely * (1.0 + self.off) }
    }

    /// The calibration that is least off, by relative squares, for what was measured. What the
    /// measurements do not depend on stays as assumed.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(assumed: &Self, measurements: &[Measurement]) -> Result<Self, FitError> {
        if measurements.len() < 3 {
            return Err(FitError::TooFew("times", measurements.len()));
        }
        let usable = |measured: &Measurement| {
            let work = measured.work.compute_seconds.max(measured.work.memory_seconds);
            let finite = measured.seconds.is_finite() && work.is_finite();
            finite && measured.seconds > 0.0 && work > 0.0
        };
        if let Some(at) = measurements.iter().position(|measured| !usable(measured)) {
            return Err(FitError::NoTime(at));
        }
        let mut now = *assumed;
        for _ in 0..ROUNDS_MAX {
            let next = now.improved(measurements)?;
            let settled =
                (next.compute - now.compute).abs() + (next.bandwidth - now.bandwidth).abs() < 1e-6;
            now = next;
            if settled {
                break;
            }
        }
        now.off = now.typical_error(measurements);
        now.measurements = measurements.len();
        Ok(now)
    }

    fn arithmetic_seconds(&self, work: &Work) -> f64 {
        work.compute_seconds / self.compute + work.attention_seconds / self.attention
    }

    /// One round: with what bounds each measurement as the calibration has it, the least squares.
    fn improved(&self, measurements: &[Measurement]) -> Result<Self, FitError> {
        let now = [
            1.0 / self.compute,
            1.0 / self.bandwidth,
            self.step_seconds,
            self.sequence_seconds,
            1.0 / self.attention,
        ];
        let few = usize::from(measurements.len() < APART_MIN);
        let solve = |free: &&[usize]| Some((self.solved(measurements, free, now)?, free.len()));
        let (found, free) = FREE[few..].iter().find_map(solve).ok_or(FitError::Alike)?;
        let share = |slowness: f64| (1.0 / slowness).clamp(SHARE_MIN, SHARE_MAX);
        let compute = share(found[0]);
        Ok(Self {
            compute,
            attention: if free == UNKNOWNS { share(found[4]) } else { compute },
            bandwidth: share(found[1]),
            step_seconds: found[2],
            sequence_seconds: found[3],
            ..*self
        })
    }

    /// The unknowns that are least off. A share that would be beyond what hardware can do is held there, and the
    /// others are looked for again: what it cannot take is theirs.
    fn solved(
        &self,
        measurements: &[Measurement],
        free: &[usize],
        mut now: [f64; UNKNOWNS],
    ) -> Option<[f64; UNKNOWNS]> {
        let apart = free.len() == UNKNOWNS;
        let mut free = free.to_vec();
        loop {
            let mut equations = Equations::<UNKNOWNS>::new();
            for measured in measurements {
                let terms = self.terms(&measured.work, apart);
                let is_fixed = |at: &usize| !free.contains(at);
                let fixed: f64 = (0..UNKNOWNS).filter(is_fixed).map(|at| now[at] * terms[at]).sum();
                let rest = measured.seconds - measured.work.link_seconds / self.link - fixed;
                equations.add(terms, rest, 1.0 / measured.seconds);
            }
            let found = equations.solve(&free, now)?;
            let can_be = 1.0 / SHARE_MAX..=1.0 / SHARE_MIN;
            let beyond =
                free.iter().position(|at| SHARES.contains(at) && !can_be.contains(&found[*at]));
            let Some(place) = beyond else { return Some(found) };
            let at = free.remove(place);
            now[at] = found[at].clamp(*can_be.start(), *can_be.end());
        }
    }

    /// What a measurement's seconds are made of, by unknown: either arithmetic or memory, whichever bounds it now.
    fn terms(&self, work: &Work, apart: bool) -> [f64; UNKNOWNS] {
        let (compute, attention) = if apart {
            (work.compute_seconds, work.attention_seconds)
        } else {
            (work.compute_seconds + work.attention_seconds, 0.0)
        };
        if self.arithmetic_seconds(work) > work.memory_seconds / self.bandwidth {
            [compute, 0.0, work.steps, work.sequences, attention]
        } else {
            [0.0, work.memory_seconds, work.steps, work.sequences, 0.0]
        }
    }

    /// Twice the root of the mean relative square, which nineteen in twenty are within.
    fn typical_error(&self, measurements: &[Measurement]) -> f64 {
        typical_error(measurements.iter().map(|one| self.seconds(&one.work) / one.seconds - 1.0))
    }
}

/// How far off predictions may be that were off by these parts: twice the root of the mean square, and never
/// nothing.
pub(super) fn typical_error(errors: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0_f64);
    for error in errors {
        sum += error * error;
        count += 1.0;
    }
    (2.0 * (sum / count.max(1.0)).sqrt()).max(OFF_MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assumed() -> Calibration {
        Calibration {
            compute: 0.5,
            attention: 0.5,
            bandwidth: 0.8,
            link: 0.7,
            step_seconds: 1e-3,
            sequence_seconds: 20e-6,
            off: 0.4,
            measurements: 0,
        }
    }

    fn work(compute_seconds: f64, memory_seconds: f64, sequences: f64) -> Work {
        // Attention grows with the square of what is computed at once.
        let attention_seconds = compute_seconds * compute_seconds;
        Work {
            compute_seconds,
            attention_seconds,
            memory_seconds,
            link_seconds: 0.0,
            steps: 1.0,
            sequences,
        }
    }

    fn measured(truth: &Calibration) -> Vec<Measurement> {
        let works = [
            (0.001, 0.01, 1.0),
            (0.002, 0.02, 32.0),
            (0.004, 0.04, 64.0),
            (0.004, 0.05, 8.0),
            (0.1, 0.01, 1.0),
            (0.2, 0.01, 1.0),
            (0.4, 0.01, 1.0),
            (0.8, 0.01, 1.0),
        ];
        let measure = |(compute, memory, sequences)| {
            let work = work(compute, memory, sequences);
            Measurement { work, seconds: truth.seconds(&work) }
        };
        works.into_iter().map(measure).collect()
    }

    proptest! {
        #[test]
        fn a_fit_finds_what_made_the_measurements(
            compute in 0.1_f64..0.9, attention in 0.1_f64..0.9, bandwidth in 0.2_f64..1.0, step in 0.0_f64..5e-3,
            sequence in 0.0_f64..1e-4,
        ) {
            let truth = Calibration {
                compute, attention, bandwidth, step_seconds: step, sequence_seconds: sequence, ..assumed()
            };
            let found = Calibration::fit(&assumed(), &measured(&truth)).unwrap();
            prop_assert!((found.compute / compute - 1.0).abs() < 0.01, "{found:?}");
            prop_assert!((found.attention / attention - 1.0).abs() < 0.01, "{found:?}");
            prop_assert!((found.bandwidth / bandwidth - 1.0).abs() < 0.01, "{found:?}");
            prop_assert!((found.step_seconds - step).abs() < 1e-4, "{found:?}");
            prop_assert!((found.sequence_seconds - sequence).abs() < 1e-5, "{found:?}");
        }
    }

    proptest! {
        /// Noise must not make a fit count anything twice: what is predicted is off by what noise is.
        #[test]
        fn noise_is_not_taken_for_more_than_it_is(
            compute in 0.2_f64..0.9, attention in 0.02_f64..1.1, bandwidth in 0.3_f64..1.0,
            noise in proptest::collection::vec(-0.03_f64..0.03, 8),
        ) {
            let truth = Calibration { compute, attention, bandwidth, ..assumed() };
            let mut measured = measured(&truth);
            for (one, noise) in measured.iter_mut().zip(noise) {
                one.seconds *= 1.0 + noise;
            }
            let found = Calibration::fit(&assumed(), &measured).unwrap();
            for one in &measured {
                let off = found.seconds(&one.work) / one.seconds - 1.0;
                prop_assert!(off.abs() < 0.12, "{off}: {found:?} of {truth:?}");
            }
        }
    }

    #[test]
    fn what_was_not_measured_stays_as_assumed() {
        let truth = Calibration { bandwidth: 0.6, ..assumed() };
        let only_decode: Vec<Measurement> = measured(&truth).into_iter().take(4).collect();
        let found = Calibration::fit(&assumed(), &only_decode).unwrap();
        assert!((found.bandwidth - 0.6).abs() < 1e-6);
        assert_eq!(found.compute, 0.5);
        assert_eq!(found.measurements, 4);
        assert!(found.off < 0.05);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let check = |measurements: &[Measurement], expect: FitError| {
            assert_eq!(Calibration::fit(&assumed(), measurements), Err(expect));
        };
        let one = Measurement { work: work(0.001, 0.01, 1.0), seconds: 0.02 };
        check(&[], FitError::TooFew("times", 0));
        check(&[one, one, Measurement { seconds: f64::NAN, ..one }], FitError::NoTime(2));
        check(&[one, one, Measurement { seconds: 0.0, ..one }], FitError::NoTime(2));
        check(&[one, one, one], FitError::Alike);
    }
}
