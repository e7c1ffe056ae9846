//! What objects of the kinds that every cluster has must be like.
//!
//! The rules that operators and controllers meet; not all of a server's.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::builtin::pod_spec;
use super::meta::{entries, labels};
use super::names;
use super::pod::{list, pod, text, unsupported};
use super::quantity::Quantity;
use crate::api::failure::Cause;

/// Bytes of all entries of a Secret or ConfigMap.
const DATA_MAX: usize = 1024 * 1024;

/// What is wrong with an object of a kind.
pub(crate) fn required(kind: &str, object: &Value) -> Vec<Cause> {
    let mut causes = missing(kind, object);
    if let Some((path, spec)) = pod_spec(kind).and_then(|at| Some((at, object.pointer(at)?))) {
        causes.extend(pod(spec, &dotted(path), restarts(kind)));
    }
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            workload(kind, object, &mut causes);
        }
        "Job" => job(object, &mut causes),
        "Service" => service(object, &mut causes),
        "PodDisruptionBudget" => budget(object, &mut causes),
        "HorizontalPodAutoscaler" => autoscaler(object, &mut causes),
        "PersistentVolumeClaim" => claim(object, &mut causes),
        "Secret" | "ConfigMap" => data(object, &mut causes),
        "Role" | "ClusterRole" => role(object, &mut causes),
        "NetworkPolicy" => policy(object, &mut causes),
        _ => {}
    }
    causes
}

fn missing(kind: &str, object: &Value) -> Vec<Cause> {
    let needed: &[&str] = match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            &["/spec/selector", "/spec/template"]
        }
        "Pod" => &["/spec/containers"],
        "Job" => &["/spec/template"],
        "HorizontalPodAutoscaler" => {
            &["/spec/scaleTargetRef/kind", "/spec/scaleTargetRef/name", "/spec/maxReplicas"]
        }
        "PersistentVolumeClaim" => &["/spec/accessModes", "/spec/resources/requests/storage"],
        "EndpointSlice" => &["/addressType"],
        "RoleBinding" | "ClusterRoleBinding" => &["/roleRef/kind", "/roleRef/name"],
        "PriorityClass" => &["/value"],
        "StorageClass" => &["/provisioner"],
        _ => &[],
    };
    let absent = needed.iter().filter(|pointer| object.pointer(pointer).is_none());
    absent.map(|pointer| Cause::required(dotted(pointer))).collect()
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// When pods of a kind may be started again.
fn restarts(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["Always", "OnFailure", "Never"],
        "Job" => &["OnFailure", "Never"],
        _ => &["Always"],
    }
}

/// A workload has to select the pods of its own template.
fn workload(kind: &str, object: &Value, causes: &mut Vec<Cause>) {
    let none = Value::Object(Map::new());
    let own = object.pointer("/spec/template/metadata/labels").unwrap_or(&none);
    labels(Some(own), "spec.template.labels", causes);
    if let Some(selector) = object.pointer("/spec/selector") {
        let wanted = selector.get("matchLabels").and_then(Value::as_object);
        let is_empty =
            wanted.is_none_or(Map::is_empty) && list(selector, "matchExpressions").is_empty();
        if is_empty {
            let why = format!("empty selector is invalid for {}", kind.to_lowercase());
            causes.push(Cause::invalid("spec.selector", selector, &why));
        }
        let matches =
            wanted.into_iter().flatten().all(|(name, value)| own.get(name) == Some(value));
        if !matches {
            let why = "`selector` does not match template `labels`";
            causes.push(Cause::invalid("spec.template.metadata.labels", own, why));
        }
    }
    count(object, "/spec/replicas", causes);
    let strategy = object.pointer("/spec/strategy").unwrap_or(&none);
    let rolling = strategy.get("rollingUpdate");
    if text(strategy, "type") == "Recreate" && rolling.is_some() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        causes.push(Cause::forbidden("spec.strategy.rollingUpdate", why));
    }
    if let Some(rolling) = rolling.filter(|_| text(strategy, "type") == "RollingUpdate") {
        let is_zero = |name: &str| {
            let said = rolling.get(name);
            said.is_some_and(|said| *said == 0 || *said == "0%" || *said == "0")
        };
        if is_zero("maxSurge") && is_zero("maxUnavailable") {
            let field = "spec.strategy.rollingUpdate.maxUnavailable";
            causes.push(Cause::invalid(
                field,
                &Value::from(0),
                "may not be 0 when `maxSurge` is 0",
            ));
        }
    }
}

fn count(object: &Value, at: &str, causes: &mut Vec<Cause>) {
    let said = object.pointer(at);
    if said.is_some_and(|said| said.as_u64().is_none()) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid(dotted(at), said.unwrap_or(&Value::Null), why));
    }
}

fn job(job: &Value, causes: &mut Vec<Cause>) {
    // What a job's pods inherit, its name among it, has to be a label.
    let own = job.pointer("/spec/template/metadata/labels");
    labels(own, "spec.template.labels", causes);
    for at in ["/spec/backoffLimit", "/spec/completions", "/spec/parallelism"] {
        count(job, at, causes);
    }
}

