//! `Route.spec.scheduling`: how turns are given among tenants and bands, and when running work stands
//! aside. The defaults are the scheduler's own.

use pilotage_core::{Band, BandPolicy, Cost, FairConfig, Predict, PreemptConfig, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::route::TIMEOUT_SECONDS_MAX;
use super::tenant::BandName;

/// Largest price of one token, in thousandths of a weighted token: a thousand to one is beyond what
/// one token can cost more than another.
pub const TOKEN_COST_MAX: u32 = 1_000_000;

/// Largest quantum, in weighted tokens: more than the longest context, beyond which order is chance.
pub const QUANTUM_TOKENS_MAX: u32 = 1_000_000_000;

/// Most service that one tenant may be ahead, in weighted tokens.
pub const OVER_SHARE_TOKENS_MAX: u64 = 1_000_000_000_000;

/// Most times that one request may be stopped.
pub const STOPS_MAX_MAX: u32 = 100;

/// Longest time that work is left alone: an hour, in milliseconds.
pub const RUN_MILLIS_MAX: u32 = 3_600_000;

/// Bands that can be named, which is all there are.
const BANDS_MAX: u32 = 4;

/// How turns are given.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Scheduling {
    /// What the tokens of a request cost its tenant: who has paid least for its weight is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<TokenCost>,
    /// Whether a request costs, instead of its tokens, the room it takes: tokens held in the KV cache
    /// times the seconds they are held.
    pub kv_token_seconds: bool,
    /// Weighted tokens (or token-seconds) by which tenants may differ and are still taken as equal,
    /// so that the request whose prompt is cached goes first among them; 0 is the strictest fairness.
    #[schemars(range(min = 0, max = QUANTUM_TOKENS_MAX))]
    pub quantum_tokens: u32,
    /// Whether the answer's expected length is charged with the turn and settled at the end, instead
    /// of token by token.
    pub predict: bool,
    /// Rights of bands beside each other. Bands that are not named keep their defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = BANDS_MAX))]
    pub bands: Vec<BandRights>,
    /// When running work is stopped for other work.
    pub preemption: Preemption,
}

/// Prices in thousandths of a weighted token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenCost {
    /// Price of a prompt token that has to be computed, in thousandths of a weighted token.
    #[schemars(range(min = 0, max = TOKEN_COST_MAX))]
    pub input: u32,
    /// Price of a prompt token found in the prefix cache, in thousandths of a weighted token.
    #[schemars(range(min = 0, max = TOKEN_COST_MAX))]
    pub cached: u32,
    /// Price of a generated token, in thousandths of a weighted token.
    #[schemars(range(min = 0, max = TOKEN_COST_MAX))]
    pub output: u32,
}

/// One band's rights, in percent of the lane's capacity in KV tokens.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BandRights {
    /// Which band.
    pub band: BandName,
    /// While the band uses less than this percentage and has work, it goes before more urgent ones.
    /// The floors of all bands add up to at most 100.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub floor_percent: u32,
    /// The band starts nothing more from this percentage on; at least its floor.
    #[serde(default = "whole")]
    #[schemars(range(min = 1, max = 100))]
    pub cap_percent: u32,
    /// Seconds that its oldest request waits before the band gets turns out of order. Without it 5 for
    /// `standard`, 30 for `bulk`, 120 for `batch`; `realtime` goes first anyway and has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub age_seconds: Option<u32>,
    /// Whether the band gets turns for its age at all.
    #[serde(default = "yes")]
    pub ageing: bool,
}

/// When running work is stopped for other work.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Preemption {
    /// Whether anything is stopped at all.
    pub enabled: bool,
    /// Whether work of a tenant that is far ahead stands aside for one of the same band that is behind.
    pub over_share: bool,
    /// Weighted tokens (or token-seconds) for weight one from which on a tenant is far ahead.
    #[schemars(range(min = 1, max = OVER_SHARE_TOKENS_MAX))]
    pub over_share_tokens: u64,
    /// Times that one request can be stopped.
    #[schemars(range(min = 0, max = STOPS_MAX_MAX))]
    pub stops_max: u32,
    /// Milliseconds that work runs at least before it is stopped for work of the same band.
    #[schemars(range(min = 0, max = RUN_MILLIS_MAX))]
    pub run_millis_min: u32,
}

impl Scheduling {
    /// How turns are given, in the scheduler's terms.
    pub fn fair(&self) -> FairConfig {
        let mut bands = BandPolicy::DEFAULT;
        for rights in &self.bands {
            let policy = &mut bands[Band::from(rights.band) as usize];
            *policy = rights.policy(*policy);
        }
        FairConfig {
            cost: self.cost(),
            bands,
            quantum: u64::from(self.quantum_tokens) * 1000,
            predict: if self.predict { Predict::Average } else { Predict::Off },
            ..FairConfig::default()
        }
    }

