//! What the pacer, the tasks with connections and whoever looks on have in common.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pilotage_shell::client::Connector;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::record::{Outcome, Sample};
use crate::stats::book::Book;
use crate::workload::plan::WarmUp;
use crate::workload::text::Author;
use crate::workload::{Load, Plan, Spec};

use super::job::Job;
use super::target::{Role, Target};
use super::{Limits, QUEUE_MAX, worker};

/// The state of a run.
#[derive(Debug)]
pub(super) struct Shared {
    clock: Clock,
    origin: u64,
    pub(super) spec: Spec,
    pub(super) target: Target,
    pub(super) connector: Connector,
    pub(super) limits: Limits,
    author: Author,
    plan: Mutex<Plan>,
    desk: Mutex<Desk>,
    book: Mutex<Book>,
    later: mpsc::UnboundedSender<Job>,
    /// Requests planned that have not ended, those that wait for their turn among them.
    open: AtomicUsize,
    planned: AtomicU64,
    exhausted: AtomicBool,
    pub(super) sent: AtomicU64,
    pub(super) tokens: AtomicU64,
    /// Requests sent again, as a connection that was open had been closed by the server.
    pub(super) reconnects: AtomicU64,
    changed: Notify,
    stop: watch::Sender<bool>,
}

/// Who waits for whom: jobs for connections, or connections for jobs.
#[derive(Debug, Default)]
struct Desk {
    jobs: VecDeque<Job>,
    idle: Vec<oneshot::Sender<Job>>,
    workers: usize,
}

/// What a task with a connection does next.
pub(super) enum Next {
    Job(Box<Job>),
    Wait(oneshot::Receiver<Job>),
}

