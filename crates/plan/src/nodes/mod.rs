//! What happens to copies of Models when the machines below them go: who says that a node is to be left, how
//! long it still has, and what moves away from it, in which order.
//!
//! ```text
//! Node ──health──▶ Verdict ┐
//! pods, Models ────────────┴─moves──▶ release · delete · surge · told · when to look again
//! ```
//!
//! A copy moves before it stops: its pod is released from what keeps it, which starts another one elsewhere, and
//! goes on serving until that one is ready or its node's time is over. All that is known is what the cluster says,
//! so that whoever reads that can go on.

mod copies;
mod health;
mod moves;
mod read;
mod signals;
#[cfg(test)]
mod tests;

pub use health::{Condition, Devices, Fault, Health, Node, Status, Taint, Verdict, health};
pub use moves::{
    Deletion, Holder, MOVES_MAX, MOVES_PER_MODEL, ModelKey, ModelSeen, Moves, Notice, PodSeen,
    Release, Surge, Told, moves,
};
pub use read::NOTICE;
pub use signals::{Clock, Meaning, ROWS, Row, Signal};
