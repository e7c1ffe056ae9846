//! How a Model's copies follow its load: what its manifest asks of the autoscaler in `core`.
//!
//! The same policy holds on one machine and on a cluster, so that the same manifest behaves alike.

mod policy;

pub use policy::{awake, goals, of, policy};
