//! Deployments, ReplicaSets and Jobs: pods that are told apart by nothing.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::pods::ended;
use super::{World, condition, deleting, number, path, revision_of, selects, tell, text};
use crate::Cluster;
use crate::api::stamp;

/// What a pod is made by.
pub(super) struct Maker<'a> {
    pub(super) owner: &'a Value,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
}

impl Maker<'_> {
    pub(super) fn namespace(&self) -> &str {
        text(self.owner, "/metadata/namespace")
    }

    pub(super) fn reference(&self) -> Value {
        json!({
            "apiVersion": self.version,
            "kind": self.kind,
            "name": self.owner["metadata"]["name"],
            "uid": self.owner["metadata"]["uid"],
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }

    /// Makes a pod of a template, with a name or the beginning of one.
    pub(super) fn make(
        &self,
        now_ms: u64,
        cluster: &mut Cluster,
        template: &Value,
        named: Value,
        labels: &Value,
    ) -> Result<(), String> {
        let mut pod = json!({
            "metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})),
            "spec": template.get("spec").cloned().unwrap_or_default(),
        });
        let meta = &mut pod["metadata"];
        for (name, value) in named.as_object().into_iter().flatten() {
            meta[name] = value.clone();
        }
        for (name, value) in labels.as_object().into_iter().flatten() {
            meta["labels"][name] = value.clone();
        }
        meta["ownerReferences"] = json!([self.reference()]);
        let target = path("v1", self.namespace(), "pods", "");
        let (status, answer) = cluster.inside(now_ms, Method::POST, &target, &pod);
        // One that is there already was made before its owner was looked at.
        if status < 300 || status == 409 { Ok(()) } else { Err(text(&answer, "/message").into()) }
    }
}

pub(super) fn drop_pod(now_ms: u64, cluster: &mut Cluster, pod: &Value) {
    let target = path("v1", text(pod, "/metadata/namespace"), "pods", text(pod, "/metadata/name"));
    cluster.inside(now_ms, Method::DELETE, &target, &Value::Null);
}

impl World {
    pub(super) fn deployments(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (_, deployment) in self.take("deployments") {
            if !deleting(&deployment) {
                self.deployment(now_ms, cluster, &deployment);
            }
        }
    }

    fn deployment(&mut self, now_ms: u64, cluster: &mut Cluster, deployment: &Value) {
        let replicas = number(deployment, "/spec/replicas", 1);
        let template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
        let hash = revision_of(&template);
        let uid = text(deployment, "/metadata/uid");
        let sets: Vec<Arc<Value>> = self
            .kinds
            .get("replicasets")
            .into_iter()
            .flat_map(|sets| sets.owned(uid))
            .map(Arc::clone)
            .collect();
        let of_hash = |set: &&Value| text(set, "/metadata/labels/pod-template-hash") == hash;
        let (new, old): (Vec<&Value>, Vec<&Value>) =
            sets.iter().map(AsRef::as_ref).partition(of_hash);
        let recreates = text(deployment, "/spec/strategy/type") == "Recreate";
        let old_pods: usize = old.iter().map(|set| self.pods_of(set).len()).sum();
        match new.first() {
            None if recreates && old_pods > 0 => {}
            None => make_set(now_ms, cluster, deployment, &template, &hash),
            Some(set) => scale(now_ms, cluster, set, replicas),
        }
        let ready =
            new.first().map(|set| number(set, "/status/readyReplicas", 0)).unwrap_or_default();
        let mut left = if recreates { 0 } else { replicas.saturating_sub(ready) };
        for set in &old {
            let keeps = number(set, "/spec/replicas", 0).min(left);
            left -= keeps;
            scale(now_ms, cluster, set, keeps);
        }
        let sum = |field: &str| -> u64 {
            sets.iter().map(|set| number(set, &format!("/status/{field}"), 0)).sum()
        };
        let updated = new.first().map(|set| number(set, "/status/replicas", 0)).unwrap_or_default();
        let available = sum("readyReplicas");
        let says = |holds: bool| if holds { "True" } else { "False" };
        let mut status = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": sum("replicas"),
            "updatedReplicas": updated,
            "readyReplicas": available,
            "availableReplicas": available,
            "unavailableReplicas": replicas.saturating_sub(available),
            "conditions": [
                {"type": "Available", "status": says(available >= replicas), "reason": "MinimumReplicas"},
                {"type": "Progressing", "status": "True",
                    "reason": if updated == replicas && available == replicas { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }},
            ],
        });
        let failed = sets.iter().filter_map(|set| failure_of(set));
        if let Some(all) = status["conditions"].as_array_mut() {
            all.extend(failed.take(1).cloned());
        }
        tell(now_ms, cluster, deployment, ("apps/v1", "deployments"), status);
    }

    pub(super) fn replica_sets(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (key, set) in self.take("replicasets") {
            if !deleting(&set) && self.replica_set(now_ms, cluster, &set).is_err() {
                self.again(now_ms, "replicasets", &key);
            }
        }
    }

    fn replica_set(
        &mut self,
        now_ms: u64,
        cluster: &mut Cluster,
        set: &Value,
    ) -> Result<(), String> {
        let mut pods = self.kept_of(now_ms, cluster, set);
        pods.retain(|pod| !ended(pod));
        let replicas = usize::try_from(number(set, "/spec/replicas", 1)).unwrap_or(usize::MAX);
        let maker = Maker { owner: set, version: "apps/v1", kind: "ReplicaSet" };
        let template = &set["spec"]["template"];
        let mut made = Ok(());
        for _ in pods.len()..replicas {
            let named = json!({"generateName": format!("{}-", text(set, "/metadata/name"))});
            made = maker.make(now_ms, cluster, template, named, &Value::Null);
            if made.is_err() {
                break;
            }
        }
        pods.sort_by_key(|pod| condition(pod, "Ready"));
        let surplus = pods.len().saturating_sub(replicas);
        pods.iter().take(surplus).for_each(|pod| drop_pod(now_ms, cluster, pod));
        let ready = pods.iter().skip(surplus).filter(|pod| condition(pod, "Ready")).count();
        let mut status = json!({
            "observedGeneration": set["metadata"]["generation"],
            "replicas": pods.len() - surplus,
            "readyReplicas": ready,
            "availableReplicas": ready,
        });
        let known = failure_of(set);
        match &made {
            // What is told of is the first failure, for as long as it lasts.
            Err(message) if known.is_none() => {
                status["conditions"] = json!([{"type": "ReplicaFailure", "status": "True",
                    "reason": "FailedCreate", "message": message,
                    "lastTransitionTime": stamp::written(now_ms)}]);
            }
            Ok(()) if known.is_some() => status["conditions"] = json!([]),
            _ => {}
        }
        tell(now_ms, cluster, set, ("apps/v1", "replicasets"), status);
        made
    }

    /// The pods that a set keeps: it lets go of those that it does not select, and takes in those of nobody
    /// that it does.
    fn kept_of(&self, now_ms: u64, cluster: &mut Cluster, set: &Value) -> Vec<Arc<Value>> {
        let selector = set.pointer("/spec/selector/matchLabels");
        let (mut kept, others): (Vec<Arc<Value>>, Vec<Arc<Value>>) = self
            .pods_of(set)
            .into_iter()
            .partition(|pod| selects(selector, pod.pointer("/metadata/labels")));
        for pod in &others {
            own(now_ms, cluster, pod, |owners| {
                owners.retain(|owner| owner["uid"] != set["metadata"]["uid"]);
            });
        }
        let maker = Maker { owner: set, version: "apps/v1", kind: "ReplicaSet" };
        let is_nobodys = |pod: &Arc<Value>| {
            !deleting(pod) && !owners(pod).iter().any(|one| one["controller"] == true)
        };
        let all = self.selected(text(set, "/metadata/namespace"), selector).into_iter();
        for pod in all.filter(is_nobodys) {
            own(now_ms, cluster, &pod, |owners| owners.push(maker.reference()));
            kept.push(pod);
        }
        kept
    }

    pub(super) fn jobs(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (key, job) in self.take("jobs") {
            let over = condition(&job, "Complete") || job["spec"]["suspend"] == true;
            if !over && !deleting(&job) && self.job(now_ms, cluster, &job).is_err() {
                self.again(now_ms, "jobs", &key);
            }
        }
    }

    fn job(&mut self, now_ms: u64, cluster: &mut Cluster, job: &Value) -> Result<(), String> {
        let pods = self.pods_of(job);
        let in_phase = |phase: &str| {
            pods.iter().filter(|pod| text(pod, "/status/phase") == phase).count() as u64
        };
        let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
        let active = pods.len() as u64 - succeeded - failed;
        let completions = number(job, "/spec/completions", 1);
        let wanted = completions.saturating_sub(succeeded).min(number(job, "/spec/parallelism", 1));
        let maker = Maker { owner: job, version: "batch/v1", kind: "Job" };
        let mut made = Ok(());
        for _ in active..wanted {
            let named = json!({"generateName": format!("{}-", text(job, "/metadata/name"))});
            made = maker.make(now_ms, cluster, &job["spec"]["template"], named, &Value::Null);
        }
        let mut status =
            json!({"active": active.max(wanted), "succeeded": succeeded, "failed": failed});
        if succeeded >= completions {
            status["conditions"] = json!([{"type": "Complete", "status": "True"}]);
            status["active"] = 0.into();
        }
        tell(now_ms, cluster, job, ("batch/v1", "jobs"), status);
        made
    }
}

