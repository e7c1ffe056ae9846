//! The only loop: one task for each lane owns its scheduler, feeds it what happens and carries out
//! what it says. Everybody else holds a cheap handle.

mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pilotage_core::health::{Change, Probe, Verdict};
use pilotage_core::preempt::Reason;
use pilotage_core::{
    Capacity, Failure, FailureKind, Input, Outcome, Output, Prompt, Refusal, ReplicaId, Report,
    Request, RequestId, Scheduler, SchedulerConfig, Span, TenantTree, Time, Tokens, Why,
};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::metrics::LaneGauges;
use crate::{kv_events, reports};
pub(crate) use status::LaneStatus;

/// Where an attempt goes.
#[derive(Debug)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Scheme, host and port, without a slash at the end.
    pub url: String,
    /// The key it asks for.
    pub key: Option<Secret>,
    /// What it can take at once.
    pub capacity: Capacity,
    /// The region it is in.
    pub region: Option<String>,
    /// Where it publishes what its KV cache holds: `tcp://HOST:PORT`.
    pub kv_events: Option<String>,
}

impl Replica {
    /// One of which no more is known than what it can take.
    pub fn at(name: impl Into<String>, url: impl Into<String>, capacity: Capacity) -> Self {
        let (name, url) = (name.into(), url.into());
        Self { name, url, key: None, capacity, region: None, kv_events: None }
    }
}

/// What the scheduler says to one request.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Send it there.
    Go(Go),
    /// The replica it was sent to is gone: no answer will come.
    Lost,
    /// Stop it, keep its tokens, and wait for another turn: somebody else goes first.
    Stop(Reason),
    /// It is over.
    Refused(Refusal),
    /// It is over: its replica failed so in the middle of the answer, and nobody goes on.
    Interrupted(FailureKind),
}

/// Where a request is sent.
#[derive(Clone, Debug)]
pub(crate) struct Go {
    pub(crate) replica: Arc<Replica>,
    pub(crate) attempt: u32,
    /// The request whose place it takes.
    pub(crate) displaces: Option<RequestId>,
    pub(crate) why: Why,
}

/// What happens to a request while it is at a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Interruption {
    /// The replica is gone.
    Lost,
    /// It has to make room.
    Stop(Reason),
}

enum Message {
    Arrive(Request, Prompt, mpsc::UnboundedSender<Turn>),
    Config(Box<SchedulerConfig>),
    Adapters(ReplicaId, Vec<u64>),
    Retire,
    Happened(Input),
    Tenants(TenantTree),
    Up(ReplicaId, Arc<Replica>),
    Down(ReplicaId),
    Status(oneshot::Sender<LaneStatus>),
}

/// The way to a lane's loop. What is in the channel is bounded by the connections there are: each
/// has one request, and each request sends a handful of messages.
#[derive(Clone, Debug)]
pub struct LaneHandle {
    name: Arc<str>,
    messages: mpsc::UnboundedSender<Message>,
    /// Replicas that take work.
    up: Arc<AtomicU32>,
}

impl LaneHandle {
    /// Starts a lane's loop.
    pub(crate) fn start(
        name: String,
        (config, tenants): (SchedulerConfig, TenantTree),
        client: Client,
        clock: Clock,
        gauges: LaneGauges,
    ) -> Self {
        let (messages, inbox) = mpsc::unbounded_channel();
        let mut scheduler = Scheduler::new(config);
        scheduler.set_tenants(Time::ZERO, tenants);
        let up = Arc::new(AtomicU32::new(0));
        let lane = Self { name: name.as_str().into(), messages, up: Arc::clone(&up) };
        let driver = Driver {
            up,
            retired: false,
            name,
            reading: Some((client, lane.clone())),
            scheduler,
            clock,
            gauges,
            replicas: HashMap::new(),
            waiters: HashMap::new(),
            gap_shown: Time::ZERO,
        };
        drop(tasks::spawn("lane", driver.run(inbox)));
        lane
    }

    /// A replica may be used.
    pub fn replica_up(&self, id: ReplicaId, replica: Replica) {
        self.send(Message::Up(id, Arc::new(replica)));
    }

    /// A replica must not be used any more: it is gone, and what was in flight there fails at once
    /// instead of waiting for its connection to break.
    pub fn replica_down(&self, id: ReplicaId) {
        self.send(Message::Down(id));
    }

    /// Its name: the model's.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether any replica takes work.
    pub(crate) fn is_open(&self) -> bool {
        self.up() > 0
    }

    /// Replicas that take work.
    pub(crate) fn up(&self) -> u32 {
        self.up.load(Ordering::Relaxed)
    }

