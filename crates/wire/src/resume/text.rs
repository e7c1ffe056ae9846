//! An answer so far as text, for engines that return no token ids: a chat goes on as an assistant's
//! message that is not over (`continue_final_message`, as vLLM and SGLang have it), a completion as a
//! longer prompt.
//!
//! White space at the end of the text is not sent: templates strip it, and tokenizers that put a
//! space before each word would make one more of it. The continuation begins with it again, and there
//! it is taken off, as far as it is the same.

use serde_json::{Map, Value, json};

use super::{given, text_of};
use crate::peek::{Edit, Peek};

/// Marks of thoughts, which templates take out of an assistant's messages.
const THOUGHTS: [&str; 2] = ["<think>", "</think>"];

/// The text of an answer so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TextSoFar {
    text: String,
    /// White space that the client has and a continuation begins with again.
    seam: String,
    /// Answer tokens up to the last text, as the engine counts them, or chunks with text where it
    /// does not count.
    sent: u64,
    /// The engine's own count of this moment.
    counted: Option<u64>,
    /// Text of which the template would make something else.
    changed: bool,
}

impl TextSoFar {
    /// Nothing yet; none where there is no text to append to: a prompt of ids, a message that is
    /// continued already, counts that the client wants in each chunk.
    pub(super) fn of(body: &Map<String, Value>) -> Option<Self> {
        let options = given(body, "stream_options");
        let counts = options.is_some_and(|options| options["continuous_usage_stats"] == true);
        let continues = given(body, "continue_final_message").is_some();
        let ids = given(body, "prompt").is_some_and(Value::is_array);
        (!counts && !continues && !ids).then(Self::default)
    }

    pub(super) const fn can_continue(&self) -> bool {
        !self.changed
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// The engine says how many tokens the whole answer has by now.
    pub(super) const fn counted(&mut self, tokens: u64) {
        self.counted = Some(tokens);
    }

    /// Takes in the text that a choice of the first attempt has.
    pub(super) fn append(&mut self, new: Option<&str>) {
        let counted = self.counted.take();
        let Some(new) = new.filter(|new| !new.is_empty()) else { return };
        self.sent = counted.unwrap_or(self.sent + 1);
        self.text.push_str(new);
        self.note_thoughts(new);
    }

    /// Takes in what a choice has, and takes the seam off it.
    pub(super) fn choice(&mut self, choice: &mut Map<String, Value>) {
        let counted = self.counted.take();
        let Some(text) = text_of(choice).filter(|text| !text.is_empty()) else { return };
        self.sent = counted.unwrap_or(self.sent + 1);
        let same = self.seam.chars().zip(text.chars()).take_while(|(old, new)| old == new);
        let same: usize = same.map(|(old, _)| old.len_utf8()).sum();
        text.drain(..same);
        // What is left of the seam is met by the next text, unless this one went another way.
        self.seam = if text.is_empty() { self.seam.split_off(same) } else { String::new() };
        self.text.push_str(text);
        let new = std::mem::take(text);
        self.note_thoughts(&new);
        *text = new;
    }

    /// Looks for marks that the new end of the text completes.
    fn note_thoughts(&mut self, new: &str) {
        // Each ends with the same letter.
        if new.contains('>') {
            self.changed |= THOUGHTS.iter().any(|mark| holds_now(&self.text, new, mark));
        }
    }

    /// Makes a request's body that of its continuation; returns the path, and the name under which
    /// the body has its limit of tokens.
    pub(super) fn go_on(
        &mut self,
        body: &mut Map<String, Value>,
        chat: bool,
    ) -> (&'static str, &'static str) {
        let kept = self.text.trim_end();
        self.seam = self.text[kept.len()..].to_owned();
        self.counted = None;
        let options = json!({"include_usage": true, "continuous_usage_stats": true});
        body.insert("stream_options".to_owned(), options);
        let long = given(body, "max_completion_tokens").is_some();
        let most = if long { "max_completion_tokens" } else { "max_tokens" };
        if !chat {
            if let Some(Value::String(prompt)) = body.get_mut("prompt") {
                prompt.push_str(kept);
            }
            return ("/v1/completions", most);
        }
        if let Some(Value::Array(messages)) = body.get_mut("messages").filter(|_| !kept.is_empty())
        {
            messages.push(json!({"role": "assistant", "content": kept}));
            body.insert("continue_final_message".to_owned(), true.into());
            body.insert("add_generation_prompt".to_owned(), false.into());
        }
        ("/v1/chat/completions", most)
    }
}

/// Whether the new end of a text made it hold a mark.
fn holds_now(text: &str, new: &str, mark: &str) -> bool {
    let from = text.len().saturating_sub(new.len() + mark.len());
    let from = (0..=from).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[from..].contains(mark)
}

/// The edit that makes a stream count its tokens in each chunk, and report its usage at the end; none
/// where the body has no place for it.
pub(super) fn ask_for_counts(peek: &Peek, body: &[u8]) -> Option<Edit> {
    let Some(field) = &peek.stream_options else {
        let options = r#""stream_options":{"include_usage":true,"continuous_usage_stats":true},"#;
        return peek.object_start.map(|at| Edit { span: at..at, with: options.into() });
    };
    let there = serde_json::from_slice::<Option<Map<String, Value>>>(&body[field.span.clone()]);
    let mut options = there.ok().flatten().unwrap_or_default();
    options.insert("include_usage".to_owned(), true.into());
    options.insert("continuous_usage_stats".to_owned(), true.into());
    let with = serde_json::to_vec(&options).unwrap_or_default();
    Some(Edit { span: field.span.clone(), with })
}
