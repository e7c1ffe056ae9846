//! For any history: every request that arrives ends exactly once, nothing is sent to a replica
//! over its capacity, invariants hold after every input, and equal histories give equal outputs.

use std::collections::BTreeMap;

use pilotage_core::{
    Band, Capacity, Failure, FailureKind, Input, Output, QueueLimits, ReplicaId, Request,
    RequestId, Scheduler, SchedulerConfig, Span, TenantId, Time, Tokens, invariant,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Up(u32, u32),
    Down(u32),
    Arrive { band: usize, tokens: u32, deadline_ms: Option<u64> },
    First(usize),
    Finish(usize),
    Fail(usize, bool),
    Cancel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u64..40).prop_map(Step::Wait),
        2 => (0u32..4, 1u32..4).prop_map(|(id, places)| Step::Up(id, places)),
        1 => (0u32..4).prop_map(Step::Down),
        6 => (0usize..4, 0u32..500, prop::option::of(0u64..100))
            .prop_map(|(band, tokens, deadline_ms)| Step::Arrive { band, tokens, deadline_ms }),
        2 => (0usize..64).prop_map(Step::First),
        4 => (0usize..64).prop_map(Step::Finish),
        3 => (0usize..64, any::<bool>()).prop_map(|(pick, answered)| Step::Fail(pick, answered)),
        2 => (0usize..64).prop_map(Step::Cancel),
    ]
}

/// Drives a scheduler and keeps the books a host would keep.
struct Host {
    scheduler: Scheduler,
    now: Time,
    arrived: u64,
    running: BTreeMap<RequestId, ReplicaId>,
    ended: BTreeMap<RequestId, String>,
    capacity: BTreeMap<ReplicaId, u32>,
    log: Vec<Output>,
}

impl Host {
    fn new() -> Self {
        let queue = QueueLimits { requests_max: 12, tokens_max: 2_000 };
        Self {
            scheduler: Scheduler::new(SchedulerConfig { queue, ..SchedulerConfig::default() }),
            now: Time::ZERO,
            arrived: 0,
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
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
                    let load = self.running.values().filter(|at| **at == replica).count();
                    assert!(load <= self.capacity[&replica] as usize, "over capacity");
                }
                Output::Abort { id, .. } => {
                    let at = self.running.remove(&id);
                    assert!(at.is_some(), "aborted where it did not run");
                }
                Output::End { id, outcome } => {
                    let before = self.ended.insert(id, format!("{outcome:?}"));
                    assert_eq!(before, None, "{id:?} ended twice");
                }
            }
        }
        assert_eq!(invariant::check(&self.scheduler), []);
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Wait(ms) => {
                self.now = self.now + Span::from_millis(ms);
                self.feed(Input::Tick);
            }
            Step::Up(id, places) => {
                let replica = ReplicaId(id);
                let places = places.max(self.load(replica));
                self.capacity.insert(replica, places);
                self.feed(Input::ReplicaUp {
                    replica,
                    capacity: Capacity { requests_max: places },
                });
            }
            Step::Down(id) => self.feed(Input::ReplicaDown { replica: ReplicaId(id) }),
            Step::Arrive { band, tokens, deadline_ms } => self.arrive(band, tokens, deadline_ms),
            Step::First(pick) => {
                if let Some(id) = self.pick(pick) {
                    self.feed(Input::FirstToken { id });
                }
            }
            Step::Finish(pick) => {
                if let Some(id) = self.pick(pick) {
                    self.running.remove(&id);
                    self.feed(Input::Finished { id });
                }
            }
            Step::Fail(pick, answered) => {
                if let Some(id) = self.pick(pick) {
                    self.running.remove(&id);
                    let failure = Failure { kind: FailureKind::Broken, answered };
                    self.feed(Input::Failed { id, failure });
                }
            }
            Step::Cancel(pick) => {
                let id = RequestId(pick as u64 % (self.arrived + 1));
                self.feed(Input::Cancel { id });
            }
        }
    }

    fn arrive(&mut self, band: usize, tokens: u32, deadline_ms: Option<u64>) {
        self.arrived += 1;
        self.feed(Input::Arrive(Request {
            id: RequestId(self.arrived),
            tenant: TenantId(0),
            band: Band::ALL[band],
            tokens: Tokens { input: tokens, cached: 0, output: tokens / 2 },
            deadline: deadline_ms.map(|ms| self.now + Span::from_millis(ms)),
        }));
    }

    fn pick(&self, pick: usize) -> Option<RequestId> {
        self.running.keys().nth(pick % self.running.len().max(1)).copied()
    }

    fn load(&self, replica: ReplicaId) -> u32 {
        self.running.values().filter(|at| **at == replica).count() as u32
    }

    /// Brings a healthy replica and finishes everything.
    fn settle(&mut self) {
        self.apply(&Step::Up(9, 3));
        while let Some(id) = self.pick(0) {
            self.running.remove(&id);
            self.feed(Input::Finished { id });
        }
    }
}

fn run(steps: &[Step]) -> Host {
    let mut host = Host::new();
    for step in steps {
        host.apply(step);
    }
    host.settle();
    host
}

proptest! {
    #[test]
    fn every_request_ends_exactly_once(steps in prop::collection::vec(step(), 0..120)) {
        let host = run(&steps);
        prop_assert_eq!(host.ended.len() as u64, host.arrived);
        prop_assert_eq!(host.scheduler.live(), 0);
        prop_assert!(host.scheduler.fleet().iter().all(|replica| replica.requests == 0 && replica.tokens == 0));
    }

    #[test]
    fn equal_histories_give_equal_outputs(steps in prop::collection::vec(step(), 0..80)) {
        prop_assert_eq!(run(&steps).log, run(&steps).log);
    }
}