    /// Limits and policies from now on.
    pub(crate) fn set_config(&self, config: SchedulerConfig) {
        self.send(Message::Config(Box::new(config)));
    }

    /// Tenants from now on.
    pub(crate) fn set_tenants(&self, tenants: TenantTree) {
        self.send(Message::Tenants(tenants));
    }

    /// What a replica says about itself: it corrects the ledger for a few seconds.
    pub fn replica_reports(&self, replica: ReplicaId, report: Report) {
        self.send(Message::Happened(Input::Reported { replica, report }));
    }

    /// How a health check of a replica went.
    pub(crate) fn replica_checked(&self, replica: ReplicaId, probe: Probe) {
        self.send(Message::Happened(Input::Checked { replica, probe }));
    }

    /// Which adapters a replica has loaded, by their keys.
    pub(crate) fn replica_adapters(&self, replica: ReplicaId, adapters: Vec<u64>) {
        self.send(Message::Adapters(replica, adapters));
    }

    /// A replica dropped so many tokens from its prefix cache; `u64::MAX` for all.
    pub fn replica_evicted(&self, replica: ReplicaId, tokens: u64) {
        self.send(Message::Happened(Input::Evicted { replica, tokens }));
    }

    /// A replica shows how many tokens its prefix cache holds, in its accelerator's memory and in the
    /// host's, where that is known.
    pub(crate) fn replica_cache(&self, replica: ReplicaId, device: Option<u64>, host: Option<u64>) {
        self.send(Message::Happened(Input::CacheSize { replica, device, host }));
    }

    /// Nothing new is let in, and the loop ends with the last request.
    pub(crate) fn retire(&self) {
        self.send(Message::Retire);
    }

    /// Nothing new is let in.
    pub(crate) fn drain(&self) {
        self.send(Message::Happened(Input::Drain));
    }

    /// A request gets in line.
    pub(crate) fn arrive(&self, request: Request, prompt: Prompt) -> Ticket {
        let (say, turns) = mpsc::unbounded_channel();
        self.send(Message::Arrive(request, prompt, say));
        Ticket { id: request.id, lane: self.clone(), turns, failures: 0, ended: false }
    }

    /// What the lane looks like; none when its loop is gone.
    pub(crate) async fn status(&self) -> Option<LaneStatus> {
        let (reply, status) = oneshot::channel();
        self.send(Message::Status(reply));
        status.await.ok()
    }

    fn send(&self, message: Message) {
        // The loop ends only with the process.
        let _ = self.messages.send(message);
    }
}

/// A request's place: dropped before its end, it cancels the request wherever it is.
pub(crate) struct Ticket {
    id: RequestId,
    lane: LaneHandle,
    turns: mpsc::UnboundedReceiver<Turn>,
    /// Attempts that failed.
    failures: u32,
    ended: bool,
}

impl Ticket {
    /// What the scheduler says next: where to go, or that it is over.
    pub(crate) async fn turn(&mut self) -> Result<Go, Refusal> {
        loop {
            match self.turns.recv().await.unwrap_or(Turn::Refused(Refusal::Draining)) {
                Turn::Go(go) => return Ok(go),
                Turn::Refused(refusal) => {
                    self.ended = true;
                    return Err(refusal);
                }
                Turn::Interrupted(last) => {
                    self.ended = true;
                    return Err(Refusal::Exhausted { attempts: self.failures, last });
                }
                // It was over there already when the news came.
                Turn::Lost | Turn::Stop(_) => {}
            }
        }
    }

