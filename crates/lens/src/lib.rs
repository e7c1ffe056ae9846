//! What happened, and why? Records of requests whose phases account for every moment.

pub mod page;
pub mod record;
pub mod timeline;
pub mod triage;

pub use record::{Record, Termination};
pub use timeline::{Mark, Phases, Timeline};
