//! What a decision costs: a request gets in line, another gets its turn, and one ends, with few and
//! many tenants and requests. The budget is 5 µs at the median on one core, and the cost must grow
//! no faster than the logarithm of both numbers. A plain first-in, first-out line is the baseline.

#![expect(clippy::unwrap_used, reason = "a benchmark ends when its set-up is wrong")]

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use pilotage_core::{
    Band, Capacity, FairConfig, Input, Output, Queue, QueueLimits, ReplicaId, Request, RequestId,
    Scheduler, SchedulerConfig, Span, TenantId, TenantShare, TenantTree, Ticket, Time, Tokens,
};

const TENANTS: [u32; 3] = [10, 1_000, 10_000];
const QUEUED: [u64; 2] = [1_000, 100_000];
const REPLICAS: u32 = 64;
const PLACES: u32 = 16;
const REPLICA_TOKENS: u64 = 40_000;
const LIMITS: QueueLimits = QueueLimits { requests_max: u32::MAX, tokens_max: u64::MAX };
/// Between two requests.
const STEP: Span = Span::from_nanos(50_000);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    first_in_first_out(&mut criterion);
    queue(&mut criterion);
    scheduler(&mut criterion);
    criterion.final_summary();
}

/// Numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed >> 32) * u64::from(most)) >> 32) as u32
    }
}

/// Ten applications to a team, ten teams to an organisation; weights of one to four, and one path in
/// ten has a guarantee.
fn tree(tenants: u32) -> TenantTree {
    let (teams, organisations) = (tenants.div_ceil(10), tenants.div_ceil(100));
    let share = |id: u32, parent: Option<u32>, guaranteed: u32| TenantShare {
        parent: parent.map(TenantId),
        weight: 1000 * (1 + id % 4),
        guaranteed,
        ..TenantShare::top(TenantId(id))
    };
    let leaves = (0..tenants)
        .map(|id| share(id, Some(tenants + id / 10), u32::from(id % 100 == 0 && id < 1_000) * 10));
    let inner = (0..teams).map(|at| {
        let guaranteed = u32::from(at % 10 == 0 && at < 100) * 20;
        share(tenants + at, Some(tenants + teams + at / 10), guaranteed)
    });
    let top =
        (0..organisations).map(|at| share(tenants + teams + at, None, u32::from(at < 10) * 30));
    TenantTree::new(leaves.chain(inner).chain(top)).unwrap()
}

/// Requests of any tenant and band, half of them with a deadline.
struct Arrivals {
    numbers: Numbers,
    tenants: u32,
    next: u64,
    now: Time,
}

impl Arrivals {
    const fn new(tenants: u32) -> Self {
        Self { numbers: Numbers(7), tenants, next: 0, now: Time::ZERO }
    }

    fn request(&mut self) -> Request {
        self.next += 1;
        self.now = self.now + STEP;
        let tenant = TenantId(self.numbers.below(self.tenants));
        let band = [Band::Realtime, Band::Standard, Band::Standard, Band::Bulk, Band::Batch]
            [self.numbers.below(5) as usize];
        let input = 100 + self.numbers.below(1_000);
        let tokens = Tokens { input, cached: input / 4, output: 256 };
        let mut request = Request::new(RequestId(self.next), tenant, band, tokens);
        if self.next.is_multiple_of(2) {
            request.deadline = Some(self.now + Span::from_secs(1_000_000));
        }
        request
    }

    fn ticket(&mut self) -> Ticket {
        let Request { id, tenant, band, tokens, deadline, .. } = self.request();
        Ticket { id, tenant, band, tokens, arrived: self.now, deadline }
    }
}

fn first_in_first_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fifo");
    for queued in QUEUED {
        let mut arrivals = Arrivals::new(1_000);
        let mut line: VecDeque<Ticket> = (0..queued).map(|_| arrivals.ticket()).collect();
        group.bench_function(BenchmarkId::from_parameter(queued), |bencher| {
            bencher.iter(|| {
                line.push_back(arrivals.ticket());
                black_box(line.pop_front())
            });
        });
    }
}

/// A queue in its steady state: so many wait, and the lane is full.
struct Line {
    queue: Queue,
    arrivals: Arrivals,
    running: VecDeque<RequestId>,
}

