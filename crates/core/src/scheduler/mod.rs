//! The loop's pure half: takes one input, changes state once, and offers outputs until drained.

mod arrive;
#[cfg(test)]
mod bounded;
mod config;
mod event;
pub mod explain;
mod fail;
mod hedge;
mod judge;
mod leave;
mod pace;
mod retries;
mod signs;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::health::{
    Board, Budget, Change, Counted, Poison, PoisonConfig, Signal, Standing, Trail,
};
use crate::preempt::Stop;
use crate::prefix::Index;
use crate::queue::{Queue, TenantTree, Ticket};
use crate::request::{FailureKind, Outcome, Refusal, Request};
use crate::route::{InitialSpeed, Pick, Prompt, Speeds};
use crate::{Band, Capacity, Fleet, ReplicaId, Report, RequestId, Span, TenantId, Time};
pub use config::SchedulerConfig;
pub use event::{Input, Output};
use pace::Pace;
use retries::Retries;
use signs::Signs;

/// Spreads the times at which replicas are tried again; replicas' ids make them differ.
const SEED: u64 = 0x7011_07a6_e000_0001;

/// One model's requests and replicas, and what happens next.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    queue: Queue,
    fleet: Fleet,
    live: BTreeMap<RequestId, Live>,
    outputs: VecDeque<Output>,
    pace: Pace,
    /// Requests that run and may be stopped, least urgent last.
    stoppable: BTreeSet<(Band, RequestId)>,
    /// Requests that replicas have paused, and since when.
    paused: BTreeSet<(ReplicaId, Time, RequestId)>,
    /// Requests that were asked to stop and run still.
    stopping: u32,
    /// When somebody was last asked.
    asked: Option<Time>,
    /// For whom they were asked: what becomes free is not given to somebody else of its band, who
    /// may come to the front because others stopped.
    promised: Option<RequestId>,
    /// For whom room was looked for last, and when.
    looked: Option<(RequestId, Time)>,
    retries: Retries,
    /// What may be spent on copies.
    copies: Budget,
    /// When copies of requests are due that run.
    copies_due: BTreeSet<(Time, RequestId)>,
    draining: bool,
    pick: Box<dyn Pick>,
    /// Who has which prompts in its cache, as far as is known.
    index: Index,
    speeds: Speeds,
    /// Which replicas work.
    board: Option<Board>,
    /// Which requests kill them.
    poison: Poison,
    /// Which replicas may have died of which nobody tells.
    signs: Signs,
    /// Those that did, for the host to tell.
    deaths: VecDeque<ReplicaId>,
    /// Requests that have had their attempts, unless replicas turn out to be dead.
    doubts: BTreeSet<(Time, RequestId)>,
    /// What the board found, for the host to tell.
    changes: VecDeque<Change>,
    /// Requests that wait for each replica, being their choice.
    wanted: BTreeMap<ReplicaId, u32>,
    /// Requests placed so far.
    placed: u64,
    /// Whether something happened since all that may go waited for a replica of its choice.
    unlooked: bool,
    /// When the first of those that wait for a replica of their choice stops doing so.
    patient_until: Option<Time>,
}

/// A request that has not ended.
#[derive(Debug)]
struct Live {
    request: Request,
    arrived: Time,
    attempt: u32,
    tried: Vec<ReplicaId>,
    /// Those of them whose failures cost a retry each.
    paid: Vec<ReplicaId>,
    running: Option<Running>,
    answered: bool,
    stops: u32,
    /// Tokens of its answer, as far as the host told.
    output: u32,
    /// Times it went on, or waits to go on, after a failure in the middle of its answer.
    resumes: u32,
    /// Its last attempt failed in the middle of its answer, and no other was begun since.
    broken: bool,
    last_failure: FailureKind,
    prompt: Prompt,
    /// Replicas that were lost under it.
    trail: Trail,
    /// Those whose connections broke.
    broke: Vec<ReplicaId>,
    /// It has had its attempts, unless the replicas of some turn out to be dead until then.
    doubt: Option<Time>,
    /// That it waits for a replica of its choice while others have room.
    held: Option<Held>,
    /// A second attempt was asked for, or it is one.
    copied: bool,
    /// It is a second attempt whose answer has not begun.
    is_copy: bool,
}

