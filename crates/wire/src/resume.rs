//! An answer that stops in the middle and goes on in another attempt: which requests that is sound
//! for, what to send to go on, and how to make the second stream look like the rest of the first.
//!
//! There are two ways. Over *token ids* ([`tokens`]) it is exact: the first attempt is asked to return
//! the ids of its prompt and its answer (`return_token_ids`, as vLLM has it), and the second continues
//! exactly those. Over *text* ([`text`]), for engines that return no ids, the answer so far is the
//! begin of the assistant's message; encoding it again may put a token's boundary elsewhere, so that
//! the rest is what the model says to that text, and not always what it would have said.
//!
//! Where not even that would hold, a request does not go on at all: grammars and parsers with a state,
//! seeds, penalties that tell prompt from answer, log probabilities, several answers.

mod plain;
mod text;
mod tokens;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::openai::chunk::{Choice, Chunk, Read};
use crate::peek::{Edit, Peek};
use crate::sse;
use plain::Cuts;
use text::TextSoFar;
use tokens::TokensSoFar;

/// From what an answer goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the ids of its tokens.
    Tokens,
    /// From its text.
    Text,
}

/// A request whose answer can go on in another attempt, and that answer so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumable {
    /// The request as it came: one piece of memory with whoever else has it, and read again only where
    /// the answer does go on.
    body: Bytes,
    chat: bool,
    tokens_max: Option<u64>,
    so_far: SoFar,
    /// The first chunk's envelope, which all later ones share.
    envelope: Map<String, Value>,
    /// Answer tokens of earlier attempts.
    before: u64,
    /// Tokens of the client's own prompt, where an engine told them.
    prompt_tokens: Option<u64>,
    continued: bool,
    /// The answer has its end.
    finished: bool,
    /// There was something in it from which there is no going on.
    lost: bool,
}

/// The answer so far.
#[derive(Clone, Debug, PartialEq)]
enum SoFar {
    Tokens(TokensSoFar),
    Text(TextSoFar),
}

/// What the client sees of a chunk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Shown {
    /// As it came.
    Same,
    /// This event.
    Event(Vec<u8>),
    /// Nothing: it opens an attempt of which the client does not know.
    Nothing,
}

/// Fields that, given another value than the neutral one here, carry a state over the cut.
const STATEFUL: [(&str, f64); 4] = [
    ("frequency_penalty", 0.0),
    ("presence_penalty", 0.0),
    ("repetition_penalty", 1.0),
    ("min_tokens", 0.0),
];

/// Fields whose mere presence does.
const UNKNOWN: [&str; 20] = [
    "audio",
    "best_of",
    "echo",
    "function_call",
    "functions",
    "grammar",
    "guided_choice",
    "guided_decoding_backend",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logprobs",
    "modalities",
    "reasoning",
    "reasoning_effort",
    "return_token_ids",
    "structured_outputs",
    "suffix",
    "tools",
    "top_logprobs",
];

/// Fields of a first chunk that are not about the whole answer.
const OF_THE_CHUNK: [&str; 4] = ["choices", "usage", "prompt_token_ids", "prompt_text"];

