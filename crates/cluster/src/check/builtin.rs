//! What servers put into objects of the kinds that every cluster has, and what of them never changes.
//!
//! The rules that operators and controllers meet; not all of a server's.

use serde_json::{Value, json};

use super::quantity::Quantity;
use crate::api::failure::Cause;

/// Fills in what a server fills in.
pub(crate) fn defaults(kind: &str, object: &mut Value) {
    if let Some(defaults) = of(kind) {
        under(object, defaults);
    }
    let pod = pod_spec(kind).and_then(|pod| object.pointer_mut(pod));
    if let Some(spec) = pod.filter(|spec| spec.is_object()) {
        pod_defaults(spec);
    }
    match kind {
        "Pod" => under(object, json!({"spec": {"enableServiceLinks": true}})),
        "Service" => service(object),
        "Deployment" => strategy(object),
        _ => {}
    }
}

fn of(kind: &str) -> Option<Value> {
    Some(match kind {
        "Namespace" => json!({"status": {"phase": "Active"}}),
        "Pod" => json!({"status": {"phase": "Pending", "qosClass": "BestEffort"}}),
        "Deployment" => json!({"spec": {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate"},
        }}),
        "StatefulSet" => json!({"spec": {
            "replicas": 1,
            "serviceName": "",
            "revisionHistoryLimit": 10,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        }}),
        "ReplicaSet" => json!({"spec": {"replicas": 1}}),
        "Job" => json!({"spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed",
        }}),
        "Service" => json!({"spec": {
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
        }, "status": {"loadBalancer": {}}}),
        "Secret" => json!({"type": "Opaque"}),
        "PersistentVolumeClaim" => {
            json!({"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}})
        }
        "HorizontalPodAutoscaler" => json!({"spec": {"minReplicas": 1}}),
        "NetworkPolicy" => json!({"spec": {"podSelector": {}}}),
        _ => return None,
    })
}

/// Where a kind has the specification of its pods.
pub(crate) fn pod_spec(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("/spec"),
        "Deployment" | "StatefulSet" | "ReplicaSet" | "DaemonSet" | "Job" => {
            Some("/spec/template/spec")
        }
        _ => None,
    }
}

/// Puts `defaults` in where `value` has nothing.
fn under(value: &mut Value, defaults: Value) {
    let (Value::Object(fields), Value::Object(defaults)) = (value, defaults) else { return };
    for (name, default) in defaults {
        match fields.get_mut(&name) {
            Some(known) => under(known, default),
            None => {
                fields.insert(name, default);
            }
        }
    }
}

fn pod_defaults(spec: &mut Value) {
    let rest = json!({
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    });
    under(spec, rest);
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec["serviceAccount"] = account;
    }
    for list in ["containers", "initContainers"] {
        let all = spec.get_mut(list).and_then(Value::as_array_mut);
        all.into_iter().flatten().for_each(container);
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if let Some(source) = volume.get_mut(source) {
                under(source, json!({"defaultMode": 420}));
            }
        }
    }
}

fn container(container: &mut Value) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    let latest = !image.contains('@') && matches!(tag, None | Some("latest"));
    let defaults = json!({
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": if latest { "Always" } else { "IfNotPresent" },
    });
    under(container, defaults);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name) {
            let periods = json!({
                "timeoutSeconds": 1,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            });
            under(probe, periods);
            if let Some(get) = probe.get_mut("httpGet") {
                under(get, json!({"path": "/", "scheme": "HTTP"}));
            }
        }
    }
}

fn strategy(deployment: &mut Value) {
    let kind = deployment.pointer("/spec/strategy/type").and_then(Value::as_str);
    if kind == Some("RollingUpdate") {
        let rolling = json!({"maxUnavailable": "25%", "maxSurge": "25%"});
        under(deployment, json!({"spec": {"strategy": {"rollingUpdate": rolling}}}));
    }
}

fn service(service: &mut Value) {
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        if let (Some(number), Value::Object(fields)) = (port.get("port").cloned(), port) {
            fields.entry("targetPort").or_insert(number);
        }
    }
}

