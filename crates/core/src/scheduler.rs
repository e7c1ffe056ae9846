//! The loop's pure half: takes one input, changes state once, and offers outputs until drained.

use std::collections::{BTreeMap, VecDeque};

use crate::fleet::Capacity;
use crate::queue::{Queue, QueueLimits, Ticket};
use crate::request::{Failure, FailureKind, Outcome, Refusal, Request};
use crate::route::{self, Placement};
use crate::{Fleet, ReplicaId, RequestId, Span, Time, Why};

/// Everything that can happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// A replica may take work.
    ReplicaUp {
        /// Which one.
        replica: ReplicaId,
        /// How much.
        capacity: Capacity,
    },
    /// A replica takes no new work. What is in flight there is reported one by one.
    ReplicaDown {
        /// Which one.
        replica: ReplicaId,
    },
    /// A request came in.
    Arrive(Request),
    /// The first token of an answer was sent to the client: from here on there is no retry.
    FirstToken {
        /// Whose.
        id: RequestId,
    },
    /// A replica finished the answer.
    Finished {
        /// Whose.
        id: RequestId,
    },
    /// A replica did not finish the answer.
    Failed {
        /// Whose.
        id: RequestId,
        /// How.
        failure: Failure,
    },
    /// The client went away.
    Cancel {
        /// Whose request.
        id: RequestId,
    },
    /// The process shuts down: nothing new is let in, what is here is finished.
    Drain,
    /// Nothing happened but time.
    Tick,
}

/// Everything the host has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// Send the request to this replica.
    Dispatch {
        /// Which request.
        id: RequestId,
        /// Where.
        replica: ReplicaId,
        /// One for the first attempt.
        attempt: u32,
        /// The reason.
        why: Why,
    },
    /// Stop the attempt on this replica: nobody wants the answer.
    Abort {
        /// Which request.
        id: RequestId,
        /// Where it runs.
        replica: ReplicaId,
    },
    /// The request ended. The last word on it, and exactly one for each that arrived.
    End {
        /// Which request.
        id: RequestId,
        /// How.
        outcome: Outcome,
    },
}

/// The limits of one lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SchedulerConfig {
    /// What may wait.
    pub queue: QueueLimits,
    /// Attempts for one request, the first one included.
    pub attempts_max: u32,
    /// Retries allowed for each hundred arrivals, so that a broken fleet is not hammered.
    pub retry_percent: u32,
    /// Retries allowed whatever the arrivals.
    pub retries_min: u32,
    /// How long a replica gets no new work after a connection to it failed or broke. It may have
    /// died: the host reports that a moment later, and requests wait instead of using up attempts.
    pub suspension_broken: Span,
    /// How long a replica gets no new work after it said that it has no room.
    pub suspension_overloaded: Span,
    /// How long a request may at least wait for another turn after a failed attempt.
    pub retry_wait: Span,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            queue: QueueLimits { requests_max: 1024, tokens_max: 16_000_000 },
            attempts_max: 3,
            retry_percent: 20,
            retries_min: 10,
            suspension_broken: Span::from_secs(1),
            suspension_overloaded: Span::from_millis(100),
            retry_wait: Span::from_secs(10),
        }
    }
}

/// One model's requests and replicas, and what happens next.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    queue: Queue,
    fleet: Fleet,
    live: BTreeMap<RequestId, Live>,
    outputs: VecDeque<Output>,
    /// Hundredths of a retry that may still be spent.
    retry_credit: u64,
    draining: bool,
}

/// A request that has not ended.
#[derive(Debug)]
struct Live {
    request: Request,
    arrived: Time,
    attempt: u32,
    tried: Vec<ReplicaId>,
    running: Option<ReplicaId>,
    answered: bool,
    last_failure: FailureKind,
}

