//! What happened, and why? Records of requests whose phases account for every moment.

pub mod boards;
pub mod gpu;
pub mod itl;
pub mod page;
pub mod ran;
pub mod record;
pub mod sink;
pub mod timeline;
pub mod trace;
pub mod triage;
pub mod usage;
pub mod why;

pub use itl::{Gaps, Itl, Stall};
pub use pilotage_core::traffic::Name;
pub use ran::{At, Known, Piece, Ran, Runs};
pub use record::{AttemptFault, Record, Termination, attempt_span};
pub use sink::Sink;
pub use timeline::{Away, Mark, Phase, Phases, Timeline};
