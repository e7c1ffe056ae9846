//! A whole chat completion as a message.

use serde_json::{Value, json};

use crate::openai::answered::{Answered, Choice, Finish, Piece};
use crate::openai::usage::Usage;

/// The message that an engine's completion holds; none when it is no completion.
pub fn from_chat(completion: &[u8], id: &str, model: &str) -> Option<Vec<u8>> {
    let answered = Answered::read(completion)?;
    let choice = answered.choices.first()?;
    let content: Vec<Value> = choice.pieces().map(block).collect();
    let calls = choice.pieces().any(|piece| matches!(piece, Piece::Call { .. }));
    let (reason, stop) = stop(choice, calls);
    let message = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason.unwrap_or("end_turn"),
        "stop_sequence": stop,
        "usage": usage(&answered.usage.unwrap_or_default()),
    });
    Some(message.to_string().into_bytes())
}

fn block(piece: Piece<'_>) -> Value {
    match piece {
        Piece::Thought(text) => json!({"type": "thinking", "thinking": text, "signature": ""}),
        Piece::Text(text) => json!({"type": "text", "text": text}),
        Piece::Call { index, id, name, arguments } => {
            let id = id.map_or_else(|| call_id(index), str::to_owned);
            let name = name.unwrap_or_default();
            json!({"type": "tool_use", "id": id, "name": name, "input": input(arguments)})
        }
    }
}

/// The id of a call whose engine gave it none.
pub(super) fn call_id(index: u32) -> String {
    format!("toolu_{index}")
}

/// A call's arguments as an object. What is none, such as arguments cut by `max_tokens`, is kept
/// under the name that Anthropic's documentation gives it.
fn input(arguments: &str) -> Value {
    match serde_json::from_str::<Value>(arguments) {
        Ok(input @ Value::Object(_)) => input,
        _ if arguments.trim().is_empty() => json!({}),
        _ => json!({"INVALID_JSON": arguments}),
    }
}

/// Why an answer ended, and the stop text that ended it.
pub(super) fn stop(choice: &Choice, calls: bool) -> (Option<&'static str>, Option<&str>) {
    let Some(finish) = choice.finish() else { return (None, None) };
    match (finish, choice.stop_text()) {
        (Finish::Length, _) => (Some("max_tokens"), None),
        (Finish::Filter, _) => (Some("refusal"), None),
        // Some engines say `stop` after a call that they were made to make.
        (Finish::Calls | Finish::Stop, _) if calls => (Some("tool_use"), None),
        (_, Some(text)) => (Some("stop_sequence"), Some(text)),
        _ => (Some("end_turn"), None),
    }
}

/// Token counts: prompt tokens found in a cache are counted apart.
pub(super) fn usage(usage: &Usage) -> Value {
    let cached = usage.cached_tokens().min(usage.prompt_tokens);
    json!({
        "input_tokens": usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    })
}
