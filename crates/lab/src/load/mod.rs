//! Sends requests and watches the answers: sockets, tasks, the clock.
//!
//! One task paces: it hands each request, at its time, to a task that has a connection, and never
//! waits for any of them. Where no connection is free and no more may be opened, requests wait in
//! the client, and their latency says so.

mod job;
mod link;
mod scan;
mod shared;
mod target;
mod worker;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotage_shell::client::Connector;
use pilotage_shell::clock::{Clock, process_cpu_nanos};
use pilotage_shell::timer::Timer;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::record::Outcome;
use crate::stats::book::Book;
use crate::workload::{Load, Spec};

use job::{Due, Job};
use shared::Shared;

pub use scan::{Dialect, Scan, Usage};
pub use shared::{Snapshot, Watch};
pub use target::{Endpoint, Options, Role, Target, TargetError};

/// Connections that a run opens at most, when nothing else is said.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Requests that wait in the client for a connection at most; more are not sent.
pub const QUEUE_MAX: usize = 100_000;

/// Requests handed out before others get their turn on this thread.
const BURST_MAX: usize = 32;

/// Between the start and the first request: everything is in place then.
const LEAD_NANOS: u64 = 5_000_000;

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// For one request.
    pub timeout: Duration,
    /// For the rest, once everything is sent.
    pub grace: Duration,
}

/// Why nothing could be sent.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The system's cryptography is not usable.
    #[error("cannot set up connections: {0}")]
    Connector(#[from] std::io::Error),
}

/// What happened.
#[derive(Debug)]
pub struct Run {
    /// The requests.
    pub book: Book,
    /// When the last request was meant to be sent, or sending ended, in nanoseconds since the start.
    pub sent_until: u64,
    /// When all was over.
    pub over: u64,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Seconds that this process computed for while it sent.
    pub cpu_seconds: f64,
    /// Whether somebody stopped it.
    pub interrupted: bool,
    /// Requests that were sent again on a new connection, as the server had closed one that was open.
    pub reconnects: u64,
}

/// A run that is about to begin.
#[derive(Debug)]
pub struct Bench {
    shared: Arc<Shared>,
    later: mpsc::UnboundedReceiver<Job>,
    grace: Duration,
    clock: Clock,
    timer: Timer,
}

impl Bench {
    /// A run against that target. Made inside a Tokio runtime.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn new(
        clock: Clock,
        spec: Spec,
        target: Target,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let connector = Connector::new()?;
        let origin = clock.now_nanos() + LEAD_NANOS;
        let (shared, later) = Shared::new((clock, origin), spec, (target, connector), limits);
        let timer = Timer::new(clock);
        Ok(Self { shared: Arc::new(shared), later, grace: limits.grace, clock, timer })
    }

    /// Looks at the run while it goes on, and can stop it.
    pub fn watch(&self) -> Watch {
        Watch::new(self.shared.clone())
    }

    /// Sends everything, waits for what is under way, and tells what happened.
    pub async fn run(mut self) -> Run {
        let started_unix_ms = self.shared.unix_ms();
        let cpu = process_cpu_nanos();
        // Before the start there are no times, and what is sent then would seem to be sent at it.
        self.clock.sleep_until_nanos(self.shared.absolute(0)).await;
        self.begin();
        let sent_until = self.pace().await;
        let cpu_seconds = process_cpu_nanos().saturating_sub(cpu) as f64 / 1e9;
        let interrupted = self.shared.is_stopped();
        self.drain().await;
        let over = self.shared.now();
        let book = self.shared.close();
        let reconnects = self.shared.reconnects.load(Ordering::Relaxed);
        Run { book, sent_until, over, started_unix_ms, cpu_seconds, interrupted, reconnects }
    }

    /// A closed loop begins with as many requests as it keeps under way.
    fn begin(&self) {
        if let Load::Closed { concurrency } = self.shared.spec.load {
            for _ in 0..concurrency {
                let Some(job) = self.shared.plan(0) else { break };
                self.shared.hand(job);
            }
        }
    }

    /// Hands requests out at their times, until there are no more: when that was.
    async fn pace(&mut self) -> u64 {
        let mut due: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
        let open = !matches!(self.shared.spec.load, Load::Closed { .. });
        let end = self.shared.spec.end_nanos.unwrap_or(u64::MAX);
        let mut next = if open { self.shared.plan(0) } else { None };
        loop {
            let now = self.shared.now();
            for _ in 0..BURST_MAX {
                let Some(at) = earliest(next.as_ref(), &due).filter(|at| *at <= now) else { break };
                let planned = next.as_ref().is_some_and(|job| job.intended == at);
                let job = if planned { next.take() } else { due.pop().map(|Reverse(due)| due.0) };
                job.into_iter().for_each(|job| self.shared.hand(job));
                if planned {
                    next = self.shared.plan(0);
                }
            }
            let at = earliest(next.as_ref(), &due);
            let over = at.is_none() && (self.shared.is_idle() || self.shared.is_exhausted());
            if over || now >= end || self.shared.is_stopped() {
                let unsent = due.len() + usize::from(next.is_some());
                (0..unsent).for_each(|_| self.shared.forget());
                return now.min(end);
            }
            if at.is_some_and(|at| at <= self.shared.now()) {
                tokio::task::yield_now().await;
                continue;
            }
            let until = at.unwrap_or(u64::MAX).min(end);
            tokio::select! {
                biased;
                Some(job) = self.later.recv() => due.push(Reverse(Due(job))),
                () = self.shared.changed() => {}
                () = self.timer.sleep_until_nanos(self.shared.absolute(until)) => {}
            }
        }
    }

    /// Waits for answers, but not for ever.
    async fn drain(&mut self) {
        let grace = u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX);
        let limit = self.shared.now().saturating_add(grace);
        while !self.shared.is_idle() && !self.shared.is_stopped() {
            tokio::select! {
                biased;
                // Nobody sends a further turn now.
                Some(_) = self.later.recv() => self.shared.forget(),
                () = self.shared.changed() => {}
                () = self.timer.sleep_until_nanos(self.shared.absolute(limit)) => break,
            }
        }
        self.shared.stop();
        self.shared.give_up_queue(Outcome::Unfinished);
        while let Ok(_thinking) = self.later.try_recv() {
            self.shared.forget();
        }
        while !self.shared.is_idle() {
            self.shared.changed().await;
        }
    }
}

fn earliest(next: Option<&Job>, due: &BinaryHeap<Reverse<Due>>) -> Option<u64> {
    let later = due.peek().map(|Reverse(Due(job))| job.intended);
    next.map(|job| job.intended).into_iter().chain(later).min()
}
