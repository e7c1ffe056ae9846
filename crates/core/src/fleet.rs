//! The replicas a lane can use, with the ledger of what is in flight on each.
//!
//! The ledger is our own count of what we sent, so it is never stale; what engines report about
//! themselves only corrects it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::preempt::Victim;
use crate::{ReplicaId, RequestId, Span, Time};

/// How it is reckoned whether a request fits among those that run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Gate {
    /// What each is taken to occupy in the end, by what its tenant's answers are like, added up.
    #[default]
    Sum,
    /// The most that all hold together at any moment, while each grows by a token a step up to its
    /// longest answer and then leaves (LightLLM's look-ahead). Nothing outgrows its replica, whatever
    /// comes out, and more fits than with longest answers added up.
    Peak,
}

/// What a request asks of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// KV tokens to set aside for it.
    pub need: u64,
    /// KV tokens with its longest answer.
    pub most: u64,
    /// Prompt tokens that have to be computed.
    pub prefill: u64,
}

/// What a replica can take at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Requests in flight.
    pub requests_max: u32,
    /// KV tokens in flight. A single request larger than this is let onto an empty replica.
    pub tokens_max: u64,
    /// Prompt tokens sent there of which no answer has begun: what keeps the replica's own queue
    /// short.
    pub prefill_max: u64,
    /// Requests that the replica can pause by itself, and go on with later, to make place.
    pub pauses_max: u32,
}

impl Capacity {
    /// So many requests, whatever their tokens, and nothing can be paused.
    pub const fn of_requests(requests_max: u32) -> Self {
        Self { requests_max, tokens_max: u64::MAX, prefill_max: u64::MAX, pauses_max: 0 }
    }
}

/// Where a replica is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Site {
    /// How far it is, and what it must be better by than a nearer one: zero for the nearest.
    pub network: Span,
    /// A number for its region, for reasons and status.
    pub region: u16,
    /// Whether it is a gateway of another region, which passes requests on to replicas of its own.
    pub passes_on: bool,
    /// Whether a proxy that carries requests itself cannot speak with it, as it is behind a door that only we
    /// can open.
    pub only_by_us: bool,
}

/// What an engine says about itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// KV tokens that it holds.
    pub kv_tokens: Option<u64>,
    /// KV tokens that it has room for, where its word counts more than what was assumed.
    pub kv_tokens_max: Option<u64>,
    /// Requests that it runs or has waiting.
    pub requests: Option<u32>,
    /// A count that grows with what it does.
    pub steps: Option<u64>,
    /// Whether that grows with every step it takes, and not only when an answer ends.
    pub each_step: bool,
    /// When its process started, in milliseconds since 1970 by its own clock.
    pub started_ms: Option<u64>,
}

/// How old an engine's own report may be to be used: after that the ledger stands alone. Nothing
/// waits for a report.
const REPORT_AGE_MAX: Span = Span::from_secs(5);

/// One replica as the scheduler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// What it can take.
    pub capacity: Capacity,
    /// Where it is.
    pub site: Site,
    /// Whether new work may go there.
    pub up: bool,
    /// No new work before this time, because the last attempt there failed.
    pub suspended_until: Time,
    /// Requests in flight.
    pub requests: u32,
    /// KV tokens set aside for them.
    pub tokens: u64,
    /// Of those, prompt tokens whose answers have not begun.
    pub prefill: u64,
    /// Requests that it has paused.
    pub paused: u32,
    /// KV tokens that are set aside for several requests, but are there once: what their prompts
    /// begin with in common.
    pub shared: u64,
    /// KV tokens that it reported beyond the ledger's: somebody else's work.
    foreign: u64,
    /// Requests that it reported beyond the ledger's.
    foreign_requests: u32,
    reported: Option<Time>,
    /// Whether it works, as far as its answers tell.
    works: bool,
    /// Whether it takes new work again in a moment.
    soon: bool,
    /// How much of its part it is given, above zero and at most one.
    warmth: f32,
    /// LoRA adapters that it has loaded; none where it does not say.
    adapters: Option<Vec<u64>>,
    /// LoRA adapters that it can be asked for; none where it does not list them.
    listed: Option<Vec<u64>>,
    /// Those that it refused, and until when that is believed.
    refused: Vec<(u64, Time)>,
}

