//! Manifests: YAML in, resources out, and for everything that is wrong a message with the file, the
//! line, the field, what is wrong with it and what to do.
//!
//! Each document is read into a tree that knows its lines (`node`), held against the JSON schema
//! of its kind (`conform`), and only then made a resource: all mistakes are found in one go, and
//! the schema that documents a field is the one that checks it. References between resources
//! are checked over all files together ([`check`]).

pub(crate) mod clusters;
mod conform;
mod error;
mod link;
pub(crate) mod models;
mod node;
mod routes;
mod scheduling;
mod tenants;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{API_VERSION, Kind, Metadata, Object, Origin, Resource, metadata_schema};
use conform::Finding;
use node::Node;

pub use error::{ManifestError, Problem, join};
pub use link::check;
pub(crate) use link::check_each;
pub(crate) use link::error as mistake;

pub(crate) mod schema {
    pub(crate) use super::conform::{choices, kind_of, noun, resolve};
}

/// Largest manifest in bytes: what a Kubernetes ConfigMap can hold (1 MiB).
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Most documents in one manifest.
pub const DOCUMENTS_MAX: usize = 1024;

/// Most mistakes reported for one manifest: the first ones usually explain the others.
pub const ERRORS_MAX: usize = 50;

/// Reads the resources of one manifest.
///
/// # Errors
/// Every mistake in it, in the order of lines, at most [`ERRORS_MAX`].
pub fn parse(file: &str, text: &str) -> Result<Vec<Resource>, Vec<ManifestError>> {
    let file: Arc<str> = file.into();
    let whole = |line, problem| vec![ManifestError::new(&file, line, "", problem)];
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(whole(0, Problem::TooLarge { bytes: text.len() }));
    }
    let documents = node::read(text).map_err(|(line, problem)| whole(line, problem))?;
    if documents.is_empty() {
        return Err(whole(0, Problem::Empty));
    }
    let mut resources = Vec::new();
    let mut errors = Vec::new();
    for document in &documents {
        match resource(&file, document) {
            Ok(resource) => resources.push(resource),
            Err(found) => errors.extend(
                found.into_iter().map(|f| ManifestError::new(&file, f.line, &f.field, f.problem)),
            ),
        }
    }
    if errors.is_empty() {
        return Ok(resources);
    }
    errors.sort_by_key(|error| error.line);
    errors.truncate(ERRORS_MAX);
    Err(errors)
}

/// Reads the resources of several manifests, given as file name and text, and checks that they
/// fit each other.
///
/// # Errors
/// Every mistake in every file; contradictions between resources when each file by itself is fine.
pub fn parse_all<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Resource>, Vec<ManifestError>> {
    let mut resources = Vec::new();
    let mut errors = Vec::new();
    for (file, text) in files {
        match parse(file, text) {
            Ok(found) => resources.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        errors = check(&resources);
    }
    if errors.is_empty() { Ok(resources) } else { Err(errors) }
}

/// A file that holds one document of another sort than resources, with the lines of its fields.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn tree<T: DeserializeOwned>(
    file: &Arc<str>,
    text: &str,
    schema: &Value,
) -> Result<(T, BTreeMap<String, u64>), Vec<ManifestError>> {
    let whole = |line, problem| vec![ManifestError::new(file, line, "", problem)];
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(whole(0, Problem::TooLarge { bytes: text.len() }));
    }
    let documents = node::read(text).map_err(|(line, problem)| whole(line, problem))?;
    let [document] = &documents[..] else {
        let count = documents.len();
        let text = format!("the file holds {count} documents; write exactly one");
        return Err(whole(0, Problem::Value(text)));
    };
    let mut found = Vec::new();
    conform::check(document, schema, &mut found);
    found.truncate(ERRORS_MAX);
    if !found.is_empty() {
        let wrong = |f: Finding| ManifestError::new(file, f.line, &f.field, f.problem);
        return Err(found.into_iter().map(wrong).collect());
    }
    let mut lines = BTreeMap::new();
    document.lines(&mut String::new(), &mut lines);
    let value = serde_json::from_value(document.to_json());
    let value = value.map_err(|error| whole(document.line, Problem::Value(error.to_string())))?;
    Ok((value, lines))
}

/// The documents of a manifest as they are written, as an API server takes them. What is wrong with them says
/// [`parse`].
///
/// # Errors
/// The text is no YAML, or too much of it.
pub fn documents(file: &str, text: &str) -> Result<Vec<Value>, Vec<ManifestError>> {
    let file: Arc<str> = file.into();
    let whole = |line, problem| vec![ManifestError::new(&file, line, "", problem)];
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(whole(0, Problem::TooLarge { bytes: text.len() }));
    }
    let documents = node::read(text).map_err(|(line, problem)| whole(line, problem))?;
    Ok(documents.iter().map(Node::to_json).collect())
}

