//! Several loads one after the other: what changes with the rate, and the highest one that holds.

use serde::{Deserialize, Serialize};

use super::Report;

/// The form of this JSON.
pub const SCHEMA: &str = "pilotage.bench.sweep/v1";

/// The results of several loads.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sweep {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The command that does the same again.
    pub command: String,
    /// The highest rate (or number of requests at once) that held, and of those looked for.
    pub best: Option<f64>,
    /// The lowest one that did not.
    pub limit: Option<f64>,
    /// The part of requests that had to be good.
    pub good: f64,
    /// The loads, lowest first.
    pub points: Vec<Report>,
}

impl Sweep {
    /// Of these loads.
    pub fn of(command: String, good: f64, mut points: Vec<Report>) -> Self {
        points.sort_by(|one, other| one.asked().total_cmp(&other.asked()));
        let holds = |point: &&Report| point.holds(good);
        let limit = points.iter().find(|point| !point.holds(good)).map(Report::asked);
        let below = |point: &&Report| limit.is_none_or(|limit| point.asked() < limit);
        let best = points.iter().filter(below).rfind(holds).map(Report::asked);
        Self { schema: SCHEMA.to_owned(), command, best, limit, good, points }
    }
}

impl Report {
    /// The load that was asked for: requests a second, or at once.
    pub fn asked(&self) -> f64 {
        let concurrency = self.setting.concurrency.map(|concurrency| concurrency as f64);
        self.setting.rate.or(concurrency).unwrap_or(self.throughput.due)
    }
}