/// A request that waits for a replica of its choice.
#[derive(Clone, Copy, Debug)]
struct Held {
    replica: ReplicaId,
    since: Time,
    /// When it takes another.
    until: Time,
    /// Until when its choice need not be looked at again while that replica has no place.
    sure: Time,
}

/// Where a request runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    replica: ReplicaId,
    since: Time,
    /// KV tokens booked there.
    tokens: u64,
    /// Prompt tokens booked there, until the answer begins.
    prefill: u64,
    /// Prompt tokens that had to be computed there before the answer could begin, its own and others'.
    ahead: u64,
    /// Prompt tokens that its cache was believed to have.
    cached: u32,
    /// Tokens of the answer that came before.
    from: u32,
    /// When the answer began.
    begun: Option<Time>,
    /// The replica has paused it, since then.
    paused: Option<Time>,
    /// It was asked to stop.
    stopping: bool,
    /// When a second attempt is due.
    copy_at: Option<Time>,
}

impl Scheduler {
    /// A lane without replicas or requests.
    pub fn new(config: SchedulerConfig) -> Self {
        let mut speeds = Speeds::default();
        speeds.believe(config.initial);
        Self {
            config,
            queue: Queue::new(config.queue, config.fair),
            fleet: Fleet::new(config.fair.gate),
            live: BTreeMap::new(),
            outputs: VecDeque::new(),
            pace: Pace::default(),
            stoppable: BTreeSet::new(),
            paused: BTreeSet::new(),
            stopping: 0,
            asked: None,
            promised: None,
            looked: None,
            retries: Retries::new(&config),
            copies: hedge::budget(config.health.map(|health| health.hedge)),
            copies_due: BTreeSet::new(),
            draining: false,
            pick: config.policy.picker(),
            index: Index::default(),
            speeds,
            board: config.health.map(|health| Board::new(health, SEED)),
            poison: Poison::new(PoisonConfig::default()),
            signs: Signs::default(),
            deaths: VecDeque::new(),
            doubts: BTreeSet::new(),
            changes: VecDeque::new(),
            wanted: BTreeMap::new(),
            placed: 0,
            unlooked: true,
            patient_until: None,
        }
    }

