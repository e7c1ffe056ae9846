//! What a cluster's operator reports about resources: their `status` on Kubernetes. Manifests have
//! none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most conditions of one resource.
pub const CONDITIONS_MAX: u32 = 16;

/// Longest message of a condition, as Kubernetes has it.
const MESSAGE_LEN_MAX: u32 = 32_768;

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
    /// What is true of it: `Ready`, `Progressing`, `Degraded`, `Accepted`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = CONDITIONS_MAX))]
    pub conditions: Vec<Condition>,
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