    /// Waits until the attempt has to end before its answer does, for ever if it has not.
    pub(crate) async fn interruption(&mut self) -> Interruption {
        loop {
            match self.turns.recv().await {
                Some(Turn::Lost) => return Interruption::Lost,
                Some(Turn::Stop(reason)) => return Interruption::Stop(reason),
                // Nothing else is said to a request while it is at a replica.
                Some(Turn::Go(_) | Turn::Refused(_) | Turn::Interrupted(_)) => {}
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// The client was sent the first token.
    pub(crate) fn first_token(&self) {
        self.lane.send(Message::Happened(Input::FirstToken { id: self.id }));
    }

    /// The answer has so many tokens by now.
    pub(crate) fn progress(&self, output: u32) {
        self.lane.send(Message::Happened(Input::Progress { id: self.id, output }));
    }

    /// The answer is complete; with the engine's own counts where it reported them.
    pub(crate) fn finished(&mut self, tokens: Option<Tokens>) {
        self.ended = true;
        self.lane.send(Message::Happened(Input::Finished { id: self.id, tokens }));
    }

    /// The attempt was stopped to make room; another turn will come.
    pub(crate) fn stopped(&self) {
        self.lane.send(Message::Happened(Input::Stopped { id: self.id }));
    }

    /// The attempt cannot be stopped: its client has seen too much by now.
    pub(crate) fn unstoppable(&self) {
        self.lane.send(Message::Happened(Input::Unstoppable { id: self.id }));
    }

    /// The attempt failed before the client was sent anything; another turn may come.
    pub(crate) fn failed(&mut self, kind: FailureKind) {
        self.fail(Failure::before_answer(kind));
    }

    /// The attempt failed in the middle of the answer; another turn may come where it can go on.
    pub(crate) fn broke(&mut self, kind: FailureKind, resumable: bool) {
        self.ended = !resumable;
        self.fail(Failure::in_answer(kind, resumable));
    }

    fn fail(&mut self, failure: Failure) {
        self.failures += 1;
        self.lane.send(Message::Happened(Input::Failed { id: self.id, failure }));
    }

    /// Whether no turn will come any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.ended
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            self.lane.send(Message::Happened(Input::Cancel { id: self.id }));
        }
    }
}

struct Driver {
    name: String,
    up: Arc<AtomicU32>,
    /// The lane is gone from the configuration.
    retired: bool,
    scheduler: Scheduler,
    clock: Clock,
    gauges: LaneGauges,
    replicas: HashMap<ReplicaId, Known>,
    waiters: HashMap<RequestId, Waiter>,
    gap_shown: Time,
    /// What reading engines' reports takes; none in tests of the loop alone.
    reading: Option<(Client, LaneHandle)>,
}

/// Between two looks at every tenant.
const GAP_EVERY: Span = Span::from_secs(1);

/// A replica, whether it is up or was.
struct Known {
    replica: Arc<Replica>,
    last_failure: Option<(FailureKind, Time)>,
    /// Requests sent there.
    sent: Arc<AtomicU64>,
    /// The tasks that read what it says about itself.
    listeners: Vec<Listener>,
}

/// Ends its task when it is dropped.
struct Listener(JoinHandle<Option<()>>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request that has not ended: how to reach it, and where it was last sent.
struct Waiter {
    say: mpsc::UnboundedSender<Turn>,
    at: Option<ReplicaId>,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            let wakeup = self.scheduler.next_wakeup(self.now());
            let alarm = async {
                match wakeup {
                    Some(at) => self.clock.sleep_until_nanos(at.as_nanos()).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = inbox.recv() => message,
                () = alarm => Some(Message::Happened(Input::Tick)),
            };
            let Some(message) = message else { return };
            self.take(message);
            let up = self.scheduler.fleet().iter().filter(|replica| replica.up).count();
            self.up.store(u32::try_from(up).unwrap_or(u32::MAX), Ordering::Relaxed);
            if self.retired && self.scheduler.live() == 0 {
                return;
            }
            self.gauges.show(&self.scheduler);
            if self.now().since(self.gap_shown) >= GAP_EVERY {
                self.gap_shown = self.now();
                self.gauges.show_gap(&self.scheduler);
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Arrive(request, prompt, say) => {
                self.waiters.insert(request.id, Waiter { say, at: None });
                let now = self.now();
                self.scheduler.arrive_with(now, request, prompt);
                self.drain(now);
            }
            Message::Config(config) => {
                let now = self.now();
                self.scheduler.set_config(now, *config);
                self.drain(now);
            }
            Message::Adapters(replica, adapters) => {
                self.scheduler.set_adapters(replica, adapters);
            }
            Message::Retire => {
                self.retired = true;
                self.handle(Input::Drain);
            }
            Message::Happened(input) => {
                self.remember(input);
                self.handle(input);
            }
            Message::Tenants(tree) => {
                let now = self.now();
                self.scheduler.set_tenants(now, tree);
                self.drain(now);
            }
            Message::Up(id, replica) => self.raise(id, replica),
            Message::Down(id) => {
                self.handle(Input::ReplicaDown { replica: id });
                if let Some(known) = self.replicas.get_mut(&id) {
                    known.listeners.clear();
                }
                self.lose(id);
            }
            Message::Status(reply) => {
                let _ = reply.send(self.status());
            }
        }
    }

    fn raise(&mut self, id: ReplicaId, replica: Arc<Replica>) {
        let capacity = replica.capacity;
        self.forget_older(id, &replica.name);
        let sent = Arc::new(AtomicU64::new(0));
        let listeners = self.listen(id, &replica, &sent);
        self.replicas.insert(id, Known { replica, last_failure: None, sent, listeners });
        self.handle(Input::ReplicaUp { replica: id, capacity });
    }

    /// Reads from now on what a replica says about itself.
    fn listen(
        &self,
        id: ReplicaId,
        replica: &Arc<Replica>,
        sent: &Arc<AtomicU64>,
    ) -> Vec<Listener> {
        let Some((client, lane)) = &self.reading else { return Vec::new() };
        let reading =
            reports::read(client.clone(), self.clock, lane.clone(), (id, Arc::clone(replica)));
        let mut listeners = vec![Listener(tasks::spawn("reports", reading))];
        if let Some(address) = replica.kv_events.clone() {
            let feed = kv_events::Feed {
                id,
                replica: Arc::clone(replica),
                sent: Arc::clone(sent),
                lane: lane.clone(),
                clock: self.clock,
                counts: self.gauges.kv.clone(),
            };
            let following = kv_events::follow(feed, address);
            listeners.push(Listener(tasks::spawn("kv events", following)));
        }
        listeners
    }

    /// Keeps the last failure of each replica for the status.
    fn remember(&mut self, input: Input) {
        let Input::Failed { id, failure } = input else { return };
        let at = self.waiters.get_mut(&id).and_then(|waiter| waiter.at.take());
        let now = self.now();
        if let Some(known) = at.and_then(|at| self.replicas.get_mut(&at)) {
            known.last_failure = Some((failure.kind, now));
        }
    }

    /// A replica that comes back has a new id: its older selves go, once nothing runs there.
    fn forget_older(&mut self, id: ReplicaId, name: &str) {
        let fleet = self.scheduler.fleet();
        self.replicas.retain(|older, known| {
            *older == id
                || known.replica.name != name
                || fleet.iter().any(|replica| replica.id == *older)
        });
    }

    /// Tells every request at this replica that it is gone.
    fn lose(&self, id: ReplicaId) {
        for waiter in self.waiters.values().filter(|waiter| waiter.at == Some(id)) {
            // One that is gone has sent its cancellation.
            let _ = waiter.say.send(Turn::Lost);
        }
    }

    /// One mutation, then everything that follows from it.
    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.scheduler.handle(now, input);
        self.drain(now);
    }

    fn drain(&mut self, now: Time) {
        while let Some(output) = self.scheduler.poll(now) {
            self.perform(output);
        }
        while let Some(change) = self.scheduler.poll_change() {
            self.tell(&change);
        }
        debug_assert_eq!(pilotage_core::invariant::check(&self.scheduler), []);
    }

    /// A replica is held for something else than before.
    fn tell(&self, change: &Change) {
        let name = self.replicas.get(&change.replica).map_or("", |known| &known.replica.name);
        let (from, to) = (change.from.name(), change.to);
        if to.is_open() {
            tracing::info!(lane = self.name, replica = name, from, %to, "a replica is judged anew");
        } else {
            tracing::warn!(lane = self.name, replica = name, from, %to, "a replica is judged anew");
        }
        if matches!(to, Verdict::Ejected { .. }) {
            self.gauges.ejected();
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Dispatch { id, replica, attempt, displaces, why } => {
                if let Why::Displaces { reason, .. } = why {
                    self.gauges.stopped(reason);
                }
                let to = self.replicas.get(&replica).map(|known| {
                    known.sent.fetch_add(1, Ordering::Relaxed);
                    Arc::clone(&known.replica)
                });
                if let (Some(waiter), Some(to)) = (self.waiters.get_mut(&id), to) {
                    waiter.at = Some(replica);
                    // A waiter that is gone has sent its cancellation, which comes next.
                    let go = Go { replica: to, attempt, displaces, why };
                    let _ = waiter.say.send(Turn::Go(go));
                }
            }
            Output::Stop { id, reason, .. } => {
                self.gauges.stopped(reason);
                if let Some(waiter) = self.waiters.get(&id) {
                    let _ = waiter.say.send(Turn::Stop(reason));
                }
            }
            Output::GiveUp { id, .. } => {
                if let Some(waiter) = self.waiters.get(&id) {
                    let _ = waiter.say.send(Turn::Lost);
                }
            }
            // Only a dropped ticket cancels, and its attempt went with it.
            Output::Abort { .. } => {}
            Output::End { id, outcome } => {
                let turn = match outcome {
                    Outcome::Refused(refusal) => Turn::Refused(refusal),
                    Outcome::Interrupted { kind, .. } => Turn::Interrupted(kind),
                    Outcome::Finished { .. } | Outcome::Cancelled => {
                        self.waiters.remove(&id);
                        return;
                    }
                };
                if let Some(waiter) = self.waiters.remove(&id) {
                    let _ = waiter.say.send(turn);
                }
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }
}

#[cfg(test)]
mod tests;