impl Resumable {
    /// The request, if going on with it that way is sound. `chat` says which endpoint it is for.
    pub fn new(body: &Bytes, chat: bool, way: Way) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_slice(body).ok()? else { return None };
        if !is_plain(&fields, chat) {
            return None;
        }
        let so_far = match way {
            Way::Tokens => SoFar::Tokens(TokensSoFar::of(&fields)?),
            Way::Text => SoFar::Text(TextSoFar::of(&fields)?),
        };
        let most = given(&fields, "max_completion_tokens").or_else(|| given(&fields, "max_tokens"));
        let tokens_max = most.and_then(Value::as_u64);
        Some(Self {
            body: body.clone(),
            chat,
            tokens_max,
            so_far,
            envelope: Map::new(),
            before: 0,
            prompt_tokens: None,
            continued: false,
            finished: false,
            lost: false,
        })
    }

    /// What the body that was peeked at needs so that its stream tells what going on takes, its
    /// usage among it.
    pub fn edits(&self, peek: &Peek, body: &[u8]) -> Vec<Edit> {
        match self.so_far {
            SoFar::Tokens(_) => {
                let mut edits: Vec<Edit> = peek.ask_for_usage(body).into_iter().collect();
                edits.push(peek.ask_for_token_ids());
                edits
            }
            SoFar::Text(_) => text::ask_for_counts(peek, body).into_iter().collect(),
        }
    }

    /// From what it goes on.
    pub const fn way(&self) -> Way {
        match self.so_far {
            SoFar::Tokens(_) => Way::Tokens,
            SoFar::Text(_) => Way::Text,
        }
    }

    /// Takes in a chunk, read already, as the engine sent it, and returns it as the client shall see it: without
    /// what only going on takes, and of a later attempt in the envelope of the first. None when it is
    /// no such chunk: then it is passed on as it is. After what cannot be continued there is no going
    /// on from here.
    pub fn chunk(&mut self, data: &str, read: &Read<'_>) -> Option<Shown> {
        let Read::Chunk(chunk) = read else {
            self.lost |= matches!(read, Read::Other);
            return None;
        };
        self.plain_chunk(data, chunk).or_else(|| self.slow_chunk(data))
    }

    fn slow_chunk(&mut self, data: &str) -> Option<Shown> {
        let Value::Object(mut chunk) = serde_json::from_str(data).ok()? else { return None };
        if !self.continued && self.envelope.is_empty() {
            self.envelope = chunk.clone();
            self.envelope.retain(|name, _| !OF_THE_CHUNK.contains(&name.as_str()));
        }
        self.count(&mut chunk);
        self.take_prompt(&mut chunk);
        let Some(Value::Array(choices)) = chunk.get_mut("choices") else {
            self.lost = true;
            return None;
        };
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            self.lost |= is_strange(choice);
            match &mut self.so_far {
                SoFar::Tokens(tokens) => self.lost |= !tokens.choice(choice),
                SoFar::Text(text) => text.choice(choice),
            }
            self.finished |= choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        }
        if self.continued {
            for (name, value) in &self.envelope {
                chunk.insert(name.clone(), value.clone());
            }
            self.dress(&mut chunk);
            if opens_only(&chunk) {
                return Some(Shown::Nothing);
            }
        }
        event(&chunk).map(Shown::Event)
    }

    /// Takes in a chunk of a first attempt that holds nothing but text, as nearly all do, without
    /// building a tree of it; none where it has to be looked at more closely.
    fn plain_chunk(&mut self, data: &str, chunk: &Chunk<'_>) -> Option<Shown> {
        if self.continued || self.envelope.is_empty() || !chunk.is_plain() {
            return None;
        }
        let counts = plain::counts(chunk).ok()?;
        let mut cuts = Cuts::default();
        match &mut self.so_far {
            SoFar::Text(text) => {
                // The client did not ask for counts in each chunk.
                let unasked = chunk.usage().filter(|_| !chunk.choices().is_empty());
                if unasked.is_some_and(|usage| !cuts.field(data, "usage", usage)) {
                    return None;
                }
                if let Some(counts) = &counts {
                    text.counted(counts.completion_tokens.unwrap_or(0));
                }
                chunk.choices().iter().for_each(|choice| text.append(choice.text()));
            }
            SoFar::Tokens(tokens) => {
                let told = |choice: &Choice<'_>| choice.token_ids().is_some();
                if !chunk.choices().iter().all(told) {
                    return None;
                }
                for choice in chunk.choices() {
                    let ids = choice.token_ids()?;
                    if !cuts.field(data, "token_ids", ids) {
                        return None;
                    }
                    let new = serde_json::from_str(ids.get()).ok()?;
                    tokens.append(new, choice.text().is_some_and(|text| !text.is_empty()));
                }
            }
        }
        self.prompt_tokens =
            self.prompt_tokens.or_else(|| counts.and_then(|counts| counts.prompt_tokens));
        self.finished |= chunk.choices().iter().any(|choice| choice.finish_reason().is_some());
        Some(cuts.event(data).map_or(Shown::Same, Shown::Event))
    }

    /// Whether enough is known to go on.
    pub fn can_continue(&self) -> bool {
        let known = match &self.so_far {
            SoFar::Tokens(tokens) => tokens.can_continue(),
            SoFar::Text(text) => text.can_continue(),
        };
        known
            && !self.lost
            && !self.finished
            && self.tokens_max.is_none_or(|most| most > self.tokens_sent())
    }

    /// Answer tokens that the client has.
    pub fn sent(&self) -> u32 {
        u32::try_from(self.tokens_sent()).unwrap_or(u32::MAX)
    }

    /// Whether the answer has its end, though its stream may not.
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// The path and body of the request that goes on from here. What was held back is generated
    /// again.
    pub fn continuation(&mut self, model: &str) -> (&'static str, Vec<u8>) {
        self.before = self.tokens_sent();
        self.continued = true;
        // It was an object when it was new.
        let mut body: Map<String, Value> = serde_json::from_slice(&self.body).unwrap_or_default();
        let (path, most) = match &mut self.so_far {
            SoFar::Tokens(tokens) => (tokens.go_on(&mut body), "max_tokens"),
            SoFar::Text(text) => text.go_on(&mut body, self.chat),
        };
        body.insert("model".to_owned(), model.into());
        body.insert("stream".to_owned(), true.into());
        if let Some(tokens_max) = self.tokens_max {
            body.insert(most.to_owned(), tokens_max.saturating_sub(self.before).into());
        }
        (path, serde_json::to_vec(&body).unwrap_or_default())
    }

    /// The event with the usage of an answer whose stream broke off between its end and that; none
    /// where the counts are not known.
    pub fn usage(&self) -> Option<Vec<u8>> {
        let prompt = self.prompt_tokens.filter(|_| self.finished)?;
        let answer = self.tokens_sent();
        let mut chunk = self.envelope.clone();
        chunk.insert("choices".to_owned(), json!([]));
        let usage = json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer});
        chunk.insert("usage".to_owned(), usage);
        event(&chunk)
    }

    fn tokens_sent(&self) -> u64 {
        match &self.so_far {
            SoFar::Tokens(tokens) => tokens.sent(),
            SoFar::Text(text) => text.sent(),
        }
    }

    /// Prompt ids, where they are: beside the choices of a chat, in them of a completion.
    fn take_prompt(&mut self, chunk: &mut Map<String, Value>) {
        let beside = chunk.remove("prompt_token_ids");
        let SoFar::Tokens(tokens) = &mut self.so_far else { return };
        let choices = chunk.get_mut("choices").and_then(Value::as_array_mut);
        let mut within = choices.into_iter().flatten().filter_map(Value::as_object_mut);
        let within = within.find_map(|choice| choice.remove("prompt_token_ids"));
        if let Some(prompt) = tokens.prompt(within.or(beside)) {
            self.prompt_tokens = Some(prompt);
        }
    }

    /// Takes in the counts of a chunk. Those that the client did not ask for are taken out, and those
    /// of a later attempt become those of all: what computing the prompt again took is nobody's bill.
    fn count(&mut self, chunk: &mut Map<String, Value>) {
        let ends = chunk.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty);
        let Some(Value::Object(usage)) = chunk.get_mut("usage") else { return };
        let number = |name: &str| usage.get(name).and_then(Value::as_u64);
        let (input, new) = (number("prompt_tokens"), number("completion_tokens").unwrap_or(0));
        let prompt = self.prompt_tokens.or_else(|| Some(input?.saturating_sub(self.before)));
        self.prompt_tokens = prompt;
        let answer = self.before + new;
        if let SoFar::Text(text) = &mut self.so_far {
            text.counted(answer);
        }
        if let (true, Some(prompt)) = (self.continued, prompt) {
            usage.insert("prompt_tokens".to_owned(), prompt.into());
            usage.insert("completion_tokens".to_owned(), answer.into());
            usage.insert("total_tokens".to_owned(), (prompt + answer).into());
            usage.remove("prompt_tokens_details");
        }
        if self.way() == Way::Text && !ends {
            chunk.remove("usage");
        }
    }

    /// The choices of a later attempt as those of the first look.
    fn dress(&self, chunk: &mut Map<String, Value>) {
        let dressed = self.chat && !self.lost;
        let Some(Value::Array(choices)) = chunk.get_mut("choices").filter(|_| dressed) else {
            return;
        };
        for choice in choices {
            let text = choice.get("text").or_else(|| Some(&choice["delta"]["content"]));
            let text = text.and_then(Value::as_str).unwrap_or_default();
            let delta = if text.is_empty() { json!({}) } else { json!({"content": text}) };
            *choice = json!({
                "index": choice["index"],
                "delta": delta,
                "logprobs": null,
                "finish_reason": choice["finish_reason"],
            });
        }
    }
}

