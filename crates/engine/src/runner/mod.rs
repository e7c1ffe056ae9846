//! The loop: takes jobs in, asks the batcher for the next step, has it computed, samples, sends
//! what came out. One thread owns the backend; everything else talks to it through a channel.

mod live;
mod pace;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use pilotage_core::{Span, Time};
use pilotage_shell::clock::Clock;
use pilotage_shell::id;
use tokio::sync::oneshot;

use crate::backend::{Backend, BackendError, SharedVocabulary};
use crate::batch::{BatchConfig, Batcher, Move, Sequence, Step};
use crate::job::{Event, Job, JobError, JobId, Token};
use crate::stats::Stats;
use live::{Live, Progress};
use pace::Pace;

/// How long a step with prompts of the bulk and batch bands takes at most: about what somebody in a
/// hurry does not notice.
const PATIENT_STEP: Span = Span::from_millis(50);

/// What the other threads ask of the loop.
pub(crate) enum Command {
    /// Generate.
    Job(Box<Job>),
    /// Embed.
    Embed(Vec<Vec<Token>>, oneshot::Sender<Result<Vec<Vec<f32>>, JobError>>),
    /// Answer when everything is done.
    Drained(oneshot::Sender<()>),
}

/// The way to the loop. Clones lead to the same one.
#[derive(Clone)]
pub struct Engine {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    vocabulary: SharedVocabulary,
}

/// What both sides see.
struct Shared {
    stats: Arc<Stats>,
    /// Jobs and embeddings sent and not ended.
    open: AtomicU32,
    open_max: u32,
    ready: AtomicBool,
    draining: AtomicBool,
}

impl Engine {
    /// A way to a loop that does not run yet, and the loop's end of it.
    pub(crate) fn channel(config: &BatchConfig, vocabulary: SharedVocabulary) -> (Self, LoopEnd) {
        let (commands, receiver) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared {
            stats: Arc::default(),
            open: AtomicU32::new(0),
            open_max: config.queue.requests_max,
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        });
        shared.stats.cells_total.set(u64::from(config.slots) * u64::from(config.context));
        let end = LoopEnd { receiver, shared: Arc::clone(&shared) };
        (Self { commands, shared, vocabulary }, end)
    }

    /// Hands a job to the loop; events follow.
    ///
    /// # Errors
    /// [`JobError::QueueFull`] and [`JobError::Draining`], at once.
    pub fn submit(&self, job: Job) -> Result<(), JobError> {
        self.send(Command::Job(Box::new(job)))
    }

    /// One vector of length one for each prompt, none of which is empty or over the context.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn embed(&self, prompts: Vec<Vec<Token>>) -> Result<Vec<Vec<f32>>, JobError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Embed(prompts, reply))?;
        answer.await.map_err(|_| JobError::Draining)?
    }

    /// Lets in nobody more, and waits until everybody is done.
    pub async fn drain(&self) {
        self.shared.draining.store(true, Ordering::SeqCst);
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Drained(reply)).is_ok() {
            let _ = done.await;
        }
    }

    /// Whether a job would be taken.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::SeqCst) && !self.is_draining()
    }

    /// Whether it is stopping.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &SharedVocabulary {
        &self.vocabulary
    }

    /// The counts.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    fn send(&self, command: Command) -> Result<(), JobError> {
        if self.is_draining() {
            return Err(JobError::Draining);
        }
        let open = &self.shared.open;
        let most = self.shared.open_max;
        let place = open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| {
            (open < most).then_some(open + 1)
        });
        if let Err(waiting) = place {
            return Err(JobError::QueueFull { waiting });
        }
        self.commands.send(command).map_err(|_| JobError::Draining)
    }
}

/// The loop's end of the channel.
pub(crate) struct LoopEnd {
    receiver: Receiver<Command>,
    shared: Arc<Shared>,
}

impl LoopEnd {
    /// Jobs are welcome from now on.
    pub(crate) fn ready(&self) {
        self.shared.ready.store(true, Ordering::SeqCst);
    }
}

