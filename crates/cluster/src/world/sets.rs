//! StatefulSets and LeaderWorkerSets: pods that have places.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::workloads::{Maker, drop_pod};
use super::{World, condition, deleting, number, revision_of, tell, text};
use crate::Cluster;

const LEADER_WORKER: &str = "leaderworkerset.x-k8s.io/v1";

impl World {
    pub(super) fn stateful_sets(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (key, set) in self.take("statefulsets") {
            if !deleting(&set) && self.stateful_set(now_ms, cluster, &set).is_err() {
                self.again(now_ms, "statefulsets", &key);
            }
        }
    }

    fn stateful_set(
        &mut self,
        now_ms: u64,
        cluster: &mut Cluster,
        set: &Value,
    ) -> Result<(), String> {
        let mut made = Ok(());
        let replicas = number(set, "/spec/replicas", 1);
        let name = text(set, "/metadata/name");
        let template = &set["spec"]["template"];
        let hash = revision_of(template);
        let maker = Maker { owner: set, version: "apps/v1", kind: "StatefulSet" };
        let ordered = text(set, "/spec/podManagementPolicy") != "Parallel";
        let pods = self.by_place(set, "apps.kubernetes.io/pod-index");
        for (at, pod) in pods.iter().rev() {
            if *at >= replicas && !deleting(pod) {
                drop_pod(now_ms, cluster, pod);
            }
        }
        let mut all_ready = true;
        for at in 0..replicas {
            match pods.get(&at) {
                Some(pod) => all_ready &= condition(pod, "Ready") && !deleting(pod),
                None => {
                    let labels = json!({
                        "apps.kubernetes.io/pod-index": at.to_string(),
                        "statefulset.kubernetes.io/pod-name": format!("{name}-{at}"),
                        "controller-revision-hash": hash,
                    });
                    let named = json!({"name": format!("{name}-{at}")});
                    made = maker.make(now_ms, cluster, template, named, &labels);
                    all_ready = false;
                }
            }
            if ordered && !all_ready {
                break;
            }
        }
        let partition = number(set, "/spec/updateStrategy/rollingUpdate/partition", 0);
        let fresh = |pod: &Value| text(pod, "/metadata/labels/controller-revision-hash") == hash;
        let outdated = pods.iter().rev().find(|(at, pod)| **at >= partition && !fresh(pod));
        let rolls = text(set, "/spec/updateStrategy/type") != "OnDelete";
        if let Some((_, pod)) = outdated.filter(|_| rolls) {
            // One that never became ready is in nobody's way.
            if all_ready || !condition(pod, "Ready") {
                drop_pod(now_ms, cluster, pod);
            }
        }
        let within = pods.iter().filter(|(at, pod)| **at < replicas && !deleting(pod));
        let ready = within.clone().filter(|(_, pod)| condition(pod, "Ready")).count();
        let updated = within.clone().filter(|(_, pod)| fresh(pod)).count();
        let status = json!({
            "observedGeneration": set["metadata"]["generation"],
            "replicas": within.count(),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": updated,
            "updateRevision": hash,
        });
        tell(now_ms, cluster, set, ("apps/v1", "statefulsets"), status);
        made
    }

    /// An owner's pods by the number in a label, those that are going among them.
    fn by_place(&self, owner: &Value, label: &str) -> BTreeMap<u64, Arc<Value>> {
        let uid = text(owner, "/metadata/uid");
        let pods = self.kinds.get("pods").into_iter().flat_map(|pods| pods.owned(uid));
        let placed = pods.filter_map(|pod| {
            let at = pod.pointer("/metadata/labels")?.get(label)?.as_str()?.parse().ok()?;
            Some((at, Arc::clone(pod)))
        });
        placed.collect()
    }

    /// LeaderWorkerSets: each replica is a leader and its workers.
    pub(super) fn groups(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (key, set) in self.take("leaderworkersets") {
            if !deleting(&set) && self.group_set(now_ms, cluster, &set).is_err() {
                self.again(now_ms, "leaderworkersets", &key);
            }
        }
    }

