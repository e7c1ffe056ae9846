//! Kubernetes' rules for schemas of resources, as its documentation has them ("Specifying a
//! structural schema"), and a bound on everything that rules iterate over.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What a node may say.
const KNOWN: [&str; 18] = [
    "type",
    "description",
    "properties",
    "additionalProperties",
    "items",
    "required",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

/// Formats that API servers check, and pass over without a warning.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// Everything that an API server would refuse about the schema of a version, each with its path.
pub(crate) fn faults(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if schema["type"] != "object" {
        found.push(": the root is an object".to_owned());
    }
    let metadata = &schema["properties"]["metadata"];
    let named = |fields: &Value| {
        let mut names = fields.as_object().into_iter().flatten();
        names.all(|(name, _)| ["name", "generateName"].contains(&name.as_str()))
    };
    let only = metadata.as_object().is_none_or(|map| {
        map.iter().all(|(key, value)| key == "type" || (key == "properties" && named(value)))
    });
    if !only {
        found.push("metadata: only its name may be restricted".to_owned());
    }
    node(schema, "", false, &mut found);
    found
}

fn node(schema: &Value, path: &str, is_ruled: bool, found: &mut Vec<String>) {
    let mut report = |what: &str| found.push(format!("{path}: {what}"));
    let Some(map) = schema.as_object() else { return report("is no schema") };
    for key in map.keys() {
        if !KNOWN.contains(&key.as_str()) && !key.starts_with("x-kubernetes-") {
            report(&format!("has `{key}`"));
        }
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    if !["object", "array", "string", "integer", "boolean"].contains(&kind) {
        report("has no type");
    }
    if let Some(format) = map.get("format").and_then(Value::as_str)
        && !FORMATS.contains(&format)
    {
        report(&format!("has the format `{format}`, which no API server knows"));
    }
    if map.contains_key("properties") && map.contains_key("additionalProperties") {
        report("has fields by name and any others too");
    }
    if let Some(default) = map.get("default")
        && !fits(schema, default)
    {
        report(&format!("has the default {default}, which it refuses itself"));
    }
    words(map, &mut report);
    list(map, &mut report);
    let is_ruled = is_ruled || rules(map, &mut report);
    let bound = match kind {
        "array" => map.contains_key("maxItems"),
        "object" if map.contains_key("additionalProperties") => map.contains_key("maxProperties"),
        "string" => {
            map.contains_key("maxLength") || map.contains_key("enum") || map.contains_key("format")
        }
        _ => true,
    };
    // Only what belongs to `spec` is iterated over.
    if is_ruled && path.starts_with(".spec") && !bound {
        report("has no bound, and rules are evaluated on it");
    }
    below(map, path, is_ruled, found);
}

fn below(map: &Map<String, Value>, path: &str, is_ruled: bool, found: &mut Vec<String>) {
    let properties = map.get("properties").and_then(Value::as_object);
    for (name, field) in properties.into_iter().flatten() {
        node(field, &format!("{path}.{name}"), is_ruled, found);
    }
    for name in map.get("required").and_then(Value::as_array).into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if properties.is_none_or(|fields| !fields.contains_key(name)) {
            found.push(format!("{path}: requires `{name}`, which it does not have"));
        }
    }
    if let Some(items) = map.get("items") {
        node(items, &format!("{path}[]"), is_ruled, found);
    }
    if let Some(values) = map.get("additionalProperties") {
        node(values, &format!("{path}{{}}"), is_ruled, found);
    }
}

fn words(map: &Map<String, Value>, report: &mut impl FnMut(&str)) {
    let Some(words) = map.get("enum") else { return };
    let words: Vec<String> = words.as_array().into_iter().flatten().map(Value::to_string).collect();
    let distinct: BTreeSet<_> = words.iter().collect();
    if words.is_empty() || distinct.len() != words.len() {
        report("has no words to choose from, or one twice");
    }
}

fn list(map: &Map<String, Value>, report: &mut impl FnMut(&str)) {
    let is_list = map.get("type").is_some_and(|kind| kind == "array");
    if is_list != map.contains_key("items") {
        report("is a list without entries, or has entries and is none");
    }
    let Some(kind) = map.get("x-kubernetes-list-type").and_then(Value::as_str) else { return };
    let items = &map["items"];
    match kind {
        "atomic" => {}
        "set" if items["type"] == "object" || items["type"] == "array" => {
            report("is a set of what cannot be compared");
        }
        "set" => {}
        "map" => {
            let keys = map["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            for key in keys.filter_map(Value::as_str) {
                let field = &items["properties"][key];
                let required = items["required"].as_array().into_iter().flatten();
                let is_there = required.filter_map(Value::as_str).any(|name| name == key);
                if field["type"] != "string" || (!is_there && field.get("default").is_none()) {
                    report(&format!("has the key `{key}`, which its entries may lack"));
                }
            }
        }
        other => report(&format!("is a list of the type `{other}`")),
    }
}

/// Whether there are rules, after a look at them.
fn rules(map: &Map<String, Value>, report: &mut impl FnMut(&str)) -> bool {
    let Some(rules) = map.get("x-kubernetes-validations").and_then(Value::as_array) else {
        return false;
    };
    for rule in rules {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        if text("rule").is_empty() || text("message").is_empty() || text("message").contains('\n') {
            report("has a rule without text, or a message without or with several lines");
        }
        if text("message").len() > 2048 {
            report("has a message that is too long");
        }
    }
    true
}

fn fits(schema: &Value, value: &Value) -> bool {
    let is_word = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let within = |number: i64| {
        schema["minimum"].as_i64().is_none_or(|least| number >= least)
            && schema["maximum"].as_i64().is_none_or(|most| number <= most)
    };
    is_word
        && match schema["type"].as_str() {
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.as_i64().is_some_and(within),
            Some("array") => value.is_array(),
            _ => false,
        }
}

#[test]
fn what_is_refused_is_found() {
    let check = |schema: Value, expect: &str| {
        let found = faults(&schema).join("\n");
        assert!(found.contains(expect), "{found:?} has no {expect:?}");
    };
    use serde_json::json;
    let with = |field: Value| json!({"type": "object", "properties": {"spec": field}});
    assert_eq!(faults(&with(json!({"type": "string"}))), Vec::<String>::new());
    check(json!({"type": "string"}), "root");
    check(with(json!({"oneOf": []})), ".spec: has `oneOf`");
    check(with(json!({"$ref": "#/x", "type": "object"})), "has `$ref`");
    check(with(json!({"type": ["string", "null"]})), "no type");
    check(with(json!({"type": "array"})), "without entries");
    check(with(json!({"type": "integer", "format": "uint32"})), "uint32");
    check(with(json!({"type": "integer", "minimum": 2, "default": 1})), "default 1");
    check(with(json!({"type": "string", "enum": ["a", "a"]})), "one twice");
    check(
        with(
            json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}),
        ),
        "any others",
    );
    check(with(json!({"type": "object", "required": ["a"]})), "requires `a`");
    let list = json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}},
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]});
    check(with(list), "key `a`");
    let ruled = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}}},
        "x-kubernetes-validations": [{"rule": "true", "message": "m"}]});
    check(with(ruled), ".spec.a: has no bound");
}
