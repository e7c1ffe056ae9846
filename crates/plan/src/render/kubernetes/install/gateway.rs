//! The gateway's objects.

use serde_json::{Value, json};

use super::super::network::{METRICS_LABEL, lookups};
use super::super::object::Object;
use super::super::{labels, mesh, monitor};
use super::{
    ADMIN, ADMIN_SECRET, CLIENTS, Installation, Part, Scope, api_ports, budget, deployment, folder,
    metadata, monitored, named, pod, policy, vertical,
};

const COMPONENT: &str = "gateway";

/// Seconds after the word to stop until balancers know that it goes. It waits them itself: not every Kubernetes has
/// pods that sleep, nor the image a command for it.
const LEAVE_SECONDS: u32 = 10;

/// Seconds that running requests get to end: as long as those of the largest models take.
const DRAIN_SECONDS: u32 = 300;

pub(super) fn objects(installation: &Installation) -> Vec<Object> {
    let mut all = vec![service(installation), admin(installation)];
    let template = pod(installation, COMPONENT, &container(installation), &volumes());
    all.push(deployment(installation, COMPONENT, None, &template));
    all.push(budget(installation, COMPONENT));
    all.push(horizontal(installation));
    all.extend(vertical(installation, COMPONENT));
    all.push(network(installation));
    // Requests are no less dear in front of the gateway than behind it.
    let about = metadata(installation, COMPONENT);
    all.extend(mesh::once(installation.cluster.mesh, about, 80));
    if installation.cluster.has.monitors {
        let credentials = json!({ "name": ADMIN_SECRET, "key": "key" });
        let authorization = json!({ "type": "Bearer", "credentials": credentials });
        let metadata = monitored(installation, COMPONENT);
        let mut selector = labels::own_selector(COMPONENT);
        selector[LISTENER] = "admin".into();
        let namespace = &installation.cluster.namespace;
        all.push(monitor::service(metadata, &selector, namespace, Some(authorization)));
    }
    all
}

/// The label that tells the Service of clients from that of operators.
const LISTENER: &str = "pilotage.dev/listener";

fn container(installation: &Installation) -> Value {
    let mut words = [
        "gateway",
        "--pod",
        "$(POD_NAME)",
        "--system-namespace",
        "$(POD_NAMESPACE)",
        "--service",
        &named(COMPONENT),
        "--listen",
        &format!("0.0.0.0:{CLIENTS}"),
        "--admin-listen",
        &format!("0.0.0.0:{ADMIN}"),
        "--data-dir",
        "/data",
        "--leave-after",
        &LEAVE_SECONDS.to_string(),
        "--drain-timeout",
        &DRAIN_SECONDS.to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    if installation.scope == Scope::Namespace {
        words.extend(["--namespace".to_owned(), installation.cluster.namespace.clone()]);
    }
    let part = Part {
        component: COMPONENT,
        args: words,
        home: "/data",
        ports: &[("http", CLIENTS), ("admin", ADMIN)],
        resources: json!({
            "requests": { "cpu": "1", "memory": "512Mi" },
            "limits": { "memory": "2Gi" },
        }),
        mounts: &[("data", "/data"), ("tmp", "/tmp")],
        env: ledger(installation),
        without_key: false,
    };
    super::container(installation, part)
}

/// Where the ledger of usage is, and that all gateways of this installation see the same replicas.
fn ledger(installation: &Installation) -> Vec<Value> {
    let Some(database) = &installation.usage_database else { return Vec::new() };
    let key = json!({ "name": database.secret, "key": database.entry });
    vec![
        json!({ "name": "DATABASE_URL", "valueFrom": { "secretKeyRef": key } }),
        json!({ "name": "PILOTAGE_USAGE_FLEET", "value": installation.cluster.namespace }),
    ]
}

fn volumes() -> Value {
    json!([folder("data", "10Gi"), folder("tmp", "1Gi")])
}

fn service(installation: &Installation) -> Object {
    let mut metadata = metadata(installation, COMPONENT);
    let kind = if installation.balanced { "LoadBalancer" } else { "ClusterIP" };
    let balancer = installation.cluster.platform.row().balancer;
    for (key, value) in balancer.iter().filter(|_| installation.balanced) {
        metadata["annotations"][*key] = (*value).into();
    }
    let spec = json!({
        "type": kind,
        "selector": labels::own_selector(COMPONENT),
        "ports": [{
            "name": "http",
            "port": 80,
            "targetPort": "http",
            "protocol": "TCP",
            "appProtocol": "http",
        }],
    });
    Object::new("v1", "Service", metadata, json!({ "spec": spec }))
}

fn admin(installation: &Installation) -> Object {
    let mut metadata = metadata(installation, COMPONENT);
    metadata["name"] = format!("{}-admin", named(COMPONENT)).into();
    metadata["labels"][LISTENER] = "admin".into();
    let spec = json!({
        "type": "ClusterIP",
        "selector": labels::own_selector(COMPONENT),
        "ports": [{ "name": "admin", "port": ADMIN, "targetPort": "admin", "protocol": "TCP", "appProtocol": "http" }],
    });
    Object::new("v1", "Service", metadata, json!({ "spec": spec }))
}

/// Gateways scale by the processor time that they take: what waits is the engines' matter.
fn horizontal(installation: &Installation) -> Object {
    let (least, most) = installation.gateways;
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": named(COMPONENT) });
    let spec = json!({
        "scaleTargetRef": target,
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{
            "type": "Resource",
            "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } },
        }],
        // Streams last minutes: whoever goes must not have been needed for a while.
        "behavior": { "scaleDown": { "stabilizationWindowSeconds": 600 } },
    });
    let metadata = metadata(installation, COMPONENT);
    Object::new("autoscaling/v2", "HorizontalPodAutoscaler", metadata, json!({ "spec": spec }))
}

fn network(installation: &Installation) -> Object {
    let port = |name: &str| json!([{ "port": name, "protocol": "TCP" }]);
    let operator = json!({ "podSelector": { "matchLabels": labels::own_selector("operator") } });
    let readers = json!({ "namespaceSelector": { "matchLabels": { METRICS_LABEL: "true" } } });
    let engines = json!({
        "namespaceSelector": {},
        "podSelector": { "matchLabels": { "app.kubernetes.io/component": "engine", "app.kubernetes.io/part-of": "pilotage" } },
    });
    let ingress = json!([
        { "ports": port("http") },
        { "from": [operator, readers], "ports": port("admin") },
    ]);
    let mut egress = lookups(&installation.cluster);
    // Endpoints, providers of identities and media are outside, encrypted. Endpoints at other ports want a policy of
    // their own beside this one.
    egress.extend([
        json!({ "to": [engines] }),
        json!({ "ports": [{ "port": 443, "protocol": "TCP" }] }),
        // Exporters that tell of accelerators.
        json!({ "ports": [{ "port": 9400, "protocol": "TCP" }] }),
        // Collectors of traces, over gRPC and HTTP.
        json!({ "ports": [{ "port": 4317, "protocol": "TCP" }, { "port": 4318, "protocol": "TCP" }] }),
        api_ports(installation),
    ]);
    let database = installation.usage_database.iter();
    egress
        .extend(database.map(|one| json!({ "ports": [{ "port": one.port, "protocol": "TCP" }] })));
    policy(installation, COMPONENT, &ingress, &Value::Array(egress))
}
