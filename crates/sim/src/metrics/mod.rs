//! How fairly were requests served? The measures of the paper on the Virtual Token Counter (OSDI '24).
//!
//! They look only at what came out: when each request arrived, when its first token and its end came.
//! So they judge a simulated run and a recorded one alike. Recorded runs of the paper's authors, in
//! this crate's `traces/`, have to give the paper's numbers.

mod difference;
mod latency;
mod service;
mod share;

pub use difference::{Difference, Ticks};
pub use latency::{Quantiles, time_to_first_token};
pub use service::{Cost, Service, tokens_per_second};
pub use share::jain;

/// A request and what became of it. Times are seconds from the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Served {
    /// When it arrived.
    pub arrived: f64,
    /// Whose it was.
    pub tenant: u32,
    /// Tokens of its prompt.
    pub input: u32,
    /// Tokens of its answer.
    pub output: u32,
    /// When its first token came; nothing for a request that was rejected.
    pub first_token: Option<f64>,
    /// When its last token came.
    pub end: f64,
}

/// The measures of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fairness {
    /// How far apart tenants' rates of service were.
    pub difference: Difference,
    /// The widest that tenants' accumulated services came apart.
    pub accumulated_max: f64,
    /// Jain's index of tenants' services: one is equal, one part in the number of tenants is one
    /// tenant having all.
    pub jain: f64,
    /// Tokens of prompts and answers in a second of the whole run.
    pub tokens_per_second: f64,
    /// Time to the first token of all requests that were served; nothing without one.
    pub time_to_first_token: Option<Quantiles>,
}

/// Measures a run that took `total_seconds`. Rejected requests count nowhere, and a tenant that was
/// never served does not count as one.
pub fn measure(served: &[Served], cost: Cost, ticks: Ticks, total_seconds: f64) -> Fairness {
    let service = Service::new(served, cost);
    let totals: Vec<f64> = service.totals().into_values().collect();
    Fairness {
        difference: ticks.difference(&service),
        accumulated_max: ticks.accumulated(&service).into_iter().fold(0.0, f64::max),
        jain: jain(&totals),
        tokens_per_second: tokens_per_second(served, total_seconds),
        time_to_first_token: time_to_first_token(served, |_| true),
    }
}

#[cfg(test)]
mod tests;
