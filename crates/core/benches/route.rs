//! What placing a request costs: 64 replicas, a full index, a prompt of 8,000 tokens, and sixteen
//! requests that wait for replicas of their choice; and naming the blocks of 100,000 tokens. The
//! budgets are 100 µs at the 99th percentile of one decision and 1 ms for the names.

#![expect(clippy::print_stdout, reason = "prints quantiles, which criterion does not")]
#![expect(clippy::disallowed_methods, reason = "reads the clock for its quantiles")]

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use pilotage_core::prefix::{ENTRIES_MAX, blocks};
use pilotage_core::{
    Band, Capacity, Input, Output, Prompt, ReplicaId, Request, RequestId, Scheduler,
    SchedulerConfig, Span, TenantId, Time, Tokens,
};

const REPLICAS: u32 = 64;
const PLACES: u32 = 32;
const HELD: u64 = 16;
/// Blocks of a prompt of 8,000 tokens, and those that its group has in common.
const BLOCKS: u64 = 125;
const SHARED: u64 = 100;
/// Decisions of which quantiles are shown.
const DECISIONS: usize = 20_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let prompt = vec![7_u8; 400_000];
    criterion.bench_function("name 100k tokens", |bench| {
        bench.iter(|| black_box(blocks::name(3, black_box(&prompt))));
    });
    let mut lane = Lane::full();
    criterion.bench_function("place a request", |bench| bench.iter(|| lane.decide()));
    let held = u64::from(lane.scheduler.queue().len());
    assert_eq!(held, HELD, "the measurement is of a lane that holds so many");
    let mut times: Vec<u128> = (0..DECISIONS)
        .map(|_| {
            let begun = Instant::now();
            lane.decide();
            begun.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    println!("{held} held, for {} replicas of {REPLICAS}", lane.homes.len());
    let at = |part: usize| times[times.len() * part / 1000] as f64 / 1000.0;
    println!("one decision: median {} µs, p99 {} µs, p99.9 {} µs", at(500), at(990), at(999));
    assert_eq!(u64::from(lane.scheduler.queue().len()), held);
    criterion.final_summary();
}

/// A lane whose index is full.
struct Lane {
    scheduler: Scheduler,
    now: Time,
    next: u64,
    running: VecDeque<(RequestId, ReplicaId)>,
    /// Where the group is that all want; nothing ends there.
    homes: BTreeSet<ReplicaId>,
}

impl Lane {
    fn full() -> Self {
        let mut lane = Self {
            scheduler: Scheduler::new(SchedulerConfig::default()),
            now: Time::ZERO,
            next: 0,
            running: VecDeque::new(),
            homes: BTreeSet::new(),
        };
        let tokens_max = ENTRIES_MAX as u64 / u64::from(REPLICAS) * 64;
        for id in 0..REPLICAS {
            let capacity = Capacity { tokens_max, ..Capacity::of_requests(PLACES) };
            lane.scheduler.handle(lane.now, Input::ReplicaUp { replica: ReplicaId(id), capacity });
        }
        // As many prompts as fill all caches, and more.
        while lane.next < ENTRIES_MAX as u64 * 2 / BLOCKS {
            lane.decide();
        }
        // All prompts so far are computed: nobody has a queue of its own.
        lane.now = lane.now + Span::from_secs(60);
        for (id, _) in &lane.running {
            lane.scheduler.handle(lane.now, Input::FirstToken { id: *id });
        }
        // One text that all want: its home has no place, and those who wait for it are held.
        while u64::from(lane.scheduler.queue().len()) < HELD {
            let replica = lane.arrive(0);
            lane.homes.extend(replica);
        }
        lane
    }

    /// One request comes; where it goes, if it goes at once.
    fn arrive(&mut self, group: u64) -> Option<ReplicaId> {
        self.next += 1;
        let id = RequestId(self.next);
        let own = self.next << 20;
        let names: Arc<[u64]> = (0..BLOCKS)
            .map(|at| {
                let name = if at < SHARED || group == 0 { (group << 40) + at } else { own + at };
                blocks::digest(1, &name.to_le_bytes())
            })
            .collect();
        let prompt = Prompt { blocks: Some(names), ..Prompt::default() };
        let tokens = Tokens { input: 8_000, cached: 0, output: 64 };
        let request = Request::new(id, TenantId(0), Band::Standard, tokens);
        self.scheduler.arrive_with(self.now, request, prompt);
        let mut went = None;
        while let Some(output) = self.scheduler.poll(self.now) {
            if let Output::Dispatch { id, replica, .. } = output {
                went = Some(replica);
                self.running.push_back((id, replica));
            }
        }
        went
    }

    /// One request comes and is placed, and an older one ends.
    fn decide(&mut self) {
        self.now = self.now + Span::from_nanos(10_000);
        self.arrive(1 + self.next % 500);
        while self.running.len() > (REPLICAS * PLACES / 2) as usize {
            let Some((id, replica)) = self.running.pop_front() else { return };
            if self.homes.contains(&replica) {
                continue;
            }
            // Without counts nothing is measured: speeds stay what they are taken for at first, and
            // those who are held stay so.
            self.scheduler.handle(self.now, Input::Finished { id, tokens: None });
        }
    }
}
