//! Ollama's own API, which knows more than its `/v1` does: counts of tokens of each stream, how much
//! context a request has, and how long its model stays loaded.

use serde_json::{Value, json};

use super::answer::Piece;
use super::{Message, Prompt, Request};
use crate::openai::error::ApiError;

pub(super) fn request(request: &Request) -> Result<(String, Value), ApiError> {
    let options = request.sampling("num_predict");
    let mut body = json!({"model": request.model, "stream": request.stream, "options": options});
    if let Some(format) = &request.format {
        body["format"] = format.clone();
    }
    Ok(match &request.prompt {
        Prompt::Chat(messages) => {
            body["messages"] = messages.iter().map(message).collect();
            ("/api/chat".to_owned(), body)
        }
        Prompt::Text(prompt) => {
            body["prompt"] = prompt.as_str().into();
            // Without a template: the text is gone on with.
            body["raw"] = true.into();
            ("/api/generate".to_owned(), body)
        }
    })
}

fn message(message: &Message) -> Value {
    let mut said = json!({"role": message.role, "content": message.text});
    if !message.images.is_empty() {
        said["images"] = json!(message.images);
    }
    said
}

pub(super) fn piece(value: &Value, is_chat: bool) -> Option<Piece> {
    let text = if is_chat { value.get("message")?.get("content") } else { value.get("response") };
    let is_last = value.get("done").and_then(Value::as_bool).unwrap_or(false);
    let count = |name: &str| value.get(name).and_then(Value::as_u64);
    Some(Piece {
        text: text?.as_str()?.to_owned(),
        reason: match value.get("done_reason").and_then(Value::as_str) {
            Some("length") => Some("length"),
            Some(_) => Some("stop"),
            None => None,
        },
        // What was in its cache is not counted.
        prompt_tokens: count("prompt_eval_count").or_else(|| is_last.then_some(0)),
        answer_tokens: count("eval_count"),
        is_last,
        ..Piece::default()
    })
}
