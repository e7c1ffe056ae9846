//! Stopping work for other work comes to an end: whoever takes from whom, all are served.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Capacity;
use crate::preempt::PreemptConfig;
use crate::prefix;
use crate::request::Tokens;
use crate::route::Prompt;
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
                Output::Abort { .. } | Output::GiveUp { .. } | Output::Hedge { .. } => {}
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

/// Blocks of one of a few texts.
fn prompt(text: u64, blocks: u64) -> Prompt {
    Prompt { blocks: Some((1..=blocks).map(|at| text * 1000 + at).collect()), ..Prompt::default() }
}

proptest! {
    /// Whoever is next and waits for a replica of its choice does so for a bounded time, whatever goes
    /// ahead of it; and all are served.
    #[test]
    fn nobody_waits_for_a_cache_longer_than_its_patience(
        wishes in prop::collection::vec((0u32..3, 0u64..4, 1u64..200, 1u32..20, 0u64..400), 1..80),
        places in 1u32..4,
        replicas in 1u32..4,
    ) {
        let mut host = Host {
            scheduler: Scheduler::new(SchedulerConfig { shares_prefixes: true, ..SchedulerConfig::default() }),
            now: Time::ZERO,
            running: BTreeMap::new(),
            kept: BTreeMap::new(),
            stops: BTreeMap::new(),
            ended: 0,
        };
        for id in 0..replicas {
            let capacity = Capacity { tokens_max: 40_000, ..Capacity::of_requests(places) };
            host.feed(Input::ReplicaUp { replica: ReplicaId(id), capacity });
        }
        let mut requests = BTreeMap::new();
        for (at, (tenant, text, blocks, output, gap_ms)) in wishes.iter().copied().enumerate() {
            host.now = host.now + Span::from_millis(gap_ms);
            let input = u32::try_from(blocks).unwrap() * prefix::BLOCK_TOKENS + 5;
            let one = request(at, (tenant, 1, input, output, 0));
            requests.insert(one.id, one);
            host.scheduler.arrive_with(host.now, one, prompt(text, blocks));
            host.step(&requests);
            patient(&host);
        }
        // Each step some sequence gets a token, or time comes nearer to somebody's patience.
        for _ in 0..20_000 {
            host.step(&requests);
            patient(&host);
        }
        prop_assert_eq!(host.ended, requests.len());
        prop_assert!(host.scheduler.wanted.is_empty());
        let shared = host.scheduler.fleet.iter().map(|replica| replica.shared).max();
        prop_assert_eq!(shared, Some(0));
    }
}

/// The first in line is not held back beyond its patience while any replica is free.
fn patient(host: &Host) {
    let free = host.scheduler.fleet.iter().any(|replica| replica.requests == 0);
    let step = Span::from_millis(30);
    for live in host.scheduler.live.values().filter(|_| free) {
        if let Some(held) = live.held {
            assert!(host.now.since(held.since) <= crate::route::cost::PATIENCE_MAX + step);
        }
    }
}
