//! A chat completion read back, whole or chunk by chunk, as leniently as engines differ. For whoever
//! tells an engine's answer in the words of another API.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::usage::Usage;

/// A completion or one chunk of its stream.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answered {
    /// The answers; empty in a chunk that only holds the usage.
    #[serde(default, deserialize_with = "nullable")]
    pub choices: Vec<Choice>,
    /// Token counts.
    #[serde(default, deserialize_with = "usage")]
    pub usage: Option<Usage>,
    /// What went wrong, in a chunk that says so.
    #[serde(default)]
    pub error: Option<Value>,
}

/// One answer, or what is new in it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Choice {
    /// All of it.
    #[serde(default)]
    pub message: Option<Said>,
    /// What is new.
    #[serde(default)]
    pub delta: Option<Said>,
    /// Why it ended.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// The stop text that ended it, as vLLM tells it; there it may be a token's id as well.
    #[serde(default)]
    pub stop_reason: Option<Value>,
    /// Log probabilities, when asked for.
    #[serde(default)]
    pub logprobs: Option<LogProbs>,
}

/// What the model says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    /// The newer name of `reasoning_content` in vLLM.
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    tool_calls: Vec<Call>,
}

/// Log probabilities of some tokens.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LogProbs {
    /// One entry for each token, passed on as it is.
    #[serde(default, deserialize_with = "nullable")]
    pub content: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Call {
    #[serde(default)]
    index: Option<u32>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// A piece of what the model says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'a> {
    /// What it thinks before it answers.
    Thought(&'a str),
    /// Text of the answer.
    Text(&'a str),
    /// A call, or a part of one: its id and name come first.
    Call {
        /// Which call of this answer.
        index: u32,
        /// Its id.
        id: Option<&'a str>,
        /// The function.
        name: Option<&'a str>,
        /// A piece of its arguments, JSON text.
        arguments: &'a str,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// The model was done, or a stop text came.
    Stop,
    /// It had as many tokens as it may.
    Length,
    /// It wants calls made.
    Calls,
    /// A filter stopped it.
    Filter,
}

impl Answered {
    /// Reads a completion or a chunk; none when it is neither.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

impl Choice {
    /// What it says, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.message.as_ref().or(self.delta.as_ref()).into_iter().flat_map(Said::pieces)
    }

    /// Why it ended, if it did.
    pub fn finish(&self) -> Option<Finish> {
        Some(match self.finish_reason.as_deref()? {
            "length" => Finish::Length,
            "tool_calls" | "function_call" => Finish::Calls,
            "content_filter" => Finish::Filter,
            _ => Finish::Stop,
        })
    }

    /// The stop text that ended it.
    pub fn stop_text(&self) -> Option<&str> {
        self.stop_reason.as_ref()?.as_str()
    }
}

impl Said {
    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let full = |text: &'_ Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let thought =
            [&self.reasoning_content, &self.reasoning].into_iter().find(|text| full(text));
        let thought = thought.and_then(Option::as_deref).map(Piece::Thought);
        let texts = [&self.content, &self.refusal].into_iter().filter(move |text| full(text));
        let texts = texts.filter_map(Option::as_deref).map(Piece::Text);
        let calls = (0..).zip(&self.tool_calls).map(|(at, call)| {
            let function = call.function.as_ref();
            Piece::Call {
                index: call.index.unwrap_or(at),
                id: call.id.as_deref().filter(|id| !id.is_empty()),
                name: function.and_then(|function| function.name.as_deref()),
                arguments: function
                    .and_then(|function| function.arguments.as_deref())
                    .unwrap_or(""),
            }
        });
        thought.into_iter().chain(texts).chain(calls)
    }
}

/// Null is taken for nothing.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A usage that cannot be read does not make its answer unreadable.
fn usage<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Usage>, D::Error> {
    Ok(Option::<Value>::deserialize(from)?.and_then(|usage| serde_json::from_value(usage).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_whoever_wrote_them() {
        let check = |json: &str, expect: &[Piece<'_>]| {
            let answered = Answered::read(json.as_bytes()).unwrap();
            let pieces: Vec<Piece<'_>> = answered.choices.iter().flat_map(Choice::pieces).collect();
            assert_eq!(pieces, expect, "{json}");
        };
        check(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, &[]);
        check(r#"{"choices":null,"usage":{"odd":1}}"#, &[]);
        check(r#"{"choices":[{"message":{"content":null,"tool_calls":null}}]}"#, &[]);
        check(
            r#"{"choices":[{"delta":{"reasoning":"hm","reasoning_content":null,"content":"a"}}]}"#,
            &[Piece::Thought("hm"), Piece::Text("a")],
        );
        check(
            r#"{"choices":[{"message":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}},{"function":{}}]}}]}"#,
            &[
                Piece::Call { index: 0, id: Some("c"), name: Some("f"), arguments: "{}" },
                Piece::Call { index: 1, id: None, name: None, arguments: "" },
            ],
        );
    }

    #[test]
    fn ends_are_understood() {
        let check = |json: &str, expect: Option<Finish>, stop: Option<&str>| {
            let choice: Choice = serde_json::from_str(json).unwrap();
            assert_eq!((choice.finish(), choice.stop_text()), (expect, stop), "{json}");
        };
        check(r#"{"finish_reason":null}"#, None, None);
        check(r#"{"finish_reason":"stop","stop_reason":7}"#, Some(Finish::Stop), None);
        check(r#"{"finish_reason":"stop","stop_reason":"x"}"#, Some(Finish::Stop), Some("x"));
        check(r#"{"finish_reason":"length"}"#, Some(Finish::Length), None);
        check(r#"{"finish_reason":"tool_calls"}"#, Some(Finish::Calls), None);
        check(r#"{"finish_reason":"content_filter"}"#, Some(Finish::Filter), None);
    }
}