impl Line {
    fn new(tenants: u32, queued: u64) -> Self {
        let mut queue = Queue::new(LIMITS, FairConfig::default());
        queue.set_tree(tree(tenants));
        queue.set_capacity(u64::from(REPLICAS) * REPLICA_TOKENS);
        let mut line = Self { queue, arrivals: Arrivals::new(tenants), running: VecDeque::new() };
        let places = u64::from(REPLICAS * PLACES);
        for _ in 0..queued + places {
            let ticket = line.arrivals.ticket();
            line.queue.push(ticket).unwrap();
        }
        for _ in 0..places {
            line.turn();
        }
        line
    }

    fn push(&mut self) {
        let ticket = self.arrivals.ticket();
        self.queue.push(ticket).unwrap();
    }

    fn turn(&mut self) {
        let now = self.arrivals.now;
        let id = self.queue.peek(now).unwrap().id;
        self.queue.take(now, id).unwrap();
        self.running.push_back(id);
    }

    fn settle(&mut self) {
        let id = self.running.pop_front().unwrap();
        let actual = Tokens { input: 500, cached: 100, output: 200 };
        self.queue.settle(self.arrivals.now, id, Some(actual));
    }
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    for (tenants, queued) in sizes() {
        let mut line = Line::new(tenants, queued);
        let name = format!("{tenants} tenants, {queued} queued");
        group.bench_function(BenchmarkId::new("turn", &name), |bencher| {
            bencher.iter(|| {
                line.push();
                line.turn();
                line.settle();
            });
        });
        let mut output = 0;
        group.bench_function(BenchmarkId::new("token", &name), |bencher| {
            bencher.iter(|| {
                output += 1;
                let id = line.running[output % line.running.len()];
                let tokens = (output / line.running.len()) as u32;
                black_box(line.queue.progress(line.arrivals.now, id, tokens))
            });
        });
    }
}

/// A scheduler with full replicas.
struct Lane {
    scheduler: Scheduler,
    arrivals: Arrivals,
    running: VecDeque<RequestId>,
}

impl Lane {
    fn new(tenants: u32, queued: u64) -> Self {
        let config = SchedulerConfig { queue: LIMITS, ..SchedulerConfig::default() };
        let mut scheduler = Scheduler::new(config);
        scheduler.set_tenants(Time::ZERO, tree(tenants));
        let arrivals = Arrivals::new(tenants);
        let mut lane = Self { scheduler, arrivals, running: VecDeque::new() };
        for replica in 0..REPLICAS {
            let capacity = Capacity {
                requests_max: PLACES,
                tokens_max: REPLICA_TOKENS,
                prefill_max: REPLICA_TOKENS,
                pauses_max: 0,
            };
            lane.feed(Input::ReplicaUp { replica: ReplicaId(replica), capacity });
        }
        while u64::from(lane.scheduler.queue().len()) < queued {
            lane.arrive();
        }
        lane
    }

    fn feed(&mut self, input: Input) {
        let now = self.arrivals.now;
        self.scheduler.handle(now, input);
        while let Some(output) = self.scheduler.poll(now) {
            if let Output::Dispatch { id, .. } = output {
                self.running.push_back(id);
            }
        }
    }

    fn arrive(&mut self) {
        let request = self.arrivals.request();
        self.feed(Input::Arrive(request));
    }

    /// One comes, begins, gets an answer of four reports, and ends.
    fn serve(&mut self) {
        self.arrive();
        let id = self.running.pop_front().unwrap();
        self.feed(Input::FirstToken { id });
        for output in [1, 2, 3, 4] {
            self.feed(Input::Progress { id, output });
        }
        let tokens = Some(Tokens { input: 500, cached: 100, output: 200 });
        self.feed(Input::Finished { id, tokens });
    }
}

fn scheduler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    for (tenants, queued) in sizes() {
        let mut lane = Lane::new(tenants, queued);
        let name = format!("{tenants} tenants, {queued} queued");
        group.bench_function(BenchmarkId::new("request", &name), |bencher| {
            bencher.iter(|| lane.serve());
        });
        let mut output = 0;
        group.bench_function(BenchmarkId::new("token", &name), |bencher| {
            bencher.iter(|| {
                output += 1;
                let id = lane.running[output % lane.running.len()];
                let tokens = (output / lane.running.len()) as u32;
                lane.feed(Input::Progress { id, output: tokens });
            });
        });
    }
}

fn sizes() -> impl Iterator<Item = (u32, u64)> {
    TENANTS.into_iter().flat_map(|tenants| QUEUED.map(|queued| (tenants, queued)))
}
