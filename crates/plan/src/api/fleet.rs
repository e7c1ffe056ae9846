//! `Fleet`: hardware to run on. On one machine: how much of it Pilotage may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::THREADS_MAX;

/// Hardware to run on. At most one; without one all of the machine is used.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FleetSpec {
    /// The hardware class.
    #[serde(default)]
    pub kind: FleetKind,
    /// Threads for all replicas together, the gateway's core not counted. Without it all cores but
    /// one, or all cores where there are at most two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = THREADS_MAX))]
    pub threads: Option<u32>,
    /// Memory in bytes that weights may take. A plan whose weights are known to need more is
    /// refused. Without it the machine's own memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub memory_bytes: Option<u64>,
}

/// A hardware class.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetKind {
    /// The machine's processor cores.
    #[default]
    Cpu,
}