/// What of an object changed that never does.
pub(crate) fn immutable(kind: &str, old: &Value, new: &Value) -> Vec<Cause> {
    let fixed: &[&str] = match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => &["/spec/selector"],
        "Job" => &["/spec/selector", "/spec/template", "/spec/completionMode"],
        "Secret" => &["/type"],
        "RoleBinding" | "ClusterRoleBinding" => &["/roleRef"],
        "PersistentVolumeClaim" => return claim(old, new),
        "Service" => return address(old, new),
        "EndpointSlice" => &["/addressType"],
        "StatefulSet" => return stateful_set(old, new),
        "Pod" => return pod(old, new),
        "ConfigMap" => &[],
        _ => return Vec::new(),
    };
    let dotted = |pointer: &str| pointer.trim_start_matches('/').replace('/', ".");
    let changed = fixed.iter().filter(|at| {
        // What the server has yet to fill in is no change.
        old.pointer(at).is_some() && old.pointer(at) != new.pointer(at)
    });
    let mut causes: Vec<Cause> = changed
        .map(|at| {
            let value = new.pointer(at).unwrap_or(&Value::Null);
            Cause::invalid(dotted(at), value, "field is immutable")
        })
        .collect();
    if matches!(kind, "ConfigMap" | "Secret") && old.get("immutable") == Some(&Value::Bool(true)) {
        let same = ["data", "binaryData", "immutable"].iter().all(|at| old.get(at) == new.get(at));
        if !same {
            causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
        }
    }
    causes
}

/// Of a claim only what it asks for changes, and that grows.
fn claim(old: &Value, new: &Value) -> Vec<Cause> {
    let fixed = |claim: &Value| {
        let mut spec = claim.get("spec").cloned().unwrap_or_default();
        if let Value::Object(fields) = &mut spec {
            // The volume is noted once it is there, and its class where none was named.
            let late = ["resources", "volumeAttributesClassName"];
            let told = ["volumeName", "storageClassName"];
            let was =
                |name: &String| old.pointer("/spec").is_some_and(|spec| spec.get(name).is_some());
            fields.retain(|name, _| {
                !late.contains(&name.as_str()) && (!told.contains(&name.as_str()) || was(name))
            });
        }
        spec
    };
    let mut causes = Vec::new();
    if fixed(old) != fixed(new) {
        let why = "spec is immutable after creation except resources.requests and \
                   volumeAttributesClassName for bound claims";
        causes.push(Cause::forbidden("spec", why));
    }
    let size = |claim: &Value| {
        let said = claim.pointer("/spec/resources/requests/storage").and_then(Value::as_str);
        said.and_then(Quantity::parse)
    };
    if size(old).zip(size(new)).is_some_and(|(old, new)| old.exceeds(new)) {
        let why = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", why));
    }
    causes
}

/// A service keeps its address, or that it has none.
fn address(old: &Value, new: &Value) -> Vec<Cause> {
    let address = |service: &Value| {
        let said = service.pointer("/spec/clusterIP").and_then(Value::as_str);
        said.unwrap_or_default().to_owned()
    };
    let (was, is) = (address(old), address(new));
    let elsewhere = new.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName");
    if was.is_empty() || was == is || elsewhere {
        return Vec::new();
    }
    let why = "may not change once set";
    vec![Cause::invalid("spec.clusterIPs[0]", &Value::from(is), why)]
}

/// What of a stateful set may change.
const STATEFUL_SET_MAY: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn stateful_set(old: &Value, new: &Value) -> Vec<Cause> {
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if let Value::Object(fields) = &mut spec {
            fields.retain(|name, _| !STATEFUL_SET_MAY.contains(&name.as_str()));
        }
        spec
    };
    if fixed(old) == fixed(new) {
        return Vec::new();
    }
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
               'template', 'updateStrategy', 'revisionHistoryLimit', \
               'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![Cause::forbidden("spec", why)]
}

/// Of a pod, its images, its deadline and its tolerations may change, and gates may go.
fn pod(old: &Value, new: &Value) -> Vec<Cause> {
    let fixed = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
            {
                if let Value::Object(fields) = container {
                    fields.retain(|name, _| !matches!(name.as_str(), "image" | "imagePullPolicy"));
                }
            }
        }
        let may = [
            "activeDeadlineSeconds",
            "tolerations",
            "schedulingGates",
            "terminationGracePeriodSeconds",
            "nodeName",
        ];
        if let Value::Object(fields) = &mut spec {
            fields.retain(|name, _| !may.contains(&name.as_str()));
        }
        spec
    };
    let moved = old.pointer("/spec/nodeName").is_some_and(|node| {
        node.as_str() != Some("") && Some(node) != new.pointer("/spec/nodeName")
    });
    if fixed(old) == fixed(new) && !moved {
        return Vec::new();
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,\
               `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
               (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow \
               it to be set to 1 if it was previously negative)";
    vec![Cause::forbidden("spec", why)]
}
