//! What should happen next? Every decision about a request, without I/O, clock or randomness.
//!
//! The host owns the world and drives one [`Scheduler`] per model lane:
//!
//! ```text
//! loop {
//!     scheduler.handle(now, input);                          // exactly one mutation
//!     while let Some(output) = scheduler.poll(now) { … }     // drained completely
//!     wait until scheduler.next_wakeup(now) or the next input
//! }
//! ```
//!
//! Time and seeds are arguments, so the same code decides in production, in tests and in
//! simulation. Every output carries its reason, see [`Why`].

pub mod admit;
pub mod fleet;
mod hash;
pub mod health;
pub mod ids;
pub mod invariant;
pub mod preempt;
pub mod prefix;
pub mod queue;
pub mod request;
pub mod retry;
pub mod route;
pub mod scale;
pub mod scheduler;
pub mod sketch;
pub mod time;
pub mod traffic;
pub mod why;

pub use fleet::{Capacity, Fleet, Gate, Report, Site};
pub use ids::{ReplicaId, RequestId, TenantId};
pub use preempt::{PreemptConfig, Stop};
pub use queue::{
    BandPolicy, Cost, FairConfig, Lift, Predict, Queue, QueueFull, QueueLimits, TenantShare,
    TenantTree, Ticket, TreeError,
};
pub use request::{
    Band, Failure, FailureKind, Outcome, Refusal, Request, RetryLimit, Tokens, Told,
};
pub use route::{InitialSpeed, Policy, Prompt};
pub use scheduler::{Input, Output, Scheduler, SchedulerConfig};
pub use time::{Span, Time};
pub use why::Why;
