//! Who is next: the one queue in front of the replicas, and inside the engine's batch.
//!
//! A turn is given in three steps: which *band* ([`band`]: strict by urgency with floors, caps and
//! ageing), which *tenant* ([`fair`]: at every level of the tree the child that received least
//! service for its weight, guarantees first), which *request* of that tenant (the oldest). With a
//! quantum, tenants that are within it of each other are taken as equal, and the request that finds
//! most of its prompt in a cache goes first (deficit longest prefix match, arXiv 2501.14312).
//!
//! Service is charged as it is given: the prompt with the turn, the answer token by token; what was
//! estimated or predicted is settled at the end. The limits are on requests and on tokens, so that
//! a few huge prompts cannot take the memory of many small ones.

pub mod band;
pub mod cost;
mod crowd;
mod fair;
mod ledger;
mod near;
pub mod predict;
mod share;
pub mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use band::BandPolicy;
pub use cost::Cost;
pub use ledger::Entitlement;
pub use predict::Predictor;
pub use tree::{TenantShare, TenantTree, TreeError};

use crate::fleet::Gate;
use crate::{Band, RequestId, TenantId, Time, Tokens};
use fair::{Entry, Fair, ROOT, Slot};
use ledger::Running;

/// The most a queue may hold. A waiting request takes about 320 bytes, and as many again in a
/// scheduler; `cargo run --release -p pilotage-core --example memory` measures it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueLimits {
    /// Waiting requests.
    pub requests_max: u32,
    /// Tokens (input and output together) of the waiting requests.
    pub tokens_max: u64,
}

/// How turns are given.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct FairConfig {
    /// What service costs.
    pub cost: Cost,
    /// Each band's rights, most urgent first.
    pub bands: [BandPolicy; Band::ALL.len()],
    /// Tenants whose counters differ by no more are taken as equal, in thousandths of a weighted
    /// token; zero is the strictest fairness, and blind to caches.
    pub quantum: u64,
    /// Whether the answer's expected length is charged with the turn and settled at the end, instead
    /// of token by token as it comes.
    pub predict: Predict,
    /// Where an idle tenant that comes back begins.
    pub lift: Lift,
    /// How it is reckoned whether a request fits among those that run.
    pub gate: Gate,
}

/// What is charged in advance of an answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Predict {
    /// Nothing: tokens are charged as they come.
    #[default]
    Off,
    /// The tenant's average answer.
    Average,
    /// The most that the request may generate, taken for what it will: an oracle, where that is so.
    Most,
}

/// Where an idle tenant that comes back begins. Anything but [`Lift::Full`] is there to show what
/// becomes of fairness without.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lift {
    /// At the smallest counter of those that wait, or where none waits at that of the one that left
    /// last (algorithm 2 of the VTC paper).
    #[default]
    Full,
    /// At the smallest counter of those that wait (the paper's artifact).
    WaitingOnly,
    /// Where it was (the paper's LCF): credit is hoarded while idle.
    Off,
}

impl Default for FairConfig {
    fn default() -> Self {
        Self {
            cost: Cost::VTC,
            bands: BandPolicy::DEFAULT,
            quantum: 0,
            predict: Predict::Off,
            lift: Lift::Full,
            gate: Gate::Sum,
        }
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// The request.
    pub id: RequestId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How urgent it is.
    pub band: Band,
    /// Tokens it may occupy; `output` is the most it may generate.
    pub tokens: Tokens,
    /// When it came.
    pub arrived: Time,
    /// When waiting stops making sense.
    pub deadline: Option<Time>,
}

/// A push over the limit; the queue is unchanged.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the queue is full: {requests} requests, {tokens} tokens")]
pub struct QueueFull {
    /// Requests waiting.
    pub requests: u32,
    /// Their tokens.
    pub tokens: u64,
}

/// Waiting requests in the order in which they get their turn, and what those that run have cost.
#[derive(Debug)]
pub struct Queue {
    limits: QueueLimits,
    config: FairConfig,
    tree: TenantTree,
    fair: Fair,
    waiting: BTreeMap<RequestId, Waiting>,
    running: BTreeMap<RequestId, Running>,
    /// Requests that had a turn which came to nothing through no fault of theirs, in the order in
    /// which they came back.
    again: [BTreeMap<u64, RequestId>; Band::ALL.len()],
    deadlines: BTreeSet<(Time, RequestId)>,
    /// Arrivals of each band that ages.
    ages: [BTreeSet<(Time, RequestId)>; Band::ALL.len()],
    usage: [u64; Band::ALL.len()],
    predictors: BTreeMap<TenantId, Predictor>,
    served: u64,
    tokens: u64,
    requests: u32,
    sequence: u64,
    /// Turns since one was given for age.
    turns_by_order: u32,
    /// Which band it was given to.
    aged_last: Band,
}

/// A ticket in line.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    leaf: Slot,
    sequence: u64,
    /// Estimated cost, as it was booked.
    cost: u64,
    /// What earlier turns have cost already.
    spent: ledger::Spent,
    /// How often one behind it in its line went first.
    passed: u32,
    again: bool,
}

