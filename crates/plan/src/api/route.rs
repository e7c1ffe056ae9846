//! `Route`: public model names, the choice among Models behind them, and the limits on the way
//! there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reuse::{Cache, Hedge, Merge, Policy, Region};
use super::rollout::{Canary, Experiment, Mirror};
use super::rule::Rule;
use super::{PublicName, ResourceName, Scheduling};

/// Most public names of one route.
pub const PUBLIC_NAMES_MAX: u32 = 64;

/// Most targets of one route, or of one of its rules.
pub const TARGETS_MAX: u32 = 16;

/// Most models that a route falls back to.
pub const FALLBACKS_MAX: u32 = 16;

/// Most rules of one route.
pub const RULES_MAX: u32 = 64;

/// Most regions of one route.
pub const REGIONS_MAX: u32 = 32;

/// Seconds of waiting before the next region is used, when nothing is said.
pub const SPILL_SECONDS_DEFAULT: u32 = 2;

/// Largest weight of a target.
pub const TARGET_WEIGHT_MAX: u32 = 1_000_000;

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
    /// Where requests go, divided by weight. Fairness is kept in each Model's own queue.
    #[schemars(length(min = 1, max = TARGETS_MAX))]
    pub targets: Vec<Target>,
    /// The LoRA adapter that requests ask for when they name none themselves; every Model of the
    /// Route must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PublicName>,
    /// Models that requests go to, in this order, when none of the targets can take them: it has
    /// no replica, its queue is full, or it failed before the first token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = FALLBACKS_MAX))]
    pub fallbacks: Vec<ResourceName>,
    /// Requests that go elsewhere; the first rule that fits decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RULES_MAX))]
    pub rules: Vec<Rule>,
    /// A comparison of the targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Experiment>,
    /// A Model that takes over step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// A Model that gets copies of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Regions in the order in which they are preferred. Replicas of other regions, or of none, come
    /// after the last one. Without it all replicas are alike. It holds for the Model whichever Route
    /// leads there, as `queue` does, and needs the policy `cost`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = REGIONS_MAX))]
    pub regions: Vec<Region>,
    /// Seconds that a request would wait in the nearer regions before the next one is used. Without
    /// it 2. A region without a replica that is up is passed over at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub spill_after_seconds: Option<u32>,
    /// Which replica of a Model gets a request. It holds for the Model whichever Route leads there,
    /// as `queue` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Requests that share one answer.
    #[serde(default)]
    pub merge: Merge,
    /// Answers that are kept.
    #[serde(default)]
    pub cache: Cache,
    /// Second attempts beside streams that take unusually long to begin.
    #[serde(default)]
    pub hedge: Hedge,
    /// When to stop waiting.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How often to try again after a failure that the client has not seen anything of.
    #[serde(default)]
    pub retries: Retries,
    /// How much may wait for a free replica; more is answered with status 503, or 429 for a tenant
    /// that has most of it. A Model has one queue: this holds for the targets, and for Models named
    /// elsewhere in the Route as long as no other Route that has them as a target says something.
    /// Two such Routes must not differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueLimits>,
    /// How turns are given, and when running work stands aside. It holds for the Model whichever
    /// Route leads there, as `queue` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
}

/// A Model that requests go to.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// The name of a `Model`.
    pub model: ResourceName,
    /// How much goes there beside the other targets; with 0 nothing does.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = TARGET_WEIGHT_MAX))]
    pub weight: u32,
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
            targets: vec![Target::whole(model)],
            adapter: None,
            fallbacks: Vec::new(),
            rules: Vec::new(),
            experiment: None,
            canary: None,
            mirror: None,
            regions: Vec::new(),
            spill_after_seconds: None,
            policy: None,
            merge: Merge::default(),
            cache: Cache::default(),
            hedge: Hedge::default(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            queue: None,
            scheduling: None,
        }
    }

    /// Every Model that requests may go to beside the targets, with the field that names it.
    pub fn others(&self) -> Vec<(String, &ResourceName)> {
        let mut named = Vec::new();
        for (index, model) in self.fallbacks.iter().enumerate() {
            named.push((format!("spec.fallbacks[{index}]"), model));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let targets = rule.targets.iter().enumerate();
            named.extend(targets.map(|(index, target)| {
                (format!("spec.rules[{at}].targets[{index}].model"), &target.model)
            }));
            named.extend(rule.model.iter().map(|model| (format!("spec.rules[{at}].model"), model)));
        }
        let canary = self.canary.iter().map(|canary| &canary.model);
        named.extend(canary.map(|model| ("spec.canary.model".to_owned(), model)));
        let mirror = self.mirror.iter().map(|mirror| &mirror.model);
        named.extend(mirror.map(|model| ("spec.mirror.model".to_owned(), model)));
        named
    }
}

impl Target {
    /// All that goes to a Model.
    pub const fn whole(model: ResourceName) -> Self {
        Self { model, weight: 1 }
    }
}

const fn one() -> u32 {
    1
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
