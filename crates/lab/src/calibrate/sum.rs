//! Repeated measurements of one thing, taken together.

use super::Probe;
use super::window::{Reading, Unread, median};

/// What a normal deviation is, in medians of absolute ones.
const DEVIATION: f64 = 1.4826;

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What.
    pub probe: Probe,
    /// The median, in seconds.
    pub seconds: f64,
    /// Tokens of the prompt, or that each sequence held, on average.
    pub tokens: f64,
    /// How far single measurements are from the median, as a share of it.
    pub spread: f64,
    /// Each round's measurement; none where there was none.
    pub rounds: Vec<Option<f64>>,
    /// Whether the server counted the tokens.
    pub counted: bool,
}

/// Adds up what each round read; the reason where no round could.
///
/// # Errors
/// [`Unread`], of the first round that says why.
pub fn sum(probe: Probe, rounds: &[Result<Reading, Unread>]) -> Result<Seen, Unread> {
    let readings: Vec<Reading> = rounds.iter().filter_map(|round| round.ok()).collect();
    if readings.is_empty() {
        return Err(rounds.iter().find_map(|round| round.err()).unwrap_or(Unread::Short));
    }
    let mut seconds: Vec<f64> = readings.iter().map(|reading| reading.seconds).collect();
    let middle = median(&mut seconds);
    let mut off: Vec<f64> = seconds.iter().map(|seconds| (seconds - middle).abs()).collect();
    let tokens = readings.iter().map(|reading| reading.tokens).sum::<f64>();
    Ok(Seen {
        probe,
        seconds: middle,
        tokens: tokens / readings.len() as f64,
        spread: DEVIATION * median(&mut off) / middle.max(1e-9),
        rounds: rounds.iter().map(|round| round.ok().map(|reading| reading.seconds)).collect(),
        counted: readings.iter().all(|reading| reading.counted),
    })
}