/// The JSON schema of a whole document of that kind.
pub fn document_schema(kind: Kind) -> Value {
    let spec = kind.spec_schema().to_value();
    let mut required = vec!["apiVersion", "kind", "metadata"];
    if spec.get("required").is_some() {
        required.push("spec");
    }
    json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string", "enum": [API_VERSION] },
            "kind": { "type": "string", "enum": [kind.name()] },
            "metadata": metadata_schema().to_value(),
            "spec": spec,
        },
        "required": required,
        "additionalProperties": false,
    })
}

/// Reads a resource that an API server has: of its metadata what manifests know, of the rest its `spec`.
pub(crate) fn from_object(
    kind: Kind,
    place: &str,
    object: &Value,
) -> Result<Resource, Vec<ManifestError>> {
    static SCHEMAS: LazyLock<[Value; 4]> = LazyLock::new(|| Kind::ALL.map(document_schema));
    let mut metadata = serde_json::Map::new();
    for name in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(name) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    let notes = metadata.get_mut("annotations").and_then(Value::as_object_mut);
    notes.into_iter().for_each(|notes| drop(notes.remove(LAST_APPLIED)));
    let mut document =
        json!({ "apiVersion": API_VERSION, "kind": kind.name(), "metadata": metadata });
    if let Some(spec) = object.get("spec") {
        document["spec"] = spec.clone();
    }
    let file: Arc<str> = place.into();
    let mut found = Vec::new();
    let index = Kind::ALL.iter().position(|one| *one == kind).unwrap_or_default();
    conform::check(&Node::from_json(document.clone()), &SCHEMAS[index], &mut found);
    let wrong = |f: Finding| ManifestError::new(&file, 0, &f.field, f.problem);
    if !found.is_empty() {
        return Err(found.into_iter().map(wrong).collect());
    }
    // Which fields were written cannot be told from those that the API server filled in: its rules saw to
    // what must not be written.
    let origin = Origin { file: Arc::clone(&file), line: 0, fields: Arc::default() };
    read(kind, &document, origin)
        .map_err(|error| vec![wrong(Finding::new(0, "", Problem::Value(error.to_string())))])
}

/// What `kubectl apply` keeps of what it sent: as large as the resource, and of no use to us.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn resource(file: &Arc<str>, document: &Node) -> Result<Resource, Vec<Finding>> {
    let kind = kind(document).map_err(|finding| vec![finding])?;
    let mut found = Vec::new();
    conform::check(document, &document_schema(kind), &mut found);
    if !found.is_empty() {
        return Err(found);
    }
    let mut fields = BTreeMap::new();
    document.lines(&mut String::new(), &mut fields);
    let origin = Origin { file: Arc::clone(file), line: document.line, fields: fields.into() };
    let value = document.to_json();
    read(kind, &value, origin)
        .map_err(|error| vec![Finding::new(document.line, "", Problem::Value(error.to_string()))])
}

fn read(kind: Kind, value: &Value, origin: Origin) -> Result<Resource, serde_json::Error> {
    match kind {
        Kind::Model => object(value, origin).map(Resource::Model),
        Kind::Tenant => object(value, origin).map(Resource::Tenant),
        Kind::Route => object(value, origin).map(Resource::Route),
        Kind::Fleet => object(value, origin).map(Resource::Fleet),
    }
}

/// The kind decides which fields there are, so it is found first.
fn kind(document: &Node) -> Result<Kind, Finding> {
    let Some(entries) = document.entries() else {
        let problem = Problem::Type { expected: "a mapping", found: document.describe() };
        return Err(Finding::new(document.line, "", problem));
    };
    let known = || Kind::ALL.map(|kind| kind.name().to_owned()).to_vec();
    let Some(entry) = entries.iter().find(|entry| entry.key == "kind") else {
        let hint = format!("one of {}", known().join(", "));
        return Err(Finding::new(document.line, "kind", Problem::Missing { hint }));
    };
    let name = entry.node.text().unwrap_or_default();
    Kind::parse(name).ok_or_else(|| {
        let found = entry.node.describe();
        Finding::new(entry.line, "kind", Problem::choice(name, found, known()))
    })
}

fn object<S: DeserializeOwned>(
    value: &Value,
    origin: Origin,
) -> Result<Object<S>, serde_json::Error> {
    let metadata: Metadata = serde_json::from_value(value["metadata"].clone())?;
    let empty = || Value::Object(serde_json::Map::new());
    let spec = serde_json::from_value(value.get("spec").cloned().unwrap_or_else(empty))?;
    Ok(Object { metadata, spec, origin })
}
