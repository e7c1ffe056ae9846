//! From resources to what an executor starts, by pure functions: the same input gives the same
//! bytes.

pub mod kubernetes;
pub mod process;

pub use process::{AdapterSpec, ProcessSpec, Program, Readiness, Secret, WeightsSpec, replica};
