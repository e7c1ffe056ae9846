//! Holds a document against the JSON schema of its kind and finds everything that does not fit.
//!
//! It understands what our own schemas use and nothing more: `type`, `properties`, `required`,
//! `additionalProperties`, `items`, lengths, bounds, `enum`, `oneOf` of constants, `anyOf` with
//! null, and the formats of our own types.

use serde_json::Value;

use super::Problem;
use super::error::nearest;
use super::node::{Entry, Node, Tree, clean, key_step, within};
use crate::api::{
    EndpointUrl, EnvName, EventsUrl, FilePath, HeaderName, Language, Money, PublicName,
    ResourceName, Tier, capability, money, name, rule, tenant, url,
};
use crate::{Digest, Signer, Timestamp, WeightsSource, digest, signer, source, timestamp};

/// A mistake and its place in the document.
#[derive(Debug)]
pub(super) struct Finding {
    pub line: u64,
    pub field: String,
    pub problem: Problem,
}

impl Finding {
    pub(super) fn new(line: u64, field: &str, problem: Problem) -> Self {
        Self { line, field: field.to_owned(), problem }
    }
}

/// Adds everything about the document that does not fit the schema.
pub(super) fn check(document: &Node, schema: &Value, found: &mut Vec<Finding>) {
    Check { path: String::new(), found }.node(document, document.line, schema);
}

struct Check<'a> {
    path: String,
    found: &'a mut Vec<Finding>,
}

impl Check<'_> {
    /// `line` is that of the key, which is where a reader looks.
    fn node(&mut self, node: &Node, line: u64, schema: &Value) {
        let (schema, nullable) = resolve(schema);
        if node.value == Tree::Null && nullable {
            return;
        }
        match (kind_of(schema), &node.value) {
            ("object", Tree::Map(entries)) => self.map(entries, line, schema),
            ("array", Tree::List(items)) => self.list(items, line, schema),
            ("string", Tree::Text(text)) => self.text(node, text, line, schema),
            ("integer", Tree::Number(number)) if number.is_u64() || number.is_i64() => {
                self.number(number, line, schema);
            }
            ("boolean", Tree::Bool(_)) => {}
            ("integer", Tree::Number(number)) if is_huge(number) => {
                self.number(number, line, schema);
            }
            (kind, _) => {
                let problem = Problem::Type { expected: noun(kind), found: node.describe() };
                self.report(line, problem);
            }
        }
    }

    fn map(&mut self, entries: &[Entry], line: u64, schema: &Value) {
        self.length(
            entries.len() as u64,
            "entries",
            line,
            (&schema["minProperties"], &schema["maxProperties"]),
        );
        let none = serde_json::Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let others = schema.get("additionalProperties").filter(|other| other.is_object());
        for entry in entries {
            let step = key_step(&self.path, &entry.key);
            let below = properties.get(&entry.key).or(others);
            self.within(&step, |check| match below {
                Some(schema) => check.node(&entry.node, entry.line, schema),
                None => check.unknown(entry, properties.keys().cloned().collect()),
            });
        }
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !entries.iter().any(|entry| entry.key == name) {
                let hint = hint(name, &properties[name]);
                let step = key_step(&self.path, name);
                self.within(&step, |check| check.report(line, Problem::Missing { hint }));
            }
        }
    }

    fn unknown(&mut self, entry: &Entry, known: Vec<String>) {
        let suggestion = nearest(&entry.key, &known);
        self.report(entry.line, Problem::UnknownField { suggestion, known });
    }

    fn list(&mut self, items: &[Node], line: u64, schema: &Value) {
        self.length(
            items.len() as u64,
            "entries",
            line,
            (&schema["minItems"], &schema["maxItems"]),
        );
        for (index, item) in items.iter().enumerate() {
            self.within(&format!("[{index}]"), |check| {
                check.node(item, item.line, &schema["items"]);
            });
        }
    }

    fn text(&mut self, node: &Node, text: &str, line: u64, schema: &Value) {
        let choices = choices(schema);
        if !choices.is_empty() && !choices.iter().any(|choice| choice == text) {
            self.report(line, Problem::choice(text, node.describe(), choices));
        }
        match schema["format"].as_str() {
            Some(format) => {
                if let Err(why) = read(format, text) {
                    self.report(line, Problem::Value(why));
                }
            }
            None => {
                let bounds = (&schema["minLength"], &schema["maxLength"]);
                self.length(text.chars().count() as u64, "characters", line, bounds);
            }
        }
    }

    fn number(&mut self, number: &serde_json::Number, line: u64, schema: &Value) {
        let (min, max) = (schema["minimum"].as_u64(), schema["maximum"].as_u64());
        let fits = number.as_u64().is_some_and(|value| {
            min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
        });
        if !fits {
            self.report(line, Problem::Range { found: number.to_string(), min, max });
        }
    }

    fn length(&mut self, found: u64, unit: &'static str, line: u64, bounds: (&Value, &Value)) {
        let (min, max) = (bounds.0.as_u64().unwrap_or(0), bounds.1.as_u64());
        if found < min || max.is_some_and(|max| found > max) {
            self.report(line, Problem::Length { found, unit, min, max });
        }
    }

    fn report(&mut self, line: u64, problem: Problem) {
        self.found.push(Finding::new(line, &self.path, problem));
    }

    fn within(&mut self, step: &str, work: impl FnOnce(&mut Check<'_>)) {
        let found = &mut *self.found;
        within(&mut self.path, step, |path| {
            let mut check = Check { path: std::mem::take(path), found };
            work(&mut check);
            *path = check.path;
        });
    }
}

