//! One scheduler for each lane, fed with what happens, and what it says carried out. Whoever something
//! happens to does that, under the lane's lock, so that a request whose turn it is goes on at once; a
//! loop of its own only watches the time. Everybody else holds a cheap handle.

mod adapters;
mod door;
mod explain;
mod handle;
mod mailbox;
mod name;
mod replica;
mod signals;
mod status;
mod ticket;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pilotage_core::health::{Change, Verdict};
use pilotage_core::scale::Seen;
use pilotage_core::traffic::{Regions, ZONE_ROUND_TRIP};
use pilotage_core::{
    FailureKind, Input, Outcome, Output, Prompt, ReplicaId, Request, RequestId, Scheduler,
    SchedulerConfig, Site, Span, TenantTree, Time, Why, fleet,
};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::metrics::LaneGauges;
use crate::{kv_events, reports};
pub(crate) use adapters::Lack;
pub(crate) use door::Door;
pub(crate) use explain::LaneExplanation;
pub use handle::LaneHandle;
pub use replica::{PodName, Replica};
use signals::{Counts, Course};
pub(crate) use status::{LaneStatus, TenantStatus};
use ticket::Turn;
pub(crate) use ticket::{Go, Interruption, Reason, Ticket};

/// Replicas that are gone and still shown, with how they failed.
const GONE_MAX: usize = 16;

enum Message {
    Arrive(Request, Prompt, mailbox::Sender<Turn>),
    Config(Box<SchedulerConfig>),
    Adapters(ReplicaId, Vec<u64>),
    Listed(ReplicaId, BTreeSet<String>),
    Retire,
    Happened(Input),
    Regions(Option<Regions>),
    Tenants(TenantTree),
    Up(ReplicaId, Arc<Replica>),
    Down(ReplicaId),
    Died(ReplicaId),
    Status(oneshot::Sender<LaneStatus>),
    /// A copy of the first request goes out under the second id.
    Hedge(RequestId, RequestId, mailbox::Sender<Turn>),
    Explain(Box<(Request, Prompt)>, oneshot::Sender<LaneExplanation>),
}

/// How many replicas take work.
#[derive(Debug, Default)]
struct Up {
    all: AtomicU32,
    /// Those that are no gateways of other regions.
    near: AtomicU32,
    /// Requests that wait.
    waiting: AtomicU32,
}

struct Driver {
    name: String,
    up: Arc<Up>,
    /// The lane is gone from the configuration.
    retired: bool,
    scheduler: Scheduler,
    clock: Clock,
    gauges: LaneGauges,
    replicas: HashMap<ReplicaId, Known>,
    waiters: HashMap<RequestId, Waiter>,
    gap_shown: Time,
    /// When the loop wakes up by itself.
    armed: Option<Time>,
    /// The lane is gone: nothing happens any more.
    closed: bool,
    /// What is to be told.
    news: Vec<News>,
    counts: Counts,
    /// What reading engines' reports takes; none in tests of the driver alone.
    reading: Option<(Client, LaneHandle)>,
    /// Where replicas are preferred.
    regions: Option<Regions>,
}

/// Whether a replica takes work.
const fn takes(replica: &fleet::Replica) -> bool {
    replica.up && replica.capacity.requests_max > 0
}

/// Whether one that is no gateway of another region does.
const fn is_near(replica: &fleet::Replica) -> bool {
    takes(replica) && !replica.site.passes_on
}

/// Between two looks at every tenant.
const GAP_EVERY: Span = Span::from_secs(1);

/// A replica, whether it is up or was.
struct Known {
    replica: Arc<Replica>,
    door: Arc<Door>,
    last_failure: Option<(FailureKind, Time)>,
    /// Requests sent there.
    sent: Arc<AtomicU64>,
    /// Tells the one that looks after it to look at once.
    look: Arc<Notify>,
    /// The tasks that read what it says about itself.
    listeners: Vec<Listener>,
    /// When it came up.
    since: Time,
    /// The part of its KV cache that is used, as it said last.
    kv_used: Option<Seen<f64>>,
}

/// What became of a replica in the eyes of its lane.
struct News {
    replica: Option<Arc<Replica>>,
    what: Became,
}

