//! What one measurement of a server says, from when its tokens came.

use thiserror::Error;

use crate::record::{Outcome, Sample};

/// The part of a run at each of its ends in which not all requests are under way.
const EDGE: f64 = 0.15;

/// What was read once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Seconds: to the first token, or of a step.
    pub seconds: f64,
    /// Tokens of the prompt that were computed, or that each sequence held on average.
    pub tokens: f64,
    /// Whether the server counted them.
    pub counted: bool,
}

/// Tokens that came out of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Tokens of answers a second.
    pub tokens_per_second: f64,
    /// Tokens of a prompt that were computed, on average.
    pub prompt: f64,
    /// Tokens of an answer, on average.
    pub answer: f64,
}

/// Why a measurement says nothing.
#[derive(Clone, Copy, Debug, Eq, Error, Ord, PartialEq, PartialOrd)]
pub enum Unread {
    /// Some requests were refused.
    #[error("the server refuses so many at once")]
    Refused,
    /// Some took too long.
    #[error("an answer took longer than --timeout")]
    Late,
    /// A connection broke.
    #[error("a connection broke")]
    Broken,
    /// An answer had no token, or ended too early.
    #[error("answers end too early")]
    Short,
    /// Never were all answers under way.
    #[error("the server does not compute so many at once")]
    Apart,
}

/// The time to the first token of a single prompt.
pub(super) fn prompt(samples: &[Sample]) -> Result<Reading, Unread> {
    answered(samples)?;
    let sample = samples.first().ok_or(Unread::Short)?;
    let seconds = sample.ttft_sent().ok_or(Unread::Short)?;
    Ok(Reading { seconds, tokens: f64::from(computed(sample)), counted: sample.counted })
}

/// The time of a step of all answers, from what came between the last first token and the first last one.
pub(super) fn steps(samples: &[Sample], steps_min: u32) -> Result<Reading, Unread> {
    answered(samples)?;
    let begin = samples.iter().map(|sample| sample.first).max().flatten().ok_or(Unread::Short)?;
    let end = samples.iter().map(|sample| sample.last).min().flatten().ok_or(Unread::Short)?;
    let mut seconds = Vec::with_capacity(samples.len());
    let mut tokens = 0.0;
    for sample in samples {
        let read = Answer::of(sample, begin, end)?;
        if read.steps < f64::from(steps_min) {
            return Err(if samples.len() > 1 { Unread::Apart } else { Unread::Short });
        }
        seconds.push(read.seconds / read.steps);
        tokens += f64::from(sample.input_tokens) + read.middle;
    }
    let counted = samples.iter().all(|sample| sample.counted);
    let tokens = tokens / samples.len() as f64;
    Ok(Reading { seconds: median(&mut seconds), tokens, counted })
}

/// Tokens a second of a closed loop, without its ends.
pub(super) fn throughput(samples: &[Sample]) -> Result<Throughput, Unread> {
    answered(samples)?;
    let begin = samples.iter().map(|sample| sample.sent).min().ok_or(Unread::Short)?;
    let end = samples.iter().map(|sample| sample.end).max().ok_or(Unread::Short)?;
    let span = end.saturating_sub(begin) as f64;
    let from = begin + (span * EDGE) as u64;
    let until = end - (span * EDGE) as u64;
    let mut tokens = 0.0;
    for sample in samples {
        let rate = tokens_an_event(sample);
        let inside = moments(sample).filter(|at| (from..until).contains(at)).count();
        tokens += inside as f64 * rate;
    }
    let seconds = until.saturating_sub(from) as f64 / 1e9;
    if seconds <= 0.0 || tokens <= 0.0 {
        return Err(Unread::Short);
    }
    let mean = |of: fn(&Sample) -> u32| {
        samples.iter().map(|sample| f64::from(of(sample))).sum::<f64>() / samples.len() as f64
    };
    Ok(Throughput {
        tokens_per_second: tokens / seconds,
        prompt: mean(computed),
        answer: mean(|sample| sample.output_tokens),
    })
}

/// What of an answer came in a span of time.
struct Answer {
    /// Seconds from the first event in it to the last.
    seconds: f64,
    /// Tokens that came in those.
    steps: f64,
    /// Tokens of the answer in the middle of them.
    middle: f64,
}

impl Answer {
    fn of(sample: &Sample, begin: u64, end: u64) -> Result<Self, Unread> {
        let mut inside = moments(sample).enumerate().filter(|(_, at)| (begin..=end).contains(at));
        let (first, from) = inside.next().ok_or(Unread::Apart)?;
        let (last, until) = inside.last().unwrap_or((first, from));
        let rate = tokens_an_event(sample);
        Ok(Self {
            seconds: until.saturating_sub(from) as f64 / 1e9,
            steps: (last - first) as f64 * rate,
            middle: (first + last) as f64 / 2.0 * rate + 1.0,
        })
    }
}

/// Tokens of the prompt that no cache had: what a template says before every prompt is there from the second one on.
const fn computed(sample: &Sample) -> u32 {
    sample.input_tokens.saturating_sub(sample.cached_tokens)
}

fn answered(samples: &[Sample]) -> Result<(), Unread> {
    for sample in samples {
        match sample.outcome {
            Outcome::Ok => {}
            Outcome::Timeout => return Err(Unread::Late),
            Outcome::Rejected | Outcome::Status => return Err(Unread::Refused),
            _ => return Err(Unread::Broken),
        }
    }
    Ok(())
}

/// When its events with content came.
fn moments(sample: &Sample) -> impl Iterator<Item = u64> {
    let first = sample.first.unwrap_or_default();
    let later = sample.gaps.iter().scan(first as f64, |at, gap| {
        *at += f64::from(*gap) * 1e9;
        Some(at.round() as u64)
    });
    sample.first.into_iter().chain(later)
}

/// Events may hold several tokens, and some tokens are no text yet.
fn tokens_an_event(sample: &Sample) -> f64 {
    let events = sample.events.saturating_sub(1);
    if !sample.counted || events == 0 {
        return 1.0;
    }
    f64::from(sample.output_tokens.saturating_sub(1)) / f64::from(events)
}

/// The middle of some values; zero of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}
