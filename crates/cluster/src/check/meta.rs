//! What the metadata of any object must be like.

use serde_json::{Map, Value};

use super::names::{self, Why};
use crate::api::failure::Cause;

/// Bytes of all annotations of an object.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What is wrong with an object's metadata, its name aside.
pub(crate) fn meta(object: &Value) -> Vec<Cause> {
    let Some(meta) = object.get("metadata") else { return Vec::new() };
    let mut causes = Vec::new();
    labels(meta.get("labels"), "metadata.labels", &mut causes);
    annotations(meta.get("annotations"), &mut causes);
    for finalizer in meta.get("finalizers").and_then(Value::as_array).into_iter().flatten() {
        let why = names::qualified(finalizer.as_str().unwrap_or_default());
        causes.extend(why.map(|why| Cause::invalid("metadata.finalizers", finalizer, why)));
    }
    owners(meta, &mut causes);
    causes
}

/// What is wrong with labels.
pub(super) fn labels(labels: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if let Some(why) = names::qualified(key) {
            causes.push(Cause::invalid(path, &Value::from(key.as_str()), why));
        }
        if let Some(why) = names::value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, value, why));
        }
    }
}

fn annotations(annotations: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        // Their keys may have capitals in the prefix, for as long as there have been annotations.
        if let Some(why) = names::qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &Value::from(key.as_str()), why));
        }
    }
    if size > ANNOTATIONS_MAX {
        let message = format!("Too long: may not be more than {ANNOTATIONS_MAX} bytes");
        causes.push(Cause::of("FieldValueTooLong", "metadata.annotations", message));
    }
}

fn owners(meta: &Value, causes: &mut Vec<Cause>) {
    let all = meta.get("ownerReferences").and_then(Value::as_array);
    let all = all.map(Vec::as_slice).unwrap_or_default();
    for owner in all {
        for (field, what) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            let said = owner.get(field).and_then(Value::as_str).unwrap_or_default();
            if said.is_empty() {
                let path = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::invalid(path, &Value::from(said), what));
            }
        }
    }
    let controllers = all.iter().filter(|owner| owner["controller"] == true);
    if controllers.count() > 1 {
        let why = "Only one reference can have Controller set to true";
        let all = Value::from(all.to_vec());
        causes.push(Cause::invalid("metadata.ownerReferences", &all, why));
    }
}

/// Why an object of a kind cannot have a name.
pub(crate) fn name(group: &str, kind: &str, name: &str) -> Option<Cause> {
    let form: fn(&str) -> Why = match (group, kind) {
        ("rbac.authorization.k8s.io", _) => names::segment,
        ("", "Service") => names::host,
        ("", "Namespace") => names::label,
        _ => names::subdomain,
    };
    let why = form(name)?;
    Some(Cause::invalid("metadata.name", &Value::from(name), why))
}

/// What is wrong with the entries of a Secret or ConfigMap.
pub(super) fn entries(data: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for key in data.keys() {
        let why = names::entry(key);
        let field = format!("{path}[{key}]");
        causes.extend(why.map(|why| Cause::invalid(field, &Value::from(key.as_str()), why)));
    }
}
