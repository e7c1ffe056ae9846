//! Stopping work for other work comes to an end: whoever takes from whom, all are served.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Capacity;
use crate::{TenantShare, invariant};

/// One request of a case: whose, how urgent, prompt, answer, and what may be done to it.
type Wish = (u32, usize, u32, u32, usize);

/// A replica that computes one token of each sequence a step, and stops at once when asked to.
struct Host {
    scheduler: Scheduler,
    now: Time,
    /// Tokens that came, of what runs.
    running: BTreeMap<RequestId, u32>,
    /// The same of what was stopped and goes on later.
    kept: BTreeMap<RequestId, u32>,
    stops: BTreeMap<RequestId, u32>,
    ended: usize,
}

impl Host {
    fn feed(&mut self, input: Input) {
        self.scheduler.handle(self.now, input);
        let mut stopped = Vec::new();
        while let Some(output) = self.scheduler.poll(self.now) {
            match output {
                Output::Dispatch { id, displaces, .. } => {
                    self.running.insert(id, self.kept.remove(&id).unwrap_or(0));
                    if let Some(id) = displaces {
                        *self.stops.entry(id).or_default() += 1;
                    }
                }
                Output::Stop { id, .. } => stopped.push(id),
                Output::End { .. } => self.ended += 1,
                Output::Abort { .. } | Output::GiveUp { .. } => {}
            }
        }
        assert_eq!(invariant::check(&self.scheduler), []);
        for id in stopped {
            let stops = self.stops.entry(id).or_default();
            *stops += 1;
            assert!(*stops < 1000, "{id:?} is stopped over and over");
            let came = self.running.remove(&id).unwrap();
            self.kept.insert(id, came);
            self.feed(Input::Stopped { id });
        }
    }

    fn step(&mut self, wishes: &BTreeMap<RequestId, Request>) {
        self.now = self.now + Span::from_millis(30);
        let paused =
            |host: &Self, id| host.scheduler.live[&id].running.is_none_or(|at| at.paused.is_some());
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            if !self.running.contains_key(&id) || paused(self, id) {
                continue;
            }
            let came = self.running.get_mut(&id).unwrap();
            *came += 1;
            let output = *came;
            if output == 1 {
                self.feed(Input::FirstToken { id });
            }
            if self.running.contains_key(&id) {
                self.feed(Input::Progress { id, output });
            }
            if output >= wishes[&id].tokens.output && self.running.remove(&id).is_some() {
                self.feed(Input::Finished { id, tokens: None });
            }
        }
        self.feed(Input::Tick);
    }
}

fn tenants(shares: &[(u32, u32, usize)]) -> TenantTree {
    let share = |(at, (weight, guaranteed, up)): (u32, &(u32, u32, usize))| TenantShare {
        parent: (at as usize).checked_sub(1 + up).map(|up| TenantId(up as u32)),
        weight: *weight,
        guaranteed: if (at as usize) < 1 + up { *guaranteed } else { 0 },
        ..TenantShare::top(TenantId(at))
    };
    TenantTree::new((0..).zip(shares).map(share)).unwrap()
}

fn request(at: usize, (tenant, band, input, output, stop): Wish) -> Request {
    let tokens = Tokens { input, cached: 0, output };
    let id = RequestId(at as u64 + 1);
    let stop = [Stop::Never, Stop::BeforeFirstToken, Stop::Anytime, Stop::Anytime][stop];
    Request { stop, ..Request::new(id, TenantId(tenant), Band::ALL[band], tokens) }
}

proptest! {
    #[test]
    fn stopping_comes_to_an_end(
        shares in prop::collection::vec((1u32..5000, 0u32..250, 0usize..4), 2..5),
        wishes in prop::collection::vec((0u32..5, 0usize..4, 1u32..120, 1u32..20, 0usize..4), 1..30),
        capacity in (1u32..4, 100u64..600, 0u32..3),
        over_share in prop::option::of(0u64..50_000),
        run_min_ms in 0u64..100,
        stops_max in prop::sample::select(vec![0, 3, u32::MAX]),
    ) {
        let run_min = Span::from_millis(run_min_ms);
        let preempt = PreemptConfig { enabled: true, over_share, stops_max, run_min };
        let scheduler = Scheduler::new(SchedulerConfig { preempt, ..SchedulerConfig::default() });
        let mut host = Host {
            scheduler,
            now: Time::ZERO,
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            stops: BTreeMap::new(),
            ended: 0,
        };
        host.scheduler.set_tenants(Time::ZERO, tenants(&shares));
        let (requests_max, tokens_max, pauses_max) = capacity;
        let capacity = Capacity { requests_max, tokens_max, prefill_max: 200, pauses_max };
        host.feed(Input::ReplicaUp { replica: ReplicaId(1), capacity });
        let requests: BTreeMap<RequestId, Request> = wishes.iter().enumerate()
            .map(|(at, wish)| request(at, *wish)).map(|one| (one.id, one)).collect();
        for one in requests.values() {
            host.feed(Input::Arrive(*one));
            host.step(&requests);
        }
        // Each step some sequence gets a token, so that there are no more steps than tokens.
        let tokens: u32 = requests.values().map(|one| one.tokens.output + 1).sum();
        for _ in 0..tokens {
            host.step(&requests);
        }
        prop_assert_eq!(host.ended, requests.len());
        let most = stops_max.min(tokens);
        prop_assert!(host.stops.values().all(|stops| *stops <= most), "{:?}", host.stops);
    }
}
