//! The types of kinds that definitions (CRDs) bring: their structural schemas, with what must hold
//! of values beyond their types.

use regex::Regex;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Kind, Merge, Node, NodeId, Types, builtin};

/// Levels of a schema.
const DEPTH_MAX: usize = 64;

/// What must hold of a value beyond its type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    pub(crate) required: Vec<Box<str>>,
    pub(crate) one_of: Vec<Value>,
    pub(crate) minimum: Option<(f64, bool)>,
    pub(crate) maximum: Option<(f64, bool)>,
    pub(crate) multiple_of: Option<f64>,
    /// Characters of a string.
    pub(crate) length: (Option<u64>, Option<u64>),
    /// Entries of a list.
    pub(crate) items: (Option<u64>, Option<u64>),
    /// Fields of a map.
    pub(crate) properties: (Option<u64>, Option<u64>),
    pub(crate) pattern: Option<Regex>,
    pub(crate) all_of: Vec<NodeId>,
    pub(crate) any_of: Vec<NodeId>,
    pub(crate) exactly_one_of: Vec<NodeId>,
    pub(crate) not: Option<NodeId>,
}

/// Why a schema cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{path}: {what}")]
pub(crate) struct SchemaError {
    pub(crate) path: String,
    pub(crate) what: String,
}

/// Reads the schema of a version of a definition: the node of its objects.
pub(crate) fn custom(types: &mut Types, schema: &Value) -> Result<NodeId, SchemaError> {
    let root = Reader { types }.node(schema, "openAPIV3Schema", 0)?;
    let mut node = types.node(root).clone();
    node.kind = Kind::Map;
    let text = types.add(Node::of(Kind::Text));
    let metadata = builtin(types, "ObjectMeta");
    node.fields.insert("apiVersion".into(), text);
    node.fields.insert("kind".into(), text);
    node.fields.insert("metadata".into(), metadata);
    types.set(root, node);
    Ok(root)
}

struct Reader<'a> {
    types: &'a mut Types,
}

impl Reader<'_> {
    fn node(&mut self, schema: &Value, path: &str, depth: usize) -> Result<NodeId, SchemaError> {
        let wrong = |what: &str| SchemaError { path: path.to_owned(), what: what.to_owned() };
        if depth > DEPTH_MAX {
            return Err(wrong("the schema is nested too deeply"));
        }
        let Some(schema) = schema.as_object() else { return Err(wrong("must be an object")) };
        let mut node = Node::of(kind(schema).map_err(|what| wrong(&what))?);
        let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        node.nullable = flag("nullable");
        node.default = schema.get("default").cloned();
        node.keeps_unknown = flag("x-kubernetes-preserve-unknown-fields");
        node.embedded = flag("x-kubernetes-embedded-resource");
        node.whole = text(schema, "x-kubernetes-map-type") == Some("atomic");
        if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
            for (name, field) in fields {
                let at = format!("{path}.properties[{name}]");
                node.fields.insert(name.as_str().into(), self.node(field, &at, depth + 1)?);
            }
        }
        match schema.get("additionalProperties") {
            Some(of) if of.is_object() => {
                let at = format!("{path}.additionalProperties");
                node.rest = Some(self.node(of, &at, depth + 1)?);
            }
            Some(Value::Bool(true)) => node.keeps_unknown = true,
            _ => {}
        }
        if let Some(items) = schema.get("items") {
            node.item = self.node(items, &format!("{path}.items"), depth + 1)?;
        }
        node.merge = merge(schema).map_err(|what| wrong(&what))?;
        let checks = self.checks(schema, path, depth)?;
        node.checks = Some(Box::new(checks));
        Ok(self.types.add(node))
    }

    fn checks(
        &mut self,
        schema: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Checks, SchemaError> {
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        let count = |name: &str| schema.get(name).and_then(Value::as_u64);
        let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        let pattern = match text(schema, "pattern") {
            Some(pattern) => Some(Regex::new(pattern).map_err(|error| SchemaError {
                path: format!("{path}.pattern"),
                what: format!("must be a valid regular expression: {error}"),
            })?),
            None => None,
        };
        let list = |name: &str| schema.get(name).and_then(Value::as_array).cloned();
        let names = list("required").unwrap_or_default();
        Ok(Checks {
            required: names.iter().filter_map(Value::as_str).map(Into::into).collect(),
            one_of: list("enum").unwrap_or_default(),
            minimum: number("minimum").map(|least| (least, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|most| (most, flag("exclusiveMaximum"))),
            multiple_of: number("multipleOf").filter(|step| *step > 0.0),
            length: (count("minLength"), count("maxLength")),
            items: (count("minItems"), count("maxItems")),
            properties: (count("minProperties"), count("maxProperties")),
            pattern,
            all_of: self.several(schema, "allOf", path, depth)?,
            any_of: self.several(schema, "anyOf", path, depth)?,
            exactly_one_of: self.several(schema, "oneOf", path, depth)?,
            not: match schema.get("not") {
                Some(not) => Some(self.node(not, &format!("{path}.not"), depth + 1)?),
                None => None,
            },
        })
    }

    fn several(
        &mut self,
        schema: &Map<String, Value>,
        name: &str,
        path: &str,
        depth: usize,
    ) -> Result<Vec<NodeId>, SchemaError> {
        let all = schema.get(name).and_then(Value::as_array).into_iter().flatten();
        let each = all.enumerate();
        each.map(|(at, one)| self.node(one, &format!("{path}.{name}[{at}]"), depth + 1)).collect()
    }
}

fn text<'a>(schema: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str)
}

fn kind(schema: &Map<String, Value>) -> Result<Kind, String> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Ok(Kind::IntOrText);
    }
    match text(schema, "type") {
        Some("object") => Ok(Kind::Map),
        Some("array") => Ok(Kind::List),
        Some("string") => Ok(Kind::Text),
        Some("integer") => Ok(Kind::Integer),
        Some("number") => Ok(Kind::Number),
        Some("boolean") => Ok(Kind::Bool),
        Some(other) => Err(format!("type: unsupported value: {other:?}")),
        None => Ok(Kind::Deduced),
    }
}

fn merge(schema: &Map<String, Value>) -> Result<Merge, String> {
    match text(schema, "x-kubernetes-list-type") {
        None | Some("atomic") => Ok(Merge::Whole),
        Some("set") => Ok(Merge::Set),
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys: Vec<Box<str>> =
                keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
            if keys.is_empty() {
                return Err("x-kubernetes-list-map-keys: must not be empty".into());
            }
            Ok(Merge::Keys(keys))
        }
        Some(other) => Err(format!("x-kubernetes-list-type: unsupported value: {other:?}")),
    }
}
