//! Plays a scenario: the scheduler that serves real requests, with engines that only pretend.
//!
//! Time jumps from event to event. What happens at the same moment happens in a fixed order, so that a
//! scenario and its seed give the same run, byte for byte. Tokens are told to the scheduler before
//! anything that depends on them: an arrival, or the giving of turns. Engines that take new requests
//! only every so many steps are asked for turns only then.

mod fleet;
mod gate;
mod look;
mod probe;
mod record;
mod serve;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use pilotage_core::{
    Capacity, Gate, Input, ReplicaId, Report, Request, RequestId, Scheduler, Site, Span, TenantId,
    Time, Tokens,
};

pub use fleet::Fleet;
pub use probe::{Counters, Glance, Page, Sum, Watching};
pub use record::{Fate, Record};

use crate::arrival::Arrival;
use crate::engine::{Engine, Job};
use crate::explain::{Explanation, Watch};
use crate::rival::{Board, Route};
use crate::scenario::{FaultKind, NEVER, Replica, Scenario};
use crate::text;
use fleet::Motion;
use gate::Gatekeeper;
use probe::Probe;

/// How often engines report how full they are, where that matters.
const REPORT_EVERY: Span = Span::from_secs(1);

/// After how many arrivals the caller is told how far the run is.
const TOLD_EVERY: usize = 1000;

/// What to look at besides.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Check the scheduler's invariants at every event: slow.
    pub check: bool,
    /// A request, by its place among the arrivals from one, whose wait is to be explained.
    pub explain: Option<u64>,
    /// How engines are looked at meanwhile, as by who scrapes their metrics.
    pub watch: Option<Watching>,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What became of each arrival, in their order.
    pub records: Vec<Record>,
    /// When the last token came.
    pub end: Time,
    /// The distance between the counters of waiting tenants, in weighted tokens, wherever it changed.
    pub gap: Vec<(Time, f64)>,
    /// What that distance must not exceed; none where there is no such bound.
    pub bound: Option<f64>,
    /// How often running work was stopped or paused for other work.
    pub stops: u64,
    /// Prompt tokens computed again after stops and failures.
    pub recomputed: u64,
    /// How long each replica computed.
    pub busy: Vec<Span>,
    /// Invariants that did not hold; empty where they were not looked at.
    pub violations: Vec<String>,
    /// What became of a fleet that grows and shrinks.
    pub fleet: Option<Fleet>,
    /// Why the request waited that was asked for.
    pub explanation: Option<Explanation>,
    /// What engines showed, where they were looked at.
    pub glances: Vec<Glance>,
}

/// Plays a scenario to its end. `progress` hears of arrivals, so many of so many.
pub fn run(scenario: &Scenario, options: Options, progress: &mut dyn FnMut(usize, usize)) -> Run {
    let mut simulation = Simulation::new(scenario, options);
    simulation.raise_all();
    let mut told = 0;
    while simulation.step() {
        if simulation.next_arrival >= told + TOLD_EVERY {
            told = simulation.next_arrival;
            progress(simulation.next_arrival, scenario.arrivals.len());
        }
    }
    simulation.finish()
}

/// What is going to happen.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// A phase of an engine ends, if it is still of that epoch.
    Phase {
        engine: u32,
        epoch: u64,
    },
    /// A client loses patience.
    Impatience(RequestId),
    FaultBegins(usize),
    FaultEnds(usize),
    /// Engines report.
    Report,
    /// The router asks engines how they are.
    Scrape,
    /// A request reaches its engine.
    Delivery(RequestId),
    /// The scheduler wants to be called.
    Tick,
    /// Somebody looks at the engines.
    Glance,
    /// A client that gave up sends its request again.
    Again(usize),
    /// The autoscaler looks.
    Scale,
    /// A replica has started, woken up, or had its time to end.
    Staged {
        slot: u32,
        epoch: u64,
    },
    /// A machine is told to go, if it is still the one that came then.
    Notice {
        slot: u32,
        born: Time,
    },
    /// All machines that may be taken away are told to go.
    Reclaim,
}

