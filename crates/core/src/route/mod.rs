//! Where a request goes: the one function that chooses a replica, free of side effects.
//!
//! *Filter*: who is open, has room and did not fail this request before. *Cost*: what each would cost
//! in seconds until the answer is complete ([`cost`]). *Pick*: the policy's, one file each in one
//! table ([`Policy`]). Only the scheduler books.
//!
//! Where waiting for a replica that has the prompt in its cache ends sooner than computing it
//! elsewhere, the answer is [`Decision::Wait`]: a place that is free is not taken at any price, so
//! that affinity survives load. The wait is bounded by what it can save.

mod bounds;
mod by_cost;
pub mod cost;
mod least_requests;
mod least_tokens;
mod power_of_two;
mod prefix_hash;
mod round_robin;
mod session;
pub mod speed;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::{Claim, Replica};
use crate::prefix::{BLOCK_TOKENS, Found, Index};
use crate::{Fleet, ReplicaId, RequestId, Span, Time, Tokens, Why};
pub use bounds::{Bar, Bounds};
pub use cost::Costs;
pub use speed::{InitialSpeed, Speeds};

/// What identifies a prompt, as far as placing it depends on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Prompt {
    /// The names of its blocks, see [`crate::prefix::blocks`]; none where nobody named them.
    pub blocks: Option<Arc<[u64]>>,
    /// A number for the conversation or user that it belongs to; zero for none.
    pub session: u64,
    /// A number for the LoRA adapter that it asks for; zero for none.
    pub adapter: u64,
    /// A number for its whole body, to know it again; zero where nobody made one.
    pub fingerprint: u64,
    /// Whether its answer comes piece by piece.
    pub streams: bool,
    /// Where it may go.
    pub bounds: Bounds,
}

impl Prompt {
    /// The names of its blocks.
    pub fn blocks(&self) -> &[u64] {
        self.blocks.as_deref().unwrap_or_default()
    }
}

/// How a replica is picked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// Where the answer is expected to be complete first.
    #[default]
    Cost,
    /// One after the other.
    RoundRobin,
    /// Of two at random the one with fewer tokens in flight.
    PowerOfTwo,
    /// The fewest tokens in flight.
    LeastTokens,
    /// The fewest requests in flight.
    LeastRequests,
    /// By a hash of the prompt's begin, with bounded load.
    PrefixHash,
    /// By a hash of the session, with bounded load.
    Session,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 7] = [
        Self::Cost,
        Self::RoundRobin,
        Self::PowerOfTwo,
        Self::LeastTokens,
        Self::LeastRequests,
        Self::PrefixHash,
        Self::Session,
    ];

    /// Its name in reasons and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::RoundRobin => "round_robin",
            Self::PowerOfTwo => "power_of_two",
            Self::LeastTokens => "least_tokens",
            Self::LeastRequests => "least_requests",
            Self::PrefixHash => "prefix_hash",
            Self::Session => "session",
        }
    }

    /// The policy in action.
    pub fn picker(self) -> Box<dyn Pick> {
        match self {
            Self::Cost => Box::new(by_cost::ByCost),
            Self::RoundRobin => Box::new(round_robin::RoundRobin),
            Self::PowerOfTwo => Box::new(power_of_two::PowerOfTwo),
            Self::LeastTokens => Box::new(least_tokens::LeastTokens),
            Self::LeastRequests => Box::new(least_requests::LeastRequests),
            Self::PrefixHash => Box::new(prefix_hash::PrefixHash),
            Self::Session => Box::new(session::Session),
        }
    }
}

/// A way to pick a replica. The simulator brings others than those of the table, to compare with;
/// some of those remember what they did.
pub trait Pick: fmt::Debug + Send + Sync {
    /// Its name in reasons.
    fn name(&self) -> &'static str;

    /// Picks among the candidates, by place; none to wait. A replica that is not open now may be
    /// picked as well: then the request waits for it.
    fn pick(&mut self, view: &View<'_>) -> Option<usize>;
}

/// What a policy sees.
#[derive(Debug)]
pub struct View<'a> {
    /// The moment.
    pub now: Time,
    /// Which request; also the seed of what is random.
    pub id: RequestId,
    /// Its tokens, estimated.
    pub tokens: Tokens,
    /// What identifies its prompt.
    pub prompt: &'a Prompt,
    /// Requests placed so far.
    pub turn: u64,
    /// Replicas that may take it, in the order of ids: never none of them open.
    pub candidates: &'a [Candidate<'a>],
}

