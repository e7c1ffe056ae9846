//! How a request gets in: as long as its like kills no replicas, there is place in the queue, and waiting
//! there is not in vain.

use super::{Live, Scheduler};
use crate::health::Trail;
use crate::queue::{QueueFull, Ticket};
use crate::request::{FailureKind, Outcome, Refusal, Request};
use crate::route::Prompt;
use crate::{Span, Time};

impl Scheduler {
    pub(super) fn arrive(&mut self, now: Time, request: Request, prompt: Prompt) {
        debug_assert!(!self.live.contains_key(&request.id), "C-1: id used twice");
        self.retries.arrived(&self.config, request.retry.as_ref());
        let is_poison = self.is_poison(now, prompt.fingerprint);
        let admitted = is_poison.map_or(Ok(()), Err).and_then(|()| self.admit(now, &request));
        if let Err(refusal) = admitted {
            self.end(request.id, Outcome::Refused(refusal));
            return;
        }
        let live = Live::new(now, request, prompt);
        self.earn_copies(now, &request);
        self.live.insert(request.id, live);
    }

    /// Lets a request into the queue, unless that is full or waiting there would be in vain.
    fn admit(&mut self, now: Time, request: &Request) -> Result<(), Refusal> {
        self.is_worth_waiting(now, request)?;
        let ticket = ticket(request, now);
        let Err(full) = self.queue.push(ticket) else { return Ok(()) };
        // There is place again when about one of the waiting has gone.
        let each = self.queue.backlog() / u64::from(full.requests.max(1));
        let retry_after = self.pace.retry_after(each, request.id.0);
        let Some(out) = self.queue.make_place(&ticket) else {
            let QueueFull { requests, tokens } = full;
            let waiting = self.queue.waiting_of(request.tenant);
            let shared = waiting > 0 && waiting < requests;
            return Err(if shared {
                Refusal::QueueShare { waiting, retry_after }
            } else {
                Refusal::QueueFull { requests, tokens, retry_after }
            });
        };
        let waiting = self.queue.waiting_of(out.tenant) + 1;
        self.end(out.id, Outcome::Refused(Refusal::QueueShare { waiting, retry_after }));
        // A large one may need more places than one: then it waits outside as well.
        self.queue.push(ticket).map_err(|full| {
            let QueueFull { requests, tokens } = full;
            Refusal::QueueFull { requests, tokens, retry_after }
        })
    }

    /// Refuses what comes too late, or would wait longer than it can.
    pub(super) fn is_worth_waiting(&self, now: Time, request: &Request) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let until = [request.deadline, request.answer_by].into_iter().flatten().min();
        if let Some(until) = until {
            let wait = self.predicted_wait(request.tenant, request.band).unwrap_or(Span::ZERO);
            let left = until.since(now);
            // A prediction refuses only what it is sure of: answers that end early bring turns sooner.
            if wait.as_nanos() / 3 * 2 > left.as_nanos() {
                return Err(Refusal::Unreachable { wait, left });
            }
        }
        Ok(())
    }
}

impl Live {
    /// One that has not had a turn.
    pub(super) fn new(now: Time, request: Request, prompt: Prompt) -> Self {
        Self {
            request,
            arrived: now,
            attempt: 0,
            tried: Vec::new(),
            paid: Vec::new(),
            running: None,
            answered: false,
            stops: 0,
            output: 0,
            resumes: 0,
            broken: false,
            last_failure: FailureKind::Connect,
            prompt,
            trail: Trail::default(),
            broke: Vec::new(),
            doubt: None,
            held: None,
            copied: false,
            is_copy: false,
        }
    }
}

pub(super) fn ticket(request: &Request, arrived: Time) -> Ticket {
    Ticket {
        id: request.id,
        tenant: request.tenant,
        band: request.band,
        tokens: request.tokens,
        arrived,
        deadline: request.deadline,
    }
}