impl Replica {
    fn new(id: ReplicaId, capacity: Capacity) -> Self {
        Self {
            id,
            capacity,
            site: Site::default(),
            up: true,
            suspended_until: Time::ZERO,
            requests: 0,
            tokens: 0,
            prefill: 0,
            paused: 0,
            shared: 0,
            foreign: 0,
            foreign_requests: 0,
            reported: None,
            works: true,
            soon: true,
            warmth: 1.0,
            adapters: None,
            listed: None,
            refused: Vec::new(),
        }
    }

    /// How much of its part it is given, above zero and at most one: less while it warms up, or is
    /// slower than its peers.
    pub const fn warmth(&self) -> f32 {
        self.warmth
    }

    /// Somebody else's requests that are there, as far as a fresh report tells.
    pub fn foreign_waiting(&self, now: Time) -> u32 {
        if self.is_reported(now) { self.foreign_requests } else { 0 }
    }

    /// How old its last report is.
    pub fn report_age(&self, now: Time) -> Option<Span> {
        self.reported.map(|at| now.since(at))
    }

    /// Whether an adapter need not be loaded there; one that does not say has them all.
    pub fn has_adapter(&self, adapter: u64) -> bool {
        self.adapters.as_ref().is_none_or(|adapters| adapters.contains(&adapter))
    }

    /// Whether it can be asked for an adapter, as far as is known.
    pub fn answers_for(&self, now: Time, adapter: u64) -> bool {
        let refused = |(which, until): &(u64, Time)| *which == adapter && now < *until;
        let lists = self.listed.as_ref().is_none_or(|listed| listed.contains(&adapter));
        lists && !self.refused.iter().any(refused)
    }

    fn is_reported(&self, now: Time) -> bool {
        self.reported.is_some_and(|at| now.since(at) <= REPORT_AGE_MAX)
    }

    /// Whether there is a place for one request more.
    pub(crate) fn has_place(&self) -> bool {
        self.requests - self.paused < self.capacity.requests_max && self.paused == 0
    }

    /// Whether it takes new work at all.
    pub fn is_open(&self, now: Time) -> bool {
        self.up && self.works && self.suspended_until <= now
    }

    /// Whether it is worth waiting for: it takes new work now or in a moment.
    pub(crate) const fn is_promising(&self) -> bool {
        self.up && (self.works || self.soon)
    }

    /// KV tokens nobody holds, as far as the ledger and a fresh report tell.
    pub fn free(&self, now: Time) -> u64 {
        let held = self.tokens.saturating_sub(self.shared);
        self.capacity.tokens_max.saturating_sub(held.saturating_add(self.foreign(now)))
    }

    /// Whether its own queue stays short.
    pub(crate) fn can_prefill(&self, prefill: u64) -> bool {
        self.prefill == 0 || self.prefill.saturating_add(prefill) <= self.capacity.prefill_max
    }

    fn foreign(&self, now: Time) -> u64 {
        if self.is_reported(now) { self.foreign } else { 0 }
    }
}

/// All replicas of a lane, in the order of their ids.
#[derive(Debug, Default)]
pub struct Fleet {
    replicas: BTreeMap<ReplicaId, Replica>,
    gate: Gate,
    /// What runs, where the gate looks ahead.
    sequences: BTreeMap<(ReplicaId, RequestId), Sequence>,
}

/// A request that runs, as the look-ahead sees it.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    /// KV tokens that it holds.
    held: u64,
    /// KV tokens that it has still to grow by.
    left: u64,
}

