//! What turns cost: booked when a request starts, charged while it runs, settled when it ends.

use super::fair::{Fair, ROOT};
use super::share::{Claim, Standing};
use super::{Cost, Predict, Queue, Slot, TenantTree, Ticket, Waiting};
use crate::fleet::Gate;
use crate::{Band, RequestId, TenantId, Time, Tokens};

/// What a request has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// All of it.
    pub(super) cost: u64,
    /// The prompt's part; none before the first turn.
    input: Option<u64>,
    /// Answer tokens charged, the predicted ones included.
    output: u32,
    /// Answer tokens that came.
    came: u32,
}

impl Spent {
    /// What of it was charged and came to nothing, once the request is given up: all of it where the
    /// client has nothing of the answer, else what was charged in advance.
    pub(super) fn in_vain(&self, cost: Cost) -> u64 {
        if self.came == 0 { self.cost } else { cost.of_output(self.output - self.came) }
    }

    /// Whether the request had a turn.
    pub(super) const fn has_begun(&self) -> bool {
        self.input.is_some()
    }
}

/// A request that has its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) ticket: Ticket,
    pub(super) leaf: Slot,
    /// KV tokens it is taken to occupy.
    pub(super) booked: u64,
    spent: Spent,
    /// Until when its holding KV tokens is charged.
    held_until: Time,
}

/// A tenant's or an inner node's part, for status and metrics.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Entitlement {
    /// Whose.
    pub tenant: TenantId,
    /// Waiting requests, of all below.
    pub queued: u32,
    /// KV tokens in flight, of all below.
    pub usage: u64,
    /// KV tokens guaranteed.
    pub guaranteed: u64,
    /// The virtual counter of its most served band, in weighted tokens for weight one.
    pub service: u64,
    /// Whether it is about an inner tenant's own requests alone, beside the part with all below it.
    pub own: bool,
}

impl Queue {
    /// The tenants from now on, and the capacity stays. Counters go on; who is not in the tree any
    /// more is taken out of the line and returned, for the caller to refuse. What runs is finished.
    pub fn set_tree(&mut self, tree: TenantTree) -> Vec<Ticket> {
        let known = |ticket: &Ticket| tree.get(ticket.tenant).is_some();
        let had = |ticket: &Ticket| self.tree.get(ticket.tenant).is_some();
        let gone: Vec<RequestId> = self
            .iter()
            .filter(|ticket| had(ticket) && !known(ticket))
            .map(|ticket| ticket.id)
            .collect();
        let removed = gone.into_iter().filter_map(|id| self.remove(id)).collect();
        let mut fair = Fair::new(&tree, self.fair.capacity);
        fair.adopt(&self.fair);
        self.refill(fair);
        self.tree = tree;
        removed
    }

    /// Puts everybody into fresh nodes, in the order they had.
    fn refill(&mut self, fair: Fair) {
        self.fair = fair;
        let mut waiting: Vec<Waiting> = self.waiting.values().copied().collect();
        for one in &mut waiting {
            one.leaf = self.fair.leaf(one.ticket.tenant);
        }
        // Who is new comes last, and is lifted to those that were there. Who was put back is in
        // front, the last one first.
        waiting.sort_by_key(|one| {
            let (fresh, sequence) = (self.fair.is_fresh(one.leaf), i128::from(one.sequence));
            (fresh, if one.spent.input.is_some() { -sequence } else { sequence })
        });
        for one in waiting {
            if !one.again {
                let fresh = self.fair.is_fresh(one.leaf);
                let lift = if fresh { self.config.lift } else { super::Lift::Off };
                let entry = super::Entry { front: false, lift, cost: one.cost };
                let line = (one.ticket.id, one.sequence);
                self.fair.enter(one.leaf, one.ticket.band, line, entry);
            }
            self.waiting.insert(one.ticket.id, one);
        }
        let ids: Vec<RequestId> = self.running.keys().copied().collect();
        for id in ids {
            let Some(mut running) = self.running.get(&id).copied() else { continue };
            running.leaf = self.fair.leaf(running.ticket.tenant);
            self.fair.occupy(running.leaf, |usage| usage.saturating_add(running.booked));
            self.running.insert(id, running);
        }
    }

