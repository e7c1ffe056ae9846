//! What a cluster's operator reports about resources: their `status` on Kubernetes. Manifests have
//! none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most conditions of one resource.
pub const CONDITIONS_MAX: u32 = 16;

/// Longest message of a condition, as Kubernetes has it.
const MESSAGE_LEN_MAX: u32 = 32_768;

/// Digits of a version's name.
const REVISION_LEN: u32 = 10;

/// Longest JSON of what runs: arguments and environments of runtimes have limits of their own.
const SERVING_SPEC_LEN_MAX: u32 = 262_144;

/// Most pods of one Model that sleep: one does, and others may be on their way.
const ASLEEP_MAX: u32 = 64;

/// Longest selector: a few labels, each of at most 317 and 63 characters.
const SELECTOR_LEN_MAX: u32 = 2048;

/// What is the case of a Model.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelStatus {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    /// Copies there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Copies that take requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<u32>,
    /// Copies of the newest spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<u32>,
    /// The labels that its pods are found by, as autoscalers want them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SELECTOR_LEN_MAX))]
    pub selector: Option<String>,
    /// What runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub runtime: Option<String>,
    /// Which version serves, and how far the next one is; only where `updates.canary` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// How its copies follow the load, where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ModelScaling>,
    /// What is true of it: `Ready`, `Progressing`, `Degraded`, `Accepted`, and `AdaptersLoaded` where adapters are
    /// loaded while it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = CONDITIONS_MAX))]
    pub conditions: Vec<Condition>,
}

/// Which version of a Model serves, and how far the next one is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct UpdateStatus {
    /// The version that serves: ten digits of a hash of what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REVISION_LEN))]
    pub serving: Option<String>,
    /// What of the spec makes that version, as JSON, so that it can be gone back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SERVING_SPEC_LEN_MAX))]
    pub serving_spec: Option<String>,
    /// The version that is to take over, or was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<NextStatus>,
}

/// How far a version is that is to take over.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NextStatus {
    /// Which one.
    #[schemars(length(max = REVISION_LEN))]
    pub revision: String,
    /// How far it is.
    pub phase: UpdatePhase,
    /// The part of the requests that its copies can bear, in percent: it gets no more.
    #[schemars(range(min = 0, max = 100))]
    pub percent_max: u32,
    /// Its part of the requests, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
    /// Since when it is in this phase (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Since when none of its copies takes requests, once requests are divided (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub unready_since: Option<String>,
    /// Why, for people.
    #[schemars(length(max = MESSAGE_LEN_MAX))]
    pub message: String,
}

/// How far an update is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum UpdatePhase {
    /// Its first copies come up.
    Starting,
    /// It has a part of the requests.
    Trying,
    /// It did worse, and keeps the part that it has.
    Paused,
    /// It has all requests, and the rest of its copies come up.
    TakingOver,
    /// It did worse or never came up, and is gone.
    RolledBack,
}

/// What was decided about the copies of a Model.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelScaling {
    /// Copies there are to be, those asleep among them.
    pub wanted: u32,
    /// Pods that sleep: they take no requests until they are woken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = ASLEEP_MAX), inner(length(max = 253)))]
    pub asleep: Vec<String>,
    /// What decided it, as one word for programs.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The same for people, with the numbers that it was decided by.
    #[serde(default)]
    #[schemars(length(max = MESSAGE_LEN_MAX))]
    pub message: String,
    /// Since when so many are wanted (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

/// What is the case of a resource that nothing runs for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Status {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    /// What is true of it: `Accepted`, and of a Route `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = CONDITIONS_MAX))]
    pub conditions: Vec<Condition>,
}

/// One thing that is true of a resource, or not, in Kubernetes' own form.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316), pattern(r"^[A-Za-z][-A-Za-z0-9_./]*$"))]
    pub kind: String,
    /// Whether it is true.
    pub status: Truth,
    /// Why, as one word for programs.
    #[schemars(length(min = 1, max = 1024), pattern(r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"))]
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    #[schemars(length(max = MESSAGE_LEN_MAX))]
    pub message: String,
    /// Since when its `status` is what it is (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
}

/// Whether something is true.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody knows.
    Unknown,
}
