//! `Route`: public model names, the model behind them, and the limits on the way there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PublicName, ResourceName, Scheduling};

/// Most public names of one route.
pub const PUBLIC_NAMES_MAX: u32 = 64;

/// Longest time any limit may be set to: a week, in seconds.
pub const TIMEOUT_SECONDS_MAX: u32 = 604_800;

/// Most attempts for one request: beyond it an outage is only made longer.
pub const ATTEMPTS_MAX_MAX: u32 = 10;

/// Most requests that may wait for one route.
pub const QUEUE_REQUESTS_MAX: u32 = 1_000_000;

/// Most tokens that may wait for one route.
pub const QUEUE_TOKENS_MAX: u64 = 1_000_000_000_000;

/// Public names and where their requests go.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteSpec {
    /// Names that clients write as `model`. Without it the route's own name is the only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PUBLIC_NAMES_MAX))]
    pub models: Vec<PublicName>,
    /// Where requests go: exactly one target.
    #[schemars(length(min = 1, max = 1))]
    pub targets: Vec<Target>,
    /// When to stop waiting.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How often to try again after a failure that the client has not seen anything of.
    #[serde(default)]
    pub retries: Retries,
    /// How much may wait for a free replica; more is answered with status 503, or 429 for a tenant that has most of it.
    #[serde(default)]
    pub queue: QueueLimits,
    /// How turns are given, and when running work stands aside.
    #[serde(default)]
    pub scheduling: Scheduling,
}

/// A model that requests go to.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// The name of a `Model`.
    pub model: ResourceName,
}

/// When to stop waiting. A request's own deadline counts where it is earlier.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// Seconds that a request may wait for a replica.
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub queue_seconds: u32,
    /// Seconds from a request's leaving for a replica to the first byte of the answer; on a CPU a
    /// long prompt takes minutes.
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub first_token_seconds: u32,
    /// Seconds between two pieces of a streamed answer.
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub idle_seconds: u32,
    /// Seconds from a request's arrival to the end of its answer.
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub total_seconds: u32,
}

/// How often to try again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retries {
    /// Attempts for one request, the first one included.
    #[schemars(range(min = 1, max = ATTEMPTS_MAX_MAX))]
    pub attempts_max: u32,
    /// Retries in percent of all requests, so that a broken fleet is not hammered; a few are
    /// allowed however low the traffic is.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
}

/// How much may wait.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct QueueLimits {
    /// Requests that may wait.
    #[schemars(range(min = 1, max = QUEUE_REQUESTS_MAX))]
    pub requests_max: u32,
    /// Tokens that may wait, prompts and the longest possible answers together.
    #[schemars(range(min = 1, max = QUEUE_TOKENS_MAX))]
    pub tokens_max: u64,
}

impl RouteSpec {
    /// The target's own name, and every default.
    pub fn to_model(model: ResourceName) -> Self {
        Self {
            models: Vec::new(),
            targets: vec![Target { model }],
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            queue: QueueLimits::default(),
            scheduling: Scheduling::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { queue_seconds: 60, first_token_seconds: 300, idle_seconds: 60, total_seconds: 3600 }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts_max: 3, percent: 20 }
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { requests_max: 1024, tokens_max: 16_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_schedulers_own() {
        let config = pilotage_core::SchedulerConfig::default();
        let (retries, queue) = (Retries::default(), QueueLimits::default());
        assert_eq!(
            (retries.attempts_max, retries.percent),
            (config.attempts_max, config.retry_percent)
        );
        assert_eq!(
            (queue.requests_max, queue.tokens_max),
            (config.queue.requests_max, config.queue.tokens_max)
        );
    }
}
