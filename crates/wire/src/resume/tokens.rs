//! An answer so far as token ids. The continuation is a completion of prompt and answer together,
//! also where the request was a chat: no template is applied again.

use serde_json::{Map, Value, json};

use super::{given, text_of};

/// Ids of a prompt and of its answer so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TokensSoFar {
    prompt: Vec<i64>,
    answer: Vec<i64>,
    /// So many of the answer's tokens are with the client as text; those after them are held back
    /// by the engine, in the middle of a character.
    sent: usize,
}

impl TokensSoFar {
    /// Nothing yet; none where the request does not go on exactly: engines hold back what may be the
    /// begin of a stop text, within a token.
    pub(super) fn of(body: &Map<String, Value>) -> Option<Self> {
        given(body, "stop").is_none().then(Self::default)
    }

    pub(super) const fn can_continue(&self) -> bool {
        !self.prompt.is_empty()
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent as u64
    }

    /// Takes in the prompt's ids, and returns how many they are. Those of a later attempt hold a part
    /// of the answer.
    pub(super) fn prompt(&mut self, told: Option<Value>) -> Option<u64> {
        if let Some(prompt) = ids(told).filter(|_| self.prompt.is_empty()) {
            self.prompt = prompt;
        }
        (!self.prompt.is_empty()).then_some(self.prompt.len() as u64)
    }

    /// Takes in what a choice has; false when it has text whose ids are not told: there is no place
    /// to go on from.
    pub(super) fn choice(&mut self, choice: &mut Map<String, Value>) -> bool {
        let new = ids(choice.remove("token_ids"));
        let has_text = text_of(choice).is_some_and(|text| !text.is_empty());
        if has_text && new.is_none() && choice.get("finish_reason").is_none_or(Value::is_null) {
            return false;
        }
        self.append(new.unwrap_or_default(), has_text);
        true
    }

    /// Takes in the ids of a choice that tells them.
    pub(super) fn append(&mut self, new: Vec<i64>, has_text: bool) {
        self.answer.extend(new);
        if has_text {
            self.sent = self.answer.len();
        }
    }

    /// Makes a request's body that of its continuation; returns the path.
    pub(super) fn go_on(&mut self, body: &mut Map<String, Value>) -> &'static str {
        self.answer.truncate(self.sent);
        body.retain(|name, _| {
            !matches!(name.as_str(), "messages" | "max_completion_tokens" | "tool_choice")
                && !name.starts_with("chat_template")
                && !matches!(name.as_str(), "add_generation_prompt" | "continue_final_message")
        });
        let all: Vec<i64> = self.prompt.iter().chain(&self.answer).copied().collect();
        body.insert("prompt".to_owned(), all.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        body.insert("return_token_ids".to_owned(), true.into());
        body.insert("add_special_tokens".to_owned(), false.into());
        "/v1/completions"
    }
}

fn ids(value: Option<Value>) -> Option<Vec<i64>> {
    let Some(Value::Array(ids)) = value else { return None };
    ids.iter().map(Value::as_i64).collect()
}
