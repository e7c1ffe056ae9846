//! What follows from pods: the endpoints of services, and what budgets allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{World, condition, deleting, number, path, tell, text};
use crate::Cluster;
use crate::store::Key;

impl World {
    /// Keeps one slice of endpoints for each service with a selector.
    pub(super) fn endpoints(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (_, service) in self.take("services") {
            let selector = service.pointer("/spec/selector");
            if selector.is_none() || deleting(&service) {
                continue;
            }
            let namespace = text(&service, "/metadata/namespace");
            let pods = self.selected(namespace, selector).into_iter();
            let reached = pods
                .filter(|pod| !text(pod, "/status/podIP").is_empty() && !super::pods::ended(pod));
            let endpoints: Vec<Value> = reached.map(|pod| endpoint(&pod)).collect();
            let name = text(&service, "/metadata/name");
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-endpoints"),
                    "labels": {"kubernetes.io/service-name": name},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name,
                        "uid": service["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}],
                },
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": ports(&service),
            });
            let place = path(
                "discovery.k8s.io/v1",
                namespace,
                "endpointslices",
                &format!("{name}-endpoints"),
            );
            let target = format!("{place}?fieldManager=endpointslice-controller&force=true");
            cluster.inside(now_ms, Method::PATCH, &target, &slice);
        }
    }

    /// How many pods there are to be, by what keeps them: Deployments say it for their sets, of others
    /// those that are there are counted. Those that nobody keeps are not expected.
    fn expected(&self, pods: &[Arc<Value>]) -> u64 {
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = controller(pod) else { continue };
            let namespace = text(pod, "/metadata/namespace");
            let named = |plural: &str, owner: &Value| {
                let found = self.get(plural, &Key::of(namespace, text(owner, "/name")));
                found.filter(|one| text(one, "/metadata/uid") == text(owner, "/uid"))
            };
            let uid = text(owner, "/uid").to_owned();
            let Some(set) = named("replicasets", owner) else {
                *expected.entry(uid).or_default() += u64::from(!deleting(pod));
                continue;
            };
            let above = controller(&set).and_then(|owner| named("deployments", owner));
            let kept_by = above.unwrap_or(set);
            let scale = number(&kept_by, "/spec/replicas", 1);
            expected.insert(text(&kept_by, "/metadata/uid").to_owned(), scale);
        }
        expected.values().sum()
    }

    /// Counts what budgets allow.
    pub(super) fn budgets(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (_, budget) in self.take("poddisruptionbudgets") {
            let namespace = text(&budget, "/metadata/namespace");
            let pods = self.selected(namespace, budget.pointer("/spec/selector/matchLabels"));
            let expected = self.expected(&pods);
            let healthy =
                pods.iter().filter(|pod| condition(pod, "Ready") && !deleting(pod)).count() as u64;
            let desired = match (
                budget.pointer("/spec/minAvailable"),
                budget.pointer("/spec/maxUnavailable"),
            ) {
                (Some(least), _) => part(least, expected),
                (None, Some(most)) => expected.saturating_sub(part(most, expected)),
                (None, None) => expected,
            };
            let status = json!({
                "observedGeneration": budget["metadata"]["generation"],
                "expectedPods": expected,
                "currentHealthy": healthy,
                "desiredHealthy": desired,
                "disruptionsAllowed": healthy.saturating_sub(desired),
            });
            tell(now_ms, cluster, &budget, ("policy/v1", "poddisruptionbudgets"), status);
        }
    }
}

fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().find(|owner| owner["controller"] == true)
}

fn endpoint(pod: &Value) -> Value {
    let going = deleting(pod);
    let ready = condition(pod, "Ready");
    json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready && !going, "serving": ready, "terminating": going},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"], "uid": pod["metadata"]["uid"]},
    })
}

/// The ports of a service's pods. Ports by name are told as zero.
fn ports(service: &Value) -> Vec<Value> {
    let all = service.pointer("/spec/ports").and_then(Value::as_array);
    let each = all.into_iter().flatten().map(|port| {
        json!({"name": text(port, "/name"), "protocol": "TCP", "port": number(port, "/targetPort", 0)})
    });
    each.collect()
}

/// A number, or a share in percent, rounded up.
fn part(value: &Value, of: u64) -> u64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u64>().ok());
    match percent {
        Some(percent) => (of * percent).div_ceil(100),
        None => value.as_u64().unwrap_or_default(),
    }
}
