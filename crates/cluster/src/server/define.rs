//! Kinds that definitions (CRDs) bring and take away.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Cluster;
use crate::api::failure::Cause;
use crate::api::kinds::{Habits, Resource, Scale, Version};
use crate::api::stamp;
use crate::shape::{Types, custom};
use crate::store::{Key, Object, Table};

impl Cluster {
    /// What keeps a definition from being one.
    pub(super) fn definable(&self, definition: &Value) -> Vec<Cause> {
        let text = |at: &str| definition.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let mut causes = Vec::new();
        for needed in ["/spec/group", "/spec/names/plural", "/spec/names/kind", "/spec/scope"] {
            if text(needed).is_empty() {
                causes.push(Cause::required(needed.trim_start_matches('/').replace('/', ".")));
            }
        }
        let name = text("/metadata/name");
        let due = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
        if name != due {
            let why = format!("must be spec.names.plural+\".\"+spec.group ({due})");
            causes.push(Cause::invalid("metadata.name", &Value::from(name), &why));
        }
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let versions = versions.map(Vec::as_slice).unwrap_or_default();
        let stored = versions.iter().filter(|one| one.get("storage") == Some(&Value::Bool(true)));
        if stored.count() != 1 {
            let why = "must have exactly one version marked as storage version";
            causes.push(Cause::invalid("spec.versions", &json!(versions.len()), why));
        }
        for (at, version) in versions.iter().enumerate() {
            let Some(schema) = version.pointer("/schema/openAPIV3Schema") else {
                let field = format!("spec.versions[{at}].schema.openAPIV3Schema");
                causes.push(Cause::required(field));
                continue;
            };
            if let Err(error) = custom(&mut Types::new(), schema) {
                let field = format!("spec.versions[{at}].schema.{}", error.path);
                causes.push(Cause::invalid(field, &Value::Null, &error.what));
            }
        }
        causes
    }

    /// Serves the kind of a definition that was stored, and says so in its status.
    pub(super) fn define(&mut self, now_ms: u64, object: &Arc<Object>) {
        let mut definition = object.value();
        let Some(resource) = resource(&definition) else { return };
        if self.limits.establish_ms > 0 && !is_established(&definition) {
            self.promise(now_ms, object, definition);
            return;
        }
        let found = self
            .kinds
            .find(&resource.group, &resource.plural)
            .map(|(id, known)| (id, known.custom));
        match found {
            Some((id, true)) => self.kinds.replace(id, resource),
            Some((_, false)) => return,
            None => {
                let id = self.kinds.add(resource);
                while self.tables.len() <= id {
                    self.tables.push(Table::default());
                }
            }
        }
        let mut names = definition.pointer("/spec/names").cloned().unwrap_or_default();
        fill_names(&mut names);
        let is_told = definition.pointer("/status/acceptedNames") == Some(&names);
        if is_established(&definition) && is_told {
            return;
        }
        definition["status"] = established(&definition, &stamp::written(now_ms));
        if let Some((id, _)) = self.kinds.find(DEFINITIONS.0, DEFINITIONS.1) {
            self.store(now_ms, id, Key::of("", &object.name), definition);
        }
    }

    /// Says of a definition that its kind will be served.
    fn promise(&mut self, now_ms: u64, object: &Object, mut definition: Value) {
        if definition.pointer("/status/conditions").is_some() {
            return;
        }
        let mut status = established(&definition, &stamp::written(now_ms));
        status["conditions"][1]["status"] = "False".into();
        status["conditions"][1]["reason"] = "Installing".into();
        status["conditions"][1]["message"] = "the initial names have been accepted".into();
        definition["status"] = status;
        let due_ms = now_ms.saturating_add(self.limits.establish_ms);
        self.promised.insert((due_ms, object.name.clone()));
        if let Some((id, _)) = self.kinds.find(DEFINITIONS.0, DEFINITIONS.1) {
            self.store(now_ms, id, Key::of("", &object.name), definition);
        }
    }

