//! Reading an object as its kind: fields that nobody declared go, and values of a wrong type are
//! found.

use serde_json::{Map, Value};

use super::moment::is_moment;
use super::quantity::Quantity;
use crate::shape::{Kind, Node, NodeId, Types};

/// What reading found.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Fields that nobody declared, by path.
    pub(crate) unknown: Vec<String>,
    /// The first value of a wrong type.
    pub(crate) wrong: Option<String>,
}

/// Drops what is not declared. Kinds that definitions bring are `custom`: their values are checked
/// later, and null may be one.
pub(crate) fn decode(types: &Types, at: NodeId, value: &mut Value, custom: bool) -> Decoded {
    let mut walk = Walk { types, custom, path: String::new(), found: Decoded::default() };
    walk.value(at, value);
    walk.found
}

struct Walk<'a> {
    types: &'a Types,
    custom: bool,
    path: String,
    found: Decoded,
}

impl Walk<'_> {
    fn value(&mut self, at: NodeId, value: &mut Value) {
        let node = self.types.node(at);
        if !self.custom && !fits(node.kind, value) && self.found.wrong.is_none() {
            let got = kind(value);
            self.found.wrong = Some(format!("{}: {got} where {:?} is due", self.path, node.kind));
        }
        match value {
            // An amount is kept in the one way in which amounts are written.
            Value::String(_) | Value::Number(_) if node.kind == Kind::Quantity => {
                if let Some(amount) = amount(value) {
                    *value = amount.to_string().into();
                }
            }
            Value::Object(fields) if matches!(node.kind, Kind::Map | Kind::Deduced) => {
                self.fields(node, fields);
            }
            Value::Array(items) if node.kind == Kind::List => {
                for (place, item) in items.iter_mut().enumerate() {
                    self.within(&format!("[{place}]"), node.item, item);
                }
            }
            _ => {}
        }
    }

    fn within(&mut self, step: &str, at: NodeId, value: &mut Value) {
        let length = self.path.len();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        self.value(at, value);
        self.path.truncate(length);
    }

    fn fields(&mut self, node: &Node, fields: &mut Map<String, Value>) {
        let open = node.kind == Kind::Deduced || node.keeps_unknown || node.rest.is_some();
        let known = |name: &str| {
            node.fields.contains_key(name)
                || open
                || (node.embedded && matches!(name, "apiVersion" | "kind" | "metadata"))
        };
        let prefix = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
        let unknown = fields.keys().filter(|name| !known(name));
        self.found.unknown.extend(unknown.map(|name| format!("{prefix}{name}")));
        let custom = self.custom;
        fields.retain(|name, value| {
            let absent = value.is_null() && node.kind == Kind::Map && {
                let field = self.types.node(self.types.field(node, name));
                !custom || (!field.nullable && field.default.is_some())
            };
            known(name) && !absent
        });
        for (name, value) in fields.iter_mut() {
            self.within(name, self.types.field(node, name), value);
        }
    }
}

/// The name of a value's type.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a value has a type.
pub(super) fn fits(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Deduced | Kind::Whole => true,
        Kind::Text => value.is_string(),
        Kind::Integer => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        Kind::Number => value.is_number(),
        Kind::IntOrText => value.is_i64() || value.is_u64() || value.is_string(),
        Kind::Bool => value.is_boolean(),
        Kind::Quantity => amount(value).is_some(),
        Kind::Moment => value.as_str().is_some_and(is_moment),
        Kind::Map => value.is_object(),
        Kind::List => value.is_array(),
    }
}

fn amount(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

/// Puts defaults in where nothing is.
pub(crate) fn fill(types: &Types, at: NodeId, value: &mut Value) {
    let node = types.node(at);
    match value {
        Value::Object(fields) => {
            for (name, field) in &node.fields {
                let default = types.node(*field).default.as_ref();
                if let Some(default) = default.filter(|_| !fields.contains_key(&**name)) {
                    fields.insert(name.to_string(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(field) = node.fields.get(name.as_str()).copied().or(node.rest) {
                    fill(types, field, value);
                }
            }
        }
        Value::Array(items) if node.kind == Kind::List => {
            items.iter_mut().for_each(|item| fill(types, node.item, item));
        }
        _ => {}
    }
}
