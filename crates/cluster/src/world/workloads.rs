//! Deployments, ReplicaSets and Jobs: pods that are told apart by nothing.

use http::Method;
use serde_json::{Value, json};

use super::pods::ended;
use super::{World, condition, deleting, number, path, revision_of, tell, text};
use crate::Cluster;

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
    ) {
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
        cluster.inside(now_ms, Method::POST, &target, &pod);
    }
}

pub(super) fn drop_pod(now_ms: u64, cluster: &mut Cluster, pod: &Value) {
    let target = path("v1", text(pod, "/metadata/namespace"), "pods", text(pod, "/metadata/name"));
    cluster.inside(now_ms, Method::DELETE, &target, &Value::Null);
}

impl World {
    fn living_of(&self, plural: &str) -> Vec<Value> {
        self.all(plural).filter(|one| !deleting(one)).cloned().collect()
    }

    pub(super) fn deployments(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for deployment in self.living_of("deployments") {
            self.deployment(now_ms, cluster, &deployment);
        }
    }

    fn deployment(&mut self, now_ms: u64, cluster: &mut Cluster, deployment: &Value) {
        let replicas = number(deployment, "/spec/replicas", 1);
        let template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
        let hash = revision_of(&template);
        let uid = text(deployment, "/metadata/uid");
        let sets: Vec<Value> = self
            .kinds
            .get("replicasets")
            .into_iter()
            .flat_map(|sets| sets.owned(uid))
            .cloned()
            .collect();
        let of_hash = |set: &&Value| text(set, "/metadata/labels/pod-template-hash") == hash;
        let (new, old): (Vec<&Value>, Vec<&Value>) = sets.iter().partition(of_hash);
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
        let status = json!({
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
        tell(now_ms, cluster, deployment, ("apps/v1", "deployments"), status);
    }

    pub(super) fn replica_sets(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for set in self.living_of("replicasets") {
            let mut pods = self.pods_of(&set);
            pods.retain(|pod| !ended(pod));
            let replicas = usize::try_from(number(&set, "/spec/replicas", 1)).unwrap_or(usize::MAX);
            let maker = Maker { owner: &set, version: "apps/v1", kind: "ReplicaSet" };
            let template = &set["spec"]["template"];
            for _ in pods.len()..replicas {
                let named = json!({"generateName": format!("{}-", text(&set, "/metadata/name"))});
                maker.make(now_ms, cluster, template, named, &Value::Null);
            }
            pods.sort_by_key(|pod| condition(pod, "Ready"));
            let surplus = pods.len().saturating_sub(replicas);
            pods.iter().take(surplus).for_each(|pod| drop_pod(now_ms, cluster, pod));
            let ready = pods.iter().skip(surplus).filter(|pod| condition(pod, "Ready")).count();
            let status = json!({
                "observedGeneration": set["metadata"]["generation"],
                "replicas": pods.len() - surplus,
                "readyReplicas": ready,
                "availableReplicas": ready,
            });
            tell(now_ms, cluster, &set, ("apps/v1", "replicasets"), status);
        }
    }

    pub(super) fn jobs(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for job in self.living_of("jobs") {
            if condition(&job, "Complete") || job["spec"]["suspend"] == true {
                continue;
            }
            let pods = self.pods_of(&job);
            let in_phase = |phase: &str| {
                pods.iter().filter(|pod| text(pod, "/status/phase") == phase).count() as u64
            };
            let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
            let active = pods.len() as u64 - succeeded - failed;
            let completions = number(&job, "/spec/completions", 1);
            let wanted =
                completions.saturating_sub(succeeded).min(number(&job, "/spec/parallelism", 1));
            let maker = Maker { owner: &job, version: "batch/v1", kind: "Job" };
            for _ in active..wanted {
                let named = json!({"generateName": format!("{}-", text(&job, "/metadata/name"))});
                maker.make(now_ms, cluster, &job["spec"]["template"], named, &Value::Null);
            }
            let mut status =
                json!({"active": active.max(wanted), "succeeded": succeeded, "failed": failed});
            if succeeded >= completions {
                status["conditions"] = json!([{"type": "Complete", "status": "True"}]);
                status["active"] = 0.into();
            }
            tell(now_ms, cluster, &job, ("batch/v1", "jobs"), status);
        }
    }
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
