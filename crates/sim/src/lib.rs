//! What would happen? A scenario, played by the scheduler that serves real requests with engines that
//! only know how long things take; measures of fairness; a report to read.
//!
//! Everything is a function of its arguments: text, a seed and times come in, values go out, and the
//! same arguments give the same values on every run.

pub mod arrival;
pub mod compare;
pub mod engine;
pub mod explain;
pub mod metrics;
pub mod outcome;
pub mod published;
pub mod report;
pub mod rival;
pub mod run;
pub mod scaled;
pub mod scaler;
pub mod scenario;
mod text;
pub mod trace;
pub mod trouble;
pub mod tune;
pub mod workload;

pub use arrival::Arrival;
pub use explain::Explanation;
pub use report::Report;
pub use run::{Options, Run, run};
pub use scenario::{Scenario, ScenarioError};
