//! One of the shapes that no other beats: the one that a goal asks for, and why.

use serde::Serialize;

use super::{Limits, Tried};
use crate::report::Rounded;

/// The part of requests that must be good for a shape to meet limits: they are on the 99th percentile.
const GOOD_MIN: f64 = 0.99;

/// What matters most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// How soon an answer is there.
    Latency,
    /// How little it costs.
    Cost,
    /// How soon it is there for what it costs.
    #[default]
    Balance,
}

impl Goal {
    /// What the one has that is taken.
    const fn least(self) -> &'static str {
        match self {
            Self::Latency => "has a whole answer soonest",
            Self::Cost => "is the cheapest",
            Self::Balance => "has the least cost times time of a whole answer",
        }
    }
}

/// The one to take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pick {
    /// Its place among those that were tried.
    pub place: usize,
    /// Why, in a sentence.
    pub reason: String,
}

/// The one of the best that the goal asks for, where an answer has so many tokens; none where nothing is best.
pub fn pick(tried: &[Tried], goal: Goal, limits: &Limits, answer_tokens: f64) -> Option<Pick> {
    let best: Vec<(usize, &Tried)> = tried.iter().enumerate().filter(|(_, one)| one.best).collect();
    let is_limited = limits.ttft_seconds.or(limits.tpot_seconds).is_some();
    let meets = |one: &Tried| one.outcome.good.get() >= GOOD_MIN;
    let holding: Vec<(usize, &Tried)> =
        best.iter().copied().filter(|(_, one)| !is_limited || meets(one)).collect();
    let after = (answer_tokens - 1.0).max(0.0);
    // Where nobody's further tokens have times, the first are what can be compared.
    let is_timed = after > 0.0 && best.iter().any(|(_, one)| one.outcome.tpot_p99.is_some());
    let whole = |one: &Tried| {
        let tpot = one.outcome.tpot_p99.map_or(f64::INFINITY, Rounded::get);
        one.outcome.ttft_p99.get() + if is_timed { tpot * after } else { 0.0 }
    };
    let Some((place, one)) = least(&holding, &|one| match goal {
        Goal::Latency => [whole(one), one.weight()],
        Goal::Cost => [one.weight(), whole(one)],
        Goal::Balance => [one.weight() * whole(one), one.weight()],
    }) else {
        let (place, one) = least(&best, &|one| [-one.outcome.good.get(), one.weight()])?;
        let reason = format!(
            "none holds the limits for 99 % of requests; it does for the most, {:.1} %",
            one.outcome.good.get() * 100.0
        );
        return Some(Pick { place, reason });
    };
    let (count, soon) = (holding.len(), whole(one));
    let among = match (count, is_limited) {
        (1, true) => "no other that is best holds the limits".to_owned(),
        (1, false) => "no other is as good in anything".to_owned(),
        (_, true) => format!("of {count} that hold the limits it {}", goal.least()),
        (_, false) => format!("of {count} that no other beats it {}", goal.least()),
    };
    let soon = match (after > 0.0 && !is_timed, soon.is_finite()) {
        (true, _) => format!("a first token within {soon:.2} s at the 99th percentile"),
        (_, true) => format!("a whole answer within {soon:.2} s at the 99th percentile"),
        (_, false) => "how soon a whole answer is there is not known".to_owned(),
    };
    let reason = format!("{among}; {soon}");
    Some(Pick { place, reason })
}

/// The one with the least of the first number, of those the one with the least of the second, of those the first.
fn least<'a>(
    of: &[(usize, &'a Tried)],
    numbers: &dyn Fn(&Tried) -> [f64; 2],
) -> Option<(usize, &'a Tried)> {
    of.iter().copied().min_by(|(_, one), (_, other)| {
        let ([one, next], [other, other_next]) = (numbers(one), numbers(other));
        one.total_cmp(&other).then(next.total_cmp(&other_next))
    })
}
