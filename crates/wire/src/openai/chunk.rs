//! A chunk of a streamed answer, read where it lies: of nearly every event of a stream only a few
//! fields matter, and a tree of each would cost more than everything else that is done with it.

use std::borrow::Cow;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What an event's data is.
#[derive(Debug)]
pub enum Read<'a> {
    /// A chunk.
    Chunk(Chunk<'a>),
    /// Some other object: of another protocol, whose fields may have the same names.
    Other,
    /// No object.
    Garbage,
}

/// The fields of a chunk on which passing it on depends.
#[derive(Debug, Deserialize)]
pub struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    /// Ids of the prompt, beside the choices.
    #[serde(default)]
    prompt_token_ids: Option<IgnoredAny>,
}

/// A part of one answer.
#[derive(Debug, Deserialize)]
pub struct Choice<'a> {
    /// Which of the request's answers.
    #[serde(default)]
    pub index: u32,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    token_ids: Option<&'a RawValue>,
    #[serde(default)]
    prompt_token_ids: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    /// The newer name of it in vLLM.
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    function_call: Option<IgnoredAny>,
    #[serde(default)]
    text: Option<IgnoredAny>,
}

/// Text, borrowed where it has no escapes; none where there is something else in its place, such as a
/// list of parts.
#[derive(Debug)]
struct Text<'a>(Option<Cow<'a, str>>);

impl Text<'_> {
    fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(|text| text.is_empty())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrNot)
    }
}

struct TextOrNot;

impl<'de> Visitor<'de> for TextOrNot {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or parts of one")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        while parts.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

impl<'a> Read<'a> {
    /// Reads an event's data.
    pub fn of(data: &'a str) -> Self {
        match serde_json::from_str(data) {
            Ok(chunk) => Self::Chunk(chunk),
            Err(_) if serde_json::from_str::<Map<String, Value>>(data).is_ok() => Self::Other,
            Err(_) => Self::Garbage,
        }
    }
}

impl<'a> Chunk<'a> {
    /// The parts of answers that it has.
    pub fn choices(&self) -> &[Choice<'a>] {
        self.choices.as_deref().unwrap_or_default()
    }

    /// How many tokens there are, as the engine wrote it.
    pub const fn usage(&self) -> Option<&'a RawValue> {
        self.usage
    }

    /// Whether it holds nothing but text and counts.
    pub fn is_plain(&self) -> bool {
        let choices = self.choices.as_ref();
        self.prompt_token_ids.is_none()
            && choices.is_some_and(|choices| choices.iter().all(Choice::is_plain))
    }
}

impl<'a> Choice<'a> {
    /// Whether it holds text, or a part of a function call.
    pub fn has_token(&self) -> bool {
        let full = |text: &Option<Text<'_>>| text.as_ref().is_some_and(|text| !text.is_empty());
        let delta = self.delta.as_ref();
        full(&self.text)
            || delta.is_some_and(|delta| {
                full(&delta.content)
                    || full(&delta.reasoning_content)
                    || full(&delta.reasoning)
                    || delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
            })
    }

    /// Its text, wherever its kind of answer has it.
    pub fn text(&self) -> Option<&str> {
        let text = match &self.delta {
            Some(delta) => &delta.content,
            None => &self.text,
        };
        text.as_ref()?.0.as_deref()
    }

    /// Why the answer ends with it, if it does.
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_ref()?.0.as_deref()
    }

    /// Ids of its tokens.
    pub const fn token_ids(&self) -> Option<&'a RawValue> {
        self.token_ids
    }

    fn is_plain(&self) -> bool {
        let empty = |text: &Option<Text<'_>>| text.as_ref().is_none_or(Text::is_empty);
        let is_text = |text: &Option<Text<'_>>| text.as_ref().is_none_or(|text| text.0.is_some());
        let delta = self.delta.as_ref().is_none_or(|delta| {
            is_text(&delta.content)
                && delta.text.is_none()
                && delta.function_call.is_none()
                && delta.tool_calls.as_ref().is_none_or(Vec::is_empty)
                && empty(&delta.reasoning)
                && empty(&delta.reasoning_content)
        });
        // A choice has its text in one place.
        delta && self.prompt_token_ids.is_none() && (self.delta.is_none() || self.text.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_told_from_other_objects_and_from_garbage() {
        let check = |data: &str, expect: &str| {
            let found = match Read::of(data) {
                Read::Chunk(chunk) if chunk.is_plain() => "plain",
                Read::Chunk(_) => "chunk",
                Read::Other => "other",
                Read::Garbage => "garbage",
            };
            assert_eq!(found, expect, "{data}");
        };
        check(r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#, "plain");
        check(r#"{"choices":[{"index":0,"delta":{"content":"a","tool_calls":[]}}]}"#, "plain");
        check(r#"{"choices":[{"text":"a\nb","token_ids":[1,2]}],"usage":null}"#, "plain");
        check(r#"{"choices":[],"usage":{"total_tokens":1}}"#, "plain");
        check(r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, "chunk");
        check(r#"{"choices":[{"delta":{"reasoning":"a"}}]}"#, "chunk");
        check(r#"{"choices":[{"delta":{}}],"prompt_token_ids":[1]}"#, "chunk");
        check(r#"{"choices":[{"delta":{"content":[{"type":"text"}]}}]}"#, "chunk");
        check(r#"{"object":"error"}"#, "chunk");
        check(r#"{"type":"response.created","choices":7}"#, "other");
        for garbage in ["", "oops", "{\"choices\":", "[1]", "7", "<html>"] {
            check(garbage, "garbage");
        }
    }

    #[test]
    fn text_is_found_with_its_escapes_read() {
        let check = |data: &str, expect: Option<&str>, token: bool| {
            let Read::Chunk(chunk) = Read::of(data) else { panic!("{data}") };
            assert_eq!(chunk.choices()[0].text(), expect, "{data}");
            assert_eq!(chunk.choices()[0].has_token(), token, "{data}");
        };
        check(r#"{"choices":[{"delta":{"content":"a\u00e9\n"}}]}"#, Some("aé\n"), true);
        check(r#"{"choices":[{"text":""}]}"#, Some(""), false);
        check(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, None, false);
        check(r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#, None, true);
        check(r#"{"choices":[{"delta":{"content":[{"type":"thinking"}]}}]}"#, None, true);
    }
}