fn owners(pod: &Value) -> Vec<Value> {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.cloned().unwrap_or_default()
}

/// Changes whose a pod is.
fn own(now_ms: u64, cluster: &mut Cluster, pod: &Value, change: impl Fn(&mut Vec<Value>)) {
    let mut owners = owners(pod);
    change(&mut owners);
    let target = path("v1", text(pod, "/metadata/namespace"), "pods", text(pod, "/metadata/name"));
    let body = json!({"metadata": {"uid": pod["metadata"]["uid"], "ownerReferences": owners}});
    cluster.inside(now_ms, Method::PATCH, &target, &body);
}

/// Why a set's pods cannot be made, as its status says.
fn failure_of(set: &Value) -> Option<&Value> {
    let all = set.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter().flatten().find(|one| one["type"] == "ReplicaFailure")
}

fn make_set(now_ms: u64, cluster: &mut Cluster, deployment: &Value, template: &Value, hash: &str) {
    let maker = Maker { owner: deployment, version: "apps/v1", kind: "Deployment" };
    let mut template = template.clone();
    template["metadata"]["labels"]["pod-template-hash"] = hash.into();
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"]["pod-template-hash"] = hash.into();
    let set = json!({
        "metadata": {
            "name": format!("{}-{hash}", text(deployment, "/metadata/name")),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [maker.reference()],
        },
        "spec": {"replicas": number(deployment, "/spec/replicas", 1), "selector": selector, "template": template},
    });
    cluster.inside(
        now_ms,
        Method::POST,
        &path("apps/v1", maker.namespace(), "replicasets", ""),
        &set,
    );
}

fn scale(now_ms: u64, cluster: &mut Cluster, set: &Value, replicas: u64) {
    if number(set, "/spec/replicas", 1) != replicas {
        let (namespace, name) = (text(set, "/metadata/namespace"), text(set, "/metadata/name"));
        let target = path("apps/v1", namespace, "replicasets", name);
        let body = json!({"spec": {"replicas": replicas}});
        cluster.inside(now_ms, Method::PATCH, &target, &body);
    }
}
