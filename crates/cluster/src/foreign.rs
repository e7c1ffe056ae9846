//! Definitions of kinds that others bring into a cluster, without what their schemas say.

use serde_json::{Value, json};

/// A kind.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a> {
    /// Its group: `keda.sh`.
    pub group: &'a str,
    /// Its only version: `v1`.
    pub version: &'a str,
    /// Its name: `ScaledObject`.
    pub kind: &'a str,
    /// In paths: `scaledobjects`.
    pub plural: &'a str,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
}

impl Foreign<'_> {
    /// Its definition, as an API server takes it. Objects have a status beside, and say what they like.
    pub fn definition(&self) -> Value {
        let Self { group, version, kind, plural, is_namespaced } = *self;
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group,
                "scope": if is_namespaced { "Namespaced" } else { "Cluster" },
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(),
                    "listKind": format!("{kind}List")},
                "versions": [{"name": version, "served": true, "storage": true,
                    "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}],
            },
        })
    }
}

/// The kinds of the Gateway API, and its pools of inference.
pub fn gateway_api() -> [Value; 4] {
    let of = |group, kind, plural, is_namespaced| {
        Foreign { group, version: "v1", kind, plural, is_namespaced }.definition()
    };
    let gateway = "gateway.networking.k8s.io";
    [
        of(gateway, "GatewayClass", "gatewayclasses", false),
        of(gateway, "Gateway", "gateways", true),
        of(gateway, "HTTPRoute", "httproutes", true),
        of("inference.networking.k8s.io", "InferencePool", "inferencepools", true),
    ]
}
