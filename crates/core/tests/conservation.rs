//! For any history: every request that arrives ends exactly once, nothing is sent to a replica
//! over its capacity, invariants hold after every input, and equal histories give equal outputs.

#![expect(clippy::unwrap_used, reason = "a test harness")]

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::{
    Band, Capacity, Failure, FailureKind, FairConfig, Gate, Input, Outcome, Output, QueueLimits,
    Refusal, ReplicaId, Report, Request, RequestId, Scheduler, SchedulerConfig, Span, Stop,
    TenantId, TenantShare, TenantTree, Time, Tokens, Told, invariant,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Up(u32, u32, u64, u32),
    Down(u32),
    Arrive { band: usize, tenant: u32, tokens: u32, deadline_ms: Option<u64>, stop: usize },
    First(usize),
    Progress(usize, u32),
    Finish(usize, Option<u32>),
    Stopped(usize),
    Unstoppable(usize),
    Report(u32, u64),
    Tenants(Vec<(u32, u32, u32)>),
    Fail(usize, bool, bool),
    Cancel(usize),
    Hedge(usize),
    Outrun(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u64..40).prop_map(Step::Wait),
        2 => (0u32..4, 1u32..4, 100u64..1500, 0u32..3)
            .prop_map(|(id, places, tokens, pauses)| Step::Up(id, places, tokens, pauses)),
        1 => (0u32..4).prop_map(Step::Down),
        6 => (0usize..4, 0u32..7, 0u32..500, prop::option::of(0u64..100), 0usize..3).prop_map(
            |(band, tenant, tokens, deadline_ms, stop)| {
                Step::Arrive { band, tenant, tokens, deadline_ms, stop }
            }
        ),
        5 => (0usize..64, 1u32..60).prop_map(|(pick, more)| Step::Progress(pick, more)),
        2 => (0usize..64).prop_map(Step::Stopped),
        1 => (0usize..64).prop_map(Step::Unstoppable),
        1 => (0u32..4, 0u64..2000).prop_map(|(id, tokens)| Step::Report(id, tokens)),
        1 => prop::collection::vec((0u32..6, 1u32..5000, 0u32..160), 1..6).prop_map(Step::Tenants),
        2 => (0usize..64).prop_map(Step::First),
        4 => (0usize..64, prop::option::of(0u32..600))
            .prop_map(|(pick, input)| Step::Finish(pick, input)),
        3 => (0usize..64, any::<bool>(), any::<bool>())
            .prop_map(|(pick, answered, resumable)| Step::Fail(pick, answered, resumable)),
        2 => (0usize..64).prop_map(Step::Cancel),
        2 => (0usize..64).prop_map(Step::Hedge),
        1 => (0usize..64, any::<bool>()).prop_map(|(pick, failed)| Step::Outrun(pick, failed)),
    ]
}

/// Drives a scheduler and keeps the books a host would keep.
struct Host {
    scheduler: Scheduler,
    now: Time,
    arrived: u64,
    running: BTreeMap<RequestId, ReplicaId>,
    ended: BTreeMap<RequestId, String>,
    /// Requests asked to stop.
    stopping: BTreeSet<RequestId>,
    output: BTreeMap<RequestId, u32>,
    /// Requests whose clients have a part of their answers.
    answered: BTreeSet<RequestId>,
    /// How often each failed since an attempt brought a good part of its answer.
    failed: BTreeMap<RequestId, u32>,
    /// The answer's tokens at the last dispatch.
    from: BTreeMap<RequestId, u32>,
    capacity: BTreeMap<ReplicaId, (u32, u32)>,
    log: Vec<Output>,
}

