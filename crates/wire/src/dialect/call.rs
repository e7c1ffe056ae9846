//! A call to a server that is no request of a client: to load an adapter, to sleep, to wake.

use std::fmt::Write as _;

/// What to send. `{name}` and the like in path and body stand for what the caller says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// The path, below the server's URL.
    pub path: &'static str,
    /// The body, JSON; empty where there is none.
    pub body: &'static str,
}

impl Call {
    /// A `POST` with a body.
    pub const fn post(path: &'static str, body: &'static str) -> Self {
        Self { method: "POST", path, body }
    }

    /// Path and body with these in place of their names in braces; what belongs to no text of JSON is
    /// escaped.
    pub fn filled(&self, with: &[(&str, &str)]) -> (String, String) {
        (fill(self.path, with, path_text), fill(self.body, with, json_text))
    }
}

fn fill(text: &str, with: &[(&str, &str)], escape: fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let found = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = with.iter().find(|(key, _)| *key == name)?;
            Some((value, after))
        });
        match found {
            Some((value, after)) => {
                out.push_str(&escape(value));
                rest = after;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn json_text(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    quoted.trim_start_matches('"').strip_suffix('"').map(str::to_owned).unwrap_or_default()
}

/// A text as a segment of a path.
pub(crate) fn path_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_stays_text() {
        let call =
            Call::post("/models/{name}/load", r#"{"lora_name":"{name}","lora_path":"{path}"}"#);
        let (path, body) = call.filled(&[("name", "a/b"), ("path", "/x\"y")]);
        assert_eq!(path, "/models/a%2Fb/load");
        assert_eq!(body, r#"{"lora_name":"a/b","lora_path":"/x\"y"}"#);
        let (_, body) = call.filled(&[("name", "\"")]);
        assert_eq!(body, r#"{"lora_name":"\"","lora_path":"{path}"}"#);
    }
}