    fn group_set(&mut self, now_ms: u64, cluster: &mut Cluster, set: &Value) -> Result<(), String> {
        let mut made = Ok(());
        let replicas = number(set, "/spec/replicas", 1);
        let parts = &set["spec"]["leaderWorkerTemplate"];
        let size = number(parts, "/size", 1);
        let hash = revision_of(parts);
        let uid = text(set, "/metadata/uid");
        let mut groups: BTreeMap<u64, Vec<Arc<Value>>> = BTreeMap::new();
        for pod in self.kinds.get("pods").into_iter().flat_map(|pods| pods.owned(uid)) {
            let at = label(pod, "group-index").parse().unwrap_or_default();
            groups.entry(at).or_default().push(Arc::clone(pod));
        }
        let fresh = |pod: &Arc<Value>| label(pod, "template-revision-hash") == hash;
        let up = |pods: &Vec<Arc<Value>>| {
            pods.len() as u64 == size
                && pods.iter().all(|pod| condition(pod, "Ready") && !deleting(pod))
        };
        let drop_all = |cluster: &mut Cluster, pods: &[Arc<Value>]| {
            let staying = pods.iter().filter(|pod| !deleting(pod));
            staying.for_each(|pod| drop_pod(now_ms, cluster, pod));
        };
        for pods in groups.iter().filter(|(at, _)| **at >= replicas).map(|(_, pods)| pods) {
            drop_all(cluster, pods);
        }
        let within: Vec<&Vec<Arc<Value>>> =
            (0..replicas).filter_map(|at| groups.get(&at)).collect();
        let ready = within.iter().filter(|pods| up(pods)).count() as u64;
        let updated = within.iter().filter(|pods| pods.iter().all(fresh)).count();
        let outdated = within.iter().rev().find(|pods| !pods.iter().all(fresh));
        if let Some(pods) = outdated.filter(|pods| ready == replicas || !up(pods)) {
            drop_all(cluster, pods);
        }
        // One that loses a pod begins anew as a whole (`RecreateGroupOnPodRestart`, as it is unless it says else).
        for pods in within.iter().filter(|pods| pods.iter().any(|pod| deleting(pod))) {
            drop_all(cluster, pods);
        }
        for at in 0..replicas {
            let pods = groups.get(&at).map(Vec::as_slice).unwrap_or_default();
            // A group begins whole: its old pods are gone first.
            if pods.iter().all(|pod| fresh(pod) && !deleting(pod)) {
                let filled = fill_group(now_ms, cluster, set, (at, size, &hash), pods);
                made = made.and(filled);
            }
        }
        let says = if ready == replicas { "True" } else { "False" };
        let status = json!({
            "replicas": within.len(),
            "readyReplicas": ready,
            "updatedReplicas": updated,
            "conditions": [{"type": "Available", "status": says, "reason": "Groups",
                "message": "", "lastTransitionTime": set["metadata"]["creationTimestamp"]}],
        });
        tell(now_ms, cluster, set, (LEADER_WORKER, "leaderworkersets"), status);
        made
    }
}

fn label<'a>(pod: &'a Value, name: &str) -> &'a str {
    let labels = pod.pointer("/metadata/labels");
    let label = labels.and_then(|labels| labels.get(format!("leaderworkerset.sigs.k8s.io/{name}")));
    label.and_then(Value::as_str).unwrap_or_default()
}

fn fill_group(
    now_ms: u64,
    cluster: &mut Cluster,
    set: &Value,
    (group, size, hash): (u64, u64, &str),
    pods: &[Arc<Value>],
) -> Result<(), String> {
    let mut made = Ok(());
    let maker = Maker { owner: set, version: LEADER_WORKER, kind: "LeaderWorkerSet" };
    let name = text(set, "/metadata/name");
    let parts = &set["spec"]["leaderWorkerTemplate"];
    let worker = &parts["workerTemplate"];
    let leader = parts.get("leaderTemplate").unwrap_or(worker);
    for at in 0..size {
        let index = at.to_string();
        if pods.iter().any(|pod| label(pod, "worker-index") == index) {
            continue;
        }
        let labels = json!({
            "leaderworkerset.sigs.k8s.io/name": name,
            "leaderworkerset.sigs.k8s.io/group-index": group.to_string(),
            "leaderworkerset.sigs.k8s.io/worker-index": index,
            "leaderworkerset.sigs.k8s.io/template-revision-hash": hash,
        });
        let (template, pod) = if at == 0 {
            (leader, format!("{name}-{group}"))
        } else {
            (worker, format!("{name}-{group}-{at}"))
        };
        let one = maker.make(now_ms, cluster, template, json!({"name": pod}), &labels);
        made = made.and(one);
    }
    made
}
