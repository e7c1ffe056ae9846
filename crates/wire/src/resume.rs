//! An answer that is stopped and goes on later, over token ids: which requests that is exact for,
//! what to send to go on, and how to make the second stream look like the rest of the first.
//!
//! Text is not enough to go on from: a template would open a new turn, and encoding text again puts
//! token boundaries elsewhere. So the first attempt is asked to return the ids of its prompt and its
//! answer (`return_token_ids`, as vLLM has it), and the second one continues exactly those. Where
//! even that would not give what one attempt gives, the request is not resumable: stop texts that
//! span the cut, grammars and parsers with a state, seeds, penalties that tell prompt from answer,
//! log probabilities, several answers.

use serde_json::{Map, Value, json};

use crate::sse;

/// A request that can be stopped at any time, and its answer so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumable {
    /// The request's fields.
    body: Map<String, Value>,
    chat: bool,
    tokens_max: Option<u64>,
    prompt: Vec<i64>,
    answer: Vec<i64>,
    /// So many of the answer's tokens are with the client as text; those after them are held back
    /// by the engine, in the middle of a character.
    sent: usize,
    /// The first chunk's envelope, which all later ones share.
    envelope: Map<String, Value>,
    /// Answer tokens of earlier attempts.
    before: usize,
    continued: bool,
    /// The answer has its end.
    finished: bool,
}

/// Fields that, given another value than the neutral one here, carry a state over the cut.
const STATEFUL: [(&str, f64); 4] = [
    ("frequency_penalty", 0.0),
    ("presence_penalty", 0.0),
    ("repetition_penalty", 1.0),
    ("min_tokens", 0.0),
];

/// Fields whose mere presence does.
const UNKNOWN: [&str; 21] = [
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
    "stop",
    "structured_outputs",
    "suffix",
    "tools",
    "top_logprobs",
];

impl Resumable {
    /// The request, if going on with it would be exact. `chat` says which endpoint it is for.
    pub fn new(body: &[u8], chat: bool) -> Option<Self> {
        let Value::Object(body) = serde_json::from_slice(body).ok()? else { return None };
        let given = |name: &str| body.get(name).filter(|value| !is_nothing(value));
        let number = |name: &str| given(name).and_then(Value::as_f64);
        let neutral = STATEFUL
            .iter()
            .all(|(name, neutral)| given(name).is_none() || number(name) == Some(*neutral));
        let plain_format = given("response_format").is_none_or(|format| format["type"] == "text");
        let seeded = given("seed").is_some() && number("temperature") != Some(0.0);
        let known = UNKNOWN.iter().all(|name| given(name).is_none());
        let one = given("n").is_none_or(|n| n == 1);
        let text =
            if chat { only_text(given("messages")?) } else { is_one_prompt(given("prompt")?) };
        let fits = neutral && plain_format && !seeded && known && one && text;
        let most = given("max_completion_tokens").or_else(|| given("max_tokens"));
        let tokens_max = most.and_then(Value::as_u64);
        fits.then_some(Self {
            body,
            chat,
            tokens_max,
            prompt: Vec::new(),
            answer: Vec::new(),
            sent: 0,
            envelope: Map::new(),
            before: 0,
            continued: false,
            finished: false,
        })
    }

    /// Takes in a chunk as the engine sent it, and returns it as the client shall see it: without
    /// ids, and of a later attempt in the envelope of the first. None when it is no such chunk: then
    /// it is passed on as it is, and there is no going on from here.
    pub fn chunk(&mut self, data: &str) -> Option<Vec<u8>> {
        let Value::Object(mut chunk) = serde_json::from_str(data).ok()? else { return None };
        let Some(Value::Array(choices)) = chunk.get_mut("choices") else { return None };
        let prompt = chunk_ids(choices, "prompt_token_ids");
        for choice in choices.iter_mut() {
            self.choice(choice)?;
        }
        let prompt = prompt.or_else(|| ids(chunk.remove("prompt_token_ids")));
        if let Some(prompt) = prompt.filter(|_| self.prompt.is_empty()) {
            self.prompt = prompt;
        }
        if self.continued {
            self.dress(&mut chunk);
        } else if self.envelope.is_empty() {
            self.envelope = chunk.clone();
            self.envelope.retain(|name, _| name != "choices" && name != "usage");
        }
        let mut event = Vec::new();
        sse::encode_data(&mut event, &serde_json::to_vec(&chunk).ok()?);
        Some(event)
    }

