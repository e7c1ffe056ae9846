//! An object as it is stored: its text, and beside it what lists and watches select by.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::api::kinds::Resource;
use crate::api::select::Requirement;

/// A stored object, at one version.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) revision: u64,
    pub(crate) uid: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// What the resource's selectable fields hold.
    fields: Box<[Box<str>]>,
    /// The ids of its owners.
    pub(crate) owners: Box<[Box<str>]>,
    pub(crate) deleting: bool,
    /// An object without `apiVersion` and `kind`, which depend on the version it is asked for in.
    text: Bytes,
    /// The same, read, once somebody wanted it so.
    value: OnceLock<Arc<Value>>,
}

impl Object {
    /// Of a value that has neither `apiVersion` nor `kind`.
    pub(crate) fn of(resource: &Resource, revision: u64, value: &Value) -> Self {
        let meta = |name: &str| value.pointer("/metadata").and_then(|meta| meta.get(name));
        let text = |name: &str| meta(name).and_then(Value::as_str).unwrap_or_default().into();
        let labels = meta("labels").and_then(Value::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.as_str().into(), value.as_str()?.into())));
        let fields = resource.selectable.iter().map(|(_, pointer)| match value.pointer(pointer) {
            Some(Value::String(text)) => text.as_str().into(),
            Some(other @ (Value::Bool(_) | Value::Number(_))) => other.to_string().into(),
            _ => Box::default(),
        });
        let owners = meta("ownerReferences").and_then(Value::as_array);
        let owners = owners.into_iter().flatten().filter_map(|owner| owner.get("uid")?.as_str());
        Self {
            revision,
            uid: text("uid"),
            namespace: text("namespace"),
            name: text("name"),
            labels: labels.collect(),
            fields: fields.collect(),
            owners: owners.map(Into::into).collect(),
            deleting: meta("deletionTimestamp").is_some(),
            text: serde_json::to_vec(value).unwrap_or_default().into(),
            value: OnceLock::new(),
        }
    }

    /// Its fields, without `apiVersion` and `kind`, to be changed.
    pub(crate) fn value(&self) -> Value {
        Value::clone(&self.shared())
    }

    /// The same, to be looked at.
    pub(crate) fn shared(&self) -> Arc<Value> {
        let read = || Arc::new(serde_json::from_slice(&self.text).unwrap_or_default());
        Arc::clone(self.value.get_or_init(read))
    }

    /// Its text without the brace that opens it.
    pub(crate) fn rest(&self) -> &[u8] {
        self.text.get(1..).unwrap_or_default()
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }
}

/// Which objects of a resource a list or watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) namespace: Option<Box<str>>,
    pub(crate) labels: Vec<Requirement>,
    /// Fields by their place among the selectable ones.
    pub(crate) fields: Vec<(Field, Requirement)>,
}

/// A field that selectors name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Name,
    Namespace,
    Selectable(usize),
}

impl Selection {
    pub(crate) fn all_of(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn holds(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == object.namespace)
            && self.labels.iter().all(|one| one.holds(object.label(&one.key)))
            && self.fields.iter().all(|(field, one)| one.holds(Some(field.of(object))))
    }
}

impl Field {
    /// The field that a selector calls `label`.
    pub(crate) fn named(resource: &Resource, label: &str) -> Option<Self> {
        match label {
            "metadata.name" => Some(Self::Name),
            "metadata.namespace" => Some(Self::Namespace),
            _ => {
                let own = label.strip_prefix("regarding.").filter(|_| resource.twin);
                let core = own.map(|field| format!("involvedObject.{field}"));
                let label = core.as_deref().unwrap_or(label);
                let known = resource.selectable.iter().position(|(name, _)| **name == *label);
                known.map(Self::Selectable)
            }
        }
    }

    fn of(self, object: &Object) -> &str {
        match self {
            Self::Name => &object.name,
            Self::Namespace => &object.namespace,
            Self::Selectable(at) => object.fields.get(at).map(|text| &**text).unwrap_or_default(),
        }
    }
}