/// The loop's state.
pub(crate) struct Runner<B: Backend> {
    backend: B,
    batcher: Batcher,
    end: LoopEnd,
    clock: Clock,
    vocabulary: SharedVocabulary,
    live: BTreeMap<JobId, Live<B::Grammar>>,
    swapped: BTreeMap<JobId, B::Swapped>,
    waiters: Vec<oneshot::Sender<()>>,
    pace: Pace,
}

impl<B: Backend> Runner<B> {
    pub(crate) fn new(
        backend: B,
        config: BatchConfig,
        end: LoopEnd,
        clock: Clock,
        vocabulary: SharedVocabulary,
    ) -> Self {
        Self {
            backend,
            batcher: Batcher::new(config),
            end,
            clock,
            vocabulary,
            live: BTreeMap::new(),
            swapped: BTreeMap::new(),
            waiters: Vec::new(),
            pace: Pace::default(),
        }
    }

    /// Runs until every way to it is gone.
    pub(crate) fn run(mut self) {
        while self.take_commands() {
            self.turn();
        }
    }

    /// One turn of the loop: who left, whose deadline passed, one step.
    fn turn(&mut self) {
        let gone: Vec<JobId> =
            self.live.iter().filter(|(_, live)| live.is_gone()).map(|(id, _)| *id).collect();
        for id in gone {
            self.forget(id);
        }
        for id in self.batcher.expire(self.now()) {
            self.fail(id, JobError::DeadlinePassed);
        }
        let begun = self.now();
        let step = self.batcher.step(begun);
        self.note_started(&step);
        if let Err((slots, error)) = self.carry_out(&step) {
            self.recover(&step, &slots, &error);
        } else {
            self.pace.observe(step.entries.len(), self.now().since(begun));
            self.batcher.set_patient_tokens(self.pace.tokens_in(PATIENT_STEP));
            self.sample(&step);
        }
        self.publish();
    }