    /// How many KV tokens all replicas hold together: what shares and bands are parts of. Where a
    /// replica has no limit there are no parts of it, and shares and bands have none either.
    pub fn set_capacity(&mut self, tokens: u64) {
        let tokens = if tokens == u64::MAX { 0 } else { tokens };
        if tokens != self.fair.capacity {
            self.fair.resize(tokens);
        }
    }

    /// KV tokens to set aside for a waiting request: what it is taken to occupy in the end, or with
    /// [`Gate::Peak`] at first.
    pub fn need(&self, id: RequestId) -> Option<u64> {
        Some(self.need_of(self.waiting.get(&id)?))
    }

    /// The same for a request that comes now.
    pub fn need_of_new(&self, tenant: TenantId, tokens: Tokens) -> u64 {
        self.need_after(tenant, tokens, 0)
    }

    fn need_of(&self, waiting: &Waiting) -> u64 {
        let Ticket { tenant, tokens, .. } = waiting.ticket;
        self.need_after(tenant, tokens, waiting.spent.output)
    }

    fn need_after(&self, tenant: TenantId, tokens: Tokens, spent: u32) -> u64 {
        if self.config.gate == Gate::Peak {
            return u64::from(tokens.input) + u64::from(spent) + 1;
        }
        let predictor = self.predictors.get(&tenant).copied().unwrap_or_default();
        let output = predictor.reserve(tokens.output).max(spent);
        u64::from(tokens.input) + u64::from(output)
    }

    /// Of so many free KV tokens, those that a waiting request may use: without what other tenants do
    /// not lend.
    pub fn usable(&self, id: RequestId, free: u64) -> u64 {
        self.waiting.get(&id).map_or(0, |waiting| self.fair.usable(waiting.leaf, free))
    }

    /// The same for a request of this tenant that comes now.
    pub fn usable_by(&self, tenant: TenantId, free: u64) -> u64 {
        match self.fair.find(tenant) {
            Some(leaf) => self.fair.usable(leaf, free),
            None => free.saturating_sub(self.fair.node(ROOT).children_held),
        }
    }

    /// Gives a waiting request its turn: it leaves the line, and its prompt is charged.
    pub fn take(&mut self, now: Time, id: RequestId) -> Option<Ticket> {
        let by = self.band(now);
        if self.config.quantum > 0 {
            self.pass(id);
        }
        let waiting = self.unbook(id)?;
        let booked = self.need_of(&waiting);
        match by {
            Some((aged, true)) if aged == waiting.ticket.band => {
                (self.turns_by_order, self.aged_last) = (0, aged);
            }
            _ => self.turns_by_order = self.turns_by_order.saturating_add(1),
        }
        let Waiting { ticket, leaf, mut spent, .. } = waiting;
        self.fair.occupy(leaf, |usage| usage.saturating_add(booked));
        self.usage[ticket.band as usize] += booked;
        if spent.input.is_none() {
            let input = self.config.cost.of_input(ticket.tokens);
            spent.input = Some(input);
            spent.output = match self.config.predict {
                Predict::Off => 0,
                Predict::Average | Predict::Most => self.expected(&ticket),
            };
            let cost = input.saturating_add(self.config.cost.of_output(spent.output));
            spent.cost = cost;
            self.fair.charge(leaf, ticket.band, cost);
            self.served = self.served.saturating_add(cost);
        }
        let running = Running { ticket, leaf, booked, spent, held_until: now };
        self.running.insert(id, running);
        Some(ticket)
    }

