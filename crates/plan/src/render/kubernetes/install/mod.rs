//! Pilotage itself on a cluster: gateway and operator, with the least rights that they work with.
//!
//! The gateway may read what it serves and nothing else: resources, the slices of pods, and the one Secret
//! with the keys of engines.

mod access;
mod gateway;
mod operator;

use serde_json::{Value, json};

use super::container::restricted;
use super::object::Object;
use super::{Cluster, Wanted, labels};

/// How Pilotage is installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Installation {
    /// The cluster; its namespace is Pilotage's own.
    pub cluster: Cluster,
    /// Whose resources the operator looks at.
    pub scope: Scope,
    /// Gateways at least and at most.
    pub gateways: (u32, u32),
    /// Whether the operator tells HorizontalPodAutoscalers what it decides. There is one such API in a
    /// cluster.
    pub external_metrics: bool,
    /// Whether Models that are downloaded are refused without a digest.
    pub requires_digest: bool,
    /// Whether clients outside of the cluster reach the gateway by a load balancer.
    pub balanced: bool,
    /// Secrets of its namespace that Pilotage's own image is pulled with.
    pub pull_secrets: Vec<String>,
    /// Ports of the API server, before and behind its Service: policies of the network see the ones behind it.
    pub api_ports: Vec<u16>,
    /// The Secret of its namespace that says in which database gateways keep what was used; without one that ends with
    /// each gateway's pod.
    pub usage_database: Option<UsageDatabase>,
}

/// Where a PostgreSQL database is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UsageDatabase {
    /// The Secret.
    pub secret: String,
    /// Its entry with `postgres://USER:PASSWORD@HOST/NAME`.
    pub entry: String,
    /// The port that gateways may reach, of whatever host.
    pub port: u16,
}

impl UsageDatabase {
    /// The entry where nothing else is said.
    pub const ENTRY: &str = "url";
    /// The port where nothing else is said: PostgreSQL's own.
    pub const PORT: u16 = 5432;
}

/// Whose resources the operator looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Those of its own namespace.
    Namespace,
    /// Those of all namespaces.
    Cluster,
}

/// The namespace when nothing is said.
pub const NAMESPACE: &str = "pilotage";

/// Ports of API servers where nothing else is known: that of their Service, and the usual one behind it.
pub const API_PORTS: [u16; 2] = [443, 6443];

/// The port of clients.
pub(super) const CLIENTS: u16 = 8080;
/// The port of operators and of metrics.
pub(super) const ADMIN: u16 = 8081;
/// The port where KEDA asks.
const SCALER: u16 = 9090;
/// The port where the API server asks for external metrics.
const METRICS_API: u16 = 6443;

impl Default for Installation {
    fn default() -> Self {
        let cluster = Cluster { namespace: NAMESPACE.to_owned(), ..Cluster::default() };
        Self {
            cluster,
            scope: Scope::Cluster,
            gateways: (2, 10),
            external_metrics: false,
            requires_digest: false,
            balanced: false,
            pull_secrets: Vec::new(),
            api_ports: API_PORTS.to_vec(),
            usage_database: None,
        }
    }
}

/// The address where KEDA asks.
pub(super) fn scaler_address(namespace: &str) -> String {
    format!("pilotage-operator.{namespace}.svc:{SCALER}")
}

/// All objects, in the order in which they are to be applied, beside the resource definitions.
pub fn objects(installation: &Installation) -> Vec<Object> {
    let mut all = vec![namespace(installation)];
    all.extend(access::objects(installation));
    all.extend(gateway::objects(installation));
    all.extend(operator::objects(installation));
    if installation.requires_digest {
        all.extend(access::admission());
    }
    all
}

/// Secrets that have to be made before.
pub fn secrets() -> Vec<Wanted> {
    vec![Wanted { name: ADMIN_SECRET.to_owned(), entry: "key", how: super::KEY_HOW }]
}