    /// Serves the kinds of definitions whose time has come.
    pub(super) fn establish(&mut self, now_ms: u64) {
        while self.promised.first().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let Some((_, name)) = self.promised.pop_first() else { break };
            let key = Key::of("", &name);
            let id = self.kinds.find(DEFINITIONS.0, DEFINITIONS.1).map(|(id, _)| id);
            let found = id.and_then(|id| Some((id, self.tables.get(id)?.get(&key)?.value())));
            if let Some((id, mut definition)) = found {
                definition["status"] = established(&definition, &stamp::written(now_ms));
                self.store(now_ms, id, key, definition);
            }
        }
    }

    /// Serves the kind of a definition that is gone no more.
    pub(super) fn undefine(&mut self, object: &Object) {
        let definition = object.value();
        let text = |at: &str| definition.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let found = self.kinds.find(text("/spec/group"), text("/spec/names/plural"));
        let Some((id, _)) = found.filter(|(_, resource)| resource.custom) else { return };
        self.kinds.remove(id);
        if let Some(table) = self.tables.get_mut(id) {
            *table = Table::default();
        }
    }
}

const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

fn is_established(definition: &Value) -> bool {
    let all = definition.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter().flatten().any(|one| one["type"] == "Established" && one["status"] == "True")
}

fn established(definition: &Value, now: &str) -> Value {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let stored = versions.into_iter().flatten().filter(|one| one["storage"] == true);
    let stored: Vec<Value> = stored.map(|one| one["name"].clone()).collect();
    let mut names = definition.pointer("/spec/names").cloned().unwrap_or_default();
    fill_names(&mut names);
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind,
            "status": "True",
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        })
    };
    json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": names,
        "storedVersions": stored,
    })
}

/// Names that follow from the kind.
pub(super) fn fill_names(names: &mut Value) {
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Value::Object(fields) = names {
        fields.entry("singular").or_insert_with(|| kind.to_lowercase().into());
        fields.entry("listKind").or_insert_with(|| format!("{kind}List").into());
    }
}

/// The resource that a definition describes.
fn resource(definition: &Value) -> Option<Resource> {
    let spec = definition.get("spec")?;
    let mut names = spec.get("names")?.clone();
    fill_names(&mut names);
    let text = |value: &Value, name: &str| -> Option<Box<str>> {
        value.get(name).and_then(Value::as_str).map(Into::into)
    };
    let list = |name: &str| -> Vec<Box<str>> {
        let all = names.get(name).and_then(Value::as_array);
        all.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    let versions = spec.get("versions")?.as_array()?;
    let selectable = versions.iter().flat_map(|one| {
        one.get("selectableFields").and_then(Value::as_array).into_iter().flatten()
    });
    let selectable = selectable.filter_map(|field| {
        let path = field.get("jsonPath")?.as_str()?.trim_start_matches('.');
        Some((path.into(), format!("/{}", path.replace('.', "/")).into()))
    });
    let mut selectable: Vec<(Box<str>, Box<str>)> = selectable.collect();
    selectable.dedup();
    Some(Resource {
        group: text(spec, "group")?,
        plural: text(&names, "plural")?,
        singular: text(&names, "singular")?,
        kind: text(&names, "kind")?,
        list_kind: text(&names, "listKind")?,
        short: list("shortNames"),
        categories: list("categories"),
        namespaced: spec.get("scope").and_then(Value::as_str) == Some("Namespaced"),
        custom: true,
        twin: false,
        versions: versions.iter().filter_map(version).collect(),
        habits: Habits { generation: true, versioned_updates: true, ..Habits::default() },
        selectable,
    })
}

fn version(version: &Value) -> Option<Version> {
    let mut types = Types::new();
    let root = custom(&mut types, version.pointer("/schema/openAPIV3Schema")?).ok()?;
    let flag = |name: &str| version.get(name) == Some(&Value::Bool(true));
    let pointer = |path: &str| {
        let path = version.pointer("/subresources/scale")?.get(path)?.as_str()?;
        Some(path.replace('.', "/"))
    };
    let scale = pointer("specReplicasPath").zip(pointer("statusReplicasPath"));
    Some(Version {
        name: version.get("name")?.as_str()?.into(),
        served: flag("served"),
        types: Arc::new(types),
        root,
        status: version.pointer("/subresources/status").is_some(),
        scale: scale.map(|(spec, status)| Scale {
            spec,
            status,
            selector: pointer("labelSelectorPath"),
        }),
    })
}
