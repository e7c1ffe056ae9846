//! Why one request took as long as it did, in words: where its time went beside what others take, what that
//! means, and what can be done.

mod ahead;
#[cfg(test)]
mod tests;
mod words;

use pilotage_core::{Span, Tokens};
use serde::Serialize;

pub use ahead::Ahead;

use crate::timeline::millis;
use crate::{Phase, Record, Termination};

/// A phase is told when it took this part of the whole, or more.
const SHARE_LEAST: f64 = 0.005;

/// A request is slow when it took this many times what is usual.
const SLOW_TIMES: f64 = 1.5;

/// Less than this above what is usual is nothing that anybody would ask about.
const EXCESS_LEAST: Span = Span::from_millis(50);

/// What others of the same model usually take: medians.
#[derive(Clone, Debug, Default)]
pub struct Usual {
    /// How many those are.
    pub count: u32,
    /// Of each phase, in the order of [`Phase::ALL`].
    pub phases: [Span; Phase::ALL.len()],
    /// From begin to end.
    pub total: Span,
    /// Between tokens, where any was a stream.
    pub tpot: Option<Span>,
    /// Prompt tokens.
    pub input: u32,
    /// Generated tokens.
    pub output: u32,
}

/// Why a request took so long, or failed.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// In one sentence.
    pub verdict: String,
    /// The phase that it is about, where it is about one.
    pub phase: Option<Phase>,
    /// Where the time went, in the order of time.
    pub lines: Vec<Line>,
    /// What else was unusual.
    pub notes: Vec<String>,
    /// What can be done.
    pub hint: Option<String>,
    /// How many others it was compared with.
    pub compared_with: u32,
}

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Which.
    pub phase: Phase,
    /// What it took.
    #[serde(rename = "ms", with = "millis")]
    pub took: Span,
    /// What part of the whole, 0 to 1.
    pub share: f64,
    /// What it usually takes, where there is anything to compare with.
    #[serde(rename = "usual_ms", with = "millis::optional")]
    pub usual: Option<Span>,
    /// What happens in it.
    pub what: &'static str,
}

/// Explains a request that is over. `usual` is what others took; none where there were none.
pub fn explain(record: &Record, usual: Option<&Usual>) -> Explanation {
    let lines = Phase::ALL.into_iter().filter_map(|phase| line(record, phase, usual)).collect();
    let phase = binding(record, usual);
    let (verdict, phase) = match words::ended(record) {
        Some(ended) => (ended, None),
        None => (words::verdict(record, phase, usual), Some(phase)),
    };
    let hint = words::hint(record, phase, usual);
    Explanation {
        verdict,
        phase,
        lines,
        notes: words::notes(record),
        hint,
        compared_with: usual.map_or(0, |usual| usual.count),
    }
}

fn line(record: &Record, phase: Phase, usual: Option<&Usual>) -> Option<Line> {
    let took = record.phases.of(phase);
    let share = took.as_secs_f64() / record.total.as_secs_f64().max(1e-9);
    let usual = usual.map(|usual| usual.of(phase));
    let is_told = share >= SHARE_LEAST || usual.is_some_and(|usual| usual > took);
    is_told.then(|| Line { phase, took, share, usual, what: words::what(phase) })
}

/// The phase that made it slow: the one that took most beyond what is usual; else the longest.
fn binding(record: &Record, usual: Option<&Usual>) -> Phase {
    let excess = |phase: Phase| {
        let usual = usual.map_or(Span::ZERO, |usual| usual.of(phase));
        record.phases.of(phase).saturating_sub(usual)
    };
    let most = |by: &dyn Fn(Phase) -> Span| {
        Phase::ALL.into_iter().max_by_key(|phase| by(*phase)).unwrap_or(Phase::Other)
    };
    let beyond = most(&excess);
    if excess(beyond) >= EXCESS_LEAST { beyond } else { most(&|phase| record.phases.of(phase)) }
}

impl Usual {
    /// The medians of requests that are alike; none where there are none.
    pub fn among(alike: &[Record]) -> Option<Self> {
        let middle = |values: &mut dyn Iterator<Item = u64>| {
            let mut values: Vec<u64> = values.collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        let span = |of: &dyn Fn(&Record) -> Option<Span>| {
            let spans = &mut alike.iter().filter_map(of).map(Span::as_nanos);
            middle(spans).map(Span::from_nanos)
        };
        let count = |of: fn(&Record) -> u32| {
            let counts = &mut alike.iter().map(|record| u64::from(of(record)));
            u32::try_from(middle(counts).unwrap_or_default()).unwrap_or(u32::MAX)
        };
        Some(Self {
            count: u32::try_from(alike.len()).unwrap_or(u32::MAX),
            phases: Phase::ALL
                .map(|phase| span(&|record| Some(record.phases.of(phase))).unwrap_or_default()),
            total: span(&|record| Some(record.total))?,
            tpot: span(&|record| record.tpot),
            input: count(|record| record.tokens.input),
            output: count(|record| record.tokens.output),
        })
    }

    /// What a phase takes.
    pub const fn of(&self, phase: Phase) -> Span {
        self.phases[phase as usize]
    }

    /// Whether a request took much longer.
    pub fn is_beaten_by(&self, record: &Record) -> bool {
        let beyond = record.total.saturating_sub(self.total);
        beyond >= EXCESS_LEAST && record.total.as_secs_f64() > self.total.as_secs_f64() * SLOW_TIMES
    }
}

/// Prompt tokens that had to be computed.
const fn computed(tokens: Tokens) -> u32 {
    tokens.input.saturating_sub(tokens.cached)
}

/// Whether it was refused before a replica had it.
const fn is_refused(termination: Termination) -> bool {
    matches!(
        termination,
        Termination::Quota | Termination::Budget | Termination::QueueFull | Termination::Deadline
    )
}