    /// Takes in what was asked; blocks while there is nothing to do. False when nobody is left who
    /// could ask.
    fn take_commands(&mut self) -> bool {
        loop {
            if self.batcher.is_idle() {
                self.waiters.drain(..).for_each(|waiter| {
                    let _ = waiter.send(());
                });
                match self.end.receiver.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return false,
                }
            }
            match self.end.receiver.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) if self.batcher.is_idle() => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.batcher.is_idle(),
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Job(job) => self.begin(*job),
            Command::Embed(prompts, reply) => {
                let answer = if reply.is_closed() {
                    Ok(Vec::new())
                } else {
                    self.backend.embed(&prompts).map_err(|error| JobError::Compute(error.0))
                };
                self.close();
                let _ = reply.send(answer);
            }
            Command::Drained(reply) => self.waiters.push(reply),
        }
    }

    fn begin(&mut self, job: Job) {
        let grammar = job.grammar.as_deref().map(|gbnf| self.backend.grammar(gbnf)).transpose();
        let grammar = match grammar {
            Ok(grammar) => grammar,
            Err(error) => return self.refuse(&job, error),
        };
        let sequence = Sequence {
            id: job.id,
            origin: job.origin,
            displaces: job.displaces,
            tenant: job.tenant,
            band: job.band,
            deadline: job.deadline,
            prompt: Arc::clone(&job.prompt),
            tokens_max: job.tokens_max,
            reuse_prefix: job.reuse_prefix,
        };
        if let Err(full) = self.batcher.submit(self.now(), sequence) {
            return self.refuse(&job, JobError::QueueFull { waiting: full.requests });
        }
        self.live.insert(job.id, Live::new(job, grammar, id::random_u64()));
    }

    fn refuse(&mut self, job: &Job, error: JobError) {
        self.close();
        let _ = job.events.send(Event::Failed(error));
    }

    fn note_started(&self, step: &Step) {
        let stats = &self.end.shared.stats;
        for (id, cached) in &step.started {
            let Some(live) = self.live.get(id) else { continue };
            let prompt = live.prompt_len();
            stats.prompt_tokens.add(prompt);
            if live.reuses_prefix() {
                stats.prefix_queries.add(prompt);
                stats.prefix_hits.add(u64::from(*cached));
            }
            live.started(*cached);
        }
    }

    /// Moves cells and computes the batch. On failure: the slots whose cells are in doubt.
    fn carry_out(&mut self, step: &Step) -> Result<(), (Vec<u32>, BackendError)> {
        for change in &step.moves {
            self.move_cells(*change).map_err(|error| (vec![slot_of(*change)], error))?;
        }
        if step.entries.is_empty() {
            return Ok(());
        }
        self.end.shared.stats.steps.add(1);
        self.backend
            .compute(&step.entries)
            .map_err(|error| (step.entries.iter().map(|entry| entry.slot).collect(), error))
    }

    fn move_cells(&mut self, change: Move) -> Result<(), BackendError> {
        match change {
            Move::SwapOut { slot, job } => {
                let state = self.backend.swap_out(slot)?;
                self.swapped.insert(job, state);
                Ok(())
            }
            Move::SwapIn { slot, job } => match self.swapped.remove(&job) {
                Some(state) => self.backend.swap_in(slot, &state),
                None => Err(BackendError("the swapped-out cells are gone".to_owned())),
            },
            Move::Copy { from, to } => self.backend.copy(from, to),
            Move::Keep { slot, len } => self.backend.keep(slot, len),
        }
    }

    /// After a failure nothing of this step is certain: its jobs end, its slots are emptied, and
    /// the loop goes on with the others.
    fn recover(&mut self, step: &Step, slots: &[u32], error: &BackendError) {
        tracing::error!(%error, "a step failed");
        self.end.shared.stats.failures.add(1);
        let mut jobs: Vec<JobId> = step.entries.iter().map(|entry| entry.job).collect();
        for change in &step.moves {
            if let Move::SwapOut { job, .. } | Move::SwapIn { job, .. } = change {
                jobs.push(*job);
            }
        }
        jobs.sort_unstable();
        jobs.dedup();
        for job in jobs {
            self.fail(job, JobError::Compute(error.0.clone()));
        }
        let touched = step.entries.iter().map(|entry| entry.slot).chain(slots.iter().copied());
        for slot in touched.chain(step.moves.iter().map(|change| slot_of(*change))) {
            self.batcher.distrust(slot);
            if let Err(error) = self.backend.keep(slot, 0) {
                tracing::error!(%error, slot, "a slot cannot be emptied");
            }
        }
    }

    fn sample(&mut self, step: &Step) {
        let wanted = step.entries.iter().enumerate().filter(|(_, entry)| entry.logits);
        for (at, entry) in wanted {
            let Some(live) = self.live.get_mut(&entry.job) else { continue };
            let progress = live.next(self.backend.logits(at), &self.vocabulary);
            match progress {
                Progress::More(token) => {
                    self.end.shared.stats.generation_tokens.add(1);
                    let now = Time::from_nanos(self.clock.now_nanos());
                    self.batcher.generated(now, entry.job, token);
                }
                Progress::End => {
                    self.end.shared.stats.generation_tokens.add(1);
                    self.forget(entry.job);
                }
            }
        }
    }

    fn fail(&mut self, id: JobId, error: JobError) {
        if let Some(live) = self.live.get(&id) {
            live.failed(error);
        }
        self.forget(id);
    }

    fn forget(&mut self, id: JobId) {
        self.batcher.remove(self.now(), id);
        self.swapped.remove(&id);
        if self.live.remove(&id).is_some() {
            self.close();
        }
    }

    /// One of the open places is free again.
    fn close(&self) {
        self.end.shared.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn publish(&self) {
        let stats = &self.end.shared.stats;
        stats.running.set(u64::from(self.batcher.running()));
        stats.waiting.set(u64::from(self.batcher.waiting()));
        stats.cells_held.set(self.batcher.cells_held());
        stats.preemptions.set(self.batcher.swap_outs());
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }
}

const fn slot_of(change: Move) -> u32 {
    match change {
        Move::SwapOut { slot, .. } | Move::SwapIn { slot, .. } | Move::Keep { slot, .. } => slot,
        Move::Copy { to, .. } => to,
    }
}
