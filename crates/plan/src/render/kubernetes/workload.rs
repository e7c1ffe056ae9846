//! What keeps pods running: a Deployment where a copy has one node, a LeaderWorkerSet where it has
//! several, and pairs of StatefulSets where that kind is not installed.

use serde_json::{Value, json};

use super::labels::{COPY, HELD, HELD_HERE, Role, SURGED};
use super::object::Object;
use super::settle::{Nodes, Settled};

/// Former versions that are kept to go back to.
const HISTORY: u32 = 3;

/// The workloads of a Model.
pub(super) fn objects(settled: &Settled<'_>) -> Vec<Object> {
    match (settled.spec.nodes, settled.cluster.has.leader_worker_set) {
        (..=1, _) => vec![deployment(settled)],
        (_, true) => vec![group(settled)],
        (_, false) => sets(settled),
    }
}

/// What autoscalers change the number of: its version and kind.
pub(super) const fn scaled(settled: &Settled<'_>) -> Option<(&'static str, &'static str)> {
    match (settled.spec.nodes, settled.cluster.has.leader_worker_set) {
        (..=1, _) => Some(("apps/v1", "Deployment")),
        (_, true) => Some(("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")),
        (_, false) => None,
    }
}

fn deployment(settled: &Settled<'_>) -> Object {
    let updates = settled.model.spec.updates.clone().unwrap_or_default();
    let patience = settled.spec.probes.startup.patience_seconds();
    let mut selector = settled.selector_here(Role::Serves);
    selector[HELD] = HELD_HERE.into();
    let mut template = settled.pod(Role::Serves, Nodes::One);
    template["metadata"]["labels"][HELD] = HELD_HERE.into();
    let mut spec = json!({
        "revisionHistoryLimit": HISTORY,
        // As long as a start may take, the pull of an image before it and the proof after it: API servers refuse a
        // deadline that ends before a copy counts.
        "progressDeadlineSeconds": patience.saturating_add(1800).saturating_add(updates.ready_seconds),
        "minReadySeconds": updates.ready_seconds,
        "selector": { "matchLabels": selector },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": updates.surge, "maxUnavailable": updates.unavailable },
        },
        "template": template,
    });
    number(settled, &mut spec);
    let metadata = settled.metadata_here(&settled.workload_name(""));
    Object::new("apps/v1", "Deployment", metadata, json!({ "spec": spec }))
}

fn group(settled: &Settled<'_>) -> Object {
    let updates = settled.model.spec.updates.clone().unwrap_or_default();
    let mut spec = json!({
        "leaderWorkerTemplate": {
            "size": settled.spec.nodes,
            // Ranks that lose one are of no use by themselves.
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": settled.pod(Role::Serves, Nodes::Group),
            "workerTemplate": settled.pod(Role::Works, Nodes::Group),
        },
        "networkConfig": { "subdomainPolicy": "Shared" },
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {
                "maxSurge": updates.surge,
                "maxUnavailable": updates.unavailable,
            },
        },
    });
    let mut metadata = settled.metadata_here(&settled.workload_name(""));
    if let Some(replicas) = settled.replicas() {
        let surged = settled.surged();
        spec["replicas"] = replicas.saturating_add(surged).into();
        note_surged(&mut metadata, surged);
    }
    let rest = json!({ "spec": spec });
    Object::new("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", metadata, rest)
}

/// A copy is two sets: the node that serves, and the others, which are numbered from 1.
fn sets(settled: &Settled<'_>) -> Vec<Object> {
    (0..pairs(settled).saturating_add(settled.surged()))
        .flat_map(|copy| {
            let first = settled.workload_name(&copy.to_string());
            let others = settled.workload_name(&format!("{copy}-workers"));
            [
                set(settled, &first, (copy, Role::Serves), 1),
                set(settled, &others, (copy, Role::Works), settled.spec.nodes - 1),
            ]
        })
        .collect()
}

/// How many pairs there are but for those that stand in.
fn pairs(settled: &Settled<'_>) -> u32 {
    settled.replicas().unwrap_or(settled.model.spec.replicas)
}

fn set(settled: &Settled<'_>, name: &str, (copy, role): (u32, Role), pods: u32) -> Object {
    let mut selector = settled.selector_here(role);
    selector[COPY] = copy.to_string().into();
    let mut template = settled.pod(role, Nodes::Sets(copy));
    template["metadata"]["labels"][COPY] = copy.to_string().into();
    let mut spec = json!({
        "replicas": pods,
        "revisionHistoryLimit": HISTORY,
        "serviceName": settled.named_here("peers"),
        "selector": { "matchLabels": selector },
        // All at once: none of them is of use without the others.
        "podManagementPolicy": "Parallel",
        "updateStrategy": { "type": "RollingUpdate" },
        "template": template,
    });
    if role == Role::Works {
        spec["ordinals"] = json!({ "start": 1 });
    }
    let mut metadata = settled.metadata_here(name);
    note_surged(&mut metadata, u32::from(copy >= pairs(settled)));
    Object::new("apps/v1", "StatefulSet", metadata, json!({ "spec": spec }))
}

/// Whoever comes later has to know which number is wanted, and which is for a while.
fn note_surged(metadata: &mut Value, surged: u32) {
    if surged > 0 {
        metadata["annotations"][SURGED] = surged.to_string().into();
    }
}

fn number(settled: &Settled<'_>, spec: &mut Value) {
    if let Some(replicas) = settled.replicas() {
        spec["replicas"] = replicas.into();
    }
}
