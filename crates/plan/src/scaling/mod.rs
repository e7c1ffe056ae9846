//! How a Model's copies follow its load: what its manifest asks of the autoscaler in `core`, and what is
//! made of its decisions on a cluster.
//!
//! ```text
//! regulator.hear(now, gateway, report)       // what each gateway says, or that one is silent
//! regulator.decide(now, "model", &sight)?    // a Verdict: the scale to write, who sleeps, why
//! ```
//!
//! The same policy holds on one machine and on a cluster, so that the same manifest behaves alike.
//! Contract: nobody's silence takes a copy away, and a regulator that begins anew takes none away
//! before it has looked on for as long as the policy wants.

pub mod bill;
mod policy;
mod regulator;
#[cfg(test)]
mod tests;
mod turns;

pub use policy::{copies, goals, of, policy};
pub use regulator::{PodSeen, Regulator, Said, Sight, Verdict};
pub use turns::{Look, Turns};
