//! From the replicas that run to those that are wanted: start first, drain after, one at a time, and
//! only for a saving that lasts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{CostError, Mix, Offer, Wish, choose};
use crate::{ReplicaId, Span, Time};

/// When it is worth it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Consolidation {
    /// The part of the price that has to be saved for replicas to be replaced.
    pub saving_min: f64,
    /// How much more than what is wanted has to stay when one goes.
    pub tolerance: f64,
    /// For how long either has to hold.
    pub lasting: Span,
}

impl Default for Consolidation {
    fn default() -> Self {
        Self { saving_min: 0.1, tolerance: 0.1, lasting: Span::from_secs(600) }
    }
}

/// A replica that runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Which one.
    pub id: ReplicaId,
    /// The fleet that it is of: a place among the offers.
    pub offer: usize,
    /// The part of it that is used.
    pub used: f64,
    /// Whether it serves already.
    pub ready: bool,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Step {
    /// Replicas to start, by fleet.
    pub start: BTreeMap<usize, u32>,
    /// The one to drain.
    pub drain: Option<ReplicaId>,
}

/// Remembers since when something would be saved.
#[derive(Clone, Debug)]
pub struct Consolidator {
    config: Consolidation,
    since: Option<Time>,
}

impl Consolidator {
    /// Nothing seen yet.
    pub const fn new(config: Consolidation) -> Self {
        Self { config, since: None }
    }

    /// The next step. What is short is started at once, in the cheapest way that keeps what runs; what
    /// is over, or dearer than it need be, goes when that has lasted.
    ///
    /// # Errors
    /// A number that makes no sense, or that all fleets together are too few.
    pub fn step(
        &mut self,
        now: Time,
        offers: &[Offer],
        wish: &Wish,
        placed: &[Placed],
    ) -> Result<Step, CostError> {
        let best = choose(offers, wish)?;
        let counts = counts(offers, placed);
        let mix = Mix::of(offers, &counts, wish.start);
        if !mix.meets(offers, wish) {
            self.since = None;
            return Ok(Step { start: top_up(offers, wish, &counts, &best), drain: None });
        }
        // What is not there yet cannot take over.
        let settled = placed.iter().all(|one| one.ready);
        let more = 1.0 + self.config.tolerance;
        let share = wish.spot_share_max / more;
        let slack = Wish { capacity: wish.capacity * more, spot_share_max: share, ..*wish };
        let target = choose(offers, &slack).ok().unwrap_or(best).into_iter().next();
        let target = target.filter(|_| settled);
        let victim = target.as_ref().and_then(|to| victim(offers, &slack, placed, to));
        let better = target.filter(|to| {
            victim.is_none() && mix.price * (1.0 - self.config.saving_min) >= to.price
        });
        if victim.is_none() && better.is_none() {
            self.since = None;
            return Ok(Step::default());
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) < self.config.lasting {
            return Ok(Step::default());
        }
        if victim.is_some() {
            return Ok(Step { start: BTreeMap::new(), drain: victim });
        }
        let start = better.map(|to| missing(&to.counts, &counts)).unwrap_or_default();
        self.since = None;
        Ok(Step { start, drain: None })
    }
}

/// Who can go: of fleets that have more than they are to have in the end, the dearest for what it does,
/// of those the least used.
fn victim(offers: &[Offer], wish: &Wish, placed: &[Placed], target: &Mix) -> Option<ReplicaId> {
    let counts = counts(offers, placed);
    let spare = |one: &&Placed| {
        let mut less = counts.clone();
        less[one.offer] -= 1;
        less[one.offer] >= target.counts[one.offer]
            && Mix::of(offers, &less, wish.start).meets(offers, wish)
    };
    let order = |a: &&Placed, b: &&Placed| {
        let rate = |one: &Placed| offers[one.offer].rate(wish.start);
        rate(b).total_cmp(&rate(a)).then(a.used.total_cmp(&b.used)).then(b.id.cmp(&a.id))
    };
    let known = placed.iter().filter(|one| one.offer < offers.len());
    known.filter(spare).min_by(order).map(|one| one.id)
}

fn counts(offers: &[Offer], placed: &[Placed]) -> Vec<u32> {
    let mut counts = vec![0; offers.len()];
    for one in placed {
        if let Some(count) = counts.get_mut(one.offer) {
            *count += 1;
        }
    }
    counts
}

fn missing(wanted: &[u32], there: &[u32]) -> BTreeMap<usize, u32> {
    let pairs = wanted.iter().zip(there).enumerate();
    let missing = pairs.map(|(at, (wanted, there))| (at, wanted.saturating_sub(*there)));
    missing.filter(|(_, count)| *count > 0).collect()
}

/// What to add to what runs: the cheapest for what is missing, else what the best mix has more of.
fn top_up(offers: &[Offer], wish: &Wish, there: &[u32], best: &[Mix]) -> BTreeMap<usize, u32> {
    let has = Mix::of(offers, there, wish.start);
    let stay = |at: &usize| offers[*at].interruptions.is_none();
    let stays: Vec<u32> =
        (0..there.len()).map(|at| if stay(&at) { there[at] } else { 0 }).collect();
    let stays = Mix::of(offers, &stays, wish.start).capacity;
    let short = (wish.capacity - has.capacity).max(wish.capacity * wish.on_demand - stays).max(0.0);
    let floor = (wish.capacity * wish.on_demand - stays).max(0.0);
    let left: Vec<Offer> = offers
        .iter()
        .zip(there)
        .map(|(offer, there)| Offer {
            max: offer.most(wish).saturating_sub(*there),
            ..offer.clone()
        })
        .collect();
    let part = if short > 0.0 { (floor / short).min(1.0) } else { 0.0 };
    let rest = Wish { capacity: short, on_demand: part, spot_share_max: 1.0, ..*wish };
    let more = choose(&left, &rest).ok().and_then(|all| all.into_iter().next());
    let more = more.map(|mix| missing(&mix.counts, &vec![0; there.len()]));
    more.or_else(|| best.first().map(|best| missing(&best.counts, there))).unwrap_or_default()
}
