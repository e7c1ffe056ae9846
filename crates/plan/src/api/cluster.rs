//! What a `Model` says about being run on a cluster: how its copies follow the load, how new ones
//! replace old ones, where its weights are kept, and what its pods look like.
//!
//! One machine has no pods: `pilotage up` takes the same manifest, starts and stops copies as
//! `scaling` says, and notes which of the rest it passes over.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rollout::UpdateCanary;

/// Most copies of one model on a cluster: more than one gateway divides requests among.
pub const SCALE_MAX: u32 = 1024;

/// Most entries of a map of labels, annotations or selectors.
pub const ENTRIES_MAX: u32 = 64;

/// Most tolerations, and most secrets to pull images with.
pub const TOLERATIONS_MAX: u32 = 32;

/// Longest idle time before a model rests: a week, in seconds.
const IDLE_SECONDS_MAX: u32 = 604_800;

/// Longest promise of a time, in milliseconds: an hour.
const GOAL_MS_MAX: u32 = 3_600_000;

/// Longest name in Kubernetes.
const NAME_LEN_MAX: u32 = 253;

/// Longest name of an image, with its tag or digest.
pub(crate) const IMAGE_LEN_MAX: u32 = 512;

/// How many copies there are by the load.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scaling {
    /// Fewest copies while there is work; at most `max`.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = SCALE_MAX))]
    pub min: u32,
    /// Most copies.
    #[schemars(range(min = 1, max = SCALE_MAX))]
    pub max: u32,
    /// Who changes their number.
    #[serde(default)]
    pub by: ScaleBy,
    /// What is left of them when nobody has asked anything for `idleSeconds`.
    #[serde(default)]
    pub zero: Zero,
    /// Seconds without a request before they rest.
    #[serde(default = "idle_default")]
    #[schemars(range(min = 1, max = IDLE_SECONDS_MAX))]
    pub idle_seconds: u32,
    /// Percent of the places for sequences that are in use at the number that is aimed at.
    #[serde(default = "target_default")]
    #[schemars(range(min = 1, max = 100))]
    pub target_percent: u32,
    /// Milliseconds to the first token that requests of the band realtime are promised; those of the
    /// band standard twice that. Without it 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = GOAL_MS_MAX))]
    pub ttft_ms: Option<u32>,
    /// Milliseconds for each token after it that requests of the band realtime are promised; those of
    /// the band standard twice that. Without it 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = GOAL_MS_MAX))]
    pub tpot_ms: Option<u32>,
}

/// Who changes the number of copies. What number is right is decided in one place, by Pilotage.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleBy {
    /// Pilotage itself: the operator, or `pilotage up` on one machine, whatever is written here.
    #[default]
    Pilotage,
    /// A HorizontalPodAutoscaler, told by the external metric `pilotage_replicas_wanted`.
    Hpa,
    /// A ScaledObject of KEDA, told by the operator as an external scaler.
    Keda,
}

/// What is left of a model that nobody asks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zero {
    /// As many copies as `min`, and one at least, ready.
    #[default]
    Always,
    /// One copy that sleeps: its weights are in the node's memory, and vLLM alone can do so.
    Warm,
    /// Nothing: the first request waits for a whole start; `min` is 0.
    Cold,
}

/// How new copies replace old ones, one after the other or, with `canary`, version by version.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Updates {
    /// Copies there may be beyond those wanted; each needs accelerators that are free.
    #[schemars(range(min = 0, max = SCALE_MAX))]
    pub surge: u32,
    /// Copies that may be missing meanwhile.
    #[schemars(range(min = 0, max = SCALE_MAX))]
    pub unavailable: u32,
    /// Seconds that a copy has to be ready before the next one is replaced.
    #[schemars(range(min = 0, max = 3600))]
    pub ready_seconds: u32,
    /// How a new version proves itself before it takes over: it gets a growing part of the requests
    /// of Routes that lead to this Model alone, and none when it does worse. A version is what runs: the
    /// weights, the runtime with its arguments and image, the shape and the nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<UpdateCanary>,
}

/// Where a model's weights are kept.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Storage {
    /// What holds them.
    pub kind: StorageKind,
    /// Bytes of room for them. Without it a quarter more than `sizeBytes`, or as much as is read of
    /// them. A claim grows and never shrinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub size_bytes: Option<u64>,
    /// The StorageClass of a claim; the platform's own for files that many nodes read without it.
    /// It stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_LEN_MAX))]
    pub class_name: Option<String>,
    /// Who may mount a claim at once. It stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// What holds weights.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// Each pod's own disk: fetched anew by each.
    #[default]
    Ephemeral,
    /// A PersistentVolumeClaim that all copies share, filled once by a Job.
    Claim,
    /// The artifact itself, mounted by the node as a volume; `source` is `oci://…`, and Kubernetes
    /// 1.33 or later.
    Image,
}

/// Who may mount a claim at once.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Access {
    /// Pods of all nodes.
    #[default]
    ReadWriteMany,
    /// Pods of one node, so that all copies are there.
    ReadWriteOnce,
}

/// What is said of pods beside what follows from the rest.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PodTemplate {
    /// Further labels; those of Pilotage and `app.kubernetes.io` are its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = ENTRIES_MAX))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = ENTRIES_MAX))]
    pub annotations: BTreeMap<String, String>,
    /// Labels that nodes must have, beside those of the Fleet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = ENTRIES_MAX))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods bear, beside those of the Fleet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TOLERATIONS_MAX))]
    pub tolerations: Vec<Toleration>,
    /// The ServiceAccount they run as. Without it that of the namespace, and its token is not mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_LEN_MAX))]
    pub service_account_name: Option<String>,
    /// The PriorityClass: who gives way when there are too few nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_LEN_MAX))]
    pub priority_class_name: Option<String>,
    /// The RuntimeClass, where accelerators need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_LEN_MAX))]
    pub runtime_class_name: Option<String>,
    /// Secrets that images are pulled with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TOLERATIONS_MAX), inner(length(min = 1, max = NAME_LEN_MAX)))]
    pub image_pull_secrets: Vec<String>,
    /// Thousandths of a processor core that each pod asks for. Without it the threads, or four cores
    /// for each accelerator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_024_000))]
    pub cpu_millis: Option<u32>,
    /// Bytes of memory that each pod asks for and may use. Without it what its weights let expect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub memory_bytes: Option<u64>,
}

/// A taint that pods bear, in Kubernetes' words.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; every taint without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,
    /// Its value; any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Its effect; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What a taint does to pods that do not bear it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Effect {
    /// None is placed there.
    NoSchedule,
    /// None is placed there where there is another node.
    PreferNoSchedule,
    /// None stays there.
    NoExecute,
}

impl Scaling {
    /// Fewest copies that are there whether somebody asks or not.
    pub fn floor(&self) -> u32 {
        match self.zero {
            Zero::Cold => self.min,
            Zero::Always | Zero::Warm => self.min.max(1),
        }
    }

    /// Whether nothing is left of it while nobody asks, so that it can give its place to another one.
    pub fn takes_turns(&self) -> bool {
        self.zero == Zero::Cold && self.min == 0
    }
}

impl Effect {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl Access {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOnce => "ReadWriteOnce",
        }
    }
}

impl Default for Updates {
    fn default() -> Self {
        Self { surge: 1, unavailable: 0, ready_seconds: 0, canary: None }
    }
}

const fn one() -> u32 {
    1
}

const fn idle_default() -> u32 {
    900
}

const fn target_default() -> u32 {
    70
}
