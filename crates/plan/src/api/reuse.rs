//! How a Route saves work, and time: requests that share one answer, answers that are kept, second
//! attempts that overtake slow ones, and which of several replicas gets a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ResourceName;

/// Longest way to a region: beyond it a request fails rather than travels.
const NETWORK_MS_MAX: u32 = 10_000;

/// Most answers kept for one Route.
const ENTRIES_MAX: u32 = 10_000_000;

/// Most bytes of answers kept for one Route: a tebibyte.
const BYTES_MAX: u64 = 1 << 40;

/// Longest time that an answer is kept: a week, in seconds.
const TTL_SECONDS_MAX: u32 = 604_800;

/// Which of a Model's replicas gets a request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// The one where the answer is expected to be complete first: by what waits and runs there, what
    /// of the prompt is in its cache, and the way there.
    #[default]
    Cost,
    /// One after the other.
    RoundRobin,
    /// The less busy one of two that are drawn.
    PowerOfTwo,
    /// The one with the fewest tokens in flight.
    LeastTokens,
    /// The one that a hash of the prompt's beginning names, unless that is too busy.
    PrefixHash,
    /// The one that a hash of the session names, unless that is too busy.
    Session,
    /// The one with the fewest requests in flight.
    LeastRequests,
}

/// A region that requests may go to.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Region {
    /// Its name, as Models and their endpoints have it.
    pub name: ResourceName,
    /// Milliseconds that a request takes to there and back.
    #[serde(default)]
    #[schemars(range(min = 0, max = NETWORK_MS_MAX))]
    pub network_ms: u32,
}

/// Requests that are alike to the last byte and run at the same time, answered together.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Merge {
    /// Whether such requests share one answer. Only those without chance in them do: temperature 0,
    /// or a seed.
    pub enabled: bool,
    /// Whether requests of several tenants do, too. Then a tenant can tell by the time that another
    /// one asks the same.
    pub across_tenants: bool,
    /// Who pays for the answer.
    pub charge: Charge,
}

/// Who pays for an answer that several asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Charge {
    /// Everybody, as if alone.
    Each,
    /// Everybody an even part.
    #[default]
    Split,
    /// Who came first; the others use a place among their requests, and no tokens.
    First,
}

/// Answers that are kept for the next request that is alike to the last byte.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Cache {
    /// Whether answers are kept. Only those without chance in them are, for each tenant its own.
    pub enabled: bool,
    /// Answers that are kept; the one that was asked for longest ago makes room.
    #[schemars(range(min = 1, max = ENTRIES_MAX))]
    pub entries_max: u32,
    /// Bytes of answers that are kept.
    #[schemars(range(min = 1, max = BYTES_MAX))]
    pub bytes_max: u64,
    /// Seconds for which an answer is kept.
    #[schemars(range(min = 1, max = TTL_SECONDS_MAX))]
    pub ttl_seconds: u32,
}

/// A second attempt beside a stream that takes unusually long to its first token: longer than nineteen
/// of twenty of its size do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Hedge {
    /// Whether there are second attempts; the first of the two answers counts, the other is
    /// stopped.
    pub enabled: bool,
    /// Second attempts in percent of the streams, at most. Of several Routes that lead to a Model the
    /// highest counts.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
}

impl From<Charge> for pilotage_core::traffic::merge::Charge {
    fn from(charge: Charge) -> Self {
        match charge {
            Charge::Each => Self::Each,
            Charge::Split => Self::Split,
            Charge::First => Self::First,
        }
    }
}

impl From<Policy> for pilotage_core::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Cost => Self::Cost,
            Policy::RoundRobin => Self::RoundRobin,
            Policy::PowerOfTwo => Self::PowerOfTwo,
            Policy::LeastTokens => Self::LeastTokens,
            Policy::PrefixHash => Self::PrefixHash,
            Policy::Session => Self::Session,
            Policy::LeastRequests => Self::LeastRequests,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { enabled: false, entries_max: 10_000, bytes_max: 256 << 20, ttl_seconds: 3600 }
    }
}

impl Default for Hedge {
    fn default() -> Self {
        Self { enabled: false, percent: 5 }
    }
}
