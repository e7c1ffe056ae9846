//! Whether what a replica sent with status 200 is an answer at all: of the media type that was asked for,
//! in bytes as they are, and, where it says that it is JSON, JSON. A web server's greeting, half a body or a
//! compressed one is none: the replica failed, and the request is tried elsewhere.

use http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What an endpoint's answers are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expected {
    /// A completion, an object that names no error, or its stream where one was asked for.
    Completion,
    /// JSON of any shape.
    Json,
    /// JSON, text, sound or an image.
    Media,
}

/// How an answer is read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// Event by event.
    Events,
    /// All of it at once.
    Whole,
}

const EVENTS: &str = "text/event-stream";
pub(super) const JSON: &str = "application/json";
const HTML: &str = "text/html";

impl Expected {
    /// How to read an answer with this head; none where it is no answer.
    pub(super) fn form(self, headers: &HeaderMap, stream: bool) -> Option<Form> {
        if is_encoded(headers) {
            return None;
        }
        let whole = || {
            let fits = match self {
                Self::Completion => !stream && says(headers, JSON),
                Self::Json => says(headers, JSON),
                Self::Media => !says(headers, HTML),
            };
            fits.then_some(Form::Whole)
        };
        match (stream, says(headers, EVENTS) && headers.contains_key(header::CONTENT_TYPE)) {
            (true, true) => Some(Form::Events),
            (false, true) => None,
            (_, false) => whole(),
        }
    }

    /// Whether a whole body is what its head says.
    pub(super) fn holds(self, kind: Option<&http::HeaderValue>, body: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Completion {
            error: Option<IgnoredAny>,
        }
        let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/"));
        if self == Self::Media && kind.is_some_and(|kind| !is(kind, JSON)) {
            // Of silence, the text is empty.
            return is_text || !body.is_empty();
        }
        // Nothing is built of it: numbers, texts and lists are passed over.
        std::str::from_utf8(body).is_ok_and(|body| match self {
            Self::Completion => {
                body.trim_ascii_start().starts_with('{')
                    && serde_json::from_str(body).is_ok_and(|Completion { error }| error.is_none())
            }
            Self::Json | Self::Media => serde_json::from_str::<IgnoredAny>(body).is_ok(),
        })
    }
}

/// Whether the bytes are not those of the answer itself: no encoding is ever asked for.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings
        .map(|one| one.as_bytes().trim_ascii())
        .any(|one| !one.is_empty() && !one.eq_ignore_ascii_case(b"identity"))
}

/// Whether a head names this media type; one that names none is taken at its body's word.
pub(super) fn says(headers: &HeaderMap, name: &str) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|kind| is(kind, name))
}

fn is(kind: &http::HeaderValue, name: &str) -> bool {
    let essence = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(kind: &str, encoding: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let all = [(header::CONTENT_TYPE, kind), (header::CONTENT_ENCODING, encoding)];
        for (name, value) in all.into_iter().filter(|(_, value)| !value.is_empty()) {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn heads_say_how_to_read_on() {
        use Expected::{Completion, Json, Media};
        let check = |expected: Expected, stream: bool, kind: &str, form: Option<Form>| {
            assert_eq!(
                expected.form(&head(kind, ""), stream),
                form,
                "{expected:?} {stream} {kind}"
            );
        };
        let (events, whole) = (Some(Form::Events), Some(Form::Whole));
        check(Completion, true, "Text/Event-Stream ; charset=utf-8", events);
        check(Completion, true, "application/json", None);
        check(Completion, false, "text/event-stream", None);
        check(Completion, false, "application/json; charset=utf-8", whole);
        check(Completion, false, "application/jsonx", None);
        check(Completion, false, "", whole);
        check(Completion, true, "", None);
        check(Json, true, "application/json", whole);
        check(Json, false, "text/html", None);
        check(Media, false, "audio/mpeg", whole);
        check(Media, true, "audio/mpeg", whole);
        check(Media, true, "text/event-stream", events);
        check(Media, false, "text/plain", whole);
        check(Media, false, "text/html; charset=utf-8", None);
        for (encoding, form) in [("gzip", None), ("identity", whole), ("br, gzip", None)] {
            assert_eq!(Completion.form(&head(JSON, encoding), false), form, "{encoding}");
        }
    }

    #[test]
    fn bodies_are_what_heads_say() {
        use Expected::{Completion, Json, Media};
        let check = |expected: Expected, kind: &str, body: &[u8], expect: bool| {
            let headers = head(kind, "");
            let holds = expected.holds(headers.get(header::CONTENT_TYPE), body);
            assert_eq!(holds, expect, "{expected:?} {kind} {body:?}");
        };
        check(Completion, JSON, br#"{"id":"a","choices":[{"text":"\u00e9"}]}"#, true);
        for wrong in [
            &b""[..],
            b"[]",
            br#"{"choices":[{"text":"a"}"#,
            br#"{"choices":[]} x"#,
            br#"{"error":{"message":"dead"}}"#,
            b"{\"choices\":[\"\xff\"]}",
        ] {
            check(Completion, JSON, wrong, false);
        }
        check(Json, JSON, b"[1]", true);
        check(Json, "", b"<html>", false);
        check(Media, "audio/wav", b"RIFF", true);
        check(Media, "audio/wav", b"", false);
        check(Media, "text/plain", b"", true);
        check(Media, "application/json", br#"{"text":"#, false);
    }
}
