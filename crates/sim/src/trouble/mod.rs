//! Systems in trouble, to find out whether `lens::triage` finds what is wrong with them: for each of its
//! signatures a world in which the cause is at work, played by the same scheduler and engines as every
//! scenario. What comes of it is observed as a real system is (pages of metrics at every look, records of
//! requests that ended, the gateway's status) and goes the same way to evidence.
//!
//! A world says what is done to it: a fault, a setting, a workload, another machine. No world writes down
//! a measure that a rule reads.

mod cases;
mod divided;
mod front;
mod machine;
mod pages;
mod setup;
mod table;
#[cfg(test)]
mod tests;
mod world;

use pilotage_lens::triage::Evidence;

pub use cases::all;
pub use table::{SEEDS, Tried, table, try_all};

use world::World;

/// What the tests found: how often each signature is the verdict where it should be, and where it should not.
pub const PRECISION_AND_RECALL: &str = include_str!("precision_and_recall.md");

/// A world with something wrong with it, or with nothing.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// The signature that is to be found; none where all is well.
    pub id: Option<&'static str>,
    /// What is done to it, in a few words.
    pub about: &'static str,
    world: fn() -> World,
}

impl Trouble {
    /// What is observed of it.
    pub fn evidence(&self, seed: u64) -> Evidence {
        (self.world)().evidence(seed)
    }
}