/// What is worth knowing of where usage is kept: a command, or what not to expect.
pub fn about_usage(installation: &Installation) -> String {
    let namespace = &installation.cluster.namespace;
    match &installation.usage_database {
        Some(UsageDatabase { secret, entry, .. }) => format!(
            "usage is kept in the database that the Secret {secret} of {namespace} names; gateways start once it is there: kubectl -n \
             {namespace} create secret generic {secret} --from-literal={entry}=postgres://USER:PASSWORD@HOST/NAME?sslmode=require"
        ),
        None => "usage ends with each gateway's pod, and each tells its own: --usage-database-secret NAME keeps it in a PostgreSQL".to_owned(),
    }
}

/// The Secret with the key of listeners for operators, as its entry `key`.
pub const ADMIN_SECRET: &str = "pilotage-admin";

/// The Secret of that name with that key.
pub fn admin_secret(namespace: &str, key: &str) -> Value {
    let metadata = json!({
        "name": ADMIN_SECRET,
        "namespace": namespace,
        "labels": labels::own("installation"),
    });
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": metadata, "stringData": { "key": key },
    })
}

/// What the parts make by themselves in their namespace, as API version, plural and name: it goes with them.
pub const MADE: [(&str, &str, &str); 3] = [
    ("v1", "secrets", "pilotage-engine-keys"),
    ("v1", "secrets", "pilotage-metrics-api"),
    ("coordination.k8s.io/v1", "leases", "pilotage-operator"),
];

fn namespace(installation: &Installation) -> Object {
    let mut labels = labels::own("installation");
    // Meshes put a container with more rights into pods, unless they have a plugin for networks; then the label
    // can be set by hand.
    let modes = ["enforce", "audit", "warn"];
    let modes = if installation.cluster.mesh.is_some() { &modes[1..] } else { &modes };
    for mode in modes {
        labels[format!("pod-security.kubernetes.io/{mode}")] = "restricted".into();
    }
    let metadata = json!({ "name": installation.cluster.namespace, "labels": labels });
    Object::new("v1", "Namespace", metadata, json!({}))
}

/// What a part of Pilotage is called.
fn named(component: &str) -> String {
    format!("pilotage-{component}")
}

/// Metadata of a part's object in the namespace.
fn metadata(installation: &Installation, component: &str) -> Value {
    json!({
        "name": named(component),
        "namespace": installation.cluster.namespace,
        "labels": labels::own(component),
    })
}

/// Ports of a part that are asked past a mesh, whether or not all of them are open.
pub(super) fn past(component: &str) -> &'static [u16] {
    if component == "operator" { &[ADMIN, SCALER, METRICS_API] } else { &[ADMIN] }
}

/// A pod template of a part.
fn pod(installation: &Installation, component: &str, container: &Value, volumes: &Value) -> Value {
    let cluster = &installation.cluster;
    let mut labels = labels::own(component);
    for (key, value) in cluster.mesh.iter().flat_map(|mesh| mesh.pod_labels()) {
        labels[*key] = (*value).into();
    }
    let mut metadata = json!({ "labels": labels });
    for (key, value) in cluster.mesh.iter().flat_map(|mesh| mesh.part_annotations(past(component)))
    {
        metadata["annotations"][key] = value.into();
    }
    let mut spec = json!({
        "serviceAccountName": named(component),
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": if component == "gateway" { 330 } else { 30 },
        "securityContext": super::pod::security(cluster.platform.row().fixed_users),
        "topologySpreadConstraints": super::pod::spread(&labels::own_selector(component), Some(super::pod::VERSION)),
        "containers": [container],
        "volumes": volumes,
    });
    if !installation.pull_secrets.is_empty() {
        let secrets = installation.pull_secrets.iter().map(|name| json!({ "name": name }));
        spec["imagePullSecrets"] = secrets.collect();
    }
    json!({ "metadata": metadata, "spec": spec })
}

/// What a part's container has for itself.
struct Part<'a> {
    component: &'a str,
    args: Vec<String>,
    /// Where it keeps what is its own.
    home: &'a str,
    /// Names of ports, and their numbers.
    ports: &'a [(&'a str, u16)],
    resources: Value,
    mounts: &'a [(&'a str, &'a str)],
    /// Variables of its environment beside those of all parts.
    env: Vec<Value>,
    /// Whether it starts without the key of listeners for operators.
    without_key: bool,
}