impl Queue {
    /// An empty queue in which every tenant is its own organisation.
    pub fn new(limits: QueueLimits, config: FairConfig) -> Self {
        let tree = TenantTree::default();
        Self {
            limits,
            config,
            fair: Fair::new(&tree, 0),
            tree,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            again: Default::default(),
            deadlines: BTreeSet::new(),
            ages: Default::default(),
            usage: [0; Band::ALL.len()],
            predictors: BTreeMap::new(),
            served: 0,
            tokens: 0,
            requests: 0,
            sequence: 0,
            turns_by_order: 0,
            aged_last: Band::Batch,
        }
    }

    /// Other limits and another way to give turns from now on; what was charged stays charged.
    pub(crate) fn set_config(&mut self, limits: QueueLimits, config: FairConfig) {
        // What was charged by one price cannot be settled by another.
        let config = FairConfig { cost: self.config.cost, predict: self.config.predict, ..config };
        (self.limits, self.config) = (limits, config);
    }

    /// Adds a request at the end of its tenant's line.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] when a limit would be passed. A single request larger than `tokens_max` is
    /// let into an empty queue, so that it is not refused for ever.
    pub fn push(&mut self, ticket: Ticket) -> Result<(), QueueFull> {
        if self.is_full_for(ticket.tokens) {
            return Err(QueueFull { requests: self.requests, tokens: self.tokens });
        }
        self.enter(ticket, ledger::Spent::default(), false);
        Ok(())
    }

    /// Whether there is no place for one request more, of so many tokens.
    pub fn is_full_for(&self, tokens: Tokens) -> bool {
        let over_requests = self.requests >= self.limits.requests_max;
        let tokens = self.tokens.saturating_add(tokens.total());
        over_requests || (self.requests > 0 && tokens > self.limits.tokens_max)
    }

    fn enter(&mut self, ticket: Ticket, spent: ledger::Spent, front: bool) {
        let leaf = self.fair.leaf(ticket.tenant);
        self.sequence += 1;
        let sequence = self.sequence;
        let cost = self.estimate(&ticket).saturating_sub(spent.cost);
        let entry = Entry { front, lift: self.config.lift, cost };
        self.fair.enter(leaf, ticket.band, (ticket.id, sequence), entry);
        self.book(Waiting { ticket, leaf, sequence, cost, spent, passed: 0, again: false });
    }

    /// What a request will cost, as far as anybody can tell.
    fn estimate(&self, ticket: &Ticket) -> u64 {
        let cost = self.config.cost;
        cost.of_input(ticket.tokens).saturating_add(cost.of_output(self.expected(ticket)))
    }

    fn expected(&self, ticket: &Ticket) -> u32 {
        if self.config.predict == Predict::Most {
            return ticket.tokens.output;
        }
        let predictor = self.predictors.get(&ticket.tenant).copied().unwrap_or_default();
        predictor.expect(ticket.tokens.output)
    }

    /// Whose turn it is.
    pub fn peek(&self, now: Time) -> Option<&Ticket> {
        self.peek_near(now, |_| 0)
    }

    /// Whose turn it is where `cached` tells how many tokens of a request's prompt are in a cache at
    /// the moment: among tenants within the quantum of each other, the one that saves most.
    pub fn peek_near(&self, now: Time, cached: impl Fn(&Ticket) -> u32) -> Option<&Ticket> {
        let (band, _) = self.band(now)?;
        if let Some((_, id)) = self.again[band as usize].first_key_value() {
            return self.waiting.get(id).map(|waiting| &waiting.ticket);
        }
        if self.config.quantum == 0 {
            return self.head(self.fair.next(band)?, band);
        }
        self.warmest(band, cached)
    }

