//! A JSON schema of ours in the form that Kubernetes takes: structural, each node with one type, no
//! references, no alternatives.
//!
//! Defaults stay at values, not at whole objects: an object that nobody wrote stays away, and means
//! what its fields' defaults mean. Fields that a Model or a Fleet may have only with certain others
//! keep none either, since a default that is written in counts as written by somebody.

use serde_json::{Map, Value, json};

use super::formats;
use crate::api::Kind;
use crate::manifest::models::{FOR_ENDPOINTS, FOR_SOURCE};
use crate::manifest::schema::{choices, kind_of, resolve};

/// The field whose default is written in all the same: without it a Model could not be scaled.
const SCALED: &str = "replicas";

/// The `spec` of a kind.
pub(super) fn spec(kind: Kind) -> Value {
    let mut spec = translate(&kind.spec_schema().to_value());
    if kind == Kind::Model {
        for name in FOR_SOURCE.iter().chain(&FOR_ENDPOINTS).filter(|name| **name != SCALED) {
            if let Some(field) = spec["properties"][*name].as_object_mut() {
                field.remove("default");
            }
        }
    }
    spec
}

/// A schema, and all below it.
pub(super) fn translate(schema: &Value) -> Value {
    let (inner, _) = resolve(schema);
    let mut out = Map::new();
    let kind = kind_of(inner);
    out.insert("type".to_owned(), kind.into());
    if let Some(about) = description(schema, inner) {
        out.insert("description".to_owned(), about.into());
    }
    match kind {
        "object" => object(inner, &mut out),
        "array" => {
            out.insert("items".to_owned(), translate(&inner["items"]));
            copy(inner, &["minItems", "maxItems"], &mut out);
        }
        "string" => text(inner, &mut out),
        "integer" => {
            let is_small = inner["maximum"].as_u64().is_some_and(|most| most <= i32::MAX as u64);
            out.insert("format".to_owned(), if is_small { "int32" } else { "int64" }.into());
            copy(inner, &["minimum", "maximum"], &mut out);
        }
        _ => {}
    }
    let default = schema.get("default").or_else(|| inner.get("default"));
    if let Some(value) = default.filter(|value| !value.is_null() && !value.is_object()) {
        out.insert("default".to_owned(), value.clone());
    }
    Value::Object(out)
}

fn object(schema: &Value, out: &mut Map<String, Value>) {
    if let Some(properties) = schema["properties"].as_object() {
        let fields = properties.iter().map(|(name, field)| (name.clone(), translate(field)));
        out.insert("properties".to_owned(), Value::Object(fields.collect()));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let mut values = translate(values);
        // Every value of a map is bounded, so that rules over it have a cost.
        if values["type"] == "string" && values.get("maxLength").is_none() {
            values["maxLength"] = json!(MAP_VALUE_LEN_MAX);
        }
        out.insert("additionalProperties".to_owned(), values);
    }
    copy(schema, &["required", "minProperties", "maxProperties"], out);
}

/// Longest value of a map where nothing else is said: what one variable of an environment may have
/// on Linux.
const MAP_VALUE_LEN_MAX: u32 = 131_072;

fn text(schema: &Value, out: &mut Map<String, Value>) {
    let words = choices(schema);
    if !words.is_empty() {
        out.insert("enum".to_owned(), words.into());
        return;
    }
    copy(schema, &["minLength", "maxLength", "pattern"], out);
    let Some(format) = schema["format"].as_str() else { return };
    if format == "date-time" {
        out.insert("format".to_owned(), "date-time".into());
        return;
    }
    if let Some((pattern, most)) = formats::form(format) {
        out.insert("pattern".to_owned(), pattern.into());
        if let (Some(most), false) = (most, out.contains_key("maxLength")) {
            out.insert("maxLength".to_owned(), most.into());
        }
    }
}

/// What is said of the field, and of each word that it may have.
fn description(field: &Value, inner: &Value) -> Option<String> {
    let about = field["description"].as_str().or_else(|| inner["description"].as_str())?;
    let mut about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    for one in inner["oneOf"].as_array().into_iter().flatten() {
        if let (Some(word), Some(text)) = (one["const"].as_str(), one["description"].as_str()) {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            about.push_str(&format!(" `{word}`: {text}"));
        }
    }
    Some(about)
}

fn copy(from: &Value, keys: &[&str], out: &mut Map<String, Value>) {
    for key in keys {
        if let Some(value) = from.get(*key) {
            out.insert((*key).to_owned(), value.clone());
        }
    }
}
