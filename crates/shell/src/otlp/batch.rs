//! Takes what waits, makes messages of it and sends them, one at a time, until it is closed and nothing is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::time::{sleep, timeout};

use super::message::{
    ExportRequest, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, TraceSpan,
};
use super::queue::Queue;
use super::receiver::{Receiver, Sent};
use super::{Scope, Shared};
use crate::id::random_u64;

/// The first pause before something is sent again; each is half as long again as the one before.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The longest pause that a collector may ask for.
const ASKED_MAX: Duration = Duration::from_secs(60);

/// How long a batch is tried for. What comes meanwhile waits in the queue, or is dropped there.
pub const TRIED_MAX: Duration = Duration::from_secs(60);

/// Makes batches of what waits.
pub(super) struct Batches<T> {
    queue: Arc<Queue<T>>,
    shared: Arc<Shared>,
    resource: Resource,
    scope: Scope,
}

/// How an attempt to send a batch ended.
enum Ended {
    Sent,
    Failed,
}

impl<T: Send + 'static> Batches<T> {
    pub(super) fn new(queue: Arc<Queue<T>>, shared: Arc<Shared>, scope: Scope) -> Self {
        let attributes = shared.config.resource();
        Self { queue, shared, resource: Resource { attributes }, scope }
    }

    /// Sends until it is closed and nothing waits.
    pub(super) async fn run(
        self,
        receiver: Box<dyn Receiver>,
        spans: impl Fn(&T, &mut Vec<TraceSpan>) + Send,
    ) {
        loop {
            tokio::select! {
                () = self.queue.full_enough() => {}
                () = sleep(self.shared.config.delay) => {}
                () = self.shared.closing.cancelled() => {}
            }
            loop {
                let (traces, message) = self.next(&spans);
                if traces == 0 {
                    break;
                }
                self.shared.sending.store(traces, Ordering::Relaxed);
                let ended = self.send(receiver.as_ref(), message).await;
                self.shared.sending.store(0, Ordering::Relaxed);
                match ended {
                    Ended::Sent => self.shared.sent(traces),
                    Ended::Failed => _ = self.shared.counts.failed.inc_by(traces),
                }
            }
            if self.shared.closing.is_cancelled() {
                return;
            }
        }
    }

    /// The next message, and of how many traces it is.
    fn next(&self, spans: &impl Fn(&T, &mut Vec<TraceSpan>)) -> (u64, Bytes) {
        let mut all = Vec::new();
        let mut traces = 0;
        while all.len() < self.shared.config.batch_max {
            let Some(one) = self.queue.take(1).pop() else { break };
            traces += 1;
            spans(&one, &mut all);
        }
        self.shared.counts.queued.set(self.queue.len() as i64);
        let scope = InstrumentationScope {
            name: self.scope.name.to_owned(),
            version: self.scope.version.to_owned(),
        };
        let scope_spans = vec![ScopeSpans {
            scope: Some(scope),
            spans: all,
            schema_url: self.scope.schema_url.to_owned(),
        }];
        let resource = Some(self.resource.clone());
        let request =
            ExportRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] };
        (traces, request.encode_to_vec().into())
    }

    /// Sends a message until it is taken, refused, or there is no more point in it.
    async fn send(&self, receiver: &dyn Receiver, message: Bytes) -> Ended {
        let begun_nanos = self.shared.clock.now_nanos();
        let mut pause = PAUSE_FIRST;
        loop {
            let sent = timeout(self.shared.config.timeout, receiver.send(message.clone())).await;
            let (after, why) = match sent {
                Ok(Sent::Taken { rejected_spans, message }) => {
                    self.partly(rejected_spans, &message);
                    return Ended::Sent;
                }
                Ok(Sent::Refused { why }) => {
                    self.shared.troubled(&why);
                    return Ended::Failed;
                }
                Ok(Sent::Later { after, why }) => (after, why),
                Err(_) => (None, "it did not answer in time".to_owned()),
            };
            self.shared.troubled(&why);
            let wait = after.map_or_else(|| jittered(pause), |asked| asked.min(ASKED_MAX));
            pause = (pause + pause / 2).min(PAUSE_MAX);
            let now_nanos = self.shared.clock.now_nanos();
            let tried = Duration::from_nanos(now_nanos.saturating_sub(begun_nanos));
            let is_over = tried + wait > TRIED_MAX;
            if is_over || self.shared.closing.is_cancelled() {
                return Ended::Failed;
            }
            // Once it is closed there is one more attempt, at once.
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shared.closing.cancelled() => {}
            }
        }
    }

    fn partly(&self, rejected_spans: u64, message: &str) {
        self.shared.counts.rejected_spans.inc_by(rejected_spans);
        if rejected_spans > 0 {
            tracing::warn!(rejected_spans, message, "the collector refused some spans");
        }
    }
}

/// A pause that is up to a fifth longer or shorter, so that not all come back at once.
fn jittered(pause: Duration) -> Duration {
    let part = (random_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    pause.mul_f64(0.8 + 0.4 * part)
}
