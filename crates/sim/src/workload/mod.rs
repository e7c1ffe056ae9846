//! Requests made up from a description: when they come, whose they are, how long they are.
//!
//! A workload is plain data that a scenario file holds. The same description and seed give the same
//! arrivals; times, senders and lengths come from streams of their own, so that changing one leaves
//! the others alone.

mod gamma;
mod length;
mod on_off;
mod phases;
mod poisson;
mod prefix;
mod ramp;
mod uniform;

use pilotage_chance::{Draws, derive};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use gamma::Gamma;
pub use length::{Empirical, LENGTH_MAX, Length, Lognormal, Range};
pub use on_off::OnOff;
pub use phases::Phase;
pub use poisson::Poisson;
pub use prefix::{PREFIX_BLOCKS_MAX, Prefix};
pub use ramp::Ramp;
pub use uniform::Uniform;

use crate::arrival::{Arrival, time};

/// Most arrivals of one workload.
pub const ARRIVALS_MAX: u32 = 1_000_000;

/// Longest workload: a year, in seconds.
pub const SECONDS_MAX: f64 = 31_536_000.0;

/// A stream of requests from one or more tenants. With several, each arrival belongs to one by
/// chance, as their shares say: one stream, split by a coin.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Workload {
    /// Seconds after the run's start at which it begins.
    #[serde(default)]
    pub start: f64,
    /// Seconds that it lasts.
    pub seconds: f64,
    /// When requests come.
    pub arrivals: Pattern,
    /// What comes, and from whom.
    pub requests: Vec<Requests>,
}

/// When requests come.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pattern {
    /// Independent of each other.
    Poisson(Poisson),
    /// In bursts, or more evenly than by chance.
    Gamma(Gamma),
    /// At equal distances.
    Uniform(Uniform),
    /// At equal distances, but only part of the time.
    OnOff(OnOff),
    /// At a rate that rises or falls.
    Ramp(Ramp),
    /// One pattern after another.
    Phases(Vec<Phase>),
}

/// One tenant's part of a workload.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Requests {
    /// The tenant's name.
    pub tenant: String,
    /// How many of the arrivals are this tenant's, in proportion to the others' shares.
    #[serde(default = "one")]
    pub share: f64,
    /// Tokens of a prompt, without its shared beginning.
    pub input: Length,
    /// Tokens of an answer.
    pub output: Length,
    /// Tokens that an answer may have; without it, exactly as many as it will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_max: Option<u32>,
    /// What prompts begin with in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
}

/// What is wrong with a workload.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum WorkloadError {
    /// A number outside what it may be.
    #[error("`{field}` is {value}, but must be {expected}")]
    Number {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: String,
    },
    /// A list without entries.
    #[error("`{field}` is empty, give it at least one entry")]
    Empty {
        /// Which one.
        field: &'static str,
    },
    /// A tenant that the scenario does not have.
    #[error("there is no tenant `{name}`, use one of: {known}")]
    Tenant {
        /// What the workload calls it.
        name: String,
        /// All tenants there are.
        known: String,
    },
    /// More than fits.
    #[error(
        "about {expected} arrivals, at most {ARRIVALS_MAX}: lower the rate or shorten the workload"
    )]
    TooMany {
        /// How many it would be.
        expected: f64,
    },
}

impl Workload {
    /// All its requests in order of time. Tenants are positions in `tenants`. Workloads of one scenario
    /// want seeds of their own, see [`derive()`], or their requests come at the same moments.
    pub fn arrivals(&self, seed: u64, tenants: &[String]) -> Result<Vec<Arrival>, WorkloadError> {
        self.check()?;
        let mut senders = Vec::new();
        for (part, requests) in (0_u64..).zip(&self.requests) {
            senders.push(Sender::new(requests, derive(seed, part), tenants)?);
        }
        let shares: Vec<f64> = self.requests.iter().map(|requests| requests.share).collect();
        let mut coin = Draws::new(seed, "senders");
        let mut arrivals = Vec::new();
        for at in self.arrivals.moments(self.seconds, &mut Draws::new(seed, "moments")) {
            let sender = senders.get_mut(coin.weighted(&shares));
            arrivals.extend(sender.map(|sender| sender.send(self.start + at)));
        }
        Ok(arrivals)
    }

    fn check(&self) -> Result<(), WorkloadError> {
        within("start", self.start, 0.0, SECONDS_MAX)?;
        positive("seconds", self.seconds, SECONDS_MAX)?;
        self.arrivals.check()?;
        if self.requests.is_empty() {
            return Err(WorkloadError::Empty { field: "requests" });
        }
        for requests in &self.requests {
            positive("share", requests.share, f64::MAX)?;
            requests.input.check()?;
            requests.output.check()?;
            requests.prefix.as_ref().map_or(Ok(()), Prefix::check)?;
        }
        let expected = self.arrivals.count(self.seconds);
        if expected > f64::from(ARRIVALS_MAX) {
            return Err(WorkloadError::TooMany { expected: expected.round() });
        }
        Ok(())
    }
}