    /// Takes in one thing that happened. The caller drains [`Self::poll`] before the next.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::ReplicaUp { replica, capacity } => self.raise(now, replica, capacity),
            Input::ReplicaDown { replica } => self.lower(now, replica),
            Input::ReplicaDied { replica } => self.died(now, replica),
            Input::Refused { replica } => self.note_refused(now, replica),
            Input::Located { replica, site } => self.fleet.locate(replica, site),
            Input::Reported { replica, report } => self.report(now, replica, report),
            Input::Checked { replica, probe } => self.note(now, replica, Signal::Probe(probe)),
            Input::Evicted { replica, tokens: u64::MAX } => self.index.clear(replica),
            Input::Evicted { replica, tokens } => self.index.evicted(replica, tokens),
            Input::CacheSize { replica, device, host } => {
                self.index.resize(replica, device, host);
            }
            Input::Arrive(request) => self.arrive(now, request, Prompt::default()),
            Input::FirstToken { id } => self.first_token(now, id),
            Input::Progress { id, output } => self.progress(now, id, output),
            Input::Finished { id, tokens } => self.finish(now, id, tokens),
            Input::Failed { id, failure } => self.fail(now, id, failure),
            Input::Stopped { id } => {
                self.note_stopped(now, id);
                self.stopped(id);
            }
            Input::Unstoppable { id } => self.unstoppable(id),
            Input::Hedge { of, id } => self.copy(now, of, id),
            Input::Outrun { id, failed } => self.outrun(now, id, failed),
            Input::Cancel { id } => self.cancel(now, id),
            Input::Drain => self.draining = true,
            Input::Tick => {}
        }
        // A token more changes nothing about who has room.
        self.unlooked |= !matches!(input, Input::Progress { .. });
        self.judge(now);
        self.expire(now);
        self.ask_for_copies(now);
        self.pace.observe(now, &self.queue, &self.fleet);
    }

    /// A request with a prompt of which more is known than its length: otherwise [`Input::Arrive`].
    pub fn arrive_with(&mut self, now: Time, request: Request, prompt: Prompt) {
        self.arrive(now, request, prompt);
        self.unlooked = true;
        self.judge(now);
        self.expire(now);
        self.pace.observe(now, &self.queue, &self.fleet);
    }

    /// The LoRA adapters that a replica has loaded, by their numbers in [`Prompt::adapter`].
    pub fn set_adapters(&mut self, replica: ReplicaId, adapters: Vec<u64>) {
        self.fleet.set_adapters(replica, adapters);
    }

    /// The LoRA adapters that a replica can be asked for, by their numbers in [`Bounds::adapter`].
    ///
    /// [`Bounds::adapter`]: crate::route::Bounds::adapter
    pub fn list_adapters(&mut self, replica: ReplicaId, adapters: Vec<u64>) {
        self.fleet.list(replica, adapters);
        self.unlooked = true;
    }

    /// A replica refused an adapter that it was believed to have: it is asked for it again after so long, or
    /// when it lists it.
    pub fn adapter_refused(&mut self, now: Time, replica: ReplicaId, adapter: u64, pause: Span) {
        self.fleet.refuse(now, replica, (adapter, now + pause));
        self.unlooked = true;
    }

    /// Another way to pick than those of [`crate::Policy`]: for simulations that compare.
    pub fn set_pick(&mut self, pick: Box<dyn Pick>) {
        self.pick = pick;
    }

    /// Other limits and policies from now on. What waits stays, though it may be more than may be let
    /// in by the new limits.
    pub fn set_config(&mut self, now: Time, config: SchedulerConfig) {
        self.speeds.believe(config.initial);
        if config.health != self.config.health {
            // Judging begins anew; nobody is ejected until there is evidence again.
            self.board = config.health.map(|health| Board::new(health, SEED));
            self.copies = hedge::budget(config.health.map(|health| health.hedge));
            let up: Vec<ReplicaId> =
                self.fleet.iter().filter(|replica| replica.up).map(|replica| replica.id).collect();
            for replica in up {
                self.note(now, replica, Signal::Up);
                self.fleet.judge(replica, (true, true), 1.0);
            }
        }
        self.retries.forget_groups();
        if self.config.policy != config.policy {
            self.pick = config.policy.picker();
        }
        self.config = config;
        self.queue.set_config(config.queue, config.fair);
        self.fleet.set_gate(config.fair.gate);
        self.unlooked = true;
        self.expire(now);
    }

    /// The tenants from now on. Whoever waits for one that is gone is refused; counters, and what
    /// runs, go on.
    pub fn set_tenants(&mut self, now: Time, tree: TenantTree) {
        for ticket in self.queue.set_tree(tree) {
            self.end(ticket.id, Outcome::Refused(Refusal::TenantRemoved));
        }
        self.expire(now);
    }

    /// How long a new request of this tenant and band would wait, by the order and the speed of the
    /// last seconds; none when nothing is known. Zero when nobody waits.
    pub fn predicted_wait(&self, tenant: TenantId, band: Band) -> Option<Span> {
        if self.queue.is_empty() {
            return Some(Span::ZERO);
        }
        let ahead = self.queue.ahead(tenant, band);
        self.pace.span_of(ahead)
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self, now: Time) -> Option<Output> {
        self.poll_near(now, &|_| 0)
    }

    /// The same, where `cached` tells how many tokens of a request's prompt are in a cache at the
    /// moment: see [`crate::FairConfig::quantum`]. What is found is charged as that.
    pub fn poll_near(&mut self, now: Time, cached: &dyn Fn(&Ticket) -> u32) -> Option<Output> {
        self.poll_decided().or_else(|| self.dispatch(now, cached))
    }

    /// The next thing to do of what is decided already; nobody gets a turn. For engines that take
    /// new work only at certain moments: at those, [`Self::poll`].
    pub fn poll_decided(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due, if no other input comes first.
    pub fn next_wakeup(&self, now: Time) -> Option<Time> {
        let look = self.board.as_ref().and_then(Board::next_wakeup);
        let look = [look, self.next_copy()].into_iter().flatten().min();
        if self.queue.is_empty() {
            return look;
        }
        let resumption = self.fleet.next_resumption(now);
        let patience = self.patient_until.filter(|until| *until > now);
        let doubt = self.doubts.first().map(|(until, _)| *until);
        let all =
            [self.queue.next_deadline(), resumption, self.next_look(now), patience, look, doubt];
        all.into_iter().flatten().min()
    }

    /// The waiting requests.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What a replica of which nothing is known is taken for now, and whether that was measured here.
    pub fn speed(&self) -> (InitialSpeed, bool) {
        self.speeds.usual()
    }

    /// What is held of each replica; empty where nobody judges.
    pub fn standings(&self) -> impl Iterator<Item = Standing> + '_ {
        self.board.iter().flat_map(Board::standings)
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
            live.running.map(|running| (*id, running.replica, running.tokens))
        })
    }

    /// Requests not on a replica, for [`crate::invariant`].
    pub(crate) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.live.iter().filter(|(_, live)| live.running.is_none()).map(|(id, _)| *id)
    }

    fn raise(&mut self, now: Time, replica: ReplicaId, capacity: Capacity) {
        self.fleet.raise(replica, capacity);
        self.index.add(replica, capacity.tokens_max);
        self.note(now, replica, Signal::Up);
        self.queue.set_capacity(self.fleet.capacity());
    }

    fn report(&mut self, now: Time, replica: ReplicaId, report: Report) {
        if let Some(started_ms) = report.started_ms {
            self.note_started(now, replica, started_ms);
        }
        let before = self.fleet.capacity();
        self.fleet.report(now, replica, report);
        if let Some(most) = report.kv_tokens_max
            && self.fleet.capacity() != before
        {
            self.index.add(replica, most);
            self.queue.set_capacity(self.fleet.capacity());
        }
        if let Some(value) = report.steps {
            let counted = Counted { read: now, value, each_step: report.each_step };
            self.note(now, replica, Signal::Counter(counted));
        }
    }

    fn lower(&mut self, now: Time, replica: ReplicaId) {
        self.note(now, replica, Signal::Down);
        self.fleet.lower(replica);
        self.index.remove(replica);
        self.speeds.forget(replica);
        self.signs.forget(replica);
        self.queue.set_capacity(self.fleet.capacity());
    }

    fn first_token(&mut self, now: Time, id: RequestId) {
        self.note_at(now, id, |id| Signal::FirstToken { id });
        self.adopt_copy(id);
        let Some(live) = self.live.get_mut(&id) else { return };
        live.answered = true;
        if !live.is_stoppable() {
            self.stoppable.remove(&(live.request.band, id));
        }
        let Some(running) = &mut live.running else { return };
        if let Some(at) = running.copy_at.take() {
            self.copies_due.remove(&(at, id));
        }
        let prefill = std::mem::take(&mut running.prefill);
        let took = now.since(running.since);
        if running.begun.is_none() {
            running.begun = Some(now);
            self.speeds.prefilled(running.replica, running.ahead as f64, took.as_secs_f64());
        }
        self.fleet.begin(running.replica, id, prefill);
        self.pace.first_token(now, took);
    }

    fn progress(&mut self, now: Time, id: RequestId, output: u32) {
        self.note_at(now, id, |_| Signal::Token);
        let Some(booked) = self.queue.progress(now, id, output) else { return };
        let Some(live) = self.live.get_mut(&id) else { return };
        live.output = live.output.max(output);
        let Some(running) = &mut live.running else { return };
        let grown = booked.saturating_sub(running.tokens);
        running.tokens += grown;
        self.fleet.grow(running.replica, id, grown);
    }

    /// Ends what waited past its deadline. A request on a replica is left to the host's timers.
    fn expire(&mut self, now: Time) {
        while let Some(ticket) = self.queue.pop_expired(now) {
            self.end_late(now, &ticket);
        }
        self.end_doubts(now);
    }

    /// It runs to its end, and nobody waits for it to stop.
    fn unstoppable(&mut self, id: RequestId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.request.stop = Stop::Never;
        self.stoppable.remove(&(live.request.band, id));
        let Some(running) = &mut live.running else { return };
        if std::mem::take(&mut running.stopping) {
            self.stopping -= 1;
            self.looked = None;
        }
    }

    /// Brings the ledger up to date with what prompts have in common.
    fn note_shared(&mut self, replica: ReplicaId) {
        if self.config.shares_prefixes {
            self.fleet.share(replica, self.index.shared_tokens(replica));
        }
    }
}

impl Live {
    /// Whether its running attempt may be stopped.
    const fn is_stoppable(&self) -> bool {
        match self.request.stop {
            Stop::Anytime => true,
            Stop::BeforeFirstToken => !self.answered,
            Stop::Never => false,
        }
    }
}
