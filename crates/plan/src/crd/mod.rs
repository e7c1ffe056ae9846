//! The CustomResourceDefinitions: what a cluster's API server knows of the resource kinds, made from
//! the schemas that check manifests, so that one YAML is right or wrong in both places alike.
//!
//! ```text
//! schema of a kind ──structural──▶ types, bounds, words ──lists, rules──▶ CustomResourceDefinition
//! ```
//!
//! What a schema cannot say is said in CEL ([`rules`]), beside the parser's own checks in
//! [`manifest`](crate::manifest). Checks over several resources (a Route's Model is there) are the
//! operator's, which reports them as conditions.

mod formats;
mod lists;
pub mod rules;
mod structural;

use serde_json::{Map, Value, json};

use crate::api::status::{ModelStatus, Status};
use crate::api::{Kind, schema_of};
use crate::render::kubernetes::name::NAME_LEN_MAX;

/// The API group.
pub const GROUP: &str = "pilotage.dev";

/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// The CustomResourceDefinition of every kind, in the order of [`Kind::ALL`].
pub fn all() -> Vec<Value> {
    Kind::ALL.into_iter().map(crd).collect()
}

/// The CustomResourceDefinition of a kind.
pub fn crd(kind: Kind) -> Value {
    let names = Names::of(kind);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", names.plural),
            "labels": { "app.kubernetes.io/part-of": "pilotage" },
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name(),
                "listKind": format!("{kind}List"),
                "plural": names.plural,
                "singular": names.singular,
                "shortNames": [names.short],
                "categories": ["pilotage"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": schema(kind) },
                "subresources": subresources(kind),
                "additionalPrinterColumns": columns(kind),
            }],
        },
    })
}

/// What a kind is called in paths and commands.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// In paths: `models`.
    pub plural: &'static str,
    /// In commands: `model`.
    pub singular: &'static str,
    /// In commands of people in a hurry.
    pub short: &'static str,
}

impl Names {
    /// Those of a kind.
    pub const fn of(kind: Kind) -> Self {
        let (plural, singular, short) = match kind {
            Kind::Model => ("models", "model", "pmodel"),
            Kind::Route => ("routes", "route", "proute"),
            Kind::Tenant => ("tenants", "tenant", "ptenant"),
            Kind::Fleet => ("fleets", "fleet", "pfleet"),
        };
        Self { plural, singular, short }
    }
}

/// The schema of whole objects of a kind.
pub fn schema(kind: Kind) -> Value {
    let mut spec = structural::spec(kind);
    lists::mark(kind, &mut spec);
    rules::add(kind, &mut spec);
    let status = match kind {
        Kind::Model => schema_of::<ModelStatus>(),
        Kind::Route | Kind::Tenant | Kind::Fleet => schema_of::<Status>(),
    };
    let mut status = structural::translate(&status.to_value());
    lists::mark_status(&mut status);
    let about = spec["description"].clone();
    // Names are in labels, too. A rule about the whole object would have to know all of its types.
    let name = json!({ "name": { "type": "string", "maxLength": NAME_LEN_MAX } });
    json!({
        "type": "object",
        "description": about,
        "properties": {
            "apiVersion": { "type": "string", "description": "The version of the schema." },
            "kind": { "type": "string", "description": "The kind of the resource." },
            "metadata": { "type": "object", "properties": name },
            "spec": spec,
            "status": status,
        },
        "required": ["spec"],
    })
}

fn subresources(kind: Kind) -> Value {
    let mut all = Map::new();
    all.insert("status".to_owned(), json!({}));
    if kind == Kind::Model {
        let scale = json!({
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        });
        all.insert("scale".to_owned(), scale);
    }
    Value::Object(all)
}

/// What `kubectl get` shows; those with a priority with `-o wide` alone.
fn columns(kind: Kind) -> Value {
    let condition =
        |name: &str, part: &str| format!(".status.conditions[?(@.type==\"{name}\")].{part}");
    let column =
        |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let wide = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path, "priority": 1});
    let mut all = match kind {
        Kind::Model => vec![
            column("Runtime", "string", ".status.runtime"),
            column("Replicas", "integer", ".status.replicas"),
            column("Ready", "integer", ".status.readyReplicas"),
            column("Status", "string", &condition("Ready", "status")),
            wide("Source", ".spec.source"),
            wide("Reason", &condition("Ready", "reason")),
        ],
        Kind::Route => vec![
            column("Model", "string", ".spec.targets[0].model"),
            column("Canary", "string", ".spec.canary.model"),
            column("Status", "string", &condition("Accepted", "status")),
            wide("Reason", &condition("Accepted", "reason")),
        ],
        Kind::Tenant => vec![
            column("Parent", "string", ".spec.parent"),
            column("Weight", "integer", ".spec.weight"),
            column("Guaranteed", "integer", ".spec.share.guaranteedPercent"),
            column("Status", "string", &condition("Accepted", "status")),
            wide("Reason", &condition("Accepted", "reason")),
        ],
        Kind::Fleet => vec![
            column("Hardware", "string", ".spec.hardware"),
            column("Nodes", "integer", ".spec.nodes"),
            column("Spot", "boolean", ".spec.spot"),
            column("Status", "string", &condition("Accepted", "status")),
            wide("Reason", &condition("Accepted", "reason")),
        ],
    };
    all.push(column("Age", "date", ".metadata.creationTimestamp"));
    Value::Array(all)
}
