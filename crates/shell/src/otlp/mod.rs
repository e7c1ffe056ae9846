//! Sends spans to an OpenTelemetry collector, by OTLP over HTTP or gRPC, without anybody waiting for that.
//!
//! What is offered goes into a queue that is bounded; when it is full, it is dropped and counted. One task takes it
//! from there, makes spans of it, and sends them in batches: again, with growing pauses, as long as the collector says or
//! looks as if that could help. A collector that is away costs spans, never a request; what state it is in shows in
//! metrics and in [`Exporter::state`].

mod batch;
mod config;
mod counts;
mod message;
mod queue;
mod receiver;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use batch::TRIED_MAX;
pub use config::{Config, ConfigError, Protocol, QUEUE_DEFAULT};
pub use counts::Counts;
pub use message::{AnyValue, Event, KeyValue, SpanStatus, TraceSpan, Value, kind, status};
pub use receiver::{Receiver, Sending, Sent};

use crate::clock::Clock;
use crate::tasks;
use batch::Batches;
use queue::Queue;

/// What spans of one process have in common.
#[derive(Clone, Debug)]
pub struct Scope {
    /// What made them.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Where the names of their attributes are described; empty where they are not.
    pub schema_url: &'static str,
}

/// Takes what spans are made from. Clones share the queue.
pub struct Exporter<T> {
    queue: Arc<Queue<T>>,
    shared: Arc<Shared>,
    task: Arc<Mutex<Option<JoinHandle<Option<()>>>>>,
}

/// What the task and whoever looks at it share.
#[derive(Debug)]
struct Shared {
    config: Config,
    counts: Counts,
    clock: Clock,
    closing: CancellationToken,
    /// Traces of the batch that is being sent.
    sending: AtomicU64,
    course: Mutex<Course>,
}

/// How it went so far.
#[derive(Clone, Debug, Default)]
struct Course {
    last_sent_unix_ms: Option<u64>,
    failing_since_unix_ms: Option<u64>,
    last_error: Option<String>,
}

/// How it goes, for people and programs that look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    /// Scheme, host and port of the collector.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: &'static str,
    /// `waiting` until something was sent, then `up` or `failing`.
    pub state: &'static str,
    /// When the collector took something last.
    pub last_sent_unix_ms: Option<u64>,
    /// Since when it takes nothing.
    pub failing_since_unix_ms: Option<u64>,
    /// What was wrong last; none once it is well again.
    pub last_error: Option<String>,
    /// Traces that wait.
    pub queued: usize,
    /// Most that wait.
    pub queue_max: usize,
    /// Traces that the collector took.
    pub exported: u64,
    /// Traces for which there was no room.
    pub dropped: u64,
    /// Traces that the collector refused, or did not take for too long.
    pub failed: u64,
    /// Traces that were one too many of their kind.
    pub held_back: u64,
    /// Spans that it refused out of what it took.
    pub rejected_spans: u64,
}

impl<T> Clone for Exporter<T> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            shared: Arc::clone(&self.shared),
            task: Arc::clone(&self.task),
        }
    }
}

impl<T> fmt::Debug for Exporter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Exporter<T> {
    /// Starts to send to what `config` says. `spans` makes the spans of one thing that was offered, in the background.
    ///
    /// # Errors
    /// The certificates of the configuration cannot be used.
    pub fn start(
        config: Config,
        scope: Scope,
        counts: Counts,
        clock: Clock,
        spans: impl Fn(&T, &mut Vec<TraceSpan>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let receiver = receiver::of(&config)?;
        Ok(Self::sending(receiver, (config, scope), counts, clock, spans))
    }

    /// Starts to send to that receiver.
    fn sending(
        receiver: Box<dyn Receiver>,
        (config, scope): (Config, Scope),
        counts: Counts,
        clock: Clock,
        spans: impl Fn(&T, &mut Vec<TraceSpan>) + Send + 'static,
    ) -> Self {
        let queue = Arc::new(Queue::new(config.queue_max, config.wake_at()));
        let shared = Arc::new(Shared {
            config,
            counts,
            clock,
            closing: CancellationToken::new(),
            sending: AtomicU64::new(0),
            course: Mutex::default(),
        });
        let batches = Batches::new(Arc::clone(&queue), Arc::clone(&shared), scope);
        let task = tasks::spawn("traces", batches.run(receiver, spans));
        Self { queue, shared, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// Whether there is room for one more; where there is none, it counts as dropped. What is urgent finds room when
    /// nothing else does.
    pub fn takes(&self, is_urgent: bool) -> bool {
        let takes = self.queue.has_room(is_urgent);
        if !takes {
            self.shared.counts.dropped.inc();
        }
        takes
    }

    /// Hands something over, or counts that there was no room. Takes well below a microsecond, and never waits.
    pub fn offer(&self, one: T) {
        if self.queue.push(one) {
            self.shared.counts.queued.set(self.queue.len() as i64);
        } else {
            self.shared.counts.dropped.inc();
        }
    }

    /// Counts what is not offered, as there are enough of its kind.
    pub fn hold_back(&self) {
        self.shared.counts.held_back.inc();
    }

    /// How it goes.
    pub fn state(&self) -> State {
        let Shared { config, counts, course, .. } = &*self.shared;
        let course = course.lock().clone();
        let state = match (course.failing_since_unix_ms, course.last_sent_unix_ms) {
            (Some(_), _) => "failing",
            (None, Some(_)) => "up",
            (None, None) => "waiting",
        };
        State {
            endpoint: config.shown(),
            protocol: config.protocol.name(),
            state,
            last_sent_unix_ms: course.last_sent_unix_ms,
            failing_since_unix_ms: course.failing_since_unix_ms,
            last_error: course.last_error,
            queued: self.queue.len(),
            queue_max: config.queue_max,
            exported: counts.exported.get(),
            dropped: counts.dropped.get(),
            failed: counts.failed.get(),
            held_back: counts.held_back.get(),
            rejected_spans: counts.rejected_spans.get(),
        }
    }

    /// Sends what is left, once, and ends; what is not sent within that time counts as failed.
    pub async fn close(&self, within: Duration) {
        self.shared.closing.cancel();
        let Some(mut task) = self.task.lock().take() else { return };
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            let waits = self.queue.take(usize::MAX).len() as u64;
            let left = waits + self.shared.sending.load(Ordering::Relaxed);
            self.shared.counts.failed.inc_by(left);
            tracing::warn!(left, "traces were not sent before the end");
        }
        self.shared.counts.queued.set(0);
    }
}

impl Shared {
    fn sent(&self, traces: u64) {
        self.counts.exported.inc_by(traces);
        self.counts.up.set(1.0);
        let mut course = self.course.lock();
        course.last_sent_unix_ms = Some(self.clock.unix_ms());
        course.last_error = None;
        if course.failing_since_unix_ms.take().is_some() {
            drop(course);
            let (dropped, failed) = (self.counts.dropped.get(), self.counts.failed.get());
            tracing::info!(dropped, failed, "the collector takes traces again");
        }
    }

    /// The collector did not take something. Said when it begins; metrics tell the rest.
    fn troubled(&self, why: &str) {
        self.counts.up.set(0.0);
        let now = self.clock.unix_ms();
        let mut course = self.course.lock();
        course.last_error = Some(why.to_owned());
        if course.failing_since_unix_ms.is_none() {
            course.failing_since_unix_ms = Some(now);
            drop(course);
            let endpoint = self.config.shown();
            tracing::warn!(
                endpoint,
                why,
                "the collector does not take traces; requests go on without them"
            );
        }
    }
}
