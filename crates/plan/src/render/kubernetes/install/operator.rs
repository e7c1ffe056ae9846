//! The operator's objects. One of its pods leads; another is there to take over.

use serde_json::{Value, json};

use super::super::network::{METRICS_LABEL, lookups};
use super::super::object::Object;
use super::super::{Mesh, Platform, labels, monitor};
use super::{
    ADMIN, Installation, METRICS_API, Part, SCALER, Scope, api_ports, budget, deployment, folder,
    metadata, monitored, named, pod, policy, vertical,
};

const COMPONENT: &str = "operator";

/// Pods: one that leads and one that takes over.
const PODS: u32 = 2;

pub(super) fn objects(installation: &Installation) -> Vec<Object> {
    let volumes = json!([folder("tmp", "1Gi")]);
    let template = pod(installation, COMPONENT, &container(installation), &volumes);
    let mut all = vec![service(installation)];
    all.push(deployment(installation, COMPONENT, Some(PODS), &template));
    all.push(budget(installation, COMPONENT));
    all.extend(vertical(installation, COMPONENT));
    all.push(network(installation));
    if installation.cluster.has.monitors {
        let metadata = monitored(installation, COMPONENT);
        let selector = labels::own_selector(COMPONENT);
        all.push(monitor::service(metadata, &selector, &installation.cluster.namespace, None));
    }
    if installation.external_metrics {
        all.push(api(installation));
    }
    all
}

fn container(installation: &Installation) -> Value {
    let namespace = &installation.cluster.namespace;
    let mut words = vec![
        "operator".to_owned(),
        "--admin-listen".to_owned(),
        format!("0.0.0.0:{ADMIN}"),
        "--scaler-listen".to_owned(),
        format!("0.0.0.0:{SCALER}"),
    ];
    if installation.scope == Scope::Namespace {
        words.extend(["--namespace".to_owned(), namespace.clone()]);
    }
    if installation.external_metrics {
        words.extend(["--metrics-api-listen".to_owned(), format!("0.0.0.0:{METRICS_API}")]);
    }
    // What it makes of Models is made for the same cluster, and of the same image.
    words.extend(["--image".to_owned(), installation.cluster.image.clone()]);
    let platform = Some(installation.cluster.platform).filter(|one| *one != Platform::Plain);
    let overlays = platform.map(Platform::name).into_iter();
    for overlay in overlays.chain(installation.cluster.mesh.map(Mesh::name)) {
        words.extend(["--overlay".to_owned(), overlay.to_owned()]);
    }
    for (key, value) in &installation.cluster.monitor_labels {
        words.extend(["--monitor-label".to_owned(), format!("{key}={value}")]);
    }
    let mut ports = vec![("admin", ADMIN), ("scaler", SCALER)];
    if installation.external_metrics {
        ports.push(("metrics-api", METRICS_API));
    }
    let part = Part {
        component: COMPONENT,
        args: words,
        home: "/tmp",
        ports: &ports,
        resources: json!({
            "requests": { "cpu": "100m", "memory": "128Mi" },
            "limits": { "memory": "512Mi" },
        }),
        mounts: &[("tmp", "/tmp")],
        env: Vec::new(),
        // What gateways see is asked for at their listeners for operators.
        without_key: true,
    };
    super::container(installation, part)
}

fn service(installation: &Installation) -> Object {
    let port = |name: &str, port: u16, protocol: &str| json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": protocol });
    let mut ports = vec![port("admin", ADMIN, "http"), port("scaler", SCALER, "kubernetes.io/h2c")];
    if installation.external_metrics {
        ports.push(json!({ "name": "metrics-api", "port": 443, "targetPort": "metrics-api", "protocol": "TCP", "appProtocol": "https" }));
    }
    let spec = json!({
        "type": "ClusterIP",
        "selector": labels::own_selector(COMPONENT),
        "ports": ports,
    });
    Object::new("v1", "Service", metadata(installation, COMPONENT), json!({ "spec": spec }))
}

/// The API server asks the operator for external metrics. The operator makes a certificate at its start
/// and writes its authority into `caBundle`, which is why that is left out here.
fn api(installation: &Installation) -> Object {
    let service = json!({
        "name": named(COMPONENT),
        "namespace": installation.cluster.namespace,
        "port": 443,
    });
    let spec = json!({
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": service,
    });
    let metadata = json!({
        "name": "v1beta1.external.metrics.k8s.io",
        "labels": labels::own(COMPONENT),
    });
    Object::new("apiregistration.k8s.io/v1", "APIService", metadata, json!({ "spec": spec }))
}

fn network(installation: &Installation) -> Object {
    let port = |name: &str| json!([{ "port": name, "protocol": "TCP" }]);
    let readers = json!({ "namespaceSelector": { "matchLabels": { METRICS_LABEL: "true" } } });
    // Pods of KEDA's chart have both labels, those of its plain manifests the second alone.
    let keda = [("app.kubernetes.io/part-of", "keda-operator"), ("app", "keda-operator")];
    let keda = keda.map(|(label, value)| {
        json!({ "namespaceSelector": {}, "podSelector": { "matchLabels": { label: value } } })
    });
    let gateway = json!({ "podSelector": { "matchLabels": labels::own_selector("gateway") } });
    let engines = json!({
        "namespaceSelector": {},
        "podSelector": { "matchLabels": { "app.kubernetes.io/component": "engine", "app.kubernetes.io/part-of": "pilotage" } },
    });
    let mut ingress = vec![
        json!({ "from": [readers], "ports": port("admin") }),
        json!({ "from": keda, "ports": port("scaler") }),
    ];
    if installation.external_metrics {
        // The API server has no labels to be told by; what it sends is signed.
        ingress.push(json!({ "ports": port("metrics-api") }));
    }
    let mut egress = lookups(&installation.cluster);
    egress.extend([api_ports(installation), json!({ "to": [gateway, engines] })]);
    policy(installation, COMPONENT, &Value::Array(ingress), &Value::Array(egress))
}