    /// Whether enough is known to go on.
    pub fn can_continue(&self) -> bool {
        let left = self.tokens_max.is_none_or(|most| most > self.sent as u64);
        !self.prompt.is_empty() && left && !self.finished
    }

    /// Answer tokens that the client has.
    pub fn sent(&self) -> u32 {
        u32::try_from(self.sent).unwrap_or(u32::MAX)
    }

    /// The path and body of the request that goes on from here. What was held back is generated
    /// again.
    pub fn continuation(&mut self, model: &str) -> (&'static str, Vec<u8>) {
        self.answer.truncate(self.sent);
        self.before = self.sent;
        self.continued = true;
        let mut body = self.body.clone();
        body.retain(|name, _| {
            !matches!(name.as_str(), "messages" | "max_completion_tokens" | "tool_choice")
                && !name.starts_with("chat_template")
                && !matches!(name.as_str(), "add_generation_prompt" | "continue_final_message")
        });
        let all: Vec<i64> = self.prompt.iter().chain(&self.answer).copied().collect();
        body.insert("model".to_owned(), model.into());
        body.insert("prompt".to_owned(), all.into());
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        body.insert("return_token_ids".to_owned(), true.into());
        body.insert("add_special_tokens".to_owned(), false.into());
        if let Some(most) = self.tokens_max {
            body.insert("max_tokens".to_owned(), (most - self.sent as u64).into());
        }
        ("/v1/completions", serde_json::to_vec(&body).unwrap_or_default())
    }

    fn choice(&mut self, choice: &mut Value) -> Option<()> {
        let Value::Object(choice) = choice else { return None };
        choice.remove("prompt_token_ids");
        let new = ids(choice.remove("token_ids"));
        let delta = choice.get("delta");
        let strange = delta.is_some_and(|delta| {
            ["tool_calls", "reasoning_content", "reasoning", "function_call"]
                .iter()
                .any(|name| !is_nothing(&delta[*name]))
        });
        if strange {
            return None;
        }
        let text = choice.get("text").or_else(|| delta.map(|delta| &delta["content"]));
        let has_text = text.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if has_text && new.is_none() && choice.get("finish_reason").is_none_or(Value::is_null) {
            // Text whose ids are not told: there is no place to go on from.
            return None;
        }
        self.finished |= choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        self.answer.extend(new.unwrap_or_default());
        if has_text {
            self.sent = self.answer.len();
        }
        Some(())
    }

