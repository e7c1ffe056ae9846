//! What a server adds to objects, and what it refuses to store.

use serde_json::{Value, json};

use super::{Ask, Cluster};
use crate::api::failure::{Cause, Failure};
use crate::check;

impl Cluster {
    /// Fills in what servers fill in of the kinds that every cluster has.
    pub(super) fn complete(&mut self, ask: &Ask<'_>, old: Option<&Value>, value: &mut Value) {
        if ask.resource.custom {
            return;
        }
        let kind = &*ask.resource.kind;
        check::defaults(kind, value);
        match kind {
            "Namespace" => {
                if old.is_none() {
                    value["spec"]["finalizers"] = json!(["kubernetes"]);
                }
                let name = value.pointer("/metadata/name").cloned().unwrap_or_default();
                value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
            "Service" => self.address(old, value),
            "Job" if old.is_none() => job(value),
            "Secret" => secret(value),
            "Deployment" | "ReplicaSet" | "StatefulSet" if value.get("status").is_none() => {
                value["status"] = json!({});
            }
            _ => {}
        }
    }

    /// Gives a service its address.
    fn address(&mut self, old: Option<&Value>, value: &mut Value) {
        let kind = value.pointer("/spec/type").and_then(Value::as_str);
        let known = value.pointer("/spec/clusterIP").and_then(Value::as_str);
        if kind == Some("ExternalName") || known.is_some_and(|known| !known.is_empty()) {
            return;
        }
        let old = old.and_then(|old| old.pointer("/spec/clusterIP")).cloned();
        let address = old.unwrap_or_else(|| {
            self.addresses += 1;
            let (high, low) = (self.addresses >> 8 & 0xff, self.addresses & 0xff);
            format!("10.96.{high}.{low}").into()
        });
        value["spec"]["clusterIPs"] = json!([address]);
        value["spec"]["clusterIP"] = address;
    }

    /// Whether an object may be stored.
    pub(super) fn admit(
        &mut self,
        ask: &Ask<'_>,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Failure> {
        let kind = &*ask.resource.kind;
        let mut causes = Vec::new();
        if ask.resource.custom {
            let version = ask.version();
            causes = check::valid(&version.types, version.root, new);
            // Rules are looked at only where the schema holds.
            if let Some(judge) = self.judge.filter(|_| causes.is_empty()) {
                let said = judge(kind, new, old).into_iter();
                causes.extend(said.map(|(field, why)| Cause::invalid(field, &Value::Null, &why)));
            }
        } else if ask.target.subresource.is_empty() {
            causes.extend(check::required(kind, new));
            if let Some(old) = old {
                causes.extend(check::immutable(kind, old, new));
            }
        }
        causes.extend(check::meta(new));
        causes.extend(finalizers(old, new));
        if kind == "CustomResourceDefinition" {
            causes.extend(self.definable(new));
        }
        if causes.is_empty() {
            return Ok(());
        }
        let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        Err(Failure::invalid(&ask.resource.group, kind, name, causes))
    }
}

/// Of a deleted object, finalizers only go.
fn finalizers(old: Option<&Value>, new: &Value) -> Option<Cause> {
    let old = old.filter(|old| old.pointer("/metadata/deletionTimestamp").is_some())?;
    let all = |value: &Value| {
        let all = value.pointer("/metadata/finalizers").and_then(Value::as_array);
        all.cloned().unwrap_or_default()
    };
    let known = all(old);
    let added: Vec<Value> = all(new).into_iter().filter(|one| !known.contains(one)).collect();
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    (!added.is_empty()).then(|| Cause::forbidden("metadata.finalizers", &why))
}

/// A job selects its pods by its own id.
fn job(value: &mut Value) {
    if value.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let uid = value.pointer("/metadata/uid").cloned().unwrap_or_default();
    let name = value.pointer("/metadata/name").cloned().unwrap_or_default();
    value["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    let labels = &mut value["spec"]["template"]["metadata"]["labels"];
    for prefix in ["", "batch.kubernetes.io/"] {
        labels[format!("{prefix}controller-uid")] = uid.clone();
        labels[format!("{prefix}job-name")] = name.clone();
    }
}

/// Strings of a secret are kept as bytes.
fn secret(value: &mut Value) {
    use base64::Engine;
    let Value::Object(fields) = value else { return };
    let Some(Value::Object(strings)) = fields.shift_remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| json!({}));
    for (name, text) in strings {
        let text = text.as_str().unwrap_or_default();
        data[name] = base64::engine::general_purpose::STANDARD.encode(text).into();
    }
}