impl Host {
    fn new(gate: Gate) -> Self {
        let queue = QueueLimits { requests_max: 12, tokens_max: 2_000 };
        let fair = FairConfig { gate, ..FairConfig::default() };
        let config = SchedulerConfig { queue, fair, ..SchedulerConfig::default() };
        Self {
            scheduler: Scheduler::new(config),
            now: Time::ZERO,
            arrived: 0,
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            stopping: BTreeSet::new(),
            output: BTreeMap::new(),
            answered: BTreeSet::new(),
            failed: BTreeMap::new(),
            from: BTreeMap::new(),
            capacity: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn feed(&mut self, input: Input) {
        self.scheduler.handle(self.now, input);
        while let Some(output) = self.scheduler.poll(self.now) {
            self.log.push(output);
            match output {
                Output::Dispatch { id, replica, .. } => {
                    assert!(!self.ended.contains_key(&id), "dispatched after its end");
                    assert!(self.running.insert(id, replica).is_none(), "on two replicas");
                    self.from.insert(id, self.output.get(&id).copied().unwrap_or(0));
                    let load = self.running.values().filter(|at| **at == replica).count();
                    let (places, pauses) = self.capacity[&replica];
                    assert!(load <= (places + pauses) as usize, "over capacity");
                }
                Output::Stop { id, replica, urgent, .. } => {
                    assert_eq!(self.running.get(&id), Some(&replica), "stopped where it is not");
                    assert!(!self.running.contains_key(&urgent), "stopped for one that runs");
                    assert!(self.stopping.insert(id), "asked to stop twice");
                }
                Output::GiveUp { id, replica } => {
                    assert_eq!(self.running.get(&id), Some(&replica), "given up where it is not");
                }
                Output::Hedge { id } => {
                    assert!(self.running.contains_key(&id), "copied where it is not");
                }
                Output::Abort { id, .. } => {
                    let at = self.running.remove(&id);
                    assert!(at.is_some(), "aborted where it did not run");
                    self.stopping.remove(&id);
                }
                Output::End { id, outcome } => {
                    self.check_end(id, outcome);
                    let before = self.ended.insert(id, format!("{outcome:?}"));
                    assert_eq!(before, None, "{id:?} ended twice");
                }
            }
        }
        assert_eq!(invariant::check(&self.scheduler), []);
    }

    /// Who has a part of an answer is not told that it was refused, and who was interrupted failed.
    fn check_end(&self, id: RequestId, outcome: Outcome) {
        let failed = self.failed.get(&id).copied().unwrap_or(0);
        match outcome {
            Outcome::Refused(Refusal::TenantRemoved) => {}
            Outcome::Refused(refusal) => {
                assert!(!self.answered.contains(&id), "{id:?} has a part: {refusal}");
            }
            Outcome::Interrupted { .. } => assert!(self.answered.contains(&id) && failed > 0),
            Outcome::Finished { .. } | Outcome::Cancelled => {}
        }
        assert!(failed <= SchedulerConfig::default().attempts_max, "{id:?} failed {failed} times");
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Wait(ms) => {
                self.now = self.now + Span::from_millis(ms);
                self.feed(Input::Tick);
            }
            Step::Up(id, places, tokens_max, pauses_max) => {
                let replica = ReplicaId(id);
                let requests_max = places.max(self.load(replica));
                self.capacity.insert(replica, (requests_max, pauses_max));
                let capacity =
                    Capacity { requests_max, tokens_max, prefill_max: tokens_max, pauses_max };
                self.feed(Input::ReplicaUp { replica, capacity });
            }
            Step::Down(id) => self.feed(Input::ReplicaDown { replica: ReplicaId(id) }),
            Step::Arrive { band, tenant, tokens, deadline_ms, stop } => {
                let tokens = Tokens { input: tokens, cached: tokens / 3, output: tokens / 2 };
                let id = RequestId(self.arrived + 1);
                let mut request = Request::new(id, TenantId(tenant), Band::ALL[band], tokens);
                request.deadline = deadline_ms.map(|ms| self.now + Span::from_millis(ms));
                request.stop = [Stop::Never, Stop::BeforeFirstToken, Stop::Anytime][stop];
                self.arrived += 1;
                self.feed(Input::Arrive(request));
            }
            Step::Report(id, kv_tokens) => {
                let report = Report { kv_tokens: Some(kv_tokens), ..Report::default() };
                self.feed(Input::Reported { replica: ReplicaId(id), report });
            }
            Step::Tenants(ref list) => {
                // A tenant's parent is one with a smaller id, so that there are no cycles.
                let share = |(at, (up, weight, guaranteed)): (usize, &(u32, u32, u32))| {
                    let parent = at.checked_sub(1 + *up as usize).map(|up| TenantId(up as u32));
                    let guaranteed = if parent.is_none() { *guaranteed } else { 0 };
                    let id = TenantId(at as u32);
                    let lending_limit = (weight % 2 == 0).then_some(guaranteed / 2);
                    let borrowing_limit = (guaranteed > 80).then_some(100);
                    TenantShare {
                        id,
                        parent,
                        weight: *weight,
                        guaranteed,
                        borrowing_limit,
                        lending_limit,
                    }
                };
                let tree = TenantTree::new(list.iter().enumerate().map(share)).unwrap();
                self.scheduler.set_tenants(self.now, tree);
                self.feed(Input::Tick);
            }
            ref other => self.apply_to_request(other),
        }
    }

    fn apply_to_request(&mut self, step: &Step) {
        match *step {
            Step::First(pick) => {
                if let Some(id) = self.pick(pick) {
                    self.answered.insert(id);
                    self.feed(Input::FirstToken { id });
                }
            }
            Step::Progress(pick, more) => {
                if let Some(id) = self.pick(pick) {
                    let output = self.output.entry(id).or_default();
                    *output += more;
                    let output = *output;
                    self.feed(Input::Progress { id, output });
                }
            }
            Step::Finish(pick, input) => {
                if let Some(id) = self.pick(pick) {
                    self.running.remove(&id);
                    self.stopping.remove(&id);
                    let output = self.output.get(&id).copied().unwrap_or(0);
                    let tokens = input.map(|input| Tokens { input, cached: input / 2, output });
                    self.feed(Input::Finished { id, tokens });
                }
            }
            Step::Unstoppable(pick) => {
                let stopping = self.stopping.iter().nth(pick % self.stopping.len().max(1));
                if let Some(id) = stopping.copied() {
                    self.stopping.remove(&id);
                    self.feed(Input::Unstoppable { id });
                }
            }
            Step::Stopped(pick) => {
                let stopping = self.stopping.iter().nth(pick % self.stopping.len().max(1));
                if let Some(id) = stopping.copied() {
                    self.stopping.remove(&id);
                    self.running.remove(&id);
                    self.feed(Input::Stopped { id });
                }
            }
            Step::Fail(pick, answered, resumable) => {
                if let Some(id) = self.pick(pick) {
                    self.running.remove(&id);
                    self.stopping.remove(&id);
                    let output = self.output.get(&id).copied().unwrap_or(0);
                    let failed = self.failed.entry(id).or_default();
                    *failed = if output - self.from[&id] >= 16 { 1 } else { *failed + 1 };
                    if answered {
                        self.answered.insert(id);
                    }
                    let silent = pick % 3 == 0;
                    let kind = if silent { FailureKind::Timeout } else { FailureKind::Broken };
                    let failure = Failure { kind, answered, resumable, told: Told::default() };
                    self.feed(Input::Failed { id, failure });
                }
            }
            Step::Cancel(pick) => {
                let id = RequestId(pick as u64 % (self.arrived + 1));
                self.feed(Input::Cancel { id });
            }
            ref other => self.apply_to_copies(other),
        }
    }

    fn apply_to_copies(&mut self, step: &Step) {
        match *step {
            Step::Hedge(pick) => {
                if let Some(of) = self.pick(pick) {
                    self.arrived += 1;
                    self.feed(Input::Hedge { of, id: RequestId(self.arrived) });
                }
            }
            Step::Outrun(pick, failed) => {
                if let Some(id) = self.pick(pick) {
                    if failed {
                        self.running.remove(&id);
                        self.stopping.remove(&id);
                    }
                    let failure = Failure::before_answer(FailureKind::Broken);
                    let failed = failed.then_some(failure);
                    self.feed(Input::Outrun { id, failed });
                }
            }
            _ => {}
        }
    }

    fn pick(&self, pick: usize) -> Option<RequestId> {
        self.running.keys().nth(pick % self.running.len().max(1)).copied()
    }

    fn load(&self, replica: ReplicaId) -> u32 {
        self.running.values().filter(|at| **at == replica).count() as u32
    }

    /// Brings a healthy replica and finishes everything.
    fn settle(&mut self) {
        self.apply(&Step::Up(9, 3, 1000, 0));
        while !self.running.is_empty() {
            self.apply(&Step::Finish(0, None));
        }
    }
}

fn run(gate: Gate, steps: &[Step]) -> Host {
    let mut host = Host::new(gate);
    for step in steps {
        host.apply(step);
    }
    host.settle();
    host
}

fn gate() -> impl Strategy<Value = Gate> {
    prop_oneof![Just(Gate::Sum), Just(Gate::Peak)]
}

proptest! {
    #[test]
    fn every_request_ends_exactly_once(gate in gate(), steps in prop::collection::vec(step(), 0..120)) {
        let host = run(gate, &steps);
        prop_assert_eq!(host.ended.len() as u64, host.arrived);
        prop_assert_eq!(host.scheduler.live(), 0);
        prop_assert!(host.scheduler.fleet().iter().all(|replica| replica.requests == 0 && replica.tokens == 0));
    }

    #[test]
    fn equal_histories_give_equal_outputs(gate in gate(), steps in prop::collection::vec(step(), 0..80)) {
        prop_assert_eq!(run(gate, &steps).log, run(gate, &steps).log);
    }
}