/// Whether a request is one of plain text, without what carries a state over a cut.
fn is_plain(body: &Map<String, Value>, chat: bool) -> bool {
    let number = |name: &str| given(body, name).and_then(Value::as_f64);
    let neutral = STATEFUL
        .iter()
        .all(|(name, neutral)| given(body, name).is_none() || number(name) == Some(*neutral));
    let plain_format = given(body, "response_format").is_none_or(|format| format["type"] == "text");
    let seeded = given(body, "seed").is_some() && number("temperature") != Some(0.0);
    let known = UNKNOWN.iter().all(|name| given(body, name).is_none());
    let one = given(body, "n").is_none_or(|n| n == 1);
    let text = if chat {
        given(body, "messages").is_some_and(only_text)
    } else {
        given(body, "prompt").is_some_and(is_one_prompt)
    };
    neutral && plain_format && !seeded && known && one && text
}

/// A field that is there and says something.
fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !is_nothing(value))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Whether messages hold nothing but text.
fn only_text(messages: &Value) -> bool {
    let part = |part: &Value| part["type"] == "text";
    let plain = |content: &Value| match content {
        Value::Null | Value::String(_) => true,
        Value::Array(parts) => parts.iter().all(part),
        _ => false,
    };
    messages.as_array().is_some_and(|messages| {
        messages
            .iter()
            .all(|message| plain(&message["content"]) && is_nothing(&message["tool_calls"]))
    })
}

