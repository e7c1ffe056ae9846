//! What a waiting request takes in memory, in the queue alone and in a scheduler, measured by the
//! process's resident pages: `cargo run --release -p pilotage-core --example memory`, on Linux.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that prints its result"
)]

use pilotage_core::{
    Band, FairConfig, Input, Queue, QueueLimits, Request, RequestId, Scheduler, SchedulerConfig,
    Span, TenantId, Ticket, Time, Tokens,
};

const REQUESTS: u64 = 1_000_000;
const TENANTS: u64 = 1_000;
const PAGE_BYTES: u64 = 4096;
const LIMITS: QueueLimits = QueueLimits { requests_max: u32::MAX, tokens_max: u64::MAX };

fn main() {
    let before = resident_bytes();
    let mut queue = Queue::new(LIMITS, FairConfig::default());
    for request in requests() {
        let Request { id, tenant, band, tokens, deadline, .. } = request;
        let arrived = Time::from_nanos(id.0);
        queue.push(Ticket { id, tenant, band, tokens, arrived, deadline }).unwrap();
    }
    let after = resident_bytes();
    println!("queue: {} bytes a request", (after - before) / REQUESTS);
    let config = SchedulerConfig { queue: LIMITS, ..SchedulerConfig::default() };
    let mut scheduler = Scheduler::new(config);
    for request in requests() {
        scheduler.handle(Time::from_nanos(request.id.0), Input::Arrive(request));
    }
    println!("scheduler: {} bytes a request", (resident_bytes() - after) / REQUESTS);
    assert_eq!(u64::from(queue.len()) + scheduler.live() as u64, 2 * REQUESTS);
}

fn requests() -> impl Iterator<Item = Request> {
    (1..=REQUESTS).map(|id| {
        let tokens = Tokens { input: 500, cached: 0, output: 200 };
        let tenant = TenantId((id % TENANTS) as u32);
        let mut request = Request::new(RequestId(id), tenant, Band::Standard, tokens);
        request.deadline = Some(Time::from_nanos(id) + Span::from_secs(600));
        request
    })
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE_BYTES
}
