//! A model on trial.

mod plan;

pub use plan::{CanaryPlan, Step, Tolerance};
