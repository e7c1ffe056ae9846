//! What placing a request costs: 64 replicas, a full index and prompts of 8,000 tokens, most of which some
//! replica has; and naming the blocks of 100,000 tokens. The budgets are 100 µs at the 99th percentile of
//! one decision and 1 ms for the names.

#![expect(clippy::print_stdout, reason = "prints quantiles, which criterion does not")]
#![expect(clippy::disallowed_methods, reason = "reads the clock for its quantiles")]

use std::collections::VecDeque;
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
    criterion.bench_function("a request from its arrival to its end", |bench| {
        bench.iter(|| lane.decide());
    });
    let mut times: Vec<u128> = (0..DECISIONS).map(|_| lane.decide()).collect();
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000] as f64 / 1000.0;
    println!("one decision: median {} µs, p99 {} µs, p99.9 {} µs", at(500), at(990), at(999));
    assert_eq!(lane.scheduler.queue().len(), 0, "each decision found a place");
    criterion.final_summary();
}

/// A lane whose index is full.
struct Lane {
    scheduler: Scheduler,
    now: Time,
    next: u64,
    running: VecDeque<RequestId>,
}

impl Lane {
    fn full() -> Self {
        let mut lane = Self {
            scheduler: Scheduler::new(SchedulerConfig::default()),
            now: Time::ZERO,
            next: 0,
            running: VecDeque::new(),
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
        lane
    }

    /// One request comes and is placed, and an older one ends. Nanoseconds from its arrival until it is known
    /// where it goes.
    fn decide(&mut self) -> u128 {
        self.now = self.now + Span::from_nanos(10_000);
        let took = self.arrive(1 + self.next % 500);
        while self.running.len() > (REPLICAS * PLACES / 2) as usize {
            let Some(id) = self.running.pop_front() else { break };
            self.scheduler.handle(self.now, Input::Finished { id, tokens: None });
        }
        took
    }

    fn arrive(&mut self, group: u64) -> u128 {
        self.next += 1;
        let id = RequestId(self.next);
        let own = self.next << 20;
        let names: Arc<[u64]> = (0..BLOCKS)
            .map(|at| {
                let name = if at < SHARED { (group << 40) + at } else { own + at };
                blocks::digest(1, &name.to_le_bytes())
            })
            .collect();
        let prompt = Prompt { blocks: Some(names), ..Prompt::default() };
        let tokens = Tokens { input: 8_000, cached: 0, output: 64 };
        let request = Request::new(id, TenantId(0), Band::Standard, tokens);
        let begun = Instant::now();
        self.scheduler.arrive_with(self.now, request, prompt);
        let mut took = 0;
        while let Some(output) = self.scheduler.poll(self.now) {
            if let Output::Dispatch { id, .. } = output {
                took = begun.elapsed().as_nanos();
                // Computed at once: nobody waits behind it.
                self.scheduler.handle(self.now, Input::FirstToken { id });
                self.running.push_back(id);
            }
        }
        took
    }
}
