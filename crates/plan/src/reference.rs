//! The manifest reference for people, made from the same schemas that check manifests, so that it
//! cannot say anything else than the parser does.

use std::fmt::Write as _;

use serde_json::Value;

use crate::api::{API_VERSION, Kind, metadata_schema};
use crate::default;
use crate::manifest::schema::{choices, kind_of, noun, resolve};

/// The reference of every kind as Markdown.
pub fn reference() -> String {
    let mut out = format!(
        "# Manifests\n\n\
         Every resource is a YAML document with `apiVersion: {API_VERSION}`, `kind`, `metadata` \
         and `spec`, the same for `pilotage up -f FILE` and for Kubernetes. A file holds any \
         number of them, separated by `---`. A field that is not listed here is refused.\n\n\
         ## metadata\n\n"
    );
    table(&metadata_schema().to_value(), "metadata", &mut out);
    for kind in Kind::ALL {
        let schema = kind.spec_schema().to_value();
        let about = schema["description"].as_str().unwrap_or_default();
        let _ = write!(out, "\n## {kind}\n\n{}\n\n", flat(about));
        table(&schema, "spec", &mut out);
    }
    let manifest = default::MANIFEST;
    let _ = write!(
        out,
        "\n## The default manifest\n\n\
         A `Model` that no `Route` leads to is served under its own name.\n\n\
         ```yaml\n{manifest}```\n"
    );
    out
}

fn table(schema: &Value, path: &str, out: &mut String) {
    out.push_str("| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
    rows(schema, path, out);
}

fn rows(schema: &Value, path: &str, out: &mut String) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let default = match field.get("default") {
            _ if required.iter().any(|required| *required == name) => "required".to_owned(),
            None | Some(Value::Null | Value::Object(_)) => "–".to_owned(),
            Some(value) => format!("`{}`", value.to_string().trim_matches('"')),
        };
        let (below, _) = resolve(field);
        let about = field["description"].as_str().or_else(|| below["description"].as_str());
        let about = flat(about.unwrap_or_default());
        let words = words(below);
        let _ = writeln!(out, "| `{path}.{name}` | {} | {default} | {about}{words} |", kind(below));
        rows(below, &format!("{path}.{name}"), out);
        rows(&below["items"], &format!("{path}.{name}[]"), out);
    }
}

/// The type with its bounds.
fn kind(schema: &Value) -> String {
    let mut kind = noun(kind_of(schema)).to_owned();
    if schema.get("additionalProperties").is_some_and(Value::is_object) {
        kind.push_str(" of text");
    }
    let bound = |low: &str, high: &str| (schema[low].as_u64(), schema[high].as_u64());
    let (low, high) = match kind_of(schema) {
        "integer" => bound("minimum", "maximum"),
        "array" => bound("minItems", "maxItems"),
        _ => (None, None),
    };
    match (low, high) {
        (Some(low), Some(high)) if low == high => kind + &format!(" of {low}"),
        (Some(low), Some(high)) => kind + &format!(", {low} to {high}"),
        (Some(low), None) => kind + &format!(", at least {low}"),
        (None, Some(high)) => kind + &format!(", at most {high}"),
        (None, None) => kind,
    }
}

/// The words that are allowed, with what they mean.
fn words(schema: &Value) -> String {
    let about = |word: &String| {
        let all = schema["oneOf"].as_array().into_iter().flatten();
        let mut own = all.filter(|one| one["const"] == word.as_str());
        let about = own.next().and_then(|one| one["description"].as_str()).unwrap_or_default();
        format!(" `{word}`: {}", flat(about))
    };
    choices(schema).iter().map(about).collect()
}

/// Text that fits a table's cell.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_there_with_a_meaning() {
        let text = reference();
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows.iter().any(|row| row.starts_with("| `spec.timeouts.queueSeconds` |")));
        for row in rows {
            let cells: Vec<_> = row.split(" | ").collect();
            assert_eq!(cells.len(), 4, "{row}");
            assert!(cells[3].len() > 10, "no meaning: {row}");
        }
    }

    #[test]
    fn the_reference_reads_well() {
        insta::assert_snapshot!(reference());
    }
}
