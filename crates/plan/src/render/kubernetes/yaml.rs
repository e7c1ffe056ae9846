//! JSON as YAML for people: blocks, in the order of the fields, with quotes where a reader of YAML
//! could take a text for something else.

use std::fmt::Write as _;

use serde_json::Value;

/// A value as one document, with a line break at its end.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// Values as documents of one file.
pub fn documents<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let all: Vec<String> = values.into_iter().map(document).collect();
    all.join("---\n")
}

fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                indent(depth, out);
                let _ = write!(out, "{}:", text(key, depth));
                below(value, depth, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                item(value, depth, out);
            }
        }
        other => {
            indent(depth, out);
            out.push_str(&flow(other, depth));
            out.push('\n');
        }
    }
}

/// What stands behind a key.
fn below(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        // Entries of a list stand below their key, not further in, as in most manifests.
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        other => {
            let _ = writeln!(out, " {}", flow(other, depth + 1));
        }
    }
}

fn item(value: &Value, depth: usize, out: &mut String) {
    let mut inner = String::new();
    block(value, depth + 1, &mut inner);
    indent(depth, out);
    out.push('-');
    // The first line stands behind the dash.
    out.push_str(inner.get(2 * depth + 1..).unwrap_or_default());
}

fn flow(value: &Value, depth: usize) -> String {
    match value {
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::String(one) => text(one, depth),
        other => other.to_string(),
    }
}

fn text(text: &str, depth: usize) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let is_lines = text.contains('\n')
        && !text.starts_with([' ', '\n'])
        && text.chars().all(|c| c == '\n' || !c.is_control());
    if is_lines {
        let mark = match (text.ends_with('\n'), text.ends_with("\n\n")) {
            (_, true) => "|+",
            (true, false) => "|",
            (false, false) => "|-",
        };
        let pad = "  ".repeat(depth);
        let line =
            |line: &str| if line.is_empty() { String::new() } else { format!("{pad}{line}") };
        let lines: Vec<String> = text.trim_end_matches('\n').split('\n').map(line).collect();
        let more = text.len() - text.trim_end_matches('\n').len();
        return format!("{mark}\n{}{}", lines.join("\n"), "\n".repeat(more.saturating_sub(1)));
    }
    // JSON's strings are strings of YAML.
    Value::String(text.to_owned()).to_string()
}

/// Whether every reader of YAML, of 1.1 too, takes it for the text that it is.
fn is_plain(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '_';
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./@=+(),;$~^ ".contains(c) || c == ':';
    let word = text.to_ascii_lowercase();
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    text.starts_with(first)
        && text.chars().all(inner)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && !reserved.contains(&word.as_str())
}

fn indent(depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn it_reads_well() {
        let value = json!({"a": {"b": [1, "x y", {"c": "no", "d": []}]}, "e": "1", "f": "one\ntwo\n",
            "g": ["- x", "y: z"], "h": {}, "i": [["a"]], "j": "2026-01-01"});
        let text = "a:\n  b:\n  - 1\n  - x y\n  - c: \"no\"\n    d: []\ne: \"1\"\nf: |\n  one\n  two\n\
                    g:\n- \"- x\"\n- \"y: z\"\nh: {}\ni:\n- - a\nj: \"2026-01-01\"\n";
        assert_eq!(document(&value), text);
        assert_eq!(read(text), value);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\n]{0,12}".prop_map(Value::from),
            "(yes|no|null|on|0x1|1e3|~|=|<<|\\.inf|2001-01-01|a: b|#x|-|\\? x)"
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z./-]{1,8}|yes|1", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in value()) {
            prop_assert_eq!(read(&document(&value)), value);
        }
    }
}