    /// An answer has this many tokens by now: those that are new are charged. Returns the KV tokens
    /// that the request is now taken to occupy.
    pub fn progress(&mut self, now: Time, id: RequestId, output: u32) -> Option<u64> {
        let running = self.running.get_mut(&id)?;
        let (leaf, band) = (running.leaf, running.ticket.band);
        running.spent.came = running.spent.came.max(output);
        let more = running.spent.came.saturating_sub(running.spent.output);
        running.spent.output += more;
        let held = u64::from(running.ticket.tokens.input) + u64::from(running.spent.came);
        let span = now.since(running.held_until);
        running.held_until = running.held_until.max(now);
        let config = self.config.cost;
        let cost = config.of_output(more).saturating_add(config.of_holding(held, span));
        running.spent.cost = running.spent.cost.saturating_add(cost);
        self.served = self.served.saturating_add(cost);
        let grown = held.saturating_sub(running.booked);
        running.booked += grown;
        let booked = running.booked;
        if grown > 0 {
            self.fair.occupy(leaf, |usage| usage.saturating_add(grown));
            self.usage[band as usize] += grown;
        }
        self.fair.charge(leaf, band, cost);
        Some(booked)
    }

    /// A request ended. `actual` are the engine's own counts, where it reported them: what was
    /// charged by estimate is corrected.
    pub fn settle(&mut self, now: Time, id: RequestId, actual: Option<Tokens>) {
        let output = actual.map_or(0, |actual| actual.output);
        self.progress(now, id, output);
        let Some(running) = self.running.get(&id) else { return };
        let Running { ticket, leaf, spent, .. } = *running;
        let config = self.config.cost;
        let output = if actual.is_some() { output } else { spent.came };
        let input = actual.map_or(ticket.tokens, |actual| actual);
        let estimate = spent.input.unwrap_or(0).saturating_add(config.of_output(spent.output));
        let exact = config.of_input(input).saturating_add(config.of_output(output));
        if exact >= estimate {
            self.fair.charge(leaf, ticket.band, exact - estimate);
        } else {
            self.fair.refund(leaf, ticket.band, estimate - exact);
        }
        // Only now, because what is borrowed of a charge depends on what is in flight.
        self.stop(id);
        // Nobody counted: that is not an answer of no length.
        if actual.is_some() || output > 0 {
            self.predictors.entry(ticket.tenant).or_default().learn(output);
        }
    }

    /// A request ended without an answer through no fault of its tenant: nothing is charged.
    pub fn forgive(&mut self, id: RequestId) {
        if let Some(Running { leaf, ticket, spent, .. }) = self.running.get(&id).copied() {
            self.fair.refund(leaf, ticket.band, spent.cost);
            self.stop(id);
        }
    }

    /// A turn came to nothing: the request goes first in its band, with its deadline put off. The
    /// limits do not apply, because it was let in before, and it is not charged twice.
    pub fn again(&mut self, id: RequestId, deadline: Option<Time>) {
        if let Some(running) = self.running.get_mut(&id) {
            running.spent.came = 0;
        }
        self.go_on(id, deadline);
    }

    /// The same for a request whose client has a part of its answer: it keeps what came.
    pub fn go_on(&mut self, id: RequestId, deadline: Option<Time>) {
        let Some(running) = self.stop(id) else { return };
        let Running { mut ticket, leaf, spent, .. } = running;
        ticket.deadline = deadline;
        self.sequence += 1;
        let sequence = self.sequence;
        self.again[ticket.band as usize].insert(sequence, id);
        self.book(Waiting { ticket, leaf, sequence, cost: 0, spent, passed: 0, again: true });
    }

    /// A request was stopped for a more urgent one: it goes first among its tenant's, and goes on
    /// where it stopped. Computing its prompt again is not charged.
    pub fn put_back(&mut self, id: RequestId, deadline: Option<Time>) {
        let Some(running) = self.stop(id) else { return };
        let Running { mut ticket, spent, .. } = running;
        ticket.deadline = deadline;
        self.enter(ticket, spent, true);
    }

