//! Which lists are sets, or maps by a key of their entries: several owners can then each have some
//! of the entries (server-side apply), and entries that are there twice are refused.

use serde_json::{Value, json};

use crate::api::Kind;

/// Lists by their path in `spec`, and the key of their entries; none for sets.
type List = (&'static str, Option<&'static str>);

const MODEL: &[List] =
    &[("endpoints", Some("url")), ("adapters", None), ("podTemplate.imagePullSecrets", None)];
const ROUTE: &[List] = &[
    ("models", None),
    ("targets", Some("model")),
    ("fallbacks", None),
    ("rules", Some("name")),
    ("rules[].targets", Some("model")),
    ("regions", Some("name")),
    ("scheduling.bands", Some("band")),
];
const TENANT: &[List] = &[("quota.budgets", Some("window")), ("keys", Some("sha256"))];

/// Marks the lists of a kind.
pub(super) fn mark(kind: Kind, spec: &mut Value) {
    let lists = match kind {
        Kind::Model => MODEL,
        Kind::Route => ROUTE,
        Kind::Tenant => TENANT,
        Kind::Fleet => &[],
    };
    atomic(spec);
    for (path, key) in lists {
        let Some(list) = at(spec, path) else { continue };
        match key {
            None => list["x-kubernetes-list-type"] = json!("set"),
            Some(key) => {
                list["x-kubernetes-list-type"] = json!("map");
                list["x-kubernetes-list-map-keys"] = json!([key]);
            }
        }
    }
}

/// Marks the conditions.
pub(super) fn mark_status(status: &mut Value) {
    if let Some(list) = at(status, "conditions") {
        list["x-kubernetes-list-type"] = json!("map");
        list["x-kubernetes-list-map-keys"] = json!(["type"]);
    }
}

/// The node at a path, `[]` being the entries of a list.
pub(super) fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut node = schema;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let name = step.trim_end_matches("[]");
        node = node.get_mut("properties")?.get_mut(name)?;
        if step.ends_with("[]") {
            node = node.get_mut("items")?;
        }
    }
    Some(node)
}

/// All lists that nothing else is said of belong to one owner as a whole.
fn atomic(node: &mut Value) {
    let Some(fields) = node.as_object_mut() else { return };
    if fields.get("type").is_some_and(|kind| kind == "array") {
        fields.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
    }
    if let Some(items) = fields.get_mut("items") {
        atomic(items);
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    for (_, below) in properties.into_iter().flatten() {
        atomic(below);
    }
}