enum Became {
    /// It is held for something else than before.
    Judged { from: &'static str, to: Verdict },
    /// By all signs it died.
    Dead,
}

impl News {
    fn tell(&self, lane: &str) {
        let replica = self.replica.as_ref().map_or("", |replica| &replica.name);
        match self.what {
            Became::Judged { from, to } => tell_verdict(lane, replica, from, to),
            Became::Dead => tracing::warn!(
                lane,
                replica,
                "a replica died: requests broke there, and its process is gone or a newer one"
            ),
        }
    }
}

/// Worse news louder than good ones.
fn tell_verdict(lane: &str, replica: &str, from: &'static str, to: Verdict) {
    if to.is_open() {
        tracing::info!(lane, replica, from, %to, "a replica is judged anew");
    } else {
        tracing::warn!(lane, replica, from, %to, "a replica is judged anew");
    }
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
    say: mailbox::Sender<Turn>,
    at: Option<ReplicaId>,
    course: Course,
}

impl Driver {
    /// One without replicas, that reads nothing of what engines say.
    fn new(name: String, scheduler: Scheduler, clock: Clock, gauges: LaneGauges) -> Self {
        Self {
            name,
            up: Arc::default(),
            retired: false,
            scheduler,
            clock,
            gauges,
            replicas: HashMap::new(),
            waiters: HashMap::new(),
            gap_shown: Time::ZERO,
            armed: None,
            closed: false,
            news: Vec::new(),
            counts: Counts::new(Time::from_nanos(clock.now_nanos())),
            reading: None,
            regions: None,
        }
    }

    /// Takes in what happened, and everything that follows from it. Returns whether the alarm is set
    /// too late by now, and what is to be told.
    fn happened(&mut self, message: Message) -> (bool, Vec<News>) {
        if self.closed {
            return (false, Vec::new());
        }
        self.take(message);
        self.show();
        let late = |at: Time| self.armed.is_none_or(|armed| at < armed);
        let late = self.is_over() || self.scheduler.next_wakeup(self.now()).is_some_and(late);
        (late, std::mem::take(&mut self.news))
    }

    /// Whether any of its replicas is a gateway of another region.
    fn has_gateways(&self) -> bool {
        self.replicas.values().any(|known| known.door.is_gateway())
    }

    /// Whether a replica that is no gateway gets work, as far as its answers tell. Those that would not, were
    /// there better ones, do not count.
    fn works_near(&self) -> bool {
        let gets_work =
            |verdict: Verdict| verdict.is_open() && !matches!(verdict, Verdict::Panic { .. });
        let idle = self.scheduler.standings().filter(|standing| !gets_work(standing.verdict));
        let idle: Vec<ReplicaId> = idle.map(|standing| standing.replica).collect();
        self.scheduler.fleet().iter().any(|one| is_near(one) && !idle.contains(&one.id))
    }

    /// All replicas.
    fn known_replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.values().map(|known| Arc::clone(&known.replica)).collect()
    }

    /// Requests that wait, requests at replicas, and replicas that take work.
    fn load(&self) -> (u32, u32, u32) {
        let fleet = self.scheduler.fleet();
        let in_flight = fleet.iter().map(|replica| replica.requests).sum();
        (self.scheduler.queue().len(), in_flight, self.up.all.load(Ordering::Relaxed))
    }