fn service(service: &Value, causes: &mut Vec<Cause>) {
    let none = Value::Object(Map::new());
    let spec = service.get("spec").unwrap_or(&none);
    let ports = list(spec, "ports");
    let is_headless = text(spec, "clusterIP") == "None";
    if ports.is_empty() && !is_headless && text(spec, "type") != "ExternalName" {
        causes.push(Cause::required("spec.ports"));
    }
    let (mut names_seen, mut ports_seen) = (BTreeSet::new(), BTreeSet::new());
    for (at, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{at}]");
        let name = text(port, "name");
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{path}.name")));
        }
        if let Some(why) = names::label(name).filter(|_| !name.is_empty()) {
            causes.push(Cause::invalid(format!("{path}.name"), &Value::from(name), why));
        }
        if !name.is_empty() && !names_seen.insert(name) {
            let message = format!("Duplicate value: {name:?}");
            causes.push(Cause::of("FieldValueDuplicate", format!("{path}.name"), message));
        }
        let number = port.get("port").and_then(Value::as_u64).unwrap_or_default();
        if !(1..=65535).contains(&number) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.port"), &Value::from(number), why));
        }
        if !ports_seen.insert((number, text(port, "protocol"))) {
            causes.push(Cause::of("FieldValueDuplicate", path, format!("Duplicate value: {port}")));
        }
    }
    let kinds = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    let kind = text(spec, "type");
    if !kind.is_empty() && !kinds.contains(&kind) {
        causes.push(unsupported("spec.type".into(), kind, &kinds));
    }
    labels(spec.get("selector"), "spec.selector", causes);
}

fn budget(budget: &Value, causes: &mut Vec<Cause>) {
    let says = |name: &str| budget.pointer("/spec").is_some_and(|spec| spec.get(name).is_some());
    if says("minAvailable") && says("maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        let spec = budget.get("spec").cloned().unwrap_or_default();
        causes.push(Cause::invalid("spec", &spec, why));
    }
}

fn autoscaler(autoscaler: &Value, causes: &mut Vec<Cause>) {
    let number = |at: &str| autoscaler.pointer(at).and_then(Value::as_i64);
    let (least, most) = (number("/spec/minReplicas"), number("/spec/maxReplicas"));
    if most.is_some_and(|most| most < 1) {
        let why = "must be greater than 0";
        causes.push(Cause::invalid("spec.maxReplicas", &Value::from(most), why));
    }
    if least.is_some_and(|least| least < 1) {
        let why = "must be greater than or equal to 1";
        causes.push(Cause::invalid("spec.minReplicas", &Value::from(least), why));
    }
    if most.zip(least).is_some_and(|(most, least)| most < least) {
        let why = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", &Value::from(most), why));
    }
}

fn claim(claim: &Value, causes: &mut Vec<Cause>) {
    let modes = claim.pointer("/spec/accessModes").and_then(Value::as_array);
    let all = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let said = modes.into_iter().flatten().filter_map(Value::as_str);
    for said in said.filter(|said| !all.contains(said)) {
        causes.push(unsupported("spec.accessModes".into(), said, &all));
    }
    let storage = claim.pointer("/spec/resources/requests/storage").and_then(Value::as_str);
    let amount = storage.and_then(Quantity::parse);
    if amount.is_some_and(|amount| !amount.exceeds(Quantity::ZERO)) {
        let field = "spec.resources.requests[storage]";
        let why = "must be greater than zero";
        causes.push(Cause::invalid(field, &Value::from(storage), why));
    }
}

fn data(object: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        if let Some(data) = object.get(field).and_then(Value::as_object) {
            entries(data, field, causes);
            let sizes = data.values().filter_map(Value::as_str).map(str::len);
            size += sizes.sum::<usize>();
        }
    }
    if size > DATA_MAX {
        let message = format!("Too long: may not be more than {DATA_MAX} bytes");
        causes.push(Cause::of("FieldValueTooLong", "data", message));
    }
}

fn role(role: &Value, causes: &mut Vec<Cause>) {
    for (at, rule) in list(role, "rules").iter().enumerate() {
        let path = format!("rules[{at}]");
        let mut needs = |name: &str| {
            if list(rule, name).is_empty() {
                causes.push(Cause::required(format!("{path}.{name}")));
            }
        };
        needs("verbs");
        if list(rule, "nonResourceURLs").is_empty() {
            needs("apiGroups");
            needs("resources");
        }
    }
}

fn policy(policy: &Value, causes: &mut Vec<Cause>) {
    let none = Value::Object(Map::new());
    let spec = policy.get("spec").unwrap_or(&none);
    for (at, said) in list(spec, "policyTypes").iter().enumerate() {
        let all = ["Ingress", "Egress"];
        let said = said.as_str().unwrap_or_default();
        if !all.contains(&said) {
            causes.push(unsupported(format!("spec.policyTypes[{at}]"), said, &all));
        }
    }
    for (way, peers) in [("ingress", "from"), ("egress", "to")] {
        for (at, rule) in list(spec, way).iter().enumerate() {
            for (place, peer) in list(rule, peers).iter().enumerate() {
                if peer.as_object().is_none_or(Map::is_empty) {
                    let field = format!("spec.{way}[{at}].{peers}[{place}]");
                    let message = "Required value: must specify a peer".to_owned();
                    causes.push(Cause::of("FieldValueRequired", field, message));
                }
            }
        }
    }
}
