//! What one event of a stream says, as far as passing it on depends on it: a token, an end, a failure,
//! or nothing that makes sense. Engines that end an answer twice, or with a word of their own, are
//! put right; what is no chunk at all is a failure of the replica.

use pilotage_wire::openai::chunk::{Choice, Read};
use serde_json::Value;

/// Answers of one request whose ends are told apart.
const ANSWERS_MAX: u32 = 128;

/// The ends of a stream's answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// Answers that were begun, a bit each.
    begun: u128,
    /// Those that ended.
    ended: u128,
}

/// What to do with an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Said {
    /// Pass it on: it holds a token, or not.
    Chunk {
        /// Whether it does.
        token: bool,
        /// What to pass on instead, where the engine was wrong.
        mended: Option<String>,
    },
    /// Pass nothing on: the answer has its end already.
    Over,
    /// The replica gave the answer up.
    Failed,
    /// It is no chunk.
    Garbage,
}

impl Ends {
    /// Takes in the next event's data, read already.
    pub(super) fn take(&mut self, data: &str, read: &Read<'_>) -> Said {
        let chunk = match read {
            Read::Chunk(chunk) => chunk,
            Read::Other => return Said::Chunk { token: false, mended: None },
            Read::Garbage => return Said::Garbage,
        };
        let choices = chunk.choices();
        if choices.iter().filter_map(Choice::finish_reason).any(is_failure) {
            return Said::Failed;
        }
        let bit = |choice: &Choice<'_>| 1_u128 << choice.index.min(ANSWERS_MAX - 1);
        if !choices.is_empty() && choices.iter().all(|one| self.ended & bit(one) != 0) {
            return Said::Over;
        }
        let mut strange = false;
        for choice in choices {
            self.begun |= bit(choice);
            if let Some(reason) = choice.finish_reason() {
                self.ended |= bit(choice);
                strange |= usual(reason) != reason;
            }
        }
        let token = |choice: &Choice<'_>| choice.has_token() || choice.finish_reason().is_some();
        let token = choices.iter().any(token);
        let mended = if strange { mended(data) } else { None };
        Said::Chunk { token, mended }
    }

    /// Whether every answer that was begun has its end.
    pub(super) const fn is_complete(self) -> bool {
        self.begun != 0 && self.begun == self.ended
    }
}

/// Whether a finish reason says that the engine gave up: vLLM's and SGLang's words for it.
fn is_failure(reason: &str) -> bool {
    matches!(reason, "abort" | "error" | "cancelled")
}

/// The API's own word for a finish reason.
fn usual(reason: &str) -> &str {
    match reason {
        "stop" | "length" | "tool_calls" | "content_filter" | "function_call" => reason,
        "max_tokens" | "max_length" => "length",
        _ => "stop",
    }
}

/// The chunk with the API's own words.
fn mended(data: &str) -> Option<String> {
    let mut chunk: Value = serde_json::from_str(data).ok()?;
    for choice in chunk.get_mut("choices")?.as_array_mut()? {
        if let Some(Value::String(reason)) = choice.get_mut("finish_reason") {
            *reason = usual(reason).to_owned();
        }
    }
    serde_json::to_string(&chunk).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(more: &str) -> String {
        format!(r#"{{"choices":[{{{more}}}]}}"#)
    }

    fn check(data: &str, expect: &Said) {
        assert_eq!(Ends::default().take(data, &Read::of(data)), *expect, "{data}");
    }

    #[test]
    fn chunks_are_told_from_garbage_and_failures() {
        let chunk_of = |token| Said::Chunk { token, mended: None };
        check(&chunk(r#""index":0,"delta":{"content":"a"}"#), &chunk_of(true));
        check(&chunk(r#""index":0,"delta":{"content":"é\n"}"#), &chunk_of(true));
        check(&chunk(r#""index":0,"delta":{"role":"assistant","content":""}"#), &chunk_of(false));
        check(&chunk(r#""index":0,"text":"a","finish_reason":null"#), &chunk_of(true));
        check(&chunk(r#""delta":{},"finish_reason":"stop""#), &chunk_of(true));
        check(r#"{"choices":[],"usage":null}"#, &chunk_of(false));
        check(r#"{"type":"response.created","delta":7}"#, &chunk_of(false));
        for garbage in ["", "oops", "{\"choices\":", "[1]", "7", "<html>"] {
            check(garbage, &Said::Garbage);
        }
        check(&chunk(r#""delta":{},"finish_reason":"abort""#), &Said::Failed);
    }

    #[test]
    fn ends_come_once_and_in_the_words_of_the_api() {
        let mut ends = Ends::default();
        let take = |ends: &mut Ends, data: &str| ends.take(data, &Read::of(data));
        assert!(!ends.is_complete());
        take(&mut ends, &chunk(r#""index":0,"text":"a""#));
        take(&mut ends, &chunk(r#""index":1,"text":"b""#));
        let Said::Chunk { mended: Some(mended), .. } =
            take(&mut ends, r#"{"choices":[{"index":0,"text":"","finish_reason":"eos_token"}]}"#)
        else {
            panic!("it is the engine's own word");
        };
        assert!(mended.contains(r#""finish_reason":"stop""#), "{mended}");
        assert!(!ends.is_complete(), "one of two");
        assert_eq!(
            take(&mut ends, &chunk(r#""index":0,"text":"","finish_reason":"stop""#)),
            Said::Over
        );
        take(&mut ends, &chunk(r#""index":1,"text":"","finish_reason":"length""#));
        assert!(ends.is_complete());
    }
}