    /// A chunk of a later attempt in the first one's clothes.
    fn dress(&self, chunk: &mut Map<String, Value>) {
        for (name, value) in &self.envelope {
            chunk.insert(name.clone(), value.clone());
        }
        if let Some(Value::Array(choices)) = chunk.get_mut("choices").filter(|_| self.chat) {
            for choice in choices {
                let text = choice.get("text").and_then(Value::as_str).unwrap_or_default();
                let delta = if text.is_empty() { json!({}) } else { json!({"content": text}) };
                *choice = json!({
                    "index": choice["index"],
                    "delta": delta,
                    "logprobs": null,
                    "finish_reason": choice["finish_reason"],
                });
            }
        }
        if let Some(Value::Object(usage)) = chunk.get_mut("usage") {
            // What computing the prompt again took is nobody's bill.
            let new = usage.get("completion_tokens").and_then(Value::as_u64).unwrap_or(0);
            let (prompt, answer) = (self.prompt.len() as u64, self.before as u64 + new);
            usage.insert("prompt_tokens".to_owned(), prompt.into());
            usage.insert("completion_tokens".to_owned(), answer.into());
            usage.insert("total_tokens".to_owned(), (prompt + answer).into());
            usage.remove("prompt_tokens_details");
        }
    }
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

fn chunk_ids(choices: &[Value], name: &str) -> Option<Vec<i64>> {
    choices.iter().find_map(|choice| ids(choice.get(name).cloned()))
}

fn ids(value: Option<Value>) -> Option<Vec<i64>> {
    let Some(Value::Array(ids)) = value else { return None };
    ids.iter().map(Value::as_i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(more: &str) -> Option<Resumable> {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"stream":true{more}}}"#
        );
        Resumable::new(body.as_bytes(), true)
    }

    #[test]
    fn only_requests_that_go_on_exactly_are_resumable() {
        for more in [
            "",
            r#","temperature":0.7,"top_p":0.9,"max_tokens":5,"user":"u""#,
            r#","temperature":0,"seed":7,"stop":null,"tools":[],"n":1,"presence_penalty":0"#,
            r#","response_format":{"type":"text"},"repetition_penalty":1.0,"logprobs":false"#,
        ] {
            assert!(chat(more).is_some(), "{more}");
        }
        for more in [
            r#","stop":["x"]"#,
            r#","seed":7"#,
            r#","seed":7,"temperature":0.5"#,
            r#","n":2"#,
            r#","logprobs":true"#,
            r#","presence_penalty":0.5"#,
            r#","repetition_penalty":1.1"#,
            r#","response_format":{"type":"json_object"}"#,
            r#","tools":[{"type":"function"}]"#,
            r#","guided_json":{}"#,
            r#","return_token_ids":true"#,
        ] {
            assert_eq!(chat(more), None, "{more}");
        }
        let parts = |kind: &str| {
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"{kind}"}}]}}]}}"#
            )
        };
        assert!(Resumable::new(parts("text").as_bytes(), true).is_some());
        assert_eq!(Resumable::new(parts("image_url").as_bytes(), true), None);
        assert!(Resumable::new(br#"{"model":"m","prompt":[1,2]}"#, false).is_some());
        assert_eq!(Resumable::new(br#"{"model":"m","prompt":["a","b"]}"#, false), None);
        assert_eq!(Resumable::new(b"{", true), None);
    }

    fn data(event: Option<Vec<u8>>) -> Value {
        let text = String::from_utf8(event.unwrap()).unwrap();
        serde_json::from_str(text.strip_prefix("data: ").unwrap().trim_end()).unwrap()
    }

    #[test]
    fn the_second_stream_is_the_rest_of_the_first() {
        let mut one = chat(r#","max_tokens":10,"temperature":0"#).unwrap();
        assert!(!one.can_continue());
        let first = r#"{"id":"a","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"prompt_token_ids":[1,2,3],"token_ids":[]}]}"#;
        let shown = data(one.chunk(first));
        assert_eq!(
            shown["choices"][0],
            json!({"index": 0, "delta": {"role": "assistant", "content": ""}})
        );
        for (text, id) in [("He", 10), ("llo", 11), ("", 12)] {
            let chunk = json!({"id": "a", "object": "chat.completion.chunk", "created": 5, "model": "m",
                "choices": [{"index": 0, "delta": {"content": text}, "token_ids": [id], "finish_reason": null}]});
            let shown = data(one.chunk(&chunk.to_string()));
            assert_eq!(shown["choices"][0].get("token_ids"), None);
        }
        assert!(one.can_continue());
        assert_eq!(one.sent(), 2);
        let (path, body) = one.continuation("served");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(path, "/v1/completions");
        assert_eq!(body["prompt"], json!([1, 2, 3, 10, 11]), "what was held back is made again");
        assert_eq!((&body["max_tokens"], &body["model"]), (&json!(8), &json!("served")));
        assert_eq!((body.get("messages"), &body["temperature"]), (None, &json!(0)));

        let opened = r#"{"id":"b","object":"text_completion","created":9,"model":"served","choices":[{"index":0,"text":"","prompt_token_ids":[1,2,3,10,11],"token_ids":[]}]}"#;
        one.chunk(opened).unwrap();
        let rest = r#"{"id":"b","object":"text_completion","created":9,"model":"served","choices":[{"index":0,"text":"é!","token_ids":[12,13],"finish_reason":"stop"}]}"#;
        let shown = data(one.chunk(rest));
        assert_eq!(
            (&shown["id"], &shown["object"], &shown["model"]),
            (&json!("a"), &json!("chat.completion.chunk"), &json!("m"))
        );
        assert_eq!(shown["choices"][0]["delta"], json!({"content": "é!"}));
        assert_eq!(shown["choices"][0]["finish_reason"], "stop");
        let usage = r#"{"id":"b","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let shown = data(one.chunk(usage));
        assert_eq!(
            shown["usage"],
            json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
        );
        assert_eq!(one.sent(), 4);
        assert!(!one.can_continue(), "it has its end");
    }

    #[test]
    fn what_tells_no_ids_cannot_go_on() {
        let mut one = chat("").unwrap();
        let chunk = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        assert_eq!(one.chunk(chunk), None);
        assert_eq!(one.chunk("[DONE]"), None);
        let tool =
            r#"{"id":"a","choices":[{"index":0,"delta":{"tool_calls":[{}]},"token_ids":[1]}]}"#;
        assert_eq!(one.chunk(tool), None);
        assert!(!one.can_continue());
    }
}
