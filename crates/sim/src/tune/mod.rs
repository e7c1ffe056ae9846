//! Which shape of a model is worth its hardware? The same requests for every shape, in the simulator with times of
//! a roofline or sent to servers that run already, and those marked that no other beats in everything.
//!
//! ```text
//! Means ──ways──▶ Way ──try_out(Scenario)──▶ Tried ──mark_best──▶ the front ──pick(Goal)──▶ one of it
//!                           measured times ──Tally──▶ ┘
//! ```

mod pick;
mod play;
mod ways;

#[cfg(test)]
mod tests;

use pilotage_plan::size::Shape;
use serde::Serialize;

use crate::report::Rounded;

pub use pick::{Goal, Pick, pick};
pub use play::{play, try_out};
pub use ways::{Means, WAYS_MAX, Way, Ways, engine, ways};

/// What is wanted of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Seconds to the first token, at most.
    pub ttft_seconds: Option<f64>,
    /// Seconds for each further token, at most.
    pub tpot_seconds: Option<f64>,
}

/// Where numbers come from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The simulator.
    #[default]
    Simulated,
    /// A server that was asked.
    Measured,
}

/// What a shape came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// The shape in a few words, or what somebody calls a server.
    pub name: String,
    /// Where its numbers come from.
    pub origin: Origin,
    /// The server's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What its model is called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_model: Option<String>,
    /// Its shape, where it is known.
    pub shape: Option<Shape>,
    /// Accelerators of all replicas, where they are known.
    pub accelerators: Option<u32>,
    /// What it costs in an hour, where that is known.
    pub cost: Option<Rounded>,
    /// What came of the requests.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What the simulator says of a server that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Outcome>,
    /// Why there are no numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What a reader should know of its numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether its answers were so much shorter than was asked that its times mean nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
    /// Whether no other is as good in everything and better in something, or equal and before it.
    pub best: bool,
}

/// What came of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The 99th percentile of times to the first token, in seconds.
    pub ttft_p99: Rounded,
    /// The 99th percentile of times for each further token, in seconds; none where it is not known.
    pub tpot_p99: Option<Rounded>,
    /// Requests a second that were as good as wanted.
    pub goodput: Rounded,
    /// The part of requests that were.
    pub good: Rounded,
    /// Requests that count.
    pub requests: u64,
    /// Those of them that were refused or not finished.
    pub lost: u64,
}

/// Adds requests up.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    limits: Limits,
    firsts: Vec<f64>,
    nexts: Vec<f64>,
    good: u64,
    lost: u64,
}

impl Tally {
    /// Nothing yet; what is good, the limits say.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A whole answer: seconds to its first token, and for each further one where there are any.
    pub fn answered(&mut self, ttft: f64, tpot: Option<f64>) {
        self.good += u64::from(self.limits.hold(ttft, tpot));
        self.firsts.push(ttft);
        self.nexts.extend(tpot);
    }

    /// A whole answer whose further tokens came at times that nobody knows: it cannot be said to hold their limit.
    pub fn answered_untimed(&mut self, ttft: f64) {
        self.answered(ttft, Some(f64::INFINITY));
    }

    /// A request that was refused or not finished.
    pub const fn lost(&mut self) {
        self.lost += 1;
    }

    /// The sum over requests that came within so many seconds.
    pub fn outcome(self, seconds: f64) -> Outcome {
        let requests = self.firsts.len() as u64 + self.lost;
        Outcome {
            ttft_p99: p99(self.firsts).unwrap_or(0.0).into(),
            tpot_p99: p99(self.nexts).filter(|tpot| tpot.is_finite()).map(Into::into),
            goodput: (self.good as f64 / seconds.max(1.0)).into(),
            good: (self.good as f64 / requests.max(1) as f64).into(),
            requests,
            lost: self.lost,
        }
    }
}

impl Tried {
    /// What it takes of what others could have: money where it is known, accelerators else.
    pub fn weight(&self) -> f64 {
        let accelerators = || self.accelerators.map(f64::from);
        self.cost.map(Rounded::get).or_else(accelerators).unwrap_or(1.0)
    }

    /// Whether all requests that count were answered, about as long as was asked.
    pub const fn is_whole(&self) -> bool {
        self.failed.is_none() && !self.short && self.outcome.lost == 0 && self.outcome.requests > 0
    }

    /// By how much predicted times to the first token and for each further one are off, as parts of those measured.
    pub fn errors(&self) -> [Option<f64>; 2] {
        let Some(predicted) = &self.predicted else { return [None, None] };
        let of = |predicted: Rounded, measured: Rounded| {
            let is_there = self.outcome.lost < self.outcome.requests && measured.get() > 0.0;
            is_there.then(|| predicted.get() / measured.get() - 1.0)
        };
        let Outcome { ttft_p99, tpot_p99, .. } = self.outcome;
        let next = predicted.tpot_p99.zip(tpot_p99);
        [of(predicted.ttft_p99, ttft_p99), next.and_then(|(said, found)| of(said, found))]
    }

    /// Takes what an accelerator costs in an hour into account.
    pub fn price(&mut self, price: f64) {
        let cost = self.accelerators.map(|count| (price * f64::from(count)).into());
        self.cost = self.cost.or(cost);
    }
}

impl Limits {
    fn hold(&self, ttft: f64, tpot: Option<f64>) -> bool {
        self.ttft_seconds.is_none_or(|most| ttft <= most)
            && self.tpot_seconds.zip(tpot).is_none_or(|(most, tpot)| tpot <= most)
    }
}

/// Marks those that no other beats: in what they cost, times and the part that is good. Of equals the first is
/// marked; what loses requests is beaten, and a time that is not known is no better than any.
pub fn mark_best(tried: &mut [Tried]) {
    let beats = |(place, one): (usize, &Tried), (other_place, other): (usize, &Tried)| {
        let of = |tried: &Tried| {
            let Outcome { ttft_p99, tpot_p99, good, .. } = tried.outcome;
            let tpot = tpot_p99.map_or(f64::INFINITY, Rounded::get);
            [tried.weight(), ttft_p99.get(), tpot, -good.get()]
        };
        let (one, other) = (of(one), of(other));
        let pairs = || one.iter().zip(&other);
        let is_better = pairs().any(|(one, other)| one < other);
        pairs().all(|(one, other)| one <= other) && (is_better || place < other_place)
    };
    let best: Vec<bool> = tried
        .iter()
        .enumerate()
        .map(|one| {
            let others = tried.iter().enumerate().filter(|(_, other)| other.is_whole());
            one.1.is_whole() && !others.into_iter().any(|other| beats(other, one))
        })
        .collect();
    tried.iter_mut().zip(best).for_each(|(one, best)| one.best = best);
}

fn p99(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    let rank = (0.99 * times.len() as f64).ceil() as usize;
    times.get(rank.max(1) - 1).copied()
}
