//! Who is next: the one queue in front of the replicas, and inside the engine's batch.
//!
//! Order today is strict by band, then first come first served. The limits are on requests and on
//! tokens, so that a few huge prompts cannot take the memory of many small ones.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use crate::{Band, RequestId, TenantId, Time};

/// The most a queue may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueLimits {
    /// Waiting requests.
    pub requests_max: u32,
    /// Tokens (input and output together) of the waiting requests.
    pub tokens_max: u64,
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
    /// Tokens it may occupy.
    pub tokens: u64,
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

/// Waiting requests in the order in which they get their turn.
#[derive(Debug)]
pub struct Queue {
    limits: QueueLimits,
    lanes: [VecDeque<Ticket>; Band::ALL.len()],
    deadlines: BTreeMap<(Time, RequestId), Band>,
    tokens: u64,
    requests: u32,
}

impl Queue {
    /// An empty queue with these limits.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            lanes: Default::default(),
            deadlines: BTreeMap::new(),
            tokens: 0,
            requests: 0,
        }
    }

    /// Adds a request at the end of its band.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] when a limit would be passed. A single request larger than `tokens_max` is
    /// let into an empty queue, so that it is not refused for ever.
    pub fn push(&mut self, ticket: Ticket) -> Result<(), QueueFull> {
        let over_requests = self.requests >= self.limits.requests_max;
        let over_tokens = self.requests > 0 && self.tokens + ticket.tokens > self.limits.tokens_max;
        if over_requests || over_tokens {
            return Err(QueueFull { requests: self.requests, tokens: self.tokens });
        }
        self.lanes[lane(ticket.band)].push_back(ticket);
        self.book(&ticket);
        Ok(())
    }

    /// Puts back a request that already had its turn: it goes first in its band, and the limits
    /// do not apply, because it was let in before.
    pub fn push_front(&mut self, ticket: Ticket) {
        self.lanes[lane(ticket.band)].push_front(ticket);
        self.book(&ticket);
    }

    /// Whose turn it is.
    pub fn peek(&self) -> Option<&Ticket> {
        self.lanes.iter().find_map(VecDeque::front)
    }

    /// Takes the request whose turn it is.
    pub fn pop(&mut self) -> Option<Ticket> {
        let ticket = self.lanes.iter_mut().find_map(VecDeque::pop_front)?;
        self.unbook(&ticket);
        Some(ticket)
    }

    /// Takes a request out wherever it stands.
    pub fn remove(&mut self, id: RequestId) -> Option<Ticket> {
        for lane in &mut self.lanes {
            if let Some(at) = lane.iter().position(|ticket| ticket.id == id) {
                let ticket = lane.remove(at)?;
                self.unbook(&ticket);
                return Some(ticket);
            }
        }
        None
    }

    /// Takes one request whose deadline has passed.
    pub fn pop_expired(&mut self, now: Time) -> Option<Ticket> {
        let ((deadline, id), _) = self.deadlines.first_key_value()?;
        if *deadline > now {
            return None;
        }
        self.remove(*id)
    }

    /// The earliest deadline among the waiting.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
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

    /// The waiting, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = &Ticket> {
        self.lanes.iter().flatten()
    }

    fn book(&mut self, ticket: &Ticket) {
        self.requests += 1;
        self.tokens += ticket.tokens;
        if let Some(deadline) = ticket.deadline {
            self.deadlines.insert((deadline, ticket.id), ticket.band);
        }
    }

    fn unbook(&mut self, ticket: &Ticket) {
        self.requests -= 1;
        self.tokens -= ticket.tokens;
        if let Some(deadline) = ticket.deadline {
            self.deadlines.remove(&(deadline, ticket.id));
        }
    }
}

const fn lane(band: Band) -> usize {
    band as usize
}

#[cfg(test)]
mod tests;
