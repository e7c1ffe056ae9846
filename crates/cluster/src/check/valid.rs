//! Whether a value is as the schema of its definition says, in the words that servers use.

use std::collections::BTreeSet;

use serde_json::Value;

use super::decode::{fits, kind};
use crate::api::failure::Cause;
use crate::apply::entry;
use crate::shape::{Checks, Kind, Merge, Node, NodeId, Types};

/// Causes that are told.
const CAUSES_MAX: usize = 50;

/// What is wrong with a value of the type `at`.
pub(crate) fn valid(types: &Types, at: NodeId, value: &Value) -> Vec<Cause> {
    let mut walk = Walk { types, path: String::new(), causes: Vec::new() };
    walk.value(at, value);
    walk.causes.truncate(CAUSES_MAX);
    walk.causes
}

struct Walk<'a> {
    types: &'a Types,
    path: String,
    causes: Vec<Cause>,
}

impl Walk<'_> {
    fn value(&mut self, at: NodeId, value: &Value) {
        let node = self.types.node(at);
        if value.is_null() && node.nullable {
            return;
        }
        if !fits(node.kind, value) {
            let due = match node.kind {
                Kind::Map => "object",
                Kind::List => "array",
                Kind::Text => "string",
                Kind::Integer => "integer",
                Kind::Number => "number",
                Kind::Bool => "boolean",
                _ => "integer or string",
            };
            let got = kind(value);
            let why = format!("{} in body must be of type {due}: {got:?}", self.path);
            let cause = Cause::of(
                "FieldValueTypeInvalid",
                &*self.path,
                format!("Invalid value: {got:?}: {why}"),
            );
            self.causes.push(cause);
            return;
        }
        if let Some(checks) = &node.checks {
            self.checks(checks, value);
        }
        self.parts(node, value);
    }

    fn parts(&mut self, node: &Node, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let field = node.fields.get(name.as_str()).copied().or(node.rest);
                    if let Some(field) = field {
                        let step =
                            if self.path.is_empty() { name.clone() } else { format!(".{name}") };
                        self.within(&step, field, value);
                    }
                }
            }
            Value::Array(items) if node.kind == Kind::List => {
                for (place, item) in items.iter().enumerate() {
                    self.within(&format!("[{place}]"), node.item, item);
                }
                self.unique(node, items);
            }
            _ => {}
        }
    }

    fn within(&mut self, step: &str, at: NodeId, value: &Value) {
        let length = self.path.len();
        self.path.push_str(step);
        self.value(at, value);
        self.path.truncate(length);
    }

    /// Entries of lists that merge are there once.
    fn unique(&mut self, node: &Node, items: &[Value]) {
        if node.merge == Merge::Whole {
            return;
        }
        let mut seen = BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            let step = entry(self.types, node, item);
            if step.is_ok_and(|step| !seen.insert(step)) {
                let field = format!("{}[{place}]", self.path);
                let message = format!("Duplicate value: {item}");
                self.causes.push(Cause::of("FieldValueDuplicate", field, message));
            }
        }
    }

    fn invalid(&mut self, value: &Value, why: &str) {
        let why = format!("{} in body {why}", self.path);
        self.causes.push(Cause::invalid(&*self.path, value, &why));
    }

    fn checks(&mut self, checks: &Checks, value: &Value) {
        if let Value::Object(fields) = value {
            for name in checks.required.iter().filter(|name| !fields.contains_key(&***name)) {
                let dot = if self.path.is_empty() { "" } else { "." };
                self.causes.push(Cause::required(format!("{}{dot}{name}", self.path)));
            }
            self.count(checks.properties, fields.len() as u64, "properties", value);
        }
        if !checks.one_of.is_empty() && !checks.one_of.contains(value) {
            let all: Vec<String> = checks.one_of.iter().map(Value::to_string).collect();
            let message =
                format!("Unsupported value: {value}: supported values: {}", all.join(", "));
            self.causes.push(Cause::of("FieldValueNotSupported", &*self.path, message));
        }
        if let Some(items) = value.as_array() {
            self.count(checks.items, items.len() as u64, "items", value);
        }
        if let Some(text) = value.as_str() {
            self.text(checks, text, value);
        }
        if let Some(number) = value.as_f64() {
            self.number(checks, number, value);
        }
        self.combinations(checks, value);
    }

    fn text(&mut self, checks: &Checks, text: &str, value: &Value) {
        let length = text.chars().count() as u64;
        if let Some(least) = checks.length.0.filter(|least| length < *least) {
            self.invalid(value, &format!("should be at least {least} chars long"));
        }
        if let Some(most) = checks.length.1.filter(|most| length > *most) {
            let message = format!("Too long: may not be more than {most} bytes");
            self.causes.push(Cause::of("FieldValueTooLong", &*self.path, message));
        }
        if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(value, &format!("should match '{pattern}'"));
        }
    }

    fn number(&mut self, checks: &Checks, number: f64, value: &Value) {
        if let Some((least, exclusive)) = checks.minimum {
            let low = if exclusive { number <= least } else { number < least };
            let or = if exclusive { "" } else { " or equal to" };
            if low {
                self.invalid(value, &format!("should be greater than{or} {least}"));
            }
        }
        if let Some((most, exclusive)) = checks.maximum {
            let high = if exclusive { number >= most } else { number > most };
            let or = if exclusive { "" } else { " or equal to" };
            if high {
                self.invalid(value, &format!("should be less than{or} {most}"));
            }
        }
        if let Some(step) = checks.multiple_of
            && (number / step).fract() != 0.0
        {
            self.invalid(value, &format!("should be a multiple of {step}"));
        }
    }

    fn count(
        &mut self,
        (least, most): (Option<u64>, Option<u64>),
        count: u64,
        of: &str,
        value: &Value,
    ) {
        if let Some(least) = least.filter(|least| count < *least) {
            self.invalid(value, &format!("should have at least {least} {of}"));
        }
        if let Some(most) = most.filter(|most| count > *most) {
            let message = format!("Too many: {count}: must have at most {most} items");
            self.causes.push(Cause::of("FieldValueTooMany", &*self.path, message));
        }
    }

    fn combinations(&mut self, checks: &Checks, value: &Value) {
        let fits = |at: &NodeId| valid(self.types, *at, value).is_empty();
        let any = checks.any_of.is_empty() || checks.any_of.iter().any(fits);
        let one = checks.exactly_one_of.is_empty()
            || checks.exactly_one_of.iter().filter(|at| fits(at)).count() == 1;
        let not = checks.not.as_ref().is_some_and(fits);
        if !any {
            self.invalid(value, "must validate at least one schema (anyOf)");
        }
        if !one {
            self.invalid(value, "must validate one and only one schema (oneOf)");
        }
        if not {
            self.invalid(value, "must not validate the schema (not)");
        }
        for at in &checks.all_of {
            self.value(*at, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::{decode, fill};
    use crate::shape::custom;

    fn schema() -> (Types, NodeId) {
        let mut types = Types::new();
        let schema = json!({
            "type": "object",
            "required": ["spec"],
            "properties": {"spec": {
                "type": "object",
                "required": ["model"],
                "properties": {
                    "model": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"},
                    "replicas": {"type": "integer", "minimum": 0, "maximum": 9, "default": 1},
                    "mode": {"type": "string", "enum": ["a", "b"]},
                    "port": {"x-kubernetes-int-or-string": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "note": {"type": "string", "nullable": true},
                    "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "either": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                        "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}
                }
            }}
        });
        let root = custom(&mut types, &schema).unwrap();
        (types, root)
    }

    #[test]
    fn values_are_held_to_their_schema() {
        let (types, root) = schema();
        let check = |spec: Value, expect: &[&str]| {
            let causes = valid(&types, root, &json!({"spec": spec}));
            let got: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
            assert_eq!(got, expect, "{causes:?}");
        };
        check(json!({"model": "ab", "port": 1, "note": null}), &[]);
        check(json!({"model": "ab", "port": "x", "replicas": 9}), &[]);
        check(json!({"replicas": 10}), &["spec.model", "spec.replicas"]);
        check(json!({"model": "A1"}), &["spec.model"]);
        check(json!({"model": "ab", "mode": "c"}), &["spec.mode"]);
        check(json!({"model": 3}), &["spec.model"]);
        check(json!({"model": "ab", "port": true}), &["spec.port"]);
        check(json!({"model": "ab", "names": ["a", "a"]}), &["spec.names[1]"]);
        check(json!({"model": "ab", "either": {"x": "1"}}), &[]);
        check(json!({"model": "ab", "either": {"x": "1", "y": "2"}}), &["spec.either"]);
    }

    #[test]
    fn what_is_unknown_goes_and_defaults_come() {
        let (types, root) = schema();
        let mut value =
            json!({"spec": {"model": "ab", "other": 1, "free": {"kept": 1}, "replicas": null}});
        let found = decode(&types, root, &mut value, true);
        fill(&types, root, &mut value);
        assert_eq!(found.unknown, ["spec.other"]);
        assert_eq!(value, json!({"spec": {"model": "ab", "free": {"kept": 1}, "replicas": 1}}));
    }
}
