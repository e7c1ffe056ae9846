//! A modelled engine in real time: one task steps it, and everybody who waits for tokens hears of
//! them when their step is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::mpsc;

use super::kv::Publisher;
use super::metrics::Gauges;
use super::model::{Job, Model, ModelConfig, SequenceId, Step, Told};

/// A step that is later than this begins anew instead of being caught up with.
const LATE_NANOS: u64 = 50_000_000;

/// A running model.
#[derive(Debug)]
pub(super) struct Live {
    submit: mpsc::UnboundedSender<Submission>,
    gauges: Arc<Mutex<Gauges>>,
    /// Sequences that the model has not taken yet.
    coming: Arc<AtomicU64>,
    context: usize,
}

/// A token of one of a request's choices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) choice: u32,
    pub(super) told: Told,
}

#[derive(Debug)]
struct Submission {
    jobs: Vec<Job>,
    say: mpsc::UnboundedSender<Said>,
}

impl Live {
    /// Starts a model. Without `publisher` nobody hears of its cache.
    pub(super) fn start(config: ModelConfig, clock: Clock, publisher: Option<Publisher>) -> Self {
        let (submit, submitted) = mpsc::unbounded_channel();
        let model = Model::new(config);
        let context = model.context_tokens();
        let gauges = Arc::new(Mutex::new(Gauges::default()));
        let coming = Arc::new(AtomicU64::new(0));
        let stepping = Stepping {
            model,
            clock,
            gauges: Arc::clone(&gauges),
            coming: Arc::clone(&coming),
            publisher,
            waiting: HashMap::new(),
            next_id: 0,
        };
        drop(tasks::spawn("scripted model", stepping.run(submitted)));
        Self { submit, gauges, coming, context }
    }

    /// Computes the jobs of one request, its choices in order. What is returned is bounded by the
    /// length of their answers; dropped, it aborts them. None when the prompt is too long.
    pub(super) fn submit(&self, jobs: Vec<Job>) -> Option<mpsc::UnboundedReceiver<Said>> {
        if jobs.iter().any(|job| job.prompt.len() >= self.context) {
            return None;
        }
        let (say, said) = mpsc::unbounded_channel();
        self.coming.fetch_add(jobs.len() as u64, Relaxed);
        self.submit.send(Submission { jobs, say }).ok()?;
        Some(said)
    }

    /// What its metrics tell now.
    pub(super) fn gauges(&self) -> Gauges {
        let mut gauges = self.gauges.lock().clone();
        gauges.waiting += self.coming.load(Relaxed);
        gauges
    }
}

struct Stepping {
    model: Model,
    clock: Clock,
    gauges: Arc<Mutex<Gauges>>,
    coming: Arc<AtomicU64>,
    publisher: Option<Publisher>,
    /// Who waits for a sequence's tokens, and as which choice.
    waiting: HashMap<SequenceId, (u32, mpsc::UnboundedSender<Said>)>,
    next_id: u64,
}

impl Stepping {
    async fn run(mut self, mut submitted: mpsc::UnboundedReceiver<Submission>) {
        let mut due = self.clock.now_nanos();
        loop {
            while let Ok(submission) = submitted.try_recv() {
                self.take(submission);
            }
            self.abort();
            let step = self.model.step();
            // Told before the step is over: who runs and waits is known at its begin.
            *self.gauges.lock() = self.model.gauges();
            let Some(step) = step else {
                let Some(submission) = submitted.recv().await else { return };
                self.take(submission);
                due = self.clock.now_nanos();
                continue;
            };
            due = due.max(self.clock.now_nanos().saturating_sub(LATE_NANOS));
            due += u64::try_from(step.time.as_nanos()).unwrap_or(u64::MAX);
            self.clock.sleep_until_nanos(due).await;
            self.tell(step);
            *self.gauges.lock() = self.model.gauges();
        }
    }

    fn take(&mut self, submission: Submission) {
        let Submission { jobs, say } = submission;
        for (choice, job) in (0..).zip(jobs) {
            let id = SequenceId(self.next_id);
            self.next_id += 1;
            self.coming.fetch_sub(1, Relaxed);
            if self.model.submit(Job { id, ..job }) {
                self.waiting.insert(id, (choice, say.clone()));
            }
        }
    }

    /// Nobody waits for what an aborted request asked.
    fn abort(&mut self) {
        let model = &mut self.model;
        self.waiting.retain(|id, (_, say)| {
            let closed = say.is_closed();
            if closed {
                model.abort(*id);
            }
            !closed
        });
    }

    fn tell(&mut self, step: Step) {
        if let Some(publisher) = &mut self.publisher
            && !step.cache.is_empty()
        {
            publisher.publish(self.clock.unix_ms(), &step.cache);
        }
        for told in step.told {
            let Some((choice, say)) = self.waiting.get(&told.sequence) else { continue };
            // Whoever is gone is found at the next step.
            let _ = say.send(Said { choice: *choice, told });
            if told.last {
                self.waiting.remove(&told.sequence);
            }
        }
    }
}