    fn cost(&self) -> Cost {
        if self.kv_token_seconds {
            return Cost::KvTokenSeconds;
        }
        let TokenCost { input, cached, output } = self.cost.unwrap_or_default();
        Cost::Tokens { input, cached, output }
    }
}

impl BandRights {
    /// The band's policy, where nothing is said about it as it was.
    fn policy(&self, before: BandPolicy) -> BandPolicy {
        let age = self.age_seconds.map(|seconds| Span::from_secs(seconds.into()));
        BandPolicy {
            floor: self.floor_percent.saturating_mul(10),
            cap: self.cap_percent.saturating_mul(10),
            age_after: age.or(before.age_after).filter(|_| self.ageing),
        }
    }
}

impl From<Preemption> for PreemptConfig {
    fn from(preemption: Preemption) -> Self {
        let thousandths = preemption.over_share_tokens.saturating_mul(1000);
        Self {
            enabled: preemption.enabled,
            over_share: preemption.over_share.then_some(thousandths),
            stops_max: preemption.stops_max,
            run_min: Span::from_millis(preemption.run_millis_min.into()),
        }
    }
}

impl Default for TokenCost {
    fn default() -> Self {
        Self { input: 1000, cached: 100, output: 2000 }
    }
}

impl Default for Preemption {
    fn default() -> Self {
        Self {
            enabled: true,
            over_share: true,
            over_share_tokens: 2000,
            stops_max: 3,
            run_millis_min: 500,
        }
    }
}

const fn whole() -> u32 {
    100
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_schedulers_own() {
        let check = |scheduling: Scheduling| {
            assert_eq!(scheduling.fair(), FairConfig::default());
            assert_eq!(PreemptConfig::from(scheduling.preemption), PreemptConfig::default());
        };
        check(Scheduling::default());
        check(serde_json::from_str("{}").unwrap());
        check(serde_json::from_str(r#"{"cost": {}, "preemption": {}}"#).unwrap());
        let named = [r#"{"band":"batch"}"#, r#"{"band":"realtime"}"#, r#"{"band":"bulk"}"#];
        check(serde_json::from_str(&format!(r#"{{"bands": [{}]}}"#, named.join(","))).unwrap());
        assert_eq!(BANDS_MAX as usize, Band::ALL.len());
    }

    #[test]
    fn each_field_has_its_effect() {
        let check = |json: &str, change: fn(&mut FairConfig, &mut PreemptConfig)| {
            let scheduling: Scheduling = serde_json::from_str(json).unwrap();
            let (mut fair, mut preempt) = (FairConfig::default(), PreemptConfig::default());
            change(&mut fair, &mut preempt);
            assert_eq!(scheduling.fair(), fair, "{json}");
            assert_eq!(PreemptConfig::from(scheduling.preemption), preempt, "{json}");
        };
        check(r#"{"kvTokenSeconds": true}"#, |fair, _| fair.cost = Cost::KvTokenSeconds);
        check(r#"{"cost": {"output": 3000}}"#, |fair, _| {
            fair.cost = Cost::Tokens { input: 1000, cached: 100, output: 3000 };
        });
        check(r#"{"quantumTokens": 4096}"#, |fair, _| fair.quantum = 4_096_000);
        check(r#"{"predict": true}"#, |fair, _| fair.predict = Predict::Average);
        check(
            r#"{"bands": [{"band": "bulk", "floorPercent": 5, "capPercent": 40}]}"#,
            |fair, _| {
                let age_after = Some(Span::from_secs(30));
                fair.bands[2] = BandPolicy { floor: 50, cap: 400, age_after };
            },
        );
        check(r#"{"bands": [{"band": "batch", "ageSeconds": 9}]}"#, |fair, _| {
            fair.bands[3].age_after = Some(Span::from_secs(9));
        });
        check(r#"{"bands": [{"band": "batch", "ageing": false}]}"#, |fair, _| {
            fair.bands[3] = BandPolicy::STRICT;
        });
        check(r#"{"preemption": {"enabled": false}}"#, |_, preempt| preempt.enabled = false);
        check(r#"{"preemption": {"overShare": false}}"#, |_, preempt| preempt.over_share = None);
        check(r#"{"preemption": {"overShareTokens": 7}}"#, |_, preempt| {
            preempt.over_share = Some(7000);
        });
        check(r#"{"preemption": {"stopsMax": 0, "runMillisMin": 0}}"#, |_, preempt| {
            (preempt.stops_max, preempt.run_min) = (0, Span::ZERO);
        });
    }
}
