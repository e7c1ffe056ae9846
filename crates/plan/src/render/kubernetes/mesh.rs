//! Meshes: their proxies encrypt what gateway and engines say, and must not try again what the gateway
//! tries again itself, nor stand between the ranks of one copy.

use std::collections::BTreeSet;

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

/// By an empty list of addresses here, Istio leaves all that a pod sends to itself.
const SENT: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";

/// All ports, as Linkerd writes ranges.
const EVERY_PORT: &str = "1-65535";

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

    /// Annotations of pods of Pilotage's own, which have these ports beside that of requests. Whoever asks there is not
    /// always in the mesh (the API server, KEDA), or asks an address, to which Istio sends as it is: where only
    /// encrypted connections are let in, these go past the proxy.
    pub(super) fn part_annotations(self, ports: &[u16]) -> Vec<(String, String)> {
        let past = if self == Self::Istio { ports } else { &[] };
        self.pod_annotations(&[], &[], past)
    }

    /// Annotations of pods that are in it and have these ports. Those that fetch before they start, from the ports
    /// `fetch`, do so past the proxy, which is not there yet; ports that are `probed` are reached past it. Where one
    /// copy has several nodes, proxies see what comes to the ports of requests and nothing else: ranks agree on ports by
    /// themselves, and whoever sends past the proxy is not let in by one that wants certificates.
    pub(super) fn pod_annotations(
        self,
        ports: &[Port],
        fetch: &[u16],
        probed: &[u16],
    ) -> Vec<(String, String)> {
        let is_group = ports.iter().any(|port| port.role == PortRole::Rendezvous);
        let of = |is: &dyn Fn(PortRole) -> bool| -> BTreeSet<u16> {
            ports.iter().filter(|port| is(port.role)).map(|port| port.default).collect()
        };
        let asked = of(&|role| role != PortRole::Rendezvous);
        let opaque = join(&of(&|role| role == PortRole::KvEvents));
        let past = join(&fetch.iter().copied().collect());
        let probed = join(&probed.iter().copied().collect());
        let mut all: Vec<(&str, String)> = match self {
            Self::Istio => {
                vec![(
                    "proxy.istio.io/config",
                    "{\"holdApplicationUntilProxyStarts\": true}".to_owned(),
                )]
            }
            Self::Linkerd => vec![
                ("linkerd.io/inject", "enabled".to_owned()),
                ("config.linkerd.io/proxy-await", "enabled".to_owned()),
                ("config.linkerd.io/opaque-ports", opaque),
            ],
        };
        all.extend(match (self, is_group) {
            (Self::Istio, true) => vec![
                ("traffic.sidecar.istio.io/includeInboundPorts", join(&asked)),
                (SENT, String::new()),
            ],
            (Self::Istio, false) => vec![
                ("traffic.sidecar.istio.io/excludeInboundPorts", probed),
                ("traffic.sidecar.istio.io/excludeOutboundPorts", past),
            ],
            (Self::Linkerd, true) => vec![
                ("config.linkerd.io/skip-inbound-ports", beside(&asked)),
                ("config.linkerd.io/skip-outbound-ports", EVERY_PORT.to_owned()),
            ],
            (Self::Linkerd, false) => vec![
                ("config.linkerd.io/skip-inbound-ports", probed),
                ("config.linkerd.io/skip-outbound-ports", past),
            ],
        });
        all.retain(|(key, value)| !value.is_empty() || *key == SENT);
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn join(ports: &BTreeSet<u16>) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    ports.join(",")
}

/// The ranges of all other ports.
fn beside(ports: &BTreeSet<u16>) -> String {
    let ends = ports.iter().copied().map(u32::from).chain([65_536]);
    let mut from = 1;
    let mut ranges = Vec::new();
    for port in ends {
        match port.checked_sub(from) {
            None | Some(0) => {}
            Some(1) => ranges.push(from.to_string()),
            Some(_) => ranges.push(format!("{from}-{}", port - 1)),
        }
        from = port + 1;
    }
    ranges.join(",")
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

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn ranges_leave_out_these_ports() {
        let check = |ports: &[u16], expect: &str| {
            assert_eq!(beside(&ports.iter().copied().collect()), expect);
        };
        check(&[], "1-65535");
        check(&[8000], "1-7999,8001-65535");
        check(&[1, 3, 65_535], "2,4-65534");
    }
}
