//! What is wrong, told from how a server says it: each has its own shape of error, and the same status
//! means different things. What is told apart is what somebody does differently about it.

use serde_json::Value;

use super::Dialect;

/// Longest error that is read, in bytes.
pub const FAULT_BYTES_MAX: usize = 64 << 10;

/// Most characters of a message that are kept.
const MESSAGE_LEN_MAX: usize = 500;

/// Most fields whose mistakes are told.
const FIELDS_MAX: usize = 8;

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Prompt, or prompt and answer, are longer than the context.
    TooLong,
    /// It serves no model of that name.
    UnknownModel,
    /// It has no room at the moment.
    Overloaded,
    /// It is loading its model.
    Loading,
    /// The engine behind its API is dead: it answers, and cannot compute.
    EngineDead,
    /// It has no such path, or not with what it was started with.
    Unsupported,
    /// The key is missing or wrong.
    Unauthenticated,
    /// The request is wrong in another way.
    Invalid,
    /// It failed in another way.
    Failed,
}

/// How a fault is told from others with the same status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Its type is this.
    Type(&'static str),
    /// Its code is this.
    Code(&'static str),
    /// Its message holds this.
    Text(&'static str),
    /// Its status alone.
    Status(u16),
}

/// A fault with its mark, and an example as the server wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Marked {
    /// What is wrong.
    pub fault: Fault,
    /// How it is told from others.
    pub mark: Mark,
    /// The status of the example.
    pub status: u16,
    /// The body of the example, verbatim.
    pub body: &'static str,
    /// Where the example is from.
    pub source: &'static str,
}

/// An error that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// What is wrong.
    pub fault: Fault,
    /// The server's own sentence.
    pub message: String,
    /// Its own word for the kind of error.
    pub kind: Option<String>,
    /// Its own code.
    pub code: Option<String>,
}

impl Fault {
    /// Whether the same request may succeed elsewhere, or later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::Loading | Self::EngineDead | Self::Failed)
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "context too long",
            Self::UnknownModel => "unknown model",
            Self::Overloaded => "overloaded",
            Self::Loading => "loading",
            Self::EngineDead => "dead engine",
            Self::Unsupported => "not supported",
            Self::Unauthenticated => "key missing or wrong",
            Self::Invalid => "invalid request",
            Self::Failed => "failed",
        }
    }
}

/// Reads an answer that is an error. Of a server that is not known, the marks of all count.
pub fn read(dialect: Dialect, status: u16, body: &[u8]) -> Told {
    let body = body.get(..FAULT_BYTES_MAX.min(body.len())).unwrap_or_default();
    let (message, kind, code) = shape(body);
    let is_marked = |one: &&Marked| match one.mark {
        Mark::Type(named) => kind.as_deref() == Some(named),
        Mark::Code(named) => code.as_deref() == Some(named),
        Mark::Text(text) => message.contains(text),
        Mark::Status(number) => status == number,
    };
    let marks = |dialect: Dialect| dialect.differences().faults.iter();
    let fault = match dialect {
        // What a sentence says is more than what kind of error it is; a status alone says different
        // things in different dialects.
        Dialect::Auto => {
            let all = || Dialect::ALL.into_iter().flat_map(marks);
            let is_sentence = |one: &&Marked| matches!(one.mark, Mark::Text(_) | Mark::Code(_));
            let is_kind = |one: &&Marked| matches!(one.mark, Mark::Type(_));
            all().filter(is_sentence).chain(all().filter(is_kind)).find(is_marked)
        }
        known => marks(known).find(is_marked),
    };
    let fault = fault.map_or_else(|| usual(status), |marked| marked.fault);
    Told { fault, message, kind, code }
}

/// What a status means where nothing else is known.
const fn usual(status: u16) -> Fault {
    match status {
        401 | 403 => Fault::Unauthenticated,
        404 | 405 | 501 => Fault::Unsupported,
        429 | 503 => Fault::Overloaded,
        400..=499 => Fault::Invalid,
        _ => Fault::Failed,
    }
}

/// Message, kind and code, of whichever shape: `{"error": {…}}`, `{"error": "…"}`, `{"object":
/// "error", …}`, `{"detail": …}`, or plain text.
fn shape(body: &[u8]) -> (String, Option<String>, Option<String>) {
    let Ok(Value::Object(all)) = serde_json::from_slice::<Value>(body) else {
        return (cut(&String::from_utf8_lossy(body)), None, None);
    };
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => Some(cut(text)),
        Some(number @ Value::Number(_)) => Some(number.to_string()),
        _ => None,
    };
    let of = |object: &serde_json::Map<String, Value>| {
        let message = text(object.get("message")).unwrap_or_default();
        (message, text(object.get("type")), text(object.get("code")))
    };
    match (all.get("error"), all.get("detail")) {
        (Some(Value::Object(inner)), _) => of(inner),
        (Some(Value::String(message)), _) => (cut(message), text(all.get("error_type")), None),
        // FastAPI's, of one that was raised with all of an error, and of fields that are wrong.
        (None, Some(Value::Object(detail))) => match detail.get("error") {
            Some(Value::Object(inner)) => of(inner),
            _ => of(detail),
        },
        (None, Some(Value::Array(all))) => (cut(&fields(all)), None, None),
        (None, Some(detail)) => {
            (text(Some(detail)).unwrap_or_else(|| cut(&detail.to_string())), None, None)
        }
        _ => of(&all),
    }
}

/// What is wrong with which fields, as Pydantic lists it.
fn fields(all: &[Value]) -> String {
    let one = |one: &Value| {
        let place = one.get("loc").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let place = place.iter().filter(|part| *part != "body").map(|part| match part {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        });
        let place = place.collect::<Vec<_>>().join(".");
        let message = one.get("msg").and_then(Value::as_str).unwrap_or("it is wrong");
        if place.is_empty() { message.to_owned() } else { format!("{place}: {message}") }
    };
    all.iter().take(FIELDS_MAX).map(one).collect::<Vec<_>>().join("; ")
}

fn cut(text: &str) -> String {
    text.trim().chars().take(MESSAGE_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_shapes_are_read() {
        let check = |status: u16, body: &str, expect: (Fault, &str, Option<&str>)| {
            let told = read(Dialect::Auto, status, body.as_bytes());
            assert_eq!((told.fault, &*told.message, told.code.as_deref()), expect, "{body}");
        };
        check(404, r#"{"detail":"Not Found"}"#, (Fault::Unsupported, "Not Found", None));
        check(
            400,
            r#"{"error":{"message":"no","type":"x","code":400}}"#,
            (Fault::Invalid, "no", Some("400")),
        );
        check(500, r#"{"error":"broken"}"#, (Fault::Failed, "broken", None));
        check(502, "<html>bad gateway</html>", (Fault::Failed, "<html>bad gateway</html>", None));
        check(503, "", (Fault::Overloaded, "", None));
        check(401, "[]", (Fault::Unauthenticated, "[]", None));
        check(429, r#"{"error":{"message":7}}"#, (Fault::Overloaded, "7", None));
    }

    #[test]
    fn a_long_error_is_cut() {
        let body = format!(r#"{{"error":"{}"}}"#, "x".repeat(1000));
        assert_eq!(read(Dialect::Auto, 500, body.as_bytes()).message.len(), MESSAGE_LEN_MAX);
        let endless = "y".repeat(FAULT_BYTES_MAX * 2);
        assert_eq!(read(Dialect::Auto, 500, endless.as_bytes()).message.len(), MESSAGE_LEN_MAX);
    }
}
