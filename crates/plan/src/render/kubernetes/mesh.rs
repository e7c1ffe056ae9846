//! Meshes: their proxies encrypt what gateway and engines say, and must not try again what the gateway
//! tries again itself, nor stand between the ranks of one copy.

use serde_json::{Value, json};

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

    /// The label and the annotation of pods that end, which a proxy beside them would keep from doing so.
    pub(super) const fn left_out(self) -> [Option<(&'static str, &'static str)>; 2] {
        match self {
            Self::Istio => [Some(("sidecar.istio.io/inject", "false")), None],
            Self::Linkerd => [None, Some(("linkerd.io/inject", "disabled"))],
        }
    }

    /// What proxies of pods ask for certificates and for where others are.
    pub(super) fn control_plane(self) -> Value {
        let (namespace, ports): (&str, &[u16]) = match self {
            Self::Istio => ("istio-system", &[15012]),
            Self::Linkerd => ("linkerd", &[8080, 8086, 8090]),
        };
        let ports = ports.iter().map(|port| json!({ "port": port, "protocol": "TCP" }));
        let ports: Vec<Value> = ports.collect();
        let place = json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } } });
        json!({ "to": [place], "ports": ports })
    }

    /// Annotations of pods that are in it and have these ports. Those that `fetch` before they start do so past the
    /// proxy, which is not there yet; a port that is only `probed` is reached past it.
    pub(super) fn pod_annotations(
        self,
        ports: &[Port],
        fetch: bool,
        probed: Option<u16>,
    ) -> Vec<(String, String)> {
        let of = |roles: &[PortRole]| {
            let ports = ports.iter().filter(|port| roles.contains(&port.role));
            let ports: Vec<String> = ports.map(|port| port.default.to_string()).collect();
            ports.join(",")
        };
        let around = of(&[PortRole::Rendezvous]);
        let listed = |ports: [&str; 2]| {
            let ports = ports.into_iter().filter(|ports| !ports.is_empty());
            ports.collect::<Vec<_>>().join(",")
        };
        let past = listed([&around, if fetch { "443" } else { "" }]);
        let around = listed([&around, &probed.map_or_else(String::new, |port| port.to_string())]);
        let opaque = of(&[PortRole::KvEvents]);
        let mut all: Vec<(&str, String)> = match self {
            Self::Istio => vec![
                ("proxy.istio.io/config", "{\"holdApplicationUntilProxyStarts\": true}".to_owned()),
                ("traffic.sidecar.istio.io/excludeInboundPorts", around),
                ("traffic.sidecar.istio.io/excludeOutboundPorts", past),
            ],
            Self::Linkerd => vec![
                ("linkerd.io/inject", "enabled".to_owned()),
                ("config.linkerd.io/proxy-await", "enabled".to_owned()),
                ("config.linkerd.io/skip-inbound-ports", around),
                ("config.linkerd.io/skip-outbound-ports", past),
                ("config.linkerd.io/opaque-ports", opaque),
            ],
        };
        all.retain(|(_, value)| !value.is_empty());
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// What is said of a Model's Service.
pub(super) fn objects(settled: &Settled<'_>) -> Option<Object> {
    let service = settled.named_here("engines");
    let port = settled.port(PortRole::Http).unwrap_or(8000);
    once(settled.cluster.mesh, settled.metadata(&service), port)
}

/// That the Service of that name is asked once: Istio tries twice again by itself, Linkerd only what is told so.
pub(super) fn once(mesh: Option<Mesh>, metadata: Value, port: u16) -> Option<Object> {
    if mesh != Some(Mesh::Istio) {
        return None;
    }
    let text = |name: &str| metadata[name].as_str().unwrap_or_default();
    let host = format!("{}.{}.svc.cluster.local", text("name"), text("namespace"));
    let destination = json!({ "host": host, "port": { "number": port } });
    let spec = json!({
        "hosts": [host],
        "http": [{ "route": [{ "destination": destination }], "retries": { "attempts": 0 }, "timeout": "0s" }],
    });
    Some(Object::new("networking.istio.io/v1", "VirtualService", metadata, json!({ "spec": spec })))
}
