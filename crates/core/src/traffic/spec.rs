//! What is written down about a route: plain values, made from manifests and never changed.

use serde::{Deserialize, Serialize};

use super::canary::CanaryPlan;
use super::fit::{Capabilities, Features, Needs};
use super::name::{Name, Tag};
use crate::{Band, TenantId};

/// One model's queue and replicas.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct LaneId(pub u32);

/// A model that routes may choose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Model {
    /// Its lane.
    pub lane: LaneId,
    /// Its name, for messages.
    pub name: Name,
    /// What it offers.
    pub capabilities: Capabilities,
}

/// Public names, and how their requests are shared out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// Its own name.
    pub name: Name,
    /// Names that clients write as `model`, aliases among them.
    pub models: Vec<Name>,
    /// Looked at in order; the first whose conditions hold, and one of whose targets fits, decides.
    pub rules: Vec<Rule>,
    /// Where requests go that no rule decides.
    pub targets: Vec<Target>,
    /// Where requests go, in this order, that were refused where they were sent first, or that no
    /// target fits.
    pub fallbacks: Vec<LaneId>,
    /// How a target of the role `canary` gets its share.
    pub canary: Option<CanaryPlan>,
    /// Keeps each tenant or user with one of the targets.
    pub experiment: Option<Experiment>,
    /// Sends copies elsewhere.
    pub mirror: Option<Mirror>,
}

/// A model that requests go to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// Its lane.
    pub lane: LaneId,
    /// Its part of the requests, in proportion to the other targets' weights.
    pub weight: u32,
    /// Whether it is on trial.
    pub role: Role,
}

impl Target {
    /// A target that takes its share as it is.
    pub const fn stable(lane: LaneId, weight: u32) -> Self {
        Self { lane, weight, role: Role::Stable }
    }

    /// A target that takes what its canary plan says.
    pub const fn canary(lane: LaneId) -> Self {
        Self { lane, weight: 0, role: Role::Canary }
    }
}

/// What a target is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes its weight's part.
    #[default]
    Stable,
    /// It takes what the canary plan's current step says; the others are its baseline.
    Canary,
}

/// Conditions and where requests go for which all of them hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Its name, for reasons and metrics.
    pub name: Name,
    /// The conditions.
    pub when: When,
    /// Where to.
    pub targets: Vec<Target>,
}

/// Conditions of a rule. All of them must hold; an empty one always does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// The request needs all of these.
    pub features: Features,
    /// Prompt tokens, by estimate.
    pub prompt_tokens: TokenRange,
    /// Prompt and longest answer together.
    pub context_tokens: TokenRange,
    /// Each of these headers is there.
    pub headers: Vec<HeaderMatch>,
    /// The request's tenant, or one above it, is one of these.
    pub tenants: Vec<TenantId>,
    /// The language asked for is one of these.
    pub languages: Vec<Tag>,
    /// The tier asked for is one of these.
    pub tiers: Vec<Tag>,
    /// The request's band is one of these.
    pub bands: Vec<Band>,
}

/// A range of token counts, both ends in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokenRange {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Default for TokenRange {
    fn default() -> Self {
        Self { min: 0, max: u64::MAX }
    }
}

impl TokenRange {
    /// Whether a count is in it.
    pub const fn holds(self, tokens: u64) -> bool {
        self.min <= tokens && tokens <= self.max
    }
}

/// What a header must say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderMatch {
    /// Its name; capitals do not matter.
    pub name: String,
    /// What it must be, letter by letter; whatever it is where none.
    pub value: Option<String>,
    /// What it must begin with.
    pub prefix: Option<String>,
}

impl HeaderMatch {
    fn holds(&self, headers: &[(&str, &str)]) -> bool {
        let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.name));
        values.any(|(_, value)| {
            self.value.as_deref().is_none_or(|whole| *value == whole)
                && self.prefix.as_deref().is_none_or(|prefix| value.starts_with(prefix))
        })
    }
}

impl When {
    /// Whether all conditions hold.
    pub fn holds(&self, asked: &super::Asked<'_>) -> bool {
        let Needs { features, context_tokens, language, tier } = asked.needs;
        let among = |allowed: &[Tag], asked: Option<Tag>| {
            allowed.is_empty() || asked.is_some_and(|asked| allowed.contains(&asked))
        };
        let owned = |tenant: &TenantId| asked.tenants.contains(tenant);
        features.holds(self.features)
            && self.prompt_tokens.holds(asked.prompt_tokens)
            && self.context_tokens.holds(context_tokens)
            && among(&self.languages, language)
            && among(&self.tiers, tier)
            && (self.bands.is_empty() || self.bands.contains(&asked.band))
            && (self.tenants.is_empty() || self.tenants.iter().any(owned))
            && self.headers.iter().all(|header| header.holds(asked.headers))
    }
}

/// A comparison of targets in which each tenant or user stays with one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Experiment {
    /// Its name; it salts the draw, so that who is in which arm of one experiment says nothing about
    /// another.
    pub name: Name,
    /// It salts the draw as well: another one deals anew.
    pub salt: Name,
    /// Who stays with an arm.
    pub by: Sticky,
}

/// What stays with an arm.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// A tenant's requests stay together.
    #[default]
    Tenant,
    /// A user's requests stay together; those without a user go with their tenant.
    User,
    /// Each request is drawn for itself.
    Request,
}

/// Copies of requests to a model whose answers nobody sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where copies go.
    pub lane: LaneId,
    /// Hundredths of a percent of requests that are copied.
    pub basis_points: u32,
}
