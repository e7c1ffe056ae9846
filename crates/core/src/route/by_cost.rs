//! Where the answer is expected to be complete first.
//!
//! Among replicas that are as good as the best, within a small window, it is one of the nearest, and of
//! those the less busy of two at random: several gateways that know the same of the same replicas must not all send their next
//! request to one of them.

use super::{Candidate, Pick, View, power_of_two};
use crate::Span;

/// What makes no difference: below it estimates are noise.
const WINDOW_MIN: Span = Span::from_millis(1);

/// And one part in so many of the best.
const WINDOW_PART: u64 = 64;

#[derive(Debug)]
pub(super) struct ByCost;

impl Pick for ByCost {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        let total = |at: &usize| view.candidates[*at].costs.total();
        let all = 0..view.candidates.len();
        let best = all.clone().min_by_key(total)?;
        let most = near_most(view.candidates)?;
        let near = |at: &usize| view.candidates[*at].open && total(at) <= most;
        let way = |at: &usize| view.candidates[*at].costs.network;
        let shortest = all.clone().filter(near).map(|at| way(&at)).min();
        let near = |at: &usize| near(at) && Some(way(at)) == shortest;
        let open = all.clone().filter(near).count() as u64;
        if open == 0 {
            return Some(best);
        }
        let nth = |place: u64| all.clone().filter(near).nth(usize::try_from(place).unwrap_or(0));
        let (one, other) = power_of_two::draw(view, open);
        let (one, other) = (nth(one)?, nth(other)?);
        let busy = |at: usize| {
            let replica = view.candidates[at].replica;
            f64::from(replica.requests) / f64::from(replica.capacity.requests_max.max(1))
        };
        Some(if busy(other) < busy(one) { other } else { one })
    }
}

/// The most that a candidate costs that is as good as the best.
pub(super) fn near_most(candidates: &[Candidate<'_>]) -> Option<Span> {
    let least = candidates.iter().map(|candidate| candidate.costs.total()).min()?;
    let window = WINDOW_MIN.as_nanos().max(least.as_nanos() / WINDOW_PART);
    Some(least + Span::from_nanos(window))
}
