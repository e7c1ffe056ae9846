//! What would happen? Requests made up or recorded, measures of fairness, a report to read.
//!
//! Everything is a function of its arguments: text, a seed and times come in, values go out, and the
//! same arguments give the same values on every run.

pub mod arrival;
pub mod metrics;
pub mod random;
pub mod report;
pub mod trace;
pub mod workload;

pub use arrival::Arrival;
pub use report::Report;
