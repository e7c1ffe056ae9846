//! Who reaches engines, and whom they reach: a Service without an address of its own, since the
//! gateway chooses among pods, and a policy that lets nobody else in.

use serde_json::{Value, json};

use super::container::port_name;
use super::labels::{self, Role};
use super::object::Object;
use super::settle::Settled;
use super::{Cluster, Mesh, adapters};
use crate::launch::PortRole;

/// The label of namespaces whose pods may read metrics.
pub(super) const METRICS_LABEL: &str = "pilotage.dev/metrics";

/// The policy of a Model, of which some version has adapters loaded while it runs, or none.
pub(super) fn objects(settled: &Settled<'_>, loads_adapters: bool) -> Vec<Object> {
    vec![policy(settled, loads_adapters)]
}

/// Services of one version.
pub(super) fn services(settled: &Settled<'_>) -> Vec<Object> {
    let mut all = vec![service(settled)];
    if settled.spec.nodes > 1 && !settled.cluster.has.leader_worker_set {
        all.push(peers(settled));
    }
    all
}

fn service(settled: &Settled<'_>) -> Object {
    let ports = settled.spec.ports.iter().filter(|port| port.role != PortRole::Rendezvous);
    let ports: Vec<Value> = ports
        .map(|port| {
            let protocol = if port.role == PortRole::KvEvents { "tcp" } else { "http" };
            let name = port_name(port.role);
            json!({
                "name": name,
                "port": port.default,
                "targetPort": name,
                "protocol": "TCP",
                "appProtocol": protocol,
            })
        })
        .collect();
    let spec = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": settled.selector_here(Role::Serves),
        "ports": ports,
    });
    // Pods of a LeaderWorkerSet are named below a Service of its own name.
    let name = settled.named_here("engines");
    Object::new("v1", "Service", settled.metadata_here(&name), json!({ "spec": spec }))
}

/// Names for the nodes of a copy, before they are ready: that is how they become so.
fn peers(settled: &Settled<'_>) -> Object {
    let port = settled.port(PortRole::Rendezvous).unwrap_or(1);
    let spec = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": settled.selector_of_all_here(),
        "ports": [{ "name": "rendezvous", "port": port, "targetPort": port, "protocol": "TCP" }],
    });
    let name = settled.named_here("peers");
    Object::new("v1", "Service", settled.metadata_here(&name), json!({ "spec": spec }))
}

fn policy(settled: &Settled<'_>, loads_adapters: bool) -> Object {
    let system = &settled.cluster.system;
    let part = |component: &str| {
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": system } },
            "podSelector": { "matchLabels": labels::own_selector(component) },
        })
    };
    let (gateway, operator) = (part("gateway"), part("operator"));
    let readers = json!({ "namespaceSelector": { "matchLabels": { METRICS_LABEL: "true" } } });
    let named = |name: &str| json!([{ "port": name, "protocol": "TCP" }]);
    let own = json!({ "podSelector": { "matchLabels": settled.selector() } });
    let mut ingress = vec![
        json!({ "from": [gateway, operator], "ports": named("http") }),
        json!({ "from": [readers], "ports": named(metrics_port(settled)) }),
    ];
    if settled.port(PortRole::KvEvents).is_some() {
        ingress.push(json!({ "from": [gateway], "ports": named("kv-events") }));
    }
    if settled.cluster.mesh == Some(Mesh::Linkerd) && settled.port(PortRole::KvEvents).is_some() {
        // What is opaque to its proxies goes from one to the other.
        ingress.push(json!({ "from": [gateway], "ports": [{ "port": 4143, "protocol": "TCP" }] }));
    }
    let mut egress = lookups(settled.cluster);
    if settled.spec.nodes > 1 {
        // Ranks talk on ports that they agree on themselves.
        ingress.push(json!({ "from": [own] }));
        egress.push(json!({ "to": [own] }));
    }
    if loads_adapters {
        // It says which adapters are there. By its number: many networks do not look for names in init containers.
        let ports = json!([{ "port": adapters::PORT, "protocol": "TCP" }]);
        ingress.push(json!({ "from": [operator], "ports": ports }));
    }
    let from = settled.fetch_ports();
    if !from.is_empty() {
        // Weights come from anywhere, encrypted.
        let ports = from.iter().map(|port| json!({ "port": port, "protocol": "TCP" }));
        egress.push(json!({ "ports": ports.collect::<Vec<_>>() }));
    }
    let spec = json!({
        "podSelector": { "matchLabels": settled.selector() },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    });
    let metadata = settled.metadata(&settled.named("engines"));
    Object::new("networking.k8s.io/v1", "NetworkPolicy", metadata, json!({ "spec": spec }))
}

/// The name of the port with metrics.
pub(super) fn metrics_port(settled: &Settled<'_>) -> &'static str {
    let own = settled.port(PortRole::Metrics).is_some();
    if own { "metrics" } else { "http" }
}

/// What every pod asks: names, wherever the cluster looks them up, and a mesh where there is one.
pub(super) fn lookups(cluster: &Cluster) -> Vec<Value> {
    let ports = [Some(53), cluster.platform.row().dns];
    let ports = ports.into_iter().flatten().flat_map(|port| {
        ["UDP", "TCP"].map(|protocol| json!({ "port": port, "protocol": protocol }))
    });
    let names = json!({ "ports": ports.collect::<Vec<_>>() });
    let mesh = cluster.mesh.map(Mesh::control_plane);
    std::iter::once(names).chain(mesh).collect()
}