impl Shared {
    pub(super) fn new(
        (clock, origin): (Clock, u64),
        spec: Spec,
        (target, connector): (Target, Connector),
        limits: Limits,
    ) -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (later, receiver) = mpsc::unbounded_channel();
        let prefix = spec.workload.prefix.map_or(0, |prefix| prefix.tokens);
        let shared = Self {
            clock,
            origin,
            author: Author::new(spec.seed, prefix),
            plan: Mutex::new(Plan::new(&spec)),
            spec,
            target,
            connector,
            limits,
            desk: Mutex::default(),
            book: Mutex::default(),
            later,
            open: AtomicUsize::new(0),
            planned: AtomicU64::new(0),
            exhausted: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            changed: Notify::new(),
            stop: watch::Sender::new(false),
        };
        (shared, receiver)
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        self.clock.now_nanos().saturating_sub(self.origin)
    }

    /// The same moment on the clock.
    pub(super) fn absolute(&self, nanos: u64) -> u64 {
        nanos.saturating_add(self.origin)
    }

    pub(super) fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// The next request of the plan, at its time but not before `earliest`.
    pub(super) fn plan(&self, earliest: u64) -> Option<Job> {
        let Some(item) = self.plan.lock().next() else {
            self.exhausted.store(true, Ordering::Relaxed);
            self.changed.notify_one();
            return None;
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        let talk = vec![(Role::User, self.author.prompt(&item))];
        let prefix = self.spec.workload.prefix.map_or(0, |prefix| prefix.tokens);
        let intended = item.at.max(earliest);
        let (input, output) = (item.input + prefix, item.output);
        let body = self.target.body(&talk, output);
        let talk = if self.spec.workload.turns > 1 { talk } else { Vec::new() };
        let warm = self.is_warm(intended);
        Some(Job { intended, paced: 0, item, turn: 0, input, output, body, talk, warm })
    }

    fn is_warm(&self, intended: u64) -> bool {
        let number = self.planned.fetch_add(1, Ordering::Relaxed);
        match self.spec.warm_up {
            WarmUp::Nanos(nanos) => intended < nanos,
            WarmUp::Requests(requests) => number < requests,
        }
    }

    /// Gives a request to a connection, or to the queue for one.
    pub(super) fn hand(self: &Arc<Self>, mut job: Job) {
        job.paced = self.now();
        let mut desk = self.desk.lock();
        while let Some(idle) = desk.idle.pop() {
            match idle.send(job) {
                Ok(()) => return,
                Err(back) => job = back,
            }
        }
        if desk.workers < self.limits.connections {
            desk.workers += 1;
            drop(desk);
            // Its end is known by the last request's; a panic in it is logged.
            drop(tasks::spawn("connection", worker::work(self.clone(), job)));
        } else if desk.jobs.len() < QUEUE_MAX {
            desk.jobs.push_back(job);
        } else {
            drop(desk);
            self.give_up(job, Outcome::Overflow);
        }
    }

    /// What a connection that has become free does next: those who wait longest come first, then
    /// what followed from its own last request.
    pub(super) fn next(&self, follows: Option<Job>) -> Next {
        let mut desk = self.desk.lock();
        if let Some(mut job) = follows {
            job.paced = self.now();
            desk.jobs.push_back(job);
        }
        match desk.jobs.pop_front() {
            Some(job) => Next::Job(Box::new(job)),
            None => {
                let (sender, receiver) = oneshot::channel();
                desk.idle.push(sender);
                Next::Wait(receiver)
            }
        }
    }

    /// Writes a finished request down; gives what follows from it at once.
    pub(super) fn finish(
        &self,
        sample: Sample,
        gaps: &[f32],
        follows: (Job, Option<String>),
    ) -> Option<Job> {
        let answered = sample.outcome == Outcome::Ok;
        let end = sample.end;
        self.book.lock().add(sample, gaps);
        let (job, answer) = follows;
        let stopped = self.is_stopped() || self.spec.end_nanos.is_some_and(|nanos| end >= nanos);
        let turn = if answered && !stopped { self.turn(job, answer, end) } else { None };
        match turn {
            Some(job) if job.intended <= end => Some(job),
            Some(job) => {
                // Who would send it is gone only when the run is.
                let _ = self.later.send(job);
                None
            }
            None => {
                let closed = matches!(self.spec.load, Load::Closed { .. });
                let next = if closed && !stopped { self.plan(end) } else { None };
                self.forget();
                next
            }
        }
    }

    /// The next turn of a conversation, if it has one: as open as the one before it.
    fn turn(&self, job: Job, answer: Option<String>, end: u64) -> Option<Job> {
        let turn = job.turn + 1;
        if turn >= self.spec.workload.turns {
            return None;
        }
        let (tokens, output) = self.plan.lock().turn();
        let mut talk = job.talk;
        talk.push((Role::Assistant, answer.unwrap_or_default()));
        talk.push((Role::User, self.author.turn(&job.item, turn, tokens)));
        let body = self.target.body(&talk, output);
        let think = (self.spec.workload.think_seconds * 1e9) as u64;
        let intended = end.saturating_add(think);
        let input = job.input + job.output + tokens;
        let warm = self.is_warm(intended);
        Some(Job { intended, paced: 0, turn, input, output, body, talk, warm, item: job.item })
    }

    /// Writes down a request that was never sent.
    fn give_up(&self, job: Job, outcome: Outcome) {
        let now = self.now();
        let sample = worker::Seen::default().sample(&job, outcome, now);
        self.book.lock().add(sample, &[]);
        self.forget();
    }

    pub(super) fn give_up_queue(&self, outcome: Outcome) {
        let jobs = std::mem::take(&mut self.desk.lock().jobs);
        jobs.into_iter().for_each(|job| self.give_up(job, outcome));
    }

    /// One request less is open.
    pub(super) fn forget(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.changed.notify_one();
        }
    }

    /// Whether nothing is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing more will be sent but for what is open, and no more turns follow from that.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed) && self.spec.workload.turns <= 1
    }

    /// Waits until nothing is open, nothing is left to send, or the run is stopped.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
        self.changed.notify_one();
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Lets the connections go, and gives what was written down.
    pub(super) fn close(&self) -> Book {
        self.desk.lock().idle.clear();
        std::mem::take(&mut self.book.lock())
    }
}

/// Looks at a run while it goes on.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

/// A run at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Seconds since it began.
    pub seconds: f64,
    /// Requests handed to a connection.
    pub sent: u64,
    /// Requests that ended.
    pub done: u64,
    /// Events with content so far.
    pub tokens: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Of those that count: how many were rejected.
    pub rejected: u64,
    /// Requests that wait in the client.
    pub queued: usize,
    /// The most recent ones that ended, newest first.
    pub recent: Vec<Sample>,
}

/// Requests that a snapshot shows at most.
const RECENT_MAX: usize = 2_000;

impl Watch {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// How it is now, with the requests that ended in the last so many seconds.
    pub fn snapshot(&self, seconds: f64) -> Snapshot {
        let now = self.0.now();
        let since = now.saturating_sub((seconds * 1e9) as u64);
        let book = self.0.book.lock();
        let newest = book.samples.iter().rev().take(RECENT_MAX);
        let recent = newest.take_while(|sample| sample.end >= since);
        // Gaps stay behind: there may be many, and nobody looks at them here.
        let recent = recent.map(|sample| Sample { gaps: Box::default(), ..sample.clone() });
        Snapshot {
            seconds: now as f64 / 1e9,
            sent: self.0.sent.load(Ordering::Relaxed),
            done: book.counted() + book.warm,
            tokens: self.0.tokens.load(Ordering::Relaxed),
            failed: book.lost,
            rejected: book.count(Outcome::Rejected),
            queued: self.0.desk.lock().jobs.len(),
            recent: recent.collect(),
        }
    }

    /// Ends it: what is under way is given up.
    pub fn stop(&self) {
        self.0.stop();
    }
}