impl View<'_> {
    /// The places of those that are open.
    pub fn open(&self) -> impl Iterator<Item = usize> {
        let all = self.candidates.iter().enumerate();
        all.filter(|(_, candidate)| candidate.open).map(|(at, _)| at)
    }

    /// The open one with the least of something.
    pub fn least<T: PartialOrd>(&self, of: impl Fn(&Candidate<'_>) -> T) -> Option<usize> {
        self.open().reduce(|best, at| {
            if of(&self.candidates[at]) < of(&self.candidates[best]) { at } else { best }
        })
    }
}

/// A replica that may take the request, and what that would cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// What the ledger says of it.
    pub replica: &'a Replica,
    /// Whether it takes the request now; else as soon as it has room.
    pub open: bool,
    /// Requests in front of this one that wait for this replica.
    pub ahead: u32,
    /// Prompt tokens that it is believed to have.
    pub cached: u32,
    /// Of those, tokens that it has to load from the host's memory.
    pub loaded: u32,
    /// What it would cost.
    pub costs: Costs,
}

/// What the choice may depend on besides the fleet.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// Which request.
    pub id: RequestId,
    /// Its tokens; those that caches have are not taken off.
    pub tokens: Tokens,
    /// What identifies its prompt.
    pub prompt: &'a Prompt,
    /// Replicas that already failed this request.
    pub tried: &'a [ReplicaId],
    /// Replicas that it must not go to.
    pub barred: &'a [ReplicaId],
    /// What it asks of a replica.
    pub claim: Claim,
    /// How long it waited.
    pub queued: Span,
    /// How long it has waited for a replica of its choice while others had room.
    pub held: Span,
    /// One for the first attempt.
    pub attempt: u32,
}

/// What is known besides.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge<'a> {
    /// Who has which prompts.
    pub index: &'a Index,
    /// Who is how fast.
    pub speeds: &'a Speeds,
    /// Requests in front of this one that wait for a replica of their choice.
    pub ahead: &'a [(ReplicaId, u32)],
    /// Requests placed so far.
    pub turn: u64,
    /// Requests that wait for each replica, being their choice.
    pub wanted: &'a BTreeMap<ReplicaId, u32>,
    /// The replica that this one is counted with there.
    pub own: Option<ReplicaId>,
    /// Requests that wait at all, this one too.
    pub waiting: u32,
    /// Whether replicas keep only once what prompts in flight begin with in common.
    pub shares: bool,
}

/// A replica and the reason for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Where to send the request.
    pub replica: ReplicaId,
    /// Prompt tokens that are believed to be there.
    pub cached: u32,
    /// Why there.
    pub why: Why,
}

/// What to do with a request whose turn it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Send it.
    Go(Choice),
    /// Rather wait for this replica than take one that is free; others may go first.
    Wait {
        /// For which.
        replica: ReplicaId,
        /// For how long at most.
        most: Span,
    },
    /// No replica has room.
    Full,
}

/// Chooses a replica, or to wait.
///
/// A replica that failed this request before is taken again only when it is the only one up:
/// then it has most likely been restarted.
pub fn choose(
    now: Time,
    pick: &mut dyn Pick,
    fleet: &Fleet,
    known: Knowledge<'_>,
    placement: &Placement<'_>,
) -> Decision {
    if !fleet.iter().any(|replica| replica.is_open(now) && replica.has_place()) {
        return Decision::Full;
    }
    let candidates = candidates(now, fleet, known, placement);
    if !candidates.iter().any(|candidate| candidate.open) {
        return Decision::Full;
    }
    let view = View {
        now,
        id: placement.id,
        tokens: placement.tokens,
        prompt: placement.prompt,
        turn: known.turn,
        candidates: &candidates,
    };
    let Some(mut at) = pick.pick(&view) else { return Decision::Full };
    if !candidates[at].open {
        let Some(open) = view.least(|candidate| candidate.costs.total()) else {
            return Decision::Full;
        };
        let most = cost::patience(&candidates[at], &candidates[open]);
        if placement.held < most {
            return Decision::Wait { replica: candidates[at].replica.id, most };
        }
        at = open;
    }
    Decision::Go(chosen(pick.name(), &view, at, placement))
}

/// The replicas that a request may go to now: those that did not fail it, as long as one of them takes work
/// now or in a moment. One that is left alone for longer may be dead, and is not waited for.
pub(crate) fn eligible<'a, 'b>(
    now: Time,
    fleet: &'a Fleet,
    tried: &'b [ReplicaId],
    barred: &'b [ReplicaId],
) -> impl Iterator<Item = &'a Replica> {
    let fresh = move |replica: &Replica| !tried.contains(&replica.id);
    let allowed = move |replica: &&Replica| !barred.contains(&replica.id);
    let some_fresh =
        fleet.iter().filter(allowed).any(|replica| replica.is_promising() && fresh(replica));
    let may = move |replica: &&Replica| {
        replica.is_open(now) && allowed(replica) && (!some_fresh || fresh(replica))
    };
    fleet.iter().filter(may)
}