/// The schema without its being optional, and whether it is.
pub(crate) fn resolve(schema: &Value) -> (&Value, bool) {
    let is_null = |schema: &&Value| schema["type"] == "null";
    if let Some(any) = schema["anyOf"].as_array() {
        let first = any.iter().find(|schema| !is_null(schema));
        return (first.unwrap_or(schema), any.iter().any(|schema| is_null(&schema)));
    }
    let types = schema["type"].as_array();
    (schema, types.is_some_and(|types| types.iter().any(|kind| kind == "null")))
}

/// The type a value must have; a choice of constants is text.
pub(crate) fn kind_of(schema: &Value) -> &str {
    let named = match &schema["type"] {
        Value::String(kind) => Some(kind.as_str()),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        _ => None,
    };
    named.unwrap_or("string")
}

/// The words that are allowed; none when any text is.
pub(crate) fn choices(schema: &Value) -> Vec<String> {
    let list = |key: &str| schema[key].as_array().into_iter().flatten();
    let named = list("enum").filter_map(Value::as_str);
    let documented = list("oneOf").flat_map(|one| {
        one["const"]
            .as_str()
            .into_iter()
            .chain(one["enum"].as_array().into_iter().flatten().filter_map(Value::as_str))
    });
    named.chain(documented).map(str::to_owned).collect()
}

/// Reads text as the type that the format stands for.
fn read(format: &str, text: &str) -> Result<(), String> {
    fn done<T>(result: Result<T, impl ToString>) -> Result<(), String> {
        result.map(|_| ()).map_err(|error| clean(&error.to_string()))
    }
    match format {
        source::FORMAT => done(text.parse::<WeightsSource>()),
        digest::FORMAT => done(text.parse::<Digest>()),
        signer::FORMAT => done(text.parse::<Signer>()),
        timestamp::FORMAT => done(text.parse::<Timestamp>()),
        tenant::KEY_FORMAT => done(Digest::from_hex(text)),
        tenant::ISSUER_FORMAT => done(text.parse::<tenant::IssuerUrl>()),
        money::FORMAT => done(text.parse::<Money>()),
        name::RESOURCE_FORMAT => done(text.parse::<ResourceName>()),
        name::PUBLIC_FORMAT => done(text.parse::<PublicName>()),
        url::ENDPOINT_FORMAT => done(text.parse::<EndpointUrl>()),
        url::EVENTS_FORMAT => done(text.parse::<EventsUrl>()),
        url::ENV_FORMAT => done(text.parse::<EnvName>()),
        url::PATH_FORMAT => done(text.parse::<FilePath>()),
        capability::LANGUAGE_FORMAT => done(text.parse::<Language>()),
        capability::TIER_FORMAT => done(text.parse::<Tier>()),
        rule::HEADER_FORMAT => done(text.parse::<HeaderName>()),
        _ => Ok(()),
    }
}

/// What a user calls a type.
pub(crate) fn noun(kind: &str) -> &'static str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "text",
    }
}

/// Whether the number is whole but outside of what 64 bits hold, and so was read as a fraction.
fn is_huge(number: &serde_json::Number) -> bool {
    /// Two to the power of 64.
    const LIMIT: f64 = 18_446_744_073_709_551_616.0;
    number.as_f64().is_some_and(|value| value.abs() >= LIMIT)
}

/// What belongs into a missing field: its one possible value, or the first sentence about it.
fn hint(name: &str, schema: &Value) -> String {
    if let [only] = choices(schema).as_slice() {
        return format!("`{name}: {only}`");
    }
    let description = schema["description"].as_str().unwrap_or_default();
    let sentence = description.split(['.', ':', '\n']).next().unwrap_or_default();
    match sentence {
        "" => format!("`{name}:` and {}", noun(kind_of(schema))),
        sentence => format!("`{name}:` ({})", uncapitalised(sentence)),
    }
}

/// A sentence in the middle of another; a first word in capitals is an abbreviation and stays.
fn uncapitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second.is_whitespace() => {
            first.to_lowercase().chain(sentence.chars().skip(1)).collect()
        }
        _ => sentence.to_owned(),
    }
}
