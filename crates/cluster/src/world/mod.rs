//! Small controllers that play what is around an operator: workloads become pods, pods get nodes,
//! start, become ready or do not, end; services get endpoints and budgets their counts.
//!
//! Contract: pure and stepped: nothing happens but in [`World::step`], which says when something is
//! due next, and takes as long as what changed since the last one. Simpler than what they stand for: what
//! is not said here is not done.
//!
//! - A Deployment has a ReplicaSet for each template; new pods come first, old ones go as new ones
//!   are ready. A StatefulSet and a LeaderWorkerSet replace one pod or group at a time, highest
//!   first. A LeaderWorkerSet makes its pods itself, without StatefulSets between.
//! - A ReplicaSet lets go of pods that it does not select, and takes in those of nobody that it does. Of
//!   budgets it is expected what Deployments say. What cannot be made, by a quota say, is told and tried
//!   again.
//! - A node whose `Ready` is unknown does nothing: its pods stay as they are, until it is gone.
//! - A pod goes to the node with the fewest pods that fits its selector, taints and extended
//!   resources.

mod index;
mod mirror;
mod network;
mod notice;
mod pods;
mod sets;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::Cluster;
use crate::store::Key;
use index::Index;
use mirror::Mirror;
use pods::Use;

/// Rounds of a step: what one controller does, another answers.
const ROUNDS_MAX: usize = 64;

/// What becomes of pods once they have a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Ready after that many milliseconds, and from then on.
    ReadyAfterMs(u64),
    /// Running, and never ready.
    NeverReady,
    /// Its image cannot be had.
    NoImage,
    /// Its container ends with an error after that many milliseconds, again and again.
    CrashesAfterMs(u64),
    /// Its container ends well after that many milliseconds.
    SucceedsAfterMs(u64),
}

/// How the world behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nature {
    /// What becomes of pods of which nothing else is said.
    pub fate: Fate,
    /// What becomes of pods with a label: key, value, fate. The first counts.
    pub fates: Vec<(String, String, Fate)>,
    /// Images that cannot be had.
    pub no_images: Vec<String>,
    /// How long a deleted pod takes to end; never longer than its grace.
    pub end_ms: u64,
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            fate: Fate::ReadyAfterMs(1000),
            fates: Vec::new(),
            no_images: Vec::new(),
            end_ms: 500,
        }
    }
}

/// The controllers and nodes of a cluster.
#[derive(Debug, Default)]
pub struct World {
    /// How pods behave; may be changed at any time.
    pub nature: Nature,
    /// What it was when pods were last looked at.
    known_nature: Option<Nature>,
    kinds: BTreeMap<&'static str, Mirror>,
    /// What is to be looked at, by its kind.
    dirty: BTreeMap<&'static str, BTreeSet<Key>>,
    /// What is to be looked at when time has passed.
    due: BTreeSet<(u64, &'static str, Key)>,
    pods_by_label: Index,
    /// What selects pods, by its kind.
    selectors: BTreeMap<&'static str, Index>,
    /// What pods take of each node.
    used: BTreeMap<String, Use>,
    /// Pods that wait for a node.
    unplaced: BTreeSet<Key>,
    /// There may be a place for pods for which there was none.
    has_room: bool,
    /// Since when pods are in a state, by id: the state's name and the time.
    since: BTreeMap<String, (&'static str, u64)>,
    addresses: u32,
}

/// What the world looks at: group, plural.
const LOOKED_AT: [(&str, &str); 9] = [
    ("", "pods"),
    ("", "nodes"),
    ("", "services"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "jobs"),
    ("policy", "poddisruptionbudgets"),
    ("leaderworkerset.x-k8s.io", "leaderworkersets"),
];

impl World {
    /// A world of that nature.
    pub fn new(nature: Nature) -> Self {
        Self { nature, ..Self::default() }
    }

    /// Does all that is due. Returns when something is due next, if time alone brings it.
    pub fn step(&mut self, now_ms: u64, cluster: &mut Cluster) -> Option<u64> {
        if self.known_nature.as_ref() != Some(&self.nature) {
            self.known_nature = Some(self.nature.clone());
            self.all_pods();
        }
        self.wake(now_ms);
        for _ in 0..ROUNDS_MAX {
            self.look(cluster);
            let before = cluster.revision();
            self.deployments(now_ms, cluster);
            self.replica_sets(now_ms, cluster);
            self.stateful_sets(now_ms, cluster);
            self.groups(now_ms, cluster);
            self.jobs(now_ms, cluster);
            self.look(cluster);
            self.schedule(now_ms, cluster);
            self.look(cluster);
            self.run(now_ms, cluster);
            self.look(cluster);
            self.endpoints(now_ms, cluster);
            self.budgets(now_ms, cluster);
            if cluster.revision() == before {
                break;
            }
        }
        self.due.first().map(|(at_ms, ..)| *at_ms)
    }

    /// The pods of an owner that are there to stay.
    fn pods_of(&self, owner: &Value) -> Vec<Arc<Value>> {
        let uid = text(owner, "/metadata/uid");
        let pods = self.kinds.get("pods").into_iter().flat_map(|pods| pods.owned(uid));
        pods.filter(|pod| !deleting(pod)).map(Arc::clone).collect()
    }

    /// The pods that a selector of exact labels selects.
    fn selected(&self, namespace: &str, selector: Option<&Value>) -> Vec<Arc<Value>> {
        let keys = self.pods_by_label.of_selector(namespace, selector);
        let pods = keys.iter().filter_map(|key| self.get("pods", key));
        pods.filter(|pod| selects(selector, pod.pointer("/metadata/labels"))).collect()
    }

    /// How long a pod has been in a state; the time begins when this is first asked.
    fn state_since(&mut self, pod: &Value, state: &'static str, now_ms: u64) -> u64 {
        let known =
            self.since.entry(text(pod, "/metadata/uid").to_owned()).or_insert((state, now_ms));
        if known.0 != state {
            *known = (state, now_ms);
        }
        known.1
    }
}

/// A string within an object; of none, an empty one.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str, otherwise: u64) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(otherwise)
}

fn deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether a condition of an object is true.
fn condition(value: &Value, kind: &str) -> bool {
    let all = value.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
}

/// A name for a template: equal templates have equal ones (FNV-1a of the text).
fn revision_of(template: &Value) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in template.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{:010x}", hash & 0xff_ffff_ffff)
}

/// Whether labels are as a selector of exact labels says.
fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(wanted) = selector.and_then(Value::as_object) else { return false };
    wanted.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
}

/// The path of a kind's objects in a namespace, or of one of them.
fn path(group_version: &str, namespace: &str, plural: &str, name: &str) -> String {
    let root = if group_version.contains('/') { "apis" } else { "api" };
    let slash = if name.is_empty() { "" } else { "/" };
    format!("/{root}/{group_version}/namespaces/{namespace}/{plural}{slash}{name}")
}

/// Writes the status of an object where it is another.
fn tell(
    now_ms: u64,
    cluster: &mut Cluster,
    object: &Value,
    (version, plural): (&str, &str),
    status: Value,
) {
    let differs = status.as_object().into_iter().flatten().any(|(name, value)| {
        object.pointer("/status").and_then(|status| status.get(name)) != Some(value)
    });
    if differs {
        let (namespace, name) =
            (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let target = format!("{}/status", path(version, namespace, plural, name));
        cluster.inside(now_ms, Method::PATCH, &target, &serde_json::json!({"status": status}));
    }
}
