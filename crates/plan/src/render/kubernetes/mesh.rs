//! Meshes: their proxies encrypt what gateway and engines say, and must not try again what the gateway
//! tries again itself, nor stand between the ranks of one copy.

use serde_json::json;

use super::object::Object;
use super::settle::Settled;
use crate::launch::{Port, PortRole};

/// A mesh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mesh {
    /// Istio with a proxy in each pod.
    Istio,
    /// Linkerd.
    Linkerd,
}

impl Mesh {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Istio, Self::Linkerd];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::Linkerd => "linkerd",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mesh| mesh.name() == name)
    }

    /// Labels of pods that are in it.
    pub(super) const fn pod_labels(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Istio => &[("sidecar.istio.io/inject", "true")],
            Self::Linkerd => &[],
        }
    }

    /// Annotations of pods that are in it and have these ports.
    pub(super) fn pod_annotations(self, ports: &[Port]) -> Vec<(String, String)> {
        let of = |roles: &[PortRole]| {
            let ports = ports.iter().filter(|port| roles.contains(&port.role));
            let ports: Vec<String> = ports.map(|port| port.default.to_string()).collect();
            ports.join(",")
        };
        let around = of(&[PortRole::Rendezvous]);
        let opaque = of(&[PortRole::KvEvents]);
        let mut all: Vec<(&str, String)> = match self {
            Self::Istio => vec![
                ("proxy.istio.io/config", "{\"holdApplicationUntilProxyStarts\": true}".to_owned()),
                ("traffic.sidecar.istio.io/excludeInboundPorts", around.clone()),
                ("traffic.sidecar.istio.io/excludeOutboundPorts", around),
            ],
            Self::Linkerd => vec![
                ("linkerd.io/inject", "enabled".to_owned()),
                ("config.linkerd.io/proxy-await", "enabled".to_owned()),
                ("config.linkerd.io/skip-inbound-ports", around.clone()),
                ("config.linkerd.io/skip-outbound-ports", around),
                ("config.linkerd.io/opaque-ports", opaque),
            ],
        };
        all.retain(|(_, value)| !value.is_empty());
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Istio tries twice again by itself; Linkerd only what is told so.
pub(super) fn objects(settled: &Settled<'_>) -> Option<Object> {
    if settled.cluster.mesh != Some(Mesh::Istio) {
        return None;
    }
    let service = settled.named_here("engines");
    let host = format!("{service}.{}.svc.cluster.local", settled.cluster.namespace);
    let port = settled.port(PortRole::Http).unwrap_or(8000);
    let destination = json!({ "host": host, "port": { "number": port } });
    let spec = json!({
        "hosts": [host],
        "http": [{ "route": [{ "destination": destination }], "retries": { "attempts": 0 }, "timeout": "0s" }],
    });
    let metadata = settled.metadata(&service);
    Some(Object::new("networking.istio.io/v1", "VirtualService", metadata, json!({ "spec": spec })))
}