fn is_one_prompt(prompt: &Value) -> bool {
    match prompt {
        Value::String(_) => true,
        Value::Array(ids) => ids.iter().all(Value::is_number),
        _ => false,
    }
}

/// Whether a choice holds what a parser made of the answer.
fn is_strange(choice: &Map<String, Value>) -> bool {
    let names = ["tool_calls", "reasoning_content", "reasoning", "function_call"];
    let Some(delta) = choice.get("delta") else { return false };
    let parts =
        delta.get("content").is_some_and(|content| !content.is_null() && !content.is_string());
    parts || names.iter().any(|name| !is_nothing(&delta[*name]))
}

/// The text of a choice, wherever its kind of answer has it.
fn text_of(choice: &mut Map<String, Value>) -> Option<&mut String> {
    let holder = if choice.contains_key("text") {
        choice
    } else {
        choice.get_mut("delta")?.as_object_mut()?
    };
    let name = if holder.contains_key("text") { "text" } else { "content" };
    match holder.get_mut(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Whether a chunk only opens an attempt, or holds a token's place.
fn opens_only(chunk: &Map<String, Value>) -> bool {
    let empty = |choice: &Value| {
        let text = choice.get("text").unwrap_or_else(|| &choice["delta"]["content"]);
        is_nothing(text) && choice["finish_reason"].is_null()
    };
    let choices = chunk.get("choices").and_then(Value::as_array);
    choices.is_some_and(|choices| !choices.is_empty() && choices.iter().all(empty))
}

fn event(chunk: &Map<String, Value>) -> Option<Vec<u8>> {
    let mut event = Vec::new();
    sse::encode_data(&mut event, &serde_json::to_vec(chunk).ok()?);
    Some(event)
}

#[cfg(test)]
mod tests;
