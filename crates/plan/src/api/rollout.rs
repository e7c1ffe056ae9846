//! How a Route tries out Models: experiments that compare, canaries that grow as long as they do
//! well, mirrors that nobody waits for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ResourceName;

/// Most steps of a canary.
pub const STEPS_MAX: u32 = 32;

/// Longest step of a canary: a week, in minutes.
const STEP_MINUTES_MAX: u32 = 10_080;

/// Most answers that a step waits for.
const SAMPLES_MAX: u32 = 10_000_000;

/// Most percent that a canary may be worse: ten times as slow.
const TOLERANCE_PERCENT_MAX: u32 = 1000;

/// Longest salt.
const SALT_LEN_MAX: u32 = 63;

/// A comparison of the Route's targets: who meets which is decided once, by a hash, so that it
/// stays so while weights stay.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Experiment {
    /// What it is called in records and metrics. It goes into the hash, so that who meets what in one
    /// experiment says nothing about another.
    pub name: ResourceName,
    /// Who always meets the same target.
    #[serde(default)]
    pub by: Unit,
    /// Text that goes into the hash, too: another one deals anew.
    #[serde(default)]
    #[schemars(length(max = SALT_LEN_MAX))]
    pub salt: String,
}

/// What a choice is made for once.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A tenant with all its requests.
    #[default]
    Tenant,
    /// A user, as requests name it (`user`); where they do not, the tenant.
    User,
    /// Each request by itself.
    Request,
}

/// A Model that takes over from the targets step by step, as long as it does no worse than they do.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Canary {
    /// The Model that is tried out; none of the targets.
    pub model: ResourceName,
    /// How it grows; after the last step it has all. Without it 5 percent for 5 minutes and 100
    /// answers, 25 for 10 and 500, 50 for 10 and 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = STEPS_MAX))]
    pub steps: Vec<Step>,
    /// How much worse it may be.
    #[serde(default)]
    pub tolerance: Tolerance,
    /// How sure it must be that it is worse, in percent, before it is taken back.
    #[serde(default = "confidence_default")]
    #[schemars(range(min = 50, max = 99))]
    pub confidence: u32,
    /// What happens when it is worse.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// How a new version of a Model proves itself, in the words of a Route's canary.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UpdateCanary {
    /// How it grows; after the last step it has all. Without it 5 percent for 5 minutes and 100
    /// answers, 25 for 10 and 500, 50 for 10 and 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = STEPS_MAX))]
    pub steps: Vec<Step>,
    /// How much worse than the version that serves it may be.
    #[serde(default)]
    pub tolerance: Tolerance,
    /// How sure it must be that it is worse, in percent, before it is taken back.
    #[serde(default = "confidence_default")]
    #[schemars(range(min = 50, max = 99))]
    pub confidence: u32,
    /// What happens when it is worse.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// One step of a canary.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Step {
    /// Percent of the requests that go to it instead of to the targets.
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// Minutes that the step lasts at least.
    #[serde(default = "minutes_default")]
    #[schemars(range(min = 0, max = STEP_MINUTES_MAX))]
    pub minutes: u32,
    /// Answers of it that the step waits for.
    #[serde(default = "samples_default")]
    #[schemars(range(min = 1, max = SAMPLES_MAX))]
    pub samples_min: u32,
}

/// How much worse than the targets a canary may be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tolerance {
    /// Percent by which its part of errors may be larger.
    #[schemars(range(min = 0, max = TOLERANCE_PERCENT_MAX))]
    pub error_percent: u32,
    /// Percent by which its median time to the first token may be longer.
    #[schemars(range(min = 0, max = TOLERANCE_PERCENT_MAX))]
    pub ttft_percent: u32,
    /// Percent by which its median time for each further token may be longer.
    #[schemars(range(min = 0, max = TOLERANCE_PERCENT_MAX))]
    pub tpot_percent: u32,
}

/// What happens to a canary that is worse.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// It gets nothing from then on.
    #[default]
    Rollback,
    /// It stays where it is.
    Pause,
}

/// Copies of requests for a Model whose answers nobody waits for.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mirror {
    /// The Model that gets the copies; none of the targets.
    pub model: ResourceName,
    /// Percent of the requests that are copied. Copies wait behind everything else and are dropped
    /// where there is no room.
    #[serde(default = "percent_default")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
}

impl Canary {
    /// The steps, or those that hold when none are written.
    pub fn steps(&self) -> Vec<Step> {
        steps_or_usual(&self.steps)
    }
}

impl UpdateCanary {
    /// The steps, or those that hold when none are written.
    pub fn steps(&self) -> Vec<Step> {
        steps_or_usual(&self.steps)
    }

    /// The same of a lane in a Route.
    pub fn of(&self, model: ResourceName) -> Canary {
        let Self { tolerance, confidence, on_fail, .. } = *self;
        Canary { model, steps: self.steps(), tolerance, confidence, on_fail }
    }
}

/// The steps that do not grow, by their places, and what they had to be more than.
pub(crate) fn shrinking(steps: &[Step]) -> Vec<(usize, u32)> {
    let before = std::iter::once(0).chain(steps.iter().map(|step| step.weight.min(100)));
    let pairs = steps.iter().zip(before).enumerate();
    pairs.filter(|(_, (step, before))| step.weight <= *before).map(|(at, (_, b))| (at, b)).collect()
}

fn steps_or_usual(written: &[Step]) -> Vec<Step> {
    if !written.is_empty() {
        return written.to_vec();
    }
    let step = |(weight, minutes, samples_min)| Step { weight, minutes, samples_min };
    [(5, 5, 100), (25, 10, 500), (50, 10, 1000)].map(step).to_vec()
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { error_percent: 10, ttft_percent: 10, tpot_percent: 10 }
    }
}

const fn confidence_default() -> u32 {
    95
}

const fn minutes_default() -> u32 {
    10
}

const fn samples_default() -> u32 {
    100
}

const fn percent_default() -> u32 {
    100
}