/// A run in progress.
#[derive(Debug)]
struct Simulation<'a> {
    scenario: &'a Scenario,
    check: bool,
    now: Time,
    scheduler: Scheduler,
    gatekeeper: Gatekeeper,
    engines: Vec<Engine>,
    /// What a router knows of engines besides what it sent there.
    board: Arc<Board>,
    /// Requests on their way to an engine.
    transit: BTreeMap<RequestId, (usize, Job)>,
    /// The id that each engine's replica has now: another after each death.
    ids: Vec<ReplicaId>,
    /// Engines that do not report.
    blind: Vec<bool>,
    /// Decode steps of each engine that the scheduler was told of.
    told: Vec<u64>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    sequence: u64,
    next_arrival: usize,
    wakeup: Option<Time>,
    watch: Option<Watch<'a>>,
    /// What engines count of their requests, where they are looked at.
    probe: Option<Box<Probe>>,
    /// Engines that stand still.
    hung: Vec<bool>,
    /// Engines that compute to the end what was called off.
    leaky: Vec<bool>,
    motion: Option<Box<Motion>>,
    out: Run,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, options: Options) -> Self {
        let board = Arc::new(Board::new(scenario.replicas.len()));
        let scheduler = scheduler(scenario, &board);
        let count = scenario.replicas.len();
        let engine = |one: &Replica| Engine::new(one.engine.clone(), one.slowness);
        let records = vec![Record::default(); scenario.arrivals.len()];
        let watch = options.explain.map(|number| Watch::new(RequestId(number), scenario));
        Self {
            check: options.check,
            now: Time::ZERO,
            scheduler,
            gatekeeper: Gatekeeper::new(scenario),
            engines: scenario.replicas.iter().map(engine).collect(),
            board,
            transit: BTreeMap::new(),
            ids: (0..).map(ReplicaId).take(count).collect(),
            blind: vec![false; count],
            hung: vec![false; count],
            leaky: vec![false; count],
            probe: options.watch.map(|watching| Box::new(Probe::new(watching, count))),
            told: vec![0; count],
            events: BinaryHeap::new(),
            sequence: 0,
            next_arrival: 0,
            wakeup: None,
            watch,
            motion: Motion::new(scenario),
            out: Run {
                records,
                bound: bound(scenario),
                busy: vec![Span::ZERO; count],
                ..Run::default()
            },
            scenario,
        }
    }

    fn raise_all(&mut self) {
        if self.motion.is_some() {
            self.raise_begun();
        } else {
            (0..self.engines.len()).for_each(|at| self.raise(at));
        }
        for (at, fault) in self.scenario.faults.iter().enumerate() {
            self.expect(fault.from, Event::FaultBegins(at));
            self.expect(fault.until, Event::FaultEnds(at));
        }
        let reports = |kind: FaultKind| matches!(kind, FaultKind::Blind | FaultKind::Foreign(_));
        if self.scenario.faults.iter().any(|fault| reports(fault.kind)) {
            self.expect(Time::ZERO + REPORT_EVERY, Event::Report);
        }
        if let Some(every) = self.scenario.route.and_then(Route::scrape) {
            self.expect(Time::ZERO + every, Event::Scrape);
        }
        if self.probe.is_some() {
            self.expect(Time::ZERO, Event::Glance);
        }
    }

    fn raise(&mut self, at: usize) {
        let Replica { engine: model, network, region, .. } = &self.scenario.replicas[at];
        let capacity = Capacity {
            requests_max: model.sequences_max,
            tokens_max: model.kv_tokens,
            prefill_max: model.prefill_tokens_max,
            pauses_max: model.pauses_max,
        };
        let direct = self.scenario.route.is_some_and(Route::is_direct);
        let capacity = if direct { ENDLESS } else { capacity };
        let replica = self.ids[at];
        self.scheduler.handle(self.now, Input::ReplicaUp { replica, capacity });
        let site = Site { network: *network, region: *region, ..Site::default() };
        self.scheduler.handle(self.now, Input::Located { replica, site });
    }

    fn expect(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// The next thing that happens; false when nothing is left.
    fn step(&mut self) -> bool {
        // What comes at the end of time comes only if it is sent again.
        let arrival = self.scenario.arrivals.get(self.next_arrival).map(|arrival| arrival.at);
        let arrival = arrival.filter(|at| *at < NEVER);
        if self.is_watched_out() {
            return false;
        }
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        match (arrival, event) {
            (Some(arrival), event) if event.is_none_or(|event| arrival <= event) => {
                self.now = self.now.max(arrival);
                self.next_arrival += 1;
                self.arrive(self.next_arrival - 1);
            }
            (None, Some(_)) if self.scheduler.live() == 0 && self.probe.is_none() => return false,
            (_, Some(_)) => {
                let Some(Reverse((at, _, event))) = self.events.pop() else { return false };
                self.now = at;
                self.happen(event);
            }
            (_, None) => return false,
        }
        self.keep_awake();
        if self.check {
            let found = pilotage_core::invariant::check(&self.scheduler);
            let at = self.now.as_nanos();
            self.out.violations.extend(found.iter().map(|one| format!("at {at} ns: {one:?}")));
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Phase { engine, epoch } => {
                let engine = engine as usize;
                if self.engines[engine].epoch == epoch && !self.hung[engine] {
                    self.phase_over(engine);
                }
            }
            Event::Impatience(id) => {
                let record = &self.out.records[place(id)];
                if record.fate.is_none() && record.first_token.is_none() {
                    self.tell();
                    self.scheduler.handle(self.now, Input::Cancel { id });
                    self.work();
                    self.send_again(id);
                }
            }
            Event::Glance => self.glance(),
            Event::Again(at) => self.arrive(at),
            Event::FaultBegins(at) => self.break_down(at),
            Event::FaultEnds(at) => self.repair(at),
            Event::Report => {
                self.report();
                if self.scheduler.live() > 0 || self.next_arrival < self.out.records.len() {
                    self.expect(self.now + REPORT_EVERY, Event::Report);
                }
            }
            Event::Scrape => self.scrape(),
            Event::Delivery(id) => {
                if let Some((engine, job)) = self.transit.remove(&id) {
                    self.note_put(engine, id);
                    self.engines[engine].put(job);
                    self.work();
                }
            }
            Event::Tick => {
                self.wakeup = None;
                self.scheduler.handle(self.now, Input::Tick);
                self.work();
            }
            Event::Scale => self.scale(true),
            Event::Staged { slot, epoch } => self.staged(slot as usize, epoch),
            Event::Notice { slot, born } => self.notice(slot as usize, Some(born)),
            Event::Reclaim => self.reclaim(),
        }
    }

    fn arrive(&mut self, at: usize) {
        self.out.records[at].came = Some(self.now);
        let arrival = &self.scenario.arrivals[at];
        let tenant = &self.scenario.tenants[arrival.tenant as usize];
        let id = RequestId(at as u64 + 1);
        if let Err(reason) = self.gatekeeper.admit(self.now, id, arrival) {
            self.out.records[at].fate = Some(Fate::Refused(reason));
            self.out.records[at].end = Some(self.now);
            return;
        }
        self.tell();
        let tokens = Tokens { input: arrival.input, cached: 0, output: arrival.output_max };
        let owner = if self.scenario.one_line { 0 } else { arrival.tenant };
        let request = Request {
            deadline: tenant.deadline.map(|span| self.now + span),
            answer_by: tenant.answer_by.map(|span| self.now + span),
            stop: self.scenario.engine.stop,
            ..Request::new(id, TenantId(owner), tenant.band, tokens)
        };
        match self.scenario.route {
            None => self.scheduler.handle(self.now, Input::Arrive(request)),
            Some(route) => {
                if route.foresees() {
                    self.foresee(at);
                }
                self.scheduler.arrive_with(self.now, request, text::prompt(arrival, id));
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.arrived(self.now, id, &self.scheduler);
        }
        if let Some(patience) = tenant.patience {
            self.expect(self.now + patience, Event::Impatience(id));
        }
        self.work();
        self.hold();
    }

    /// Calls back when the scheduler wants to be called.
    fn keep_awake(&mut self) {
        let Some(at) = self.scheduler.next_wakeup(self.now) else { return };
        if self.wakeup.is_none_or(|wakeup| at < wakeup) {
            self.wakeup = Some(at);
            self.expect(at.max(self.now), Event::Tick);
        }
    }

    fn break_down(&mut self, at: usize) {
        let fault = self.scenario.faults[at];
        let engine = fault.replica as usize;
        match fault.kind {
            FaultKind::Slow(times) => self.engines[engine].slow_down(times),
            FaultKind::Blind => self.blind[engine] = true,
            FaultKind::Foreign(tokens) => self.engines[engine].occupy(tokens),
            FaultKind::Down => self.crash(engine),
            FaultKind::Hung => self.hung[engine] = true,
            FaultKind::Leaky => self.leaky[engine] = true,
        }
    }

    fn repair(&mut self, at: usize) {
        let fault = self.scenario.faults[at];
        let engine = fault.replica as usize;
        match fault.kind {
            FaultKind::Slow(_) => self.engines[engine].slow_down(1.0),
            FaultKind::Blind => self.blind[engine] = false,
            FaultKind::Foreign(_) => self.engines[engine].occupy(0),
            FaultKind::Hung => self.go_on(engine),
            FaultKind::Leaky => self.leaky[engine] = false,
            FaultKind::Down => {
                // A replica that was gone comes back under another id.
                self.ids[engine] =
                    ReplicaId(self.ids[engine].0 + self.scenario.replicas.len() as u32);
                self.raise(engine);
                self.note_start(engine);
            }
        }
        self.work();
    }

    fn report(&mut self) {
        for (at, engine) in self.engines.iter().enumerate() {
            if !self.blind[at] {
                let kv_tokens = Some(engine.kv_tokens());
                let (replica, report) = (self.ids[at], Report { kv_tokens, ..Report::default() });
                self.scheduler.handle(self.now, Input::Reported { replica, report });
            }
        }
        self.work();
    }

    /// What a router sees of engines that asks them only now and then.
    fn scrape(&mut self) {
        for (at, engine) in self.engines.iter().enumerate() {
            if !self.blind[at] {
                self.board.told(at, engine.gauges(), self.now);
            }
        }
        let every = self.scenario.route.and_then(Route::scrape);
        let goes_on = self.scheduler.live() > 0 || self.next_arrival < self.out.records.len();
        if let Some(every) = every.filter(|_| goes_on) {
            self.expect(self.now + every, Event::Scrape);
        }
    }

    /// What is true of an arrival at each engine, for a router that knows it.
    fn foresee(&mut self, at: usize) {
        let job = job(&self.scenario.arrivals[at], RequestId(at as u64 + 1), 0);
        for (place, engine) in self.engines.iter().enumerate() {
            let mut forecast = engine.forecast(&job);
            forecast.end = forecast.end + self.scenario.replicas[place].network;
            self.board.foretold(place, forecast);
        }
    }

    fn finish(mut self) -> Run {
        let first = self.out.records.iter().filter_map(|record| record.end).max();
        self.out.end = first.unwrap_or(self.now);
        self.out.fleet = self.close_fleet();
        self.out.explanation = self.watch.map(|watch| watch.explain(&self.out.records));
        self.out
    }
}

/// A replica that never says no: engines have queues of their own.
const ENDLESS: Capacity = Capacity { tokens_max: 1 << 50, ..Capacity::of_requests(u32::MAX) };

fn scheduler(scenario: &Scenario, board: &Arc<Board>) -> Scheduler {
    let mut config = scenario.config;
    if scenario.route.is_some_and(Route::is_direct) {
        config.fair.gate = Gate::Sum;
    }
    config.shares_prefixes = scenario.engine.step_tokens_max.is_some();
    let mut scheduler = Scheduler::new(config);
    if let Some(route) = scenario.route {
        scheduler.set_pick(route.pick(board));
    }
    if !scenario.one_line {
        scheduler.set_tenants(Time::ZERO, scenario.tree.clone());
    }
    scheduler
}

fn job(arrival: &Arrival, id: RequestId, generated: u32) -> Job {
    Job {
        id,
        input: arrival.input,
        output: arrival.output,
        generated,
        prefix: arrival.prefix.clone(),
        block_tokens: arrival.block_tokens,
        adapter: arrival.tenant,
    }
}

/// The bound of lemma 4.3 for tenants of the smallest weight, and what the quantum adds to it.
fn bound(scenario: &Scenario) -> Option<f64> {
    let longest = scenario.arrivals.iter().map(|arrival| u64::from(arrival.input)).max()?;
    let each = scenario.replicas.iter().map(|replica| replica.engine.kv_tokens);
    let fleet = each.fold(0, u64::saturating_add);
    let bound = scenario.config.fair.cost.gap_bound(longest, fleet)?;
    let lightest = scenario.tenants.iter().map(|tenant| tenant.weight).fold(f64::MAX, f64::min);
    Some((bound as f64 / lightest + scenario.config.fair.quantum as f64) / 1000.0)
}

/// Where a request is among the arrivals.
fn place(id: RequestId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX) - 1
}