/// Every replica that may take a request, with its costs: what [`choose`] picks from, and what an
/// explanation shows.
pub fn candidates<'a>(
    now: Time,
    fleet: &'a Fleet,
    known: Knowledge<'_>,
    placement: &Placement<'_>,
) -> Vec<Candidate<'a>> {
    let found = known.index.find(placement.prompt.blocks());
    let may = eligible(now, fleet, placement.tried, placement.barred);
    let open = fleet.iter().filter(|replica| replica.is_open(now)).count();
    let undecided = undecided(known) / open.max(1) as f64;
    let may = may.map(|replica| {
        let there = found.iter().find(|(id, _)| *id == replica.id).map(|(_, found)| *found);
        let (cached, loaded) = match &placement.prompt.blocks {
            Some(_) => cached(there.unwrap_or_default(), placement),
            // The host told.
            None => (placement.tokens.cached, 0),
        };
        (replica, there, cached, loaded)
    });
    let may: Vec<_> = may.collect();
    let input = placement.tokens.input;
    let computed = may.iter().map(|&(_, _, cached, loaded)| cost::computed(input, cached, loaded));
    let least = computed.fold(f64::MAX, f64::min);
    may.into_iter()
        .map(|(replica, there, cached, loaded)| {
            let prefill = u64::from(placement.tokens.input.saturating_sub(cached));
            let used = there.filter(|_| known.shares).map_or(0, |found| found.used);
            let there_once = u64::from(used) * u64::from(BLOCK_TOKENS);
            let need = placement.claim.need.saturating_sub(there_once.min(u64::from(cached)));
            let claim = Claim { prefill, need, ..placement.claim };
            let line = known.ahead.iter().find(|(id, _)| *id == replica.id);
            let ahead = line.map_or(0, |(_, count)| *count);
            let open = ahead == 0 && fleet.has_room(now, replica, &claim);
            let mut candidate =
                Candidate { replica, open, ahead, cached, loaded, costs: Costs::default() };
            let wanted = known.wanted.get(&replica.id).copied().unwrap_or(0);
            let wanted = wanted - u32::from(known.own == Some(replica.id)).min(wanted);
            let others = f64::from(wanted) + undecided;
            candidate.costs =
                cost::of(now, &candidate, known.speeds, (placement, &claim), (others, least));
            candidate
        })
        .collect()
}

/// The most that a candidate costs that is as good as the best; none where there are none.
pub fn near_most(candidates: &[Candidate<'_>]) -> Option<Span> {
    by_cost::near_most(candidates)
}

/// Requests that wait and have chosen no replica yet.
fn undecided(known: Knowledge<'_>) -> f64 {
    let chosen: u32 = known.wanted.values().sum();
    let itself = u32::from(known.own.is_none());
    f64::from(known.waiting.saturating_sub(chosen + itself))
}

/// Tokens in a cache, all of them and those in the host's memory. The last token is always computed:
/// the answer begins with what comes out for it.
fn cached(found: Found, placement: &Placement<'_>) -> (u32, u32) {
    let input = placement.tokens.input;
    let named = u64::try_from(placement.prompt.blocks().len()).unwrap_or(u64::MAX);
    // A block is so many bytes; how many tokens these are is as uncertain as the whole estimate.
    let each = u64::from(input).checked_div(named).unwrap_or(0);
    let each = each.min(u64::from(BLOCK_TOKENS));
    let tokens = |blocks: u32| {
        let tokens = u64::from(blocks).saturating_mul(each);
        u32::try_from(tokens).unwrap_or(u32::MAX).min(input.saturating_sub(1))
    };
    (tokens(found.blocks()), tokens(found.host))
}

fn chosen(policy: &'static str, view: &View<'_>, at: usize, placement: &Placement<'_>) -> Choice {
    let candidate = &view.candidates[at];
    let total = |candidate: &Candidate<'_>| candidate.costs.total();
    let others = view.candidates.iter().enumerate().filter(|(other, _)| *other != at);
    let next = others.map(|(_, other)| total(other)).min();
    let why = Why::Placed {
        policy,
        replica: candidate.replica.id,
        costs: candidate.costs,
        cached: candidate.cached,
        input: placement.tokens.input,
        next,
        candidates: u32::try_from(view.open().count()).unwrap_or(u32::MAX),
        queued: placement.queued,
        attempt: placement.attempt,
    };
    Choice { replica: candidate.replica.id, cached: candidate.cached, why }
}

#[cfg(test)]
mod tests;