    /// So many tokens of a waiting request's prompt are in a cache: they are charged as that.
    pub(crate) fn found(&mut self, id: RequestId, cached: u32) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.ticket.tokens.cached = cached.min(waiting.ticket.tokens.input);
        }
    }

    /// The oldest request of a leaf.
    fn head(&self, leaf: Slot, band: Band) -> Option<&Ticket> {
        let line = self.fair.line(leaf, band);
        let mut waiting = line.iter().filter_map(|entry| self.in_line(entry));
        waiting.next().map(|waiting| &waiting.ticket)
    }

    fn in_line(&self, (id, sequence): &(RequestId, u64)) -> Option<&Waiting> {
        self.waiting.get(id).filter(|waiting| waiting.sequence == *sequence)
    }

    /// The band whose turn it is, and whether for its age.
    fn band(&self, now: Time) -> Option<(Band, bool)> {
        if self.requests == 0 {
            return None;
        }
        let standing = Band::ALL.map(|band| {
            let (at, policy) = (band as usize, self.config.bands[band as usize]);
            let usage = self.usage[at];
            let oldest = self.ages[at].first().map(|(arrived, _)| now.since(*arrived));
            band::Standing {
                band,
                waits: !self.again[at].is_empty() || self.fair.next(band).is_some(),
                below_floor: usage < policy.floor_tokens(self.fair.capacity),
                over_cap: policy.cap_tokens(self.fair.capacity).is_some_and(|cap| usage >= cap),
                aged: policy.age_after.zip(oldest).is_some_and(|(after, age)| age >= after),
            }
        });
        let due = self.turns_by_order.saturating_add(1) >= band::AGED_ONE_IN;
        band::choose(&standing, due.then_some(self.aged_last))
    }

    /// Takes a request out wherever it waits. What a turn that came to nothing has cost is given
    /// back.
    pub fn remove(&mut self, id: RequestId) -> Option<Ticket> {
        let Waiting { ticket, leaf, spent, again, .. } = self.unbook(id)?;
        if again {
            self.fair.refund(leaf, ticket.band, spent.in_vain(self.config.cost));
        }
        Some(ticket)
    }

    /// Takes one request whose deadline has passed.
    pub fn pop_expired(&mut self, now: Time) -> Option<Ticket> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now { None } else { self.remove(id) }
    }

    /// The earliest deadline among the waiting.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A waiting request.
    pub fn get(&self, id: RequestId) -> Option<&Ticket> {
        self.waiting.get(&id).map(|waiting| &waiting.ticket)
    }

    /// How many wait.
    pub const fn len(&self) -> u32 {
        self.requests
    }

    /// Whether nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Tokens of all that wait.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How turns are given.
    pub const fn config(&self) -> &FairConfig {
        &self.config
    }

    /// The tenants.
    pub const fn tree(&self) -> &TenantTree {
        &self.tree
    }

    /// How many of a band wait.
    pub fn waiting_in(&self, band: Band) -> u32 {
        self.fair.queued(ROOT, band) + u32::try_from(self.again[band as usize].len()).unwrap_or(0)
    }

    /// The waiting, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = &Ticket> {
        self.waiting.values().map(|waiting| &waiting.ticket)
    }

    /// The largest difference of received service among waiting siblings that share by weight, in
    /// thousandths of a weighted token for weight one. Within [`Cost::gap_bound`] over the smallest
    /// weight while nothing is predicted and the quantum is zero.
    pub fn gap(&self) -> u128 {
        Band::ALL.into_iter().map(|band| self.fair.gap(band)).max().unwrap_or(0)
    }

    /// The first thing that does not add up, for [`crate::invariant`].
    pub(crate) fn disorder(&self) -> Option<String> {
        self.fair.disorder()
    }

    fn book(&mut self, waiting: Waiting) {
        let Ticket { id, band, arrived, deadline, tokens, .. } = waiting.ticket;
        self.requests += 1;
        self.tokens = self.tokens.saturating_add(tokens.total());
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        if self.config.bands[band as usize].age_after.is_some() {
            self.ages[band as usize].insert((arrived, id));
        }
        self.waiting.insert(id, waiting);
    }

    fn unbook(&mut self, id: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        let Ticket { band, arrived, deadline, tokens, .. } = waiting.ticket;
        self.requests -= 1;
        self.tokens = self.tokens.saturating_sub(tokens.total());
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.ages[band as usize].remove(&(arrived, id));
        if waiting.again {
            self.again[band as usize].remove(&waiting.sequence);
        } else {
            self.fair.leave(waiting.leaf, band, waiting.cost);
            let still = &self.waiting;
            self.fair.tidy(waiting.leaf, band, |(id, sequence)| {
                still.get(id).is_none_or(|waiting| waiting.sequence != *sequence)
            });
        }
        Some(waiting)
    }
}