impl Fleet {
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate, ..Self::default() }
    }

    /// What runs already is not known to a gate that looks ahead, until it has left.
    pub(crate) const fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// Whether a request may go to a replica now.
    pub fn has_room(&self, now: Time, replica: &Replica, claim: &Claim) -> bool {
        let fits = || replica.can_prefill(claim.prefill) && self.fits(now, replica, claim, &[]);
        replica.is_open(now) && replica.has_place() && (replica.requests == 0 || fits())
    }

    /// Whether a request has KV tokens on a replica once these have left it.
    pub(crate) fn fits(
        &self,
        now: Time,
        replica: &Replica,
        claim: &Claim,
        leaving: &[Victim],
    ) -> bool {
        let freed = leaving.iter().fold(0, |sum: u64, one| sum.saturating_add(one.tokens));
        let foreign = replica.foreign(now);
        let most = replica.capacity.tokens_max.saturating_sub(foreign);
        match self.gate {
            Gate::Sum => claim.need <= replica.free(now).saturating_add(freed),
            Gate::Peak => self.peak(replica.id, claim, leaving) < most,
        }
    }

    /// The most KV tokens held at any moment, if every answer becomes as long as it may. Those with
    /// most still to come are there to the end; each that ends before takes its tokens with it.
    fn peak(&self, id: ReplicaId, claim: &Claim, leaving: &[Victim]) -> u64 {
        let there = self.sequences.range((id, RequestId(0))..=(id, RequestId(u64::MAX)));
        let mut all: Vec<Sequence> = there
            .filter(|((_, request), _)| leaving.iter().all(|one| one.id != *request))
            .map(|(_, sequence)| *sequence)
            .collect();
        all.push(Sequence { held: claim.need, left: claim.most.saturating_sub(claim.need) });
        all.sort_by_key(|sequence| std::cmp::Reverse(sequence.left));
        let mut held = 0_u64;
        let moments = all.iter().zip(1_u64..).map(|(sequence, count)| {
            held = held.saturating_add(sequence.held);
            held.saturating_add(sequence.left.saturating_mul(count))
        });
        moments.max().unwrap_or(0)
    }

    /// A replica may be used from now on, or its capacity changed.
    pub fn raise(&mut self, id: ReplicaId, capacity: Capacity) {
        let replica = self.replicas.entry(id).or_insert_with(|| Replica::new(id, capacity));
        replica.capacity = capacity;
        replica.up = true;
        replica.suspended_until = Time::ZERO;
    }

    /// Whether a replica works, or does in a moment, and how much of its part it is given.
    pub(crate) fn judge(&mut self, id: ReplicaId, (works, soon): (bool, bool), warmth: f32) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            (replica.works, replica.soon, replica.warmth) = (works, soon, warmth);
        }
    }

    /// Where a replica is.
    pub(crate) fn locate(&mut self, id: ReplicaId, site: Site) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.site = site;
        }
    }

    /// Which adapters a replica can be asked for, as it lists them. What it refused before is forgotten.
    pub(crate) fn list(&mut self, id: ReplicaId, adapters: Vec<u64>) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.refused.retain(|(adapter, _)| !adapters.contains(adapter));
            replica.listed = Some(adapters);
        }
    }

    /// A replica refused an adapter: that is believed until then, or until it lists it.
    pub(crate) fn refuse(&mut self, now: Time, id: ReplicaId, (adapter, until): (u64, Time)) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.refused.retain(|(which, until)| *which != adapter && now < *until);
            replica.refused.push((adapter, until));
        }
    }

    /// Which adapters a replica has loaded, as it says.
    pub(crate) fn set_adapters(&mut self, id: ReplicaId, adapters: Vec<u64>) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.adapters = Some(adapters);
        }
    }

    /// No new work goes to this replica; what is in flight there goes on.
    pub fn lower(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        replica.up = false;
        if replica.requests == 0 {
            self.replicas.remove(&id);
        }
    }

    /// Every replica, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    /// Whether any replica may take new work.
    pub fn is_up(&self) -> bool {
        self.replicas.values().any(|replica| replica.up)
    }

    /// When the next suspension ends, if one still runs.
    pub fn next_resumption(&self, now: Time) -> Option<Time> {
        let ends = self.replicas.values().filter(|replica| replica.up);
        ends.map(|replica| replica.suspended_until).filter(|until| *until > now).min()
    }

    pub(crate) fn suspend(&mut self, id: ReplicaId, until: Time) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.suspended_until = replica.suspended_until.max(until);
        }
    }

    /// What an engine says that it holds. It corrects the ledger upwards, for a few seconds: that
    /// the ledger is right is never in doubt for what was sent from here.
    pub(crate) fn report(&mut self, now: Time, id: ReplicaId, report: Report) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        if let Some(most) = report.kv_tokens_max {
            replica.capacity.tokens_max = most;
        }
        if let Some(kv_tokens) = report.kv_tokens {
            replica.foreign = kv_tokens.saturating_sub(replica.tokens);
        }
        if let Some(requests) = report.requests {
            replica.foreign_requests = requests.saturating_sub(replica.requests);
        }
        replica.reported = Some(now);
    }

    /// KV tokens of all replicas that take work; `u64::MAX` where one has no limit.
    pub fn capacity(&self) -> u64 {
        let up = self.replicas.values().filter(|replica| replica.up);
        up.fold(0, |sum, replica| sum.saturating_add(replica.capacity.tokens_max))
    }

    /// KV tokens free on all replicas that take work.
    pub fn free(&self, now: Time) -> u64 {
        let open = self.replicas.values().filter(|replica| replica.is_open(now));
        open.fold(0, |sum, replica| sum.saturating_add(replica.free(now)))
    }

    /// One replica.
    pub fn get(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.get(&id)
    }

    pub(crate) fn book(&mut self, id: ReplicaId, request: RequestId, claim: &Claim) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.requests += 1;
            replica.tokens = replica.tokens.saturating_add(claim.need);
            replica.prefill = replica.prefill.saturating_add(claim.prefill);
        }
        if self.gate == Gate::Peak {
            let left = claim.most.saturating_sub(claim.need);
            self.sequences.insert((id, request), Sequence { held: claim.need, left });
        }
    }

    /// A request there grew.
    pub(crate) fn grow(&mut self, id: ReplicaId, request: RequestId, grown: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.tokens = replica.tokens.saturating_add(grown);
        }
        if let Some(sequence) = self.sequences.get_mut(&(id, request)) {
            sequence.held = sequence.held.saturating_add(grown);
            sequence.left = sequence.left.saturating_sub(grown);
        }
    }

    /// A request's prompt is computed there, and its answer begun.
    pub(crate) fn begin(&mut self, id: ReplicaId, request: RequestId, prefilled: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.prefill = replica.prefill.saturating_sub(prefilled);
        }
        if let Some(sequence) = self.sequences.get_mut(&(id, request)) {
            sequence.left = sequence.left.saturating_sub(1);
        }
    }

    /// How much of what is set aside is there once for several.
    pub(crate) fn share(&mut self, id: ReplicaId, tokens: u64) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.shared = tokens;
        }
    }

    pub(crate) fn pause(&mut self, id: ReplicaId, paused: bool) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.paused =
                if paused { replica.paused + 1 } else { replica.paused.saturating_sub(1) };
        }
    }

    pub(crate) fn unbook(&mut self, id: ReplicaId, request: RequestId, tokens: u64, prefill: u64) {
        self.sequences.remove(&(id, request));
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        debug_assert!(replica.requests > 0 && replica.tokens >= tokens, "C-3: unbooked twice");
        replica.requests = replica.requests.saturating_sub(1);
        replica.tokens = replica.tokens.saturating_sub(tokens);
        replica.prefill = replica.prefill.saturating_sub(prefill);
        if !replica.up && replica.requests == 0 {
            self.replicas.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_looks_ahead() {
        let id = ReplicaId(0);
        let capacity = Capacity { tokens_max: 1000, ..Capacity::of_requests(10) };
        let claim = |input: u64, output: u64| Claim {
            need: input + 1,
            most: input + output,
            prefill: input,
        };
        let check = |gate: Gate, there: &[Claim], grown: u64, new: Claim, expect: bool| {
            let mut fleet = Fleet::new(gate);
            fleet.raise(id, capacity);
            for (at, claim) in (0..).zip(there) {
                fleet.book(id, RequestId(at), claim);
                fleet.begin(id, RequestId(at), claim.prefill);
                fleet.grow(id, RequestId(at), grown);
            }
            let replica = fleet.get(id).unwrap();
            assert_eq!(fleet.has_room(Time::ZERO, replica, &new), expect, "{there:?}, {new:?}");
        };
        // A single one may be of any size.
        check(Gate::Peak, &[], 0, claim(5000, 5000), true);
        // 401 + 398 steps of the first leave no place for two of the same.
        check(Gate::Peak, &[claim(400, 400)], 0, claim(400, 400), false);
        // The second ends long before the first is at its longest.
        check(Gate::Peak, &[claim(400, 400)], 0, claim(190, 10), true);
        check(Gate::Peak, &[claim(400, 400)], 300, claim(190, 10), true);
        check(Gate::Peak, &[claim(400, 400)], 300, claim(290, 10), false);
        // By the sum of what they hold now, all of that fits.
        check(Gate::Sum, &[claim(400, 400)], 0, claim(400, 400), true);
    }
}
