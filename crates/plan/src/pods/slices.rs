//! EndpointSlices: what they say of the pods of a Service.
//!
//! A Service has several slices, for several families of addresses and for many pods; the same pod may be in
//! two of them while it moves. What a slice leaves out means what the API's documentation says it does.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::{PODS_MAX, Pod, SERVICE_LABEL, Stage};

/// A slice as the API server has it, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Slice {
    metadata: Metadata,
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
struct Metadata {
    namespace: String,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
    zone: Option<String>,
    hints: Option<Hints>,
    target_ref: Option<Reference>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Hints {
    for_zones: Option<Vec<Zone>>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
struct Zone {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
struct Reference {
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
}

impl Slice {
    /// The namespace and the name of the Service that it is of.
    pub fn service(&self) -> (&str, &str) {
        let name = self.metadata.labels.get(SERVICE_LABEL);
        (&self.metadata.namespace, name.map(String::as_str).unwrap_or_default())
    }

    /// The Model whose pods these are, by a label that slices have of their Service.
    pub fn model(&self) -> Option<&str> {
        self.metadata.labels.get("pilotage.dev/model").map(String::as_str)
    }
}

/// The pods in slices of one Service, by name, the first [`PODS_MAX`] of them. Of a pod with addresses of
/// both families the one of IPv4 counts.
pub fn pods<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> Vec<Pod> {
    let mut found: BTreeMap<String, Pod> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.address_type != "FQDN") {
        let ports = ports(slice.ports.as_deref().unwrap_or_default());
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(pod) = endpoint.pod(&ports) else { continue };
            match found.get_mut(&pod.uid) {
                Some(known) => merge(known, pod),
                None => drop(found.insert(pod.uid.clone(), pod)),
            }
        }
    }
    let mut pods: Vec<Pod> = found.into_values().collect();
    pods.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
    // Two of one name are one that ends and one that took its place.
    pods.dedup_by(|later, first| {
        let same = later.name == first.name;
        if same && later.stage > first.stage {
            std::mem::swap(later, first);
        }
        same
    });
    pods.truncate(PODS_MAX);
    pods
}

/// The same pod in another slice: it is on its way from one to the other, or has two addresses.
fn merge(known: &mut Pod, other: Pod) {
    let stage = known.stage.max(other.stage);
    let better = (other.address.is_ipv4(), other.stage) > (known.address.is_ipv4(), known.stage);
    if better {
        *known = other;
    }
    known.stage = stage;
}

/// Ports by name; one without a name that is the only one is that for requests.
fn ports(ports: &[Port]) -> BTreeMap<String, u16> {
    let named = |port: &Port| {
        let name = port.name.clone().unwrap_or_default();
        let name = if name.is_empty() && ports.len() == 1 { super::HTTP.to_owned() } else { name };
        Some((name, port.port?))
    };
    ports.iter().filter_map(named).filter(|(name, _)| !name.is_empty()).collect()
}

impl Endpoint {
    /// Its pod; none where it has no address.
    fn pod(&self, ports: &BTreeMap<String, u16>) -> Option<Pod> {
        // Of several, all consumers use the first.
        let address: IpAddr = self.addresses.first()?.parse().ok()?;
        let of = self.target_ref.as_ref().filter(|of| !of.uid.is_empty());
        let near = self.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
        Some(Pod {
            name: of.map_or_else(|| address.to_string(), |of| of.name.clone()),
            uid: of.map_or_else(|| address.to_string(), |of| of.uid.clone()),
            address,
            ports: ports.clone(),
            zone: self.zone.clone(),
            node: self.node_name.clone(),
            near: near.map(|zone| zone.name.clone()).collect(),
            stage: self.conditions.unwrap_or_default().stage(),
        })
    }
}

impl Conditions {
    /// What is not said is ready, serves if it is ready, and stays.
    fn stage(self) -> Stage {
        let is_ready = self.ready.unwrap_or(true);
        match (self.terminating.unwrap_or(false), is_ready) {
            (true, _) => Stage::Leaving,
            (false, true) => Stage::Ready,
            (false, false) => Stage::Unready,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn slice(family: &str, endpoints: &[Value]) -> Value {
        json!({
            "metadata": { "namespace": "n", "labels": { SERVICE_LABEL: "m-engines" } },
            "addressType": family,
            "ports": [{ "name": "http", "port": 8000, "protocol": "TCP" }],
            "endpoints": endpoints,
        })
    }

    fn at(address: &str, uid: &str, conditions: Value) -> Value {
        json!({
            "addresses": [address],
            "conditions": conditions,
            "targetRef": { "kind": "Pod", "name": format!("pod-{uid}"), "uid": uid },
        })
    }

    fn read(slices: &[Value]) -> Vec<Pod> {
        let read: Vec<Slice> =
            slices.iter().map(|slice| Slice::deserialize(slice).unwrap()).collect();
        pods(&read)
    }

    fn told(slices: &[Value]) -> Vec<String> {
        read(slices)
            .iter()
            .map(|pod| format!("{} {} {:?}", pod.name, pod.address, pod.stage))
            .collect()
    }

    #[test]
    fn conditions_mean_what_the_api_says() {
        let check = |conditions: Value, expect: &str| {
            let told = told(&[slice("IPv4", &[at("10.0.0.1", "a", conditions.clone())])]);
            assert_eq!(told, [format!("pod-a 10.0.0.1 {expect}")], "{conditions}");
        };
        check(json!({}), "Ready");
        check(Value::Null, "Ready");
        check(json!({ "ready": true, "serving": true, "terminating": false }), "Ready");
        check(json!({ "ready": false }), "Unready");
        check(json!({ "ready": false, "serving": false, "terminating": false }), "Unready");
        check(json!({ "ready": false, "serving": true, "terminating": true }), "Leaving");
        check(json!({ "ready": false, "serving": false, "terminating": true }), "Leaving");
        check(json!({ "ready": true, "terminating": true }), "Leaving");
    }

    #[test]
    fn a_pod_in_several_slices_is_one() {
        let (yes, no) = (json!({ "ready": true }), json!({ "ready": false }));
        let check = |slices: &[Value], expect: &[&str]| assert_eq!(told(slices), expect);
        // It moves, and is ready in the newer of the two.
        check(
            &[
                slice("IPv4", &[at("10.0.0.1", "a", no)]),
                slice(
                    "IPv4",
                    &[at("10.0.0.1", "a", yes.clone()), at("10.0.0.2", "b", yes.clone())],
                ),
            ],
            &["pod-a 10.0.0.1 Ready", "pod-b 10.0.0.2 Ready"],
        );
        // Both families.
        check(
            &[
                slice("IPv6", &[at("fd00::1", "a", yes.clone()), at("fd00::2", "b", yes.clone())]),
                slice("IPv4", &[at("10.0.0.1", "a", yes.clone())]),
            ],
            &["pod-a 10.0.0.1 Ready", "pod-b fd00::2 Ready"],
        );
        check(&[slice("FQDN", &[at("10.0.0.1", "a", yes)])], &[]);
    }

    #[test]
    fn of_two_with_one_name_the_one_that_works_counts() {
        let named = |address: &str, uid: &str, conditions: Value| {
            let mut endpoint = at(address, uid, conditions);
            endpoint["targetRef"]["name"] = "m-0".into();
            endpoint
        };
        let leaving = json!({ "ready": false, "terminating": true });
        let ready = json!({ "ready": true });
        for (a, b) in [("1", "2"), ("2", "1")] {
            let slice = slice(
                "IPv4",
                &[named("10.0.0.1", a, leaving.clone()), named("10.0.0.2", b, ready.clone())],
            );
            let found = read(&[slice]);
            assert_eq!(found.iter().map(|pod| pod.uid.as_str()).collect::<Vec<_>>(), [b]);
        }
    }

    #[test]
    fn ports_zones_and_hints_are_read() {
        let mut whole = slice(
            "IPv4",
            &[json!({
                "addresses": ["10.0.0.1", "10.0.0.9"],
                "zone": "a",
                "nodeName": "n1",
                "hints": { "forZones": [{ "name": "a" }, { "name": "b" }] },
            })],
        );
        let found = read(std::slice::from_ref(&whole));
        assert_eq!(found[0].name, "10.0.0.1", "nobody says whose it is");
        assert_eq!(
            (found[0].zone.as_deref(), &found[0].near[..]),
            (Some("a"), &["a".to_owned(), "b".to_owned()][..])
        );
        let ports = |ports: Value, whole: &mut Value| {
            whole["ports"] = ports;
            read(std::slice::from_ref(whole))[0].ports.clone().into_iter().collect::<Vec<_>>()
        };
        let owned = |all: &[(&str, u16)]| {
            all.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect::<Vec<_>>()
        };
        assert_eq!(ports(json!([{ "port": 9 }]), &mut whole), owned(&[("http", 9)]));
        assert_eq!(ports(json!([{ "name": "", "port": 9 }]), &mut whole), owned(&[("http", 9)]));
        let two = json!([{ "name": "x", "port": 1 }, { "port": 2 }, { "name": "y" }]);
        assert_eq!(ports(two, &mut whole), owned(&[("x", 1)]));
        assert_eq!(ports(Value::Null, &mut whole), []);
        let service: Slice = Slice::deserialize(&whole).unwrap();
        assert_eq!(service.service(), ("n", "m-engines"));
    }

    proptest! {
        #[test]
        fn the_order_of_slices_changes_nothing(
            all in prop::collection::vec((0_u8..4, 0_u8..4, any::<bool>(), any::<bool>(), any::<bool>()), 0..8),
        ) {
            let slices: Vec<Value> = all
                .iter()
                .map(|(uid, host, six, ready, terminating)| {
                    let (family, address) = if *six {
                        ("IPv6", format!("fd00::{uid}"))
                    } else {
                        ("IPv4", format!("10.0.{host}.{uid}"))
                    };
                    let _ = host;
                    let address = if *six { address } else { format!("10.0.0.{uid}") };
                    slice(family, &[at(&address, &uid.to_string(), json!({ "ready": ready, "terminating": terminating }))])
                })
                .collect();
            let back: Vec<Value> = slices.iter().rev().cloned().collect();
            prop_assert_eq!(told(&slices), told(&back));
        }
    }
}
