//! `Fleet`: hardware to run on. On one machine: how much of it Pilotage may use; on a cluster: nodes
//! of one sort, and how pods get there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Money;
use super::cluster::{ENTRIES_MAX, TOLERATIONS_MAX, Toleration};
use super::model::THREADS_MAX;

/// Most nodes of a fleet: as many as Kubernetes is made for.
pub const NODES_MAX: u32 = 5000;

/// Most accelerators of a node: those of the largest that share one link.
pub const PER_NODE_MAX: u32 = 256;

/// Hardware to run on. At most one of kind `cpu`; without one all of the machine is used.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct FleetSpec {
    /// What it is.
    pub kind: FleetKind,
    /// Threads for all replicas together, the gateway's core not counted. Without it all cores but
    /// one, or all cores where there are at most two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = THREADS_MAX))]
    pub threads: Option<u32>,
    /// Memory in bytes that weights may take. A plan whose weights are known to need more is
    /// refused. Without it the machine's own memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub memory_bytes: Option<u64>,
    /// The class of the nodes' accelerators, as `pilotage plan hardware` lists them (`h100-sxm`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub hardware: Option<String>,
    /// Accelerators of each node. Without it as many as nodes of the class usually have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PER_NODE_MAX))]
    pub per_node: Option<u32>,
    /// Nodes there are at most. Without it nobody counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = NODES_MAX))]
    pub nodes: Option<u32>,
    /// What a node costs in an hour, as text: `"98.32"`; of kind `cpu`, the machine. Each replica costs its part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<Money>,
    /// Whether the nodes can be taken away at any time.
    #[serde(skip_serializing_if = "is_false")]
    pub spot: bool,
    /// Labels that the nodes have. Without it those that the platform gives nodes of the class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = ENTRIES_MAX))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of the nodes, beside those that the platform gives them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TOLERATIONS_MAX))]
    pub tolerations: Vec<Toleration>,
    /// What Kubernetes calls one accelerator, where it is not what the vendor's device plugin says:
    /// `nvidia.com/mig-3g.40gb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 253))]
    pub resource_name: Option<String>,
    /// Whether nodes reach each other over a network made for it (InfiniBand, RoCE, EFA), so that
    /// one copy may span several.
    #[serde(skip_serializing_if = "is_false")]
    pub fast_network: bool,
}

/// What a fleet is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetKind {
    /// The processor cores of the machine that `pilotage up` runs on.
    #[default]
    Cpu,
    /// Nodes of one sort of a Kubernetes cluster.
    Nodes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
