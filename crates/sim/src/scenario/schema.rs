//! What a scenario file may say. Everything but the name has a default.

use std::collections::BTreeMap;
use std::fmt;

use pilotage_core::admit::Quota;
use pilotage_core::{Band, Gate, Lift, Predict, Stop};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::scaling;
use crate::trace::{Format, Selection};
use crate::workload::Workload;

/// A scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default = "seed")]
    pub seed: u64,
    /// Requests that would come later do not come.
    pub seconds: Option<f64>,
    pub engine: Option<Spanned<Engine>>,
    pub replicas: Option<Spanned<Replicas>>,
    pub scheduler: Option<Spanned<Scheduler>>,
    pub scaling: Option<Spanned<scaling::File>>,
    #[serde(default)]
    pub tenants: Vec<Spanned<Tenant>>,
    #[serde(default)]
    pub workloads: Vec<Spanned<Workload>>,
    pub trace: Option<Spanned<Trace>>,
    #[serde(default)]
    pub faults: Vec<Spanned<Fault>>,
    #[serde(default)]
    pub measure: Measure,
}

/// A preset, and what is other than there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Engine {
    pub preset: Option<Spanned<String>>,
    /// What `pilotage bench calibrate` kept.
    pub calibration: Option<Spanned<String>>,
    pub prefill_ms: Option<f64>,
    pub prefill_ms_per_token: Option<f64>,
    pub prefill_ms_per_pair: Option<f64>,
    pub step_ms: Option<f64>,
    pub step_ms_per_sequence: Option<f64>,
    pub step_ms_per_kv_token: Option<f64>,
    pub kv_tokens: Option<u64>,
    pub sequences_max: Option<u32>,
    pub prefill_tokens_max: Option<u64>,
    pub step_tokens_max: Option<u32>,
    pub formation_steps: Option<u32>,
    pub pauses_max: Option<u32>,
    pub cache_blocks: Option<u32>,
    pub stop: Option<Stop>,
}

/// How many replicas there are, or of which kinds.
#[derive(Clone, Debug)]
pub(super) enum Replicas {
    /// So many, all alike.
    Number(u32),
    /// Several kinds.
    Kinds(Vec<Kind>),
}

/// Replicas that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Kind {
    #[serde(default = "one")]
    pub count: u32,
    /// How many times longer everything takes.
    #[serde(default = "one_f64")]
    pub slowness: f64,
    /// Milliseconds there and back.
    #[serde(default)]
    pub network_ms: f64,
    pub kv_tokens: Option<u64>,
    pub sequences_max: Option<u32>,
    /// What its part of the world is called.
    #[serde(default)]
    pub region: String,
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Replicas;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of replicas, or a list of their kinds")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Replicas, E> {
                u32::try_from(count).map(Replicas::Number).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Replicas, E> {
                u32::try_from(count).map(Replicas::Number).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Replicas, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Replicas::Kinds)
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

/// Which order, and with what.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) enum Policy {
    /// By received service.
    #[default]
    Vtc,
    /// In order of arrival, whoever sent it.
    Fcfs,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Scheduler {
    pub policy: Policy,
    /// How replicas are picked, where prompts are looked at.
    pub route: Option<String>,
    pub lift: Lift,
    pub predict: Predict,
    pub gate: Gate,
    /// In weighted tokens.
    pub quantum: f64,
    pub cost: Prices,
    pub bands: BTreeMap<Band, BandRights>,
    pub preempt: Option<Preempt>,
    /// The paper's limit: of each tenant so many requests in any 60 seconds, the rest is rejected.
    pub requests_per_minute: Option<u32>,
    pub queued_requests_max: u32,
    pub queued_tokens_max: u64,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            policy: Policy::Vtc,
            route: None,
            lift: Lift::Full,
            predict: Predict::Off,
            gate: Gate::Peak,
            quantum: 0.0,
            cost: Prices::default(),
            bands: BTreeMap::new(),
            preempt: None,
            requests_per_minute: None,
            queued_requests_max: 1_000_000,
            queued_tokens_max: u64::MAX,
        }
    }
}

/// What a token costs, as a multiple of one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Prices {
    pub input: f64,
    pub cached: f64,
    pub output: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self { input: 1.0, cached: 0.1, output: 2.0 }
    }
}

/// Parts of the capacity, from zero to one.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BandRights {
    pub floor: f64,
    pub cap: Option<f64>,
    pub age_after_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Preempt {
    /// In weighted tokens.
    pub over_share: Option<f64>,
    pub stops_max: u32,
    pub run_min_seconds: f64,
}

impl Default for Preempt {
    fn default() -> Self {
        Self { over_share: None, stops_max: 3, run_min_seconds: 0.5 }
    }
}

/// A tenant, or with `count` as many that are alike, `NAME-1` and so on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Tenant {
    pub name: String,
    pub parent: Option<String>,
    #[serde(default = "one_f64")]
    pub weight: f64,
    /// Parts of the capacity, from zero to one.
    #[serde(default)]
    pub guaranteed: f64,
    pub borrowing_limit: Option<f64>,
    pub lending_limit: Option<f64>,
    #[serde(default)]
    pub band: Band,
    #[serde(default)]
    pub quota: Quota,
    /// Seconds that a request waits for its turn.
    pub deadline_seconds: Option<f64>,
    /// Seconds after which its first token is worth nothing.
    pub answer_by_seconds: Option<f64>,
    /// Seconds after which a client that has seen nothing goes away.
    pub patience_seconds: Option<f64>,
    #[serde(default = "one")]
    pub count: u32,
    /// How unequal the alike are: the n-th sends n^-skew of what the first does.
    #[serde(default)]
    pub skew: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Trace {
    pub file: String,
    pub format: Format,
    #[serde(default)]
    pub take: Selection,
}

/// Something goes wrong with a replica for a while.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Fault {
    pub at: f64,
    pub seconds: f64,
    #[serde(default)]
    pub replica: u32,
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) enum FaultKind {
    /// It dies with all that runs there, and is started again.
    Down,
    /// Everything takes so many times longer.
    Slow(f64),
    /// It does not report how full it is.
    Blind,
    /// Somebody else holds so many of its KV tokens.
    Foreign(u64),
    /// It stands still, and is said to be well.
    Hung,
    /// It computes to the end what was called off.
    Leaky,
}

/// When fairness is looked at.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Measure {
    pub warmup_seconds: f64,
    /// The last arrival's second, where it is not said.
    pub end_seconds: Option<f64>,
}

const fn seed() -> u64 {
    42
}

const fn one() -> u32 {
    1
}

const fn one_f64() -> f64 {
    1.0
}
