//! What must hold after every drained input, by id: tests, simulation and debug builds share it.
//!
//! - C-1 A live request is either waiting in the queue or on one replica, never both.
//! - C-2 The queue's totals are the sums over its tickets.
//! - C-3 A replica's ledger is the sum over the requests running on it.
//! - C-4 What the queue charges for is what runs, booked with as many tokens.
//! - C-5 The nodes of the tenant tree add up: lines, sets and use of the children are the parent's.

use std::collections::{BTreeMap, BTreeSet};

use crate::Scheduler;

/// A broken invariant: its id and what was found.
pub type Violation = (&'static str, String);

/// Checks a drained scheduler; an empty list means all is well.
pub fn check(scheduler: &Scheduler) -> Vec<Violation> {
    let mut found = Vec::new();
    places(scheduler, &mut found);
    queue_totals(scheduler, &mut found);
    ledgers(scheduler, &mut found);
    charged(scheduler, &mut found);
    found.extend(scheduler.queue().disorder().map(|what| ("C-5", what)));
    found
}

fn places(scheduler: &Scheduler, found: &mut Vec<Violation>) {
    let queued: BTreeSet<_> = scheduler.queue().iter().map(|ticket| ticket.id).collect();
    let waiting: BTreeSet<_> = scheduler.waiting().collect();
    if queued != waiting {
        found.push(("C-1", format!("queued {queued:?}, waiting {waiting:?}")));
    }
}

fn queue_totals(scheduler: &Scheduler, found: &mut Vec<Violation>) {
    let queue = scheduler.queue();
    let (count, tokens) = queue
        .iter()
        .fold((0, 0), |(count, tokens), ticket| (count + 1, tokens + ticket.tokens.total()));
    if (count, tokens) != (queue.len(), queue.tokens()) {
        let booked = (queue.len(), queue.tokens());
        found.push(("C-2", format!("counted {:?}, booked {booked:?}", (count, tokens))));
    }
}

fn ledgers(scheduler: &Scheduler, found: &mut Vec<Violation>) {
    let mut sums: BTreeMap<_, (u32, u64)> = BTreeMap::new();
    for (_, replica, tokens) in scheduler.running() {
        let sum = sums.entry(replica).or_default();
        *sum = (sum.0 + 1, sum.1 + tokens);
    }
    for replica in scheduler.fleet().iter() {
        let sum = sums.remove(&replica.id).unwrap_or_default();
        if sum != (replica.requests, replica.tokens) {
            let booked = (replica.requests, replica.tokens);
            found.push(("C-3", format!("{:?}: counted {sum:?}, booked {booked:?}", replica.id)));
        }
    }
    if !sums.is_empty() {
        found.push(("C-3", format!("running on unknown replicas: {:?}", sums.keys())));
    }
}

fn charged(scheduler: &Scheduler, found: &mut Vec<Violation>) {
    let charged: BTreeMap<_, _> = scheduler.queue().taken().collect();
    let running: BTreeMap<_, _> = scheduler.running().map(|(id, _, tokens)| (id, tokens)).collect();
    if charged != running {
        found.push(("C-4", format!("charged {charged:?}, running {running:?}")));
    }
}
