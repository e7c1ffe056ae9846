//! Whether measurements of a server may be believed: is it alone, is it the same from begin to end, do its times
//! repeat?

use std::fmt;

use super::sum::Seen;
use super::window::median;

/// A change from the first to the second half that is none by chance.
const DRIFT_MAX: f64 = 0.10;

/// The spread of the median point beyond which times do not repeat.
const SPREAD_MAX: f64 = 0.15;

/// Rounds that a change is looked for in.
const ROUNDS_MIN: usize = 4;

/// Why measurements may not be believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doubt {
    /// It got slower or faster while it was measured: by what share.
    Drift(f64),
    /// Single measurements are that far from the median.
    Noise(f64),
    /// Somebody else asked it meanwhile: in so many of so many looks at its metrics.
    Busy(usize, usize),
}

/// What is to be doubted. `busy` says how often its metrics showed work of others, of how many looks.
pub fn doubts(seen: &[Seen], busy: Option<(usize, usize)>) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if let Some((times, looks)) = busy.filter(|(times, _)| *times > 0) {
        doubts.push(Doubt::Busy(times, looks));
    }
    let drift = drift(seen);
    if drift.abs() > DRIFT_MAX {
        doubts.push(Doubt::Drift(drift));
    }
    let mut spreads: Vec<f64> = seen.iter().map(|seen| seen.spread).collect();
    let spread = median(&mut spreads);
    if spread > SPREAD_MAX {
        doubts.push(Doubt::Noise(spread));
    }
    doubts
}

/// How much longer things took in the second half of the rounds, by the median of all things.
fn drift(seen: &[Seen]) -> f64 {
    let change = |seen: &Seen| {
        let rounds = seen.rounds.len();
        if rounds < ROUNDS_MIN {
            return None;
        }
        let half = |part: &[Option<f64>]| {
            let mut part: Vec<f64> = part.iter().flatten().copied().collect();
            (!part.is_empty()).then(|| median(&mut part))
        };
        let first = half(&seen.rounds[..rounds / 2])?;
        let second = half(&seen.rounds[rounds.div_ceil(2)..])?;
        Some(second / first.max(1e-9) - 1.0)
    };
    median(&mut seen.iter().filter_map(change).collect::<Vec<_>>())
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drift(by) if *by > 0.0 => {
                write!(f, "it got {:.0} % slower while it was measured", by * 100.0)
            }
            Self::Drift(by) => {
                write!(f, "it got {:.0} % faster while it was measured", -by * 100.0)
            }
            Self::Noise(by) => {
                write!(f, "times do not repeat: they are {:.0} % off their medians", by * 100.0)
            }
            Self::Busy(times, looks) => {
                write!(f, "others use it: it had work {times} of {looks} times before ours began")
            }
        }
    }
}