/// The container of a part.
fn container(installation: &Installation, part: Part<'_>) -> Value {
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let mut key = json!({ "name": ADMIN_SECRET, "key": "key" });
    if part.without_key {
        key["optional"] = true.into();
    }
    let ports = part
        .ports
        .iter()
        .map(|(name, port)| json!({ "name": name, "containerPort": port, "protocol": "TCP" }));
    let mounts = part.mounts.iter().map(|(name, at)| json!({ "name": name, "mountPath": at }));
    let mut env = vec![
        json!({ "name": "POD_NAME", "valueFrom": field("metadata.name") }),
        json!({ "name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace") }),
        json!({ "name": "PILOTAGE_ADMIN_KEY", "valueFrom": { "secretKeyRef": key } }),
        json!({ "name": "PILOTAGE_LOG_FORMAT", "value": "json" }),
        json!({ "name": "HOME", "value": part.home }),
    ];
    env.extend(part.env);
    json!({
        "name": part.component,
        "image": installation.cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["pilotage"],
        "args": part.args,
        "env": env,
        "ports": ports.collect::<Vec<_>>(),
        // What it waits for is told by its readiness, and starting again would not bring it.
        "startupProbe": probe("/health/live", 12),
        "readinessProbe": probe("/health/ready", 2),
        "livenessProbe": probe("/health/live", 6),
        "resources": part.resources,
        "securityContext": restricted(),
        "volumeMounts": mounts.collect::<Vec<_>>(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// A deployment of a part.
fn deployment(
    installation: &Installation,
    component: &str,
    replicas: Option<u32>,
    template: &Value,
) -> Object {
    let mut spec = json!({
        "revisionHistoryLimit": 3,
        "selector": { "matchLabels": labels::own_selector(component) },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 },
        },
        "template": template,
    });
    if let Some(replicas) = replicas {
        spec["replicas"] = replicas.into();
    }
    Object::new("apps/v1", "Deployment", metadata(installation, component), json!({ "spec": spec }))
}

/// A budget for disruptions of a part.
fn budget(installation: &Installation, component: &str) -> Object {
    let spec = json!({
        "maxUnavailable": 1,
        "selector": { "matchLabels": labels::own_selector(component) },
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    });
    let metadata = metadata(installation, component);
    Object::new("policy/v1", "PodDisruptionBudget", metadata, json!({ "spec": spec }))
}

/// What a part should ask for, by what it took: it is recommended and not changed.
fn vertical(installation: &Installation, component: &str) -> Option<Object> {
    if !installation.cluster.has.vertical {
        return None;
    }
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": named(component) });
    let spec = json!({ "targetRef": target, "updatePolicy": { "updateMode": "Off" } });
    let metadata = metadata(installation, component);
    let rest = json!({ "spec": spec });
    Some(Object::new("autoscaling.k8s.io/v1", "VerticalPodAutoscaler", metadata, rest))
}

/// A policy of the network for a part.
fn policy(installation: &Installation, component: &str, ingress: &Value, egress: &Value) -> Object {
    let spec = json!({
        "podSelector": { "matchLabels": labels::own_selector(component) },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    });
    let metadata = metadata(installation, component);
    Object::new("networking.k8s.io/v1", "NetworkPolicy", metadata, json!({ "spec": spec }))
}

/// Ports of the API server, in a policy.
fn api_ports(installation: &Installation) -> Value {
    let ports = installation.api_ports.iter();
    let ports: Vec<Value> = ports.map(|port| json!({ "port": port, "protocol": "TCP" })).collect();
    json!({ "ports": ports })
}

/// Metadata of a part's monitor: with the labels by which Prometheus' operator chooses among them.
fn monitored(installation: &Installation, component: &str) -> Value {
    let mut metadata = metadata(installation, component);
    for (key, value) in &installation.cluster.monitor_labels {
        metadata["labels"][key] = value.as_str().into();
    }
    metadata
}

/// A folder of a part that is empty at its start, with a limit, beyond which the pod is put out before the node's
/// disk is full.
fn folder(name: &str, size: &str) -> Value {
    json!({ "name": name, "emptyDir": { "sizeLimit": size } })
}

/// A probe of the listener for operators.
fn probe(path: &str, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "admin" },
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}