    fn stop(&mut self, id: RequestId) -> Option<Running> {
        let running = self.running.remove(&id)?;
        self.fair.occupy(running.leaf, |usage| usage.saturating_sub(running.booked));
        self.usage[running.ticket.band as usize] -= running.booked;
        Some(running)
    }

    /// How a waiting request stands beside a running one.
    pub(crate) fn compare(&self, waiting: RequestId, running: RequestId) -> Option<Standing> {
        let (waiting, running) = (self.waiting.get(&waiting)?, self.running.get(&running)?);
        let tokens = self.need(waiting.ticket.id)?;
        let band = waiting.ticket.band;
        let taker = Claim { leaf: waiting.leaf, band, tokens };
        self.fair.standing(taker, Claim { leaf: running.leaf, band, tokens: running.booked })
    }

    /// The estimated cost that is served before a new request of this tenant and band would be, as
    /// far as the order of today tells: all of the more urgent bands', and of its own band's no more
    /// than its fair part leaves to others.
    pub fn ahead(&self, tenant: TenantId, band: Band) -> u64 {
        let urgent = Band::ALL.into_iter().take_while(|other| *other < band);
        let urgent =
            urgent.fold(0_u64, |sum, other| sum.saturating_add(self.fair.backlog(ROOT, other)));
        let own = self.fair.find(tenant).map_or(0.0, |leaf| {
            self.fair.backlog(leaf, band) as f64 / self.fair.part(leaf, band).max(1e-9)
        });
        let all = self.fair.backlog(ROOT, band);
        urgent.saturating_add(all.min(own as u64))
    }

    /// How many of a tenant's own requests wait.
    pub fn waiting_of(&mut self, tenant: TenantId) -> u32 {
        let leaf = self.fair.leaf(tenant);
        Band::ALL.into_iter().map(|band| self.fair.queued(leaf, band)).sum()
    }

    /// Estimated cost of all that wait.
    pub fn backlog(&self) -> u64 {
        Band::ALL.into_iter().fold(0, |sum, band| sum.saturating_add(self.fair.backlog(ROOT, band)))
    }

    /// Cost charged since the beginning, refunds not taken off: how fast it grows is the speed at
    /// which the queue is served.
    pub const fn served(&self) -> u64 {
        self.served
    }

    /// The cost so far of a request that runs.
    pub fn cost(&self, id: RequestId) -> Option<u64> {
        self.running.get(&id).map(|running| running.spent.cost)
    }

    /// KV tokens booked for a request that runs.
    pub fn booked(&self, id: RequestId) -> Option<u64> {
        self.running.get(&id).map(|running| running.booked)
    }

    /// Requests that have their turn, with the KV tokens booked for them.
    pub fn taken(&self) -> impl Iterator<Item = (RequestId, u64)> {
        self.running.iter().map(|(id, running)| (*id, running.booked))
    }

    /// KV tokens in flight of a band.
    pub const fn usage(&self, band: Band) -> u64 {
        self.usage[band as usize]
    }

    /// Every tenant's part, for status and metrics.
    pub fn entitlements(&self) -> Vec<Entitlement> {
        let shown = |slot: usize| {
            let at = Slot::try_from(slot).unwrap_or(ROOT);
            let node = self.fair.node(at);
            let queued = Band::ALL.into_iter().map(|band| self.fair.queued(at, band)).sum();
            let service = Band::ALL.into_iter().map(|band| self.fair.counter(at, band)).max();
            let service = u64::try_from(service.unwrap_or(0) / 1000).unwrap_or(u64::MAX);
            let (usage, guaranteed) = (node.usage, node.limits.nominal);
            let (tenant, own) = (node.tenant, node.own);
            Entitlement { tenant, queued, usage, guaranteed, service, own }
        };
        (1..self.fair.nodes.len()).map(shown).collect()
    }
}
