//! What follows from pods: the endpoints of services, and what budgets allow.

use http::Method;
use serde_json::{Value, json};

use super::{World, condition, deleting, number, path, selects, tell, text};
use crate::Cluster;

impl World {
    /// Keeps one slice of endpoints for each service with a selector.
    pub(super) fn endpoints(&mut self, now_ms: u64, cluster: &mut Cluster) {
        let services: Vec<Value> =
            self.all("services").filter(|one| !deleting(one)).cloned().collect();
        for service in services {
            let selector = service.pointer("/spec/selector");
            if selector.is_none() {
                continue;
            }
            let namespace = text(&service, "/metadata/namespace");
            let endpoints: Vec<Value> = self
                .all("pods")
                .filter(|pod| text(pod, "/metadata/namespace") == namespace)
                .filter(|pod| selects(selector, pod.pointer("/metadata/labels")))
                .filter(|pod| !text(pod, "/status/podIP").is_empty() && !super::pods::ended(pod))
                .map(endpoint)
                .collect();
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

    /// Counts what budgets allow.
    pub(super) fn budgets(&mut self, now_ms: u64, cluster: &mut Cluster) {
        let budgets: Vec<Value> = self.all("poddisruptionbudgets").cloned().collect();
        for budget in budgets {
            let namespace = text(&budget, "/metadata/namespace");
            let selector = budget.pointer("/spec/selector/matchLabels");
            let within = self.all("pods").filter(|pod| {
                text(pod, "/metadata/namespace") == namespace
                    && selects(selector, pod.pointer("/metadata/labels"))
            });
            let pods: Vec<&Value> = within.collect();
            let expected = pods.iter().filter(|pod| !deleting(pod)).count() as u64;
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
