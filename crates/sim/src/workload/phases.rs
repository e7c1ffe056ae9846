//! One pattern after another, as when an office wakes up, works and goes home.

use pilotage_chance::Draws;
use serde::{Deserialize, Serialize};

use super::{Pattern, SECONDS_MAX, WorkloadError, positive};

/// A pattern and how long it holds. After the last one nothing comes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Phase {
    /// How long, in seconds.
    pub seconds: f64,
    /// When requests come meanwhile.
    pub arrivals: Pattern,
}

pub(super) fn moments(phases: &[Phase], seconds: f64, draws: &mut Draws) -> Vec<f64> {
    let mut begin = 0.0;
    let mut moments = Vec::new();
    for phase in phases {
        let inner = phase.arrivals.moments(phase.seconds, draws);
        moments.extend(inner.into_iter().map(|at| begin + at).filter(|at| *at < seconds));
        begin += phase.seconds;
    }
    moments
}

pub(super) fn count(phases: &[Phase]) -> f64 {
    phases.iter().map(|phase| phase.arrivals.count(phase.seconds)).sum()
}

pub(super) fn check(phases: &[Phase]) -> Result<(), WorkloadError> {
    if phases.is_empty() {
        return Err(WorkloadError::Empty { field: "phases" });
    }
    for phase in phases {
        positive("seconds", phase.seconds, SECONDS_MAX)?;
        phase.arrivals.check()?;
    }
    Ok(())
}