impl Scheduler {
    /// A lane without replicas or requests.
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
            config,
            queue: Queue::new(config.queue),
            fleet: Fleet::default(),
            live: BTreeMap::new(),
            outputs: VecDeque::new(),
            retry_credit: u64::from(config.retries_min) * 100,
            draining: false,
        }
    }

    /// Takes in one thing that happened. The caller drains [`Self::poll`] before the next.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::ReplicaUp { replica, capacity } => self.fleet.raise(replica, capacity),
            Input::ReplicaDown { replica } => self.fleet.lower(replica),
            Input::Arrive(request) => self.arrive(now, request),
            Input::FirstToken { id } => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.answered = true;
                }
            }
            Input::Finished { id } => self.finish(id),
            Input::Failed { id, failure } => self.fail(now, id, failure),
            Input::Cancel { id } => self.cancel(id),
            Input::Drain => self.draining = true,
            Input::Tick => {}
        }
        self.expire(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self, now: Time) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.dispatch(now)
    }

    /// When [`Input::Tick`] is due, if no other input comes first.
    pub fn next_wakeup(&self, now: Time) -> Option<Time> {
        if self.queue.is_empty() {
            return None;
        }
        let resumption = self.fleet.next_resumption(now);
        [self.queue.next_deadline(), resumption].into_iter().flatten().min()
    }

    /// The waiting requests.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The replicas.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Requests that arrived and have not ended.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Requests on a replica, for [`crate::invariant`].
    pub(crate) fn running(&self) -> impl Iterator<Item = (RequestId, ReplicaId, u64)> {
        self.live.iter().filter_map(|(id, live)| {
            live.running.map(|replica| (*id, replica, live.request.tokens.total()))
        })
    }

    /// Requests not on a replica, for [`crate::invariant`].
    pub(crate) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.live.iter().filter(|(_, live)| live.running.is_none()).map(|(id, _)| *id)
    }

    fn arrive(&mut self, now: Time, request: Request) {
        debug_assert!(!self.live.contains_key(&request.id), "C-1: id used twice");
        let credit_max = u64::from(self.config.retries_min) * 100 + 100_000;
        self.retry_credit =
            (self.retry_credit + u64::from(self.config.retry_percent)).min(credit_max);
        if self.draining {
            self.end(request.id, Outcome::Refused(Refusal::Draining));
            return;
        }
        if let Err(full) = self.queue.push(ticket(&request, now)) {
            let refusal = Refusal::QueueFull { requests: full.requests, tokens: full.tokens };
            self.end(request.id, Outcome::Refused(refusal));
            return;
        }
        let live = Live {
            request,
            arrived: now,
            attempt: 0,
            tried: Vec::new(),
            running: None,
            answered: false,
            last_failure: FailureKind::Connect,
        };
        self.live.insert(request.id, live);
    }

    fn dispatch(&mut self, now: Time) -> Option<Output> {
        let id = self.queue.peek()?.id;
        let live = self.live.get_mut(&id)?;
        let placement = Placement {
            tried: &live.tried,
            queued: now.since(live.arrived),
            attempt: live.attempt + 1,
        };
        let choice = route::choose(now, &self.fleet, &placement)?;
        self.queue.pop();
        live.attempt += 1;
        live.running = Some(choice.replica);
        self.fleet.book(choice.replica, live.request.tokens.total());
        let (replica, why) = (choice.replica, choice.why);
        Some(Output::Dispatch { id, replica, attempt: live.attempt, why })
    }

    fn finish(&mut self, id: RequestId) {
        if let Some(replica) = self.stop(id) {
            self.end(id, Outcome::Finished { replica });
        }
    }

    fn fail(&mut self, now: Time, id: RequestId, failure: Failure) {
        let Some(replica) = self.stop(id) else { return };
        self.suspend(now, replica, failure.kind);
        let Some(live) = self.live.get_mut(&id) else { return };
        if failure.answered || live.answered {
            self.end(id, Outcome::Interrupted { replica, kind: failure.kind });
            return;
        }
        live.last_failure = failure.kind;
        live.tried.push(replica);
        let attempts = live.attempt;
        if attempts >= self.config.attempts_max || self.retry_credit < 100 {
            let refusal = Refusal::Exhausted { attempts, last: failure.kind };
            self.end(id, Outcome::Refused(refusal));
            return;
        }
        self.retry_credit -= 100;
        let mut ticket = ticket(&live.request, live.arrived);
        // The time that the failed attempt took must not be held against it.
        ticket.deadline =
            ticket.deadline.map(|deadline| deadline.max(now + self.config.retry_wait));
        self.queue.push_front(ticket);
    }

    fn suspend(&mut self, now: Time, replica: ReplicaId, kind: FailureKind) {
        let span = match kind {
            FailureKind::Connect | FailureKind::Broken => self.config.suspension_broken,
            FailureKind::Overloaded => self.config.suspension_overloaded,
            FailureKind::Server | FailureKind::Timeout => return,
        };
        self.fleet.suspend(replica, now + span);
    }

    fn cancel(&mut self, id: RequestId) {
        if !self.live.contains_key(&id) {
            return;
        }
        self.queue.remove(id);
        if let Some(replica) = self.stop(id) {
            self.outputs.push_back(Output::Abort { id, replica });
        }
        self.end(id, Outcome::Cancelled);
    }

    /// Ends what waited past its deadline. A request on a replica is left to the host's timers.
    fn expire(&mut self, now: Time) {
        while let Some(ticket) = self.queue.pop_expired(now) {
            let waited_ms = now.since(ticket.arrived).as_millis();
            self.end(ticket.id, Outcome::Refused(Refusal::DeadlinePassed { waited_ms }));
        }
    }

    /// Takes the request off its replica's ledger.
    fn stop(&mut self, id: RequestId) -> Option<ReplicaId> {
        let live = self.live.get_mut(&id)?;
        let replica = live.running.take()?;
        self.fleet.unbook(replica, live.request.tokens.total());
        Some(replica)
    }

    fn end(&mut self, id: RequestId, outcome: Outcome) {
        self.live.remove(&id);
        self.outputs.push_back(Output::End { id, outcome });
    }
}

fn ticket(request: &Request, arrived: Time) -> Ticket {
    Ticket {
        id: request.id,
        tenant: request.tenant,
        band: request.band,
        tokens: request.tokens.total(),
        arrived,
        deadline: request.deadline,
    }
}