impl Pattern {
    /// Seconds from its begin to each arrival, ascending.
    fn moments(&self, seconds: f64, draws: &mut Draws) -> Vec<f64> {
        match self {
            Self::Poisson(pattern) => pattern.moments(seconds, draws),
            Self::Gamma(pattern) => pattern.moments(seconds, draws),
            Self::Uniform(pattern) => pattern.moments(seconds, draws),
            Self::OnOff(pattern) => pattern.moments(seconds, draws),
            Self::Ramp(pattern) => pattern.moments(seconds, draws),
            Self::Phases(list) => phases::moments(list, seconds, draws),
        }
    }

    /// About how many arrivals that will be, at most.
    fn count(&self, seconds: f64) -> f64 {
        match self {
            Self::Poisson(pattern) => pattern.per_second * seconds,
            Self::Gamma(pattern) => pattern.per_second * seconds,
            Self::Uniform(pattern) => pattern.per_second * seconds,
            Self::OnOff(pattern) => pattern.per_second * seconds,
            Self::Ramp(pattern) => pattern.count(seconds),
            Self::Phases(list) => phases::count(list),
        }
    }

    fn check(&self) -> Result<(), WorkloadError> {
        match self {
            Self::Poisson(pattern) => positive("perSecond", pattern.per_second, RATE_MAX),
            Self::Gamma(pattern) => pattern.check(),
            Self::Uniform(pattern) => positive("perSecond", pattern.per_second, RATE_MAX),
            Self::OnOff(pattern) => pattern.check(),
            Self::Ramp(pattern) => pattern.check(),
            Self::Phases(list) => phases::check(list),
        }
    }
}

/// Most arrivals in a second.
const RATE_MAX: f64 = 1e6;

/// A tenant's part with its streams of numbers.
#[derive(Debug)]
struct Sender<'a> {
    requests: &'a Requests,
    tenant: u32,
    lengths: Draws,
    groups: Draws,
    prefixes: Vec<std::sync::Arc<[u64]>>,
}

impl<'a> Sender<'a> {
    fn new(requests: &'a Requests, seed: u64, tenants: &[String]) -> Result<Self, WorkloadError> {
        let name = &requests.tenant;
        let at = tenants.iter().position(|tenant| tenant == name);
        let tenant = at.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| {
            WorkloadError::Tenant { name: name.clone(), known: tenants.join(", ") }
        })?;
        let prefix = requests.prefix.as_ref();
        Ok(Self {
            requests,
            tenant,
            lengths: Draws::new(seed, "lengths"),
            groups: Draws::new(seed, "prefixes"),
            prefixes: prefix.map(|prefix| prefix.blocks(name)).unwrap_or_default(),
        })
    }

    fn send(&mut self, at: f64) -> Arrival {
        let requests = self.requests;
        let own = requests.input.draw(&mut self.lengths);
        let output = requests.output.draw(&mut self.lengths);
        let last = u32::try_from(self.prefixes.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let group = self.groups.within(0, last) as usize;
        let prefix = requests.prefix.as_ref();
        Arrival {
            at: time(at),
            tenant: self.tenant,
            input: own.saturating_add(prefix.map_or(0, |prefix| prefix.tokens)),
            output: requests.output_max.map_or(output, |most| output.min(most)),
            output_max: requests.output_max.unwrap_or(output),
            prefix: self.prefixes.get(group).cloned().unwrap_or_default(),
            block_tokens: prefix.map_or(0, |prefix| prefix.block_tokens),
            conversation: prefix.filter(|prefix| prefix.session).map(|_| group as u64 + 1),
        }
    }
}

fn one() -> f64 {
    1.0
}

fn positive(field: &'static str, value: f64, most: f64) -> Result<(), WorkloadError> {
    if value > 0.0 && value <= most {
        return Ok(());
    }
    let expected = if most < f64::MAX {
        format!("above zero and at most {most}")
    } else {
        "above zero".to_owned()
    };
    Err(WorkloadError::Number { field, value, expected })
}

fn within(field: &'static str, value: f64, least: f64, most: f64) -> Result<(), WorkloadError> {
    if value >= least && value <= most {
        return Ok(());
    }
    let expected = format!("from {least} to {most}");
    Err(WorkloadError::Number { field, value, expected })
}

#[cfg(test)]
mod tests;
