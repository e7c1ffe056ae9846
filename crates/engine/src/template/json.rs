//! The filter `tojson` as Hugging Face's `transformers` defines it for chat templates: Python's
//! `json.dumps`, with nothing escaped for HTML, since what it writes is read by a model.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Most spaces that a template may ask for at each level.
const INDENT_MAX: usize = 16;

/// `tojson(indent, ensure_ascii=False, separators=None, sort_keys=False)`.
///
/// # Errors
/// An argument is none of these, or the value cannot be written as JSON.
pub(super) fn tojson(
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let mut json = serde_json::to_value(value).map_err(failed)?;
    if sorted.unwrap_or(false) {
        json.sort_all_objects();
    }
    let mut out = Vec::new();
    match (indent, separators.as_deref()) {
        (Some(spaces), _) => {
            let spaces = " ".repeat(spaces.min(INDENT_MAX));
            let style = PrettyFormatter::with_indent(spaces.as_bytes());
            json.serialize(&mut Serializer::with_formatter(&mut out, style)).map_err(failed)?;
        }
        (None, separators) => {
            let (item, key) = match separators {
                Some([item, key]) => (item.as_str(), key.as_str()),
                _ => (", ", ": "),
            };
            let style = Separated { item, key };
            json.serialize(&mut Serializer::with_formatter(&mut out, style)).map_err(failed)?;
        }
    }
    let text = String::from_utf8_lossy(&out).into_owned();
    Ok(if ascii.unwrap_or(false) { escaped(&text) } else { text })
}

/// One line, with these texts between items and between key and value.
struct Separated<'a> {
    item: &'a str,
    key: &'a str,
}

impl Formatter for Separated<'_> {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { self.item.as_bytes() })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { self.item.as_bytes() })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }
}

/// What is not ASCII can only be inside strings, where `\u` may stand for it.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for next in json.chars() {
        if next.is_ascii() {
            out.push(next);
        } else {
            out.extend(next.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

fn failed(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidOperation, "a value cannot be written as JSON").with_source(error)
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;
    use minijinja::context;
    use serde_json::json;

    use super::*;

    /// Expected texts are what CPython 3.11's `json.dumps` prints.
    #[test]
    fn writes_as_python_does() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value = json!({"b": ["<é😀>", 1, 1.5, true, null], "a": {}, "c": []});
        let check = |expression: &str, expect: &str| {
            let source = format!("{{{{ v | {expression} }}}}");
            let value = minijinja::value::Serde(&value);
            let text = environment.render_str(&source, context! { v => value }).unwrap();
            assert_eq!(text, expect, "{expression}");
        };
        check("tojson", r#"{"b": ["<é😀>", 1, 1.5, true, null], "a": {}, "c": []}"#);
        check(
            "tojson(sort_keys=true, separators=[',', ':'])",
            r#"{"a":{},"b":["<é😀>",1,1.5,true,null],"c":[]}"#,
        );
        check(
            "tojson(ensure_ascii=true)",
            r#"{"b": ["<\u00e9\ud83d\ude00>", 1, 1.5, true, null], "a": {}, "c": []}"#,
        );
        let indented = "{\n  \"b\": [\n    \"<é😀>\",\n    1,\n    1.5,\n    true,\n    null\n  ],\n  \"a\": {},\n  \"c\": []\n}";
        check("tojson(indent=2)", indented);
        check("tojson(2)", indented);
        assert!(environment.render_str("{{ 1 | tojson(depth=2) }}", ()).is_err());
    }
}