    fn show(&mut self) {
        let count = |takes: fn(&fleet::Replica) -> bool| {
            let count = self.scheduler.fleet().iter().filter(|one| takes(one)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        self.up.all.store(count(takes), Ordering::Relaxed);
        self.up.near.store(count(is_near), Ordering::Relaxed);
        self.up.waiting.store(self.scheduler.queue().len(), Ordering::Relaxed);
        self.gauges.show(&self.scheduler);
        if self.now().since(self.gap_shown) >= GAP_EVERY {
            self.gap_shown = self.now();
            self.gauges.show_gap(&self.scheduler);
        }
    }

    /// Sets the alarm; none when the lane is gone, and with it all that it kept.
    fn arm(&mut self) -> Option<Option<Time>> {
        if self.is_over() {
            self.closed = true;
            self.replicas.clear();
            self.waiters.clear();
            self.reading = None;
            return None;
        }
        self.armed = self.scheduler.next_wakeup(self.now());
        Some(self.armed)
    }

    fn is_over(&self) -> bool {
        self.retired && self.scheduler.live() == 0
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Arrive(request, prompt, say) => {
                let now = self.now();
                self.counts.arrive(now, &request);
                let course = Course::new(now, request.band);
                self.waiters.insert(request.id, Waiter { say, at: None, course });
                self.scheduler.arrive_with(now, request, prompt);
                self.drain(now);
            }
            Message::Hedge(of, id, say) => {
                let course = self.course_of_copy(of);
                self.waiters.insert(id, Waiter { say, at: None, course });
                self.handle(Input::Hedge { of, id });
            }
            Message::Config(config) => {
                let now = self.now();
                self.scheduler.set_config(now, *config);
                self.drain(now);
            }
            Message::Regions(regions) => {
                self.regions = regions;
                let all: Vec<ReplicaId> = self.replicas.keys().copied().collect();
                all.into_iter().for_each(|id| self.locate(id));
            }
            Message::Adapters(replica, adapters) => {
                self.scheduler.set_adapters(replica, adapters);
            }
            Message::Listed(replica, adapters) => self.listed(replica, &adapters),
            Message::Retire => {
                self.retired = true;
                self.handle(Input::Drain);
            }
            Message::Happened(input) => {
                self.remember(input);
                self.count(&input);
                self.handle(input);
            }
            Message::Tenants(tree) => {
                let now = self.now();
                self.scheduler.set_tenants(now, tree);
                self.drain(now);
            }
            Message::Up(id, replica) => self.raise(id, replica),
            Message::Down(id) => self.lower(id, Input::ReplicaDown { replica: id }),
            Message::Died(id) => self.lower(id, Input::ReplicaDied { replica: id }),
            Message::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Message::Explain(asked, reply) => {
                let _ = reply.send(self.explain(&asked.0, &asked.1));
            }
        }
    }

    fn raise(&mut self, id: ReplicaId, replica: Arc<Replica>) {
        let capacity = replica.capacity;
        self.forget_older(id, &replica.name);
        let sent = Arc::new(AtomicU64::new(0));
        let look = Arc::new(Notify::new());
        let listeners = self.listen(id, &replica, (&sent, &look));
        let door = Arc::new(Door::of(&replica));
        let since = self.now();
        let (last_failure, kv_used) = (None, None);
        let known = Known { replica, door, last_failure, sent, look, listeners, since, kv_used };
        self.gauges.faults.enter(&known.replica.name);
        self.replicas.insert(id, known);
        // What waits must not go there before it is known where that is.
        self.scheduler.handle(self.now(), Input::ReplicaUp { replica: id, capacity });
        self.locate(id);
    }

    /// Tells how far a replica is.
    fn locate(&mut self, id: ReplicaId) {
        let Some(Known { replica, door, .. }) = self.replicas.get(&id) else { return };
        let region = replica.region.as_deref();
        let site = self.regions.as_ref().map(|regions| regions.site(region)).unwrap_or_default();
        let between = if replica.crosses_zones { ZONE_ROUND_TRIP } else { Span::ZERO };
        let (network, passes_on) = (site.network + between, replica.is_gateway);
        let site = Site { network, passes_on, only_by_us: !door.is_plain(), ..site };
        self.handle(Input::Located { replica: id, site });
    }

    fn lower(&mut self, id: ReplicaId, how: Input) {
        self.handle(how);
        if let Some(known) = self.replicas.get_mut(&id) {
            known.listeners.clear();
        }
        self.lose(id);
    }

    /// Reads from now on what a replica says about itself.
    fn listen(
        &self,
        id: ReplicaId,
        replica: &Arc<Replica>,
        (sent, look): (&Arc<AtomicU64>, &Arc<Notify>),
    ) -> Vec<Listener> {
        let Some((client, lane)) = &self.reading else { return Vec::new() };
        let client = replica.client(client).clone();
        let reading = reports::read(
            client,
            self.clock,
            lane.clone(),
            (id, Arc::clone(replica), Arc::clone(look)),
        );
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
        let (id, kind) = match input {
            Input::Failed { id, failure } => (id, failure.kind),
            Input::Outrun { id, failed: Some(failure) } => (id, failure.kind),
            _ => return,
        };
        let at = self.waiters.get_mut(&id).and_then(|waiter| waiter.at.take());
        let now = self.now();
        if let Some(known) = at.and_then(|at| self.replicas.get_mut(&at)) {
            known.last_failure = Some((kind, now));
            if kind == FailureKind::Broken && self.scheduler.derives_deaths() {
                known.look.notify_one();
            }
        }
    }

    /// A replica that comes back has a new id: its older selves go, once nothing runs there. Of those that
    /// never come back, as their addresses are gone, the last are kept.
    fn forget_older(&mut self, id: ReplicaId, name: &str) {
        let fleet = self.scheduler.fleet();
        let is_there =
            |older: &ReplicaId| *older == id || fleet.iter().any(|replica| replica.id == *older);
        self.replicas.retain(|older, known| known.replica.name.as_str() != name || is_there(older));
        let mut gone: Vec<ReplicaId> =
            self.replicas.keys().copied().filter(|older| !is_there(older)).collect();
        gone.sort_unstable();
        for oldest in &gone[..gone.len().saturating_sub(GONE_MAX)] {
            self.replicas.remove(oldest);
        }
    }

    /// Tells every request at this replica that it is gone.
    fn lose(&self, id: ReplicaId) {
        for waiter in self.waiters.values().filter(|waiter| waiter.at == Some(id)) {
            // One that is gone has sent its cancellation.
            waiter.say.send(Turn::Lost);
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
            self.perform(now, output);
        }
        while let Some(change) = self.scheduler.poll_change() {
            self.keep(&change);
        }
        while let Some(id) = self.scheduler.poll_death() {
            let replica = self.replicas.get(&id).map(|known| Arc::clone(&known.replica));
            self.news.push(News { replica, what: Became::Dead });
        }
        debug_assert_eq!(pilotage_core::invariant::check(&self.scheduler), []);
    }

    /// A replica is held for something else than before: told once the lane's lock is free, for who reads
    /// the log may be slow.
    fn keep(&mut self, change: &Change) {
        if matches!(change.to, Verdict::Ejected { .. }) {
            self.gauges.ejected();
        }
        let known = self.replicas.get(&change.replica);
        let replica = known.map(|known| Arc::clone(&known.replica));
        let what = Became::Judged { from: change.from.name(), to: change.to };
        self.news.push(News { replica, what });
    }

    fn perform(&mut self, now: Time, output: Output) {
        match output {
            Output::Dispatch { id, replica, attempt, displaces, why } => {
                if let Why::Displaces { reason, .. } = why {
                    self.gauges.stopped(reason);
                }
                let to = self.replicas.get(&replica).map(|known| {
                    known.sent.fetch_add(1, Ordering::Relaxed);
                    (Arc::clone(&known.replica), Arc::clone(&known.door))
                });
                if let (Some(waiter), Some((to, door))) = (self.waiters.get_mut(&id), to) {
                    waiter.at = Some(replica);
                    waiter.course.send(now);
                    // A waiter that is gone has sent its cancellation, which comes next.
                    let why = Reason { why, replica: Arc::clone(&to), door: Arc::clone(&door) };
                    let go = Go { replica: to, door, attempt, displaces, why };
                    waiter.say.send(Turn::Go(go));
                }
            }
            Output::Stop { id, reason, .. } => {
                self.gauges.stopped(reason);
                if let Some(waiter) = self.waiters.get(&id) {
                    waiter.say.send(Turn::Stop(reason));
                }
            }
            Output::Hedge { id } => {
                if let Some(waiter) = self.waiters.get(&id) {
                    waiter.say.send(Turn::Hedge);
                }
            }
            Output::GiveUp { id, .. } => {
                if let Some(waiter) = self.waiters.get(&id) {
                    waiter.say.send(Turn::Lost);
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
                    waiter.say.send(turn);
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
