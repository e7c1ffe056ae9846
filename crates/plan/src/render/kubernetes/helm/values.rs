//! The values of the chart: what they are called, what they are for, and what they are without being said.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::install::{self, Installation, UsageDatabase};
use super::super::{IMAGE, Mesh, Platform, yaml};

/// The parts that have values of their own.
pub(super) const PARTS: [&str; 2] = ["gateway", "operator"];

/// What each value is for, above it.
const ABOUT: [(&str, &str); 14] = [
    ("image", "Pilotage's image."),
    ("scope", "Whose resources the operator looks at: `cluster` or `namespace`."),
    ("monitors", "Whether Prometheus' operator is there, so that it is told what to read."),
    (
        "monitorLabels",
        "Labels of these monitors and of those of Models, by which it chooses among them.",
    ),
    (
        "externalMetrics",
        "Whether HorizontalPodAutoscalers are told how many copies there should be; for the whole cluster, which has one such API.",
    ),
    (
        "requireDigest",
        "Whether Models that are downloaded are refused without a digest; for the whole cluster.",
    ),
    ("verticalPodAutoscaler", "Whether the recommender of VerticalPodAutoscaler is there."),
    (
        "overlays",
        "Whose cluster it is (`openshift`, `eks`, `gke`, `aks`), and its mesh (`istio`, `linkerd`).",
    ),
    (
        "imagePullSecrets",
        "Secrets of this namespace that the image is pulled with, as in pods: `- name: registry`.",
    ),
    (
        "adminSecret",
        "A Secret of this namespace with the key of operators' listeners as its entry `key`. Without it one is made.",
    ),
    (
        "apiServerPorts",
        "Ports of the API server: of its Service, and behind it (`kubectl get endpointslice kubernetes`).",
    ),
    (
        "usageDatabase",
        "A Secret of this namespace that names the PostgreSQL database of usage, `postgres://USER:PASSWORD@HOST/NAME`, in its entry. Without one usage ends with each gateway's pod.",
    ),
    ("gateway", "The gateway. `service.type` is `ClusterIP` or `LoadBalancer`."),
    ("operator", "The operator."),
];

/// The values without being said.
pub fn defaults() -> Value {
    let part = |name: &str| {
        json!({
            "resources": resources(name),
            "podAnnotations": {},
            "nodeSelector": {},
            "tolerations": [],
            "affinity": {},
            "priorityClassName": "",
        })
    };
    let mut gateway = json!({
        "replicas": { "min": 2, "max": 10 },
        "service": { "type": "ClusterIP", "annotations": {} },
    });
    if let (Some(all), Value::Object(part)) = (gateway.as_object_mut(), part("gateway")) {
        all.extend(part);
    }
    json!({
        "image": IMAGE,
        "scope": "cluster",
        "monitors": false,
        "monitorLabels": {},
        "externalMetrics": false,
        "requireDigest": false,
        "verticalPodAutoscaler": false,
        "overlays": [],
        "imagePullSecrets": [],
        "adminSecret": "",
        "apiServerPorts": install::API_PORTS,
        "usageDatabase": { "secret": "", "entry": UsageDatabase::ENTRY, "port": UsageDatabase::PORT },
        "gateway": gateway,
        "operator": part("operator"),
    })
}

/// What the container of a part asks for.
fn resources(part: &str) -> Value {
    let objects = install::objects(&Installation::default());
    let is_its = |object: &&super::Object| {
        object.kind() == "Deployment" && object.name() == format!("pilotage-{part}")
    };
    let deployment = objects.iter().find(is_its).map(|object| object.value().clone());
    deployment.unwrap_or_default()["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
}

/// The values with what they are for, as people read them.
pub(super) fn text() -> String {
    let mut values = defaults();
    let mut out = String::new();
    for (name, about) in ABOUT {
        let value = values[name].take();
        // Writing to a text does not fail.
        let _ = write!(out, "# {about}\n{}", yaml::document(&json!({ name: value })));
    }
    out
}

/// What values may be, so that a word that is misspelt is found.
pub(super) fn schema() -> String {
    let yes_or_no = json!({ "type": "boolean" });
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer", "minimum": 1, "maximum": 1000 });
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let object = |fields: Value| json!({ "type": "object", "additionalProperties": false, "properties": fields });
    let part = json!({
        "resources": { "type": "object" },
        "podAnnotations": texts,
        "nodeSelector": texts,
        "tolerations": { "type": "array", "items": { "type": "object" } },
        "affinity": { "type": "object" },
        "priorityClassName": text,
    });
    let service = object(json!({
        "type": { "enum": ["ClusterIP", "LoadBalancer"] },
        "annotations": texts,
    }));
    let mut gateway: Map<String, Value> = Map::new();
    gateway.insert("replicas".to_owned(), object(json!({ "min": count, "max": count })));
    gateway.insert("service".to_owned(), service);
    gateway.extend(part.as_object().cloned().unwrap_or_default());
    let platforms =
        Platform::ALL.into_iter().filter(|one| *one != Platform::Plain).map(Platform::name);
    let overlays: Vec<&str> = platforms.chain(Mesh::ALL.map(Mesh::name)).collect();
    let mut schema = object(json!({
        "image": { "type": "string", "minLength": 1 },
        "scope": { "enum": ["cluster", "namespace"] },
        "monitors": yes_or_no,
        "monitorLabels": texts,
        "externalMetrics": yes_or_no,
        "requireDigest": yes_or_no,
        "verticalPodAutoscaler": yes_or_no,
        "overlays": { "type": "array", "items": { "enum": overlays } },
        "imagePullSecrets": { "type": "array", "items": object(json!({ "name": { "type": "string", "minLength": 1 } })) },
        "adminSecret": text,
        "apiServerPorts": { "type": "array", "minItems": 1, "items": port },
        "usageDatabase": object(json!({ "secret": text, "entry": { "type": "string", "minLength": 1 }, "port": port })),
        "gateway": object(Value::Object(gateway)),
        "operator": object(part),
        "global": { "type": "object" },
    }));
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
