//! A whole chat completion as a response object.

use serde_json::{Map, Value, json};

use super::items;
use super::request::{Request, given};
use crate::openai::answered::{Answered, Choice, Finish, Piece};
use crate::openai::usage::Usage;

/// What a response says besides its answer: its id, and what was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    id: String,
    object: Map<String, Value>,
}

/// Members that a response tells back, and what they are when nothing was said.
const TOLD_BACK: [(&str, &str); 15] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("model", "null"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("store", "true"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "null"),
];

/// Where a response stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Running,
    Completed,
    /// Cut, for this reason.
    Incomplete(&'static str),
}

impl Frame {
    /// The frame of the response with this id, begun at this second since 1970.
    pub fn new(request: &Request, id: impl Into<String>, created_s: u64) -> Self {
        let id = id.into();
        let mut object = Map::new();
        object.insert("id".to_owned(), id.clone().into());
        object.insert("object".to_owned(), "response".into());
        object.insert("created_at".to_owned(), created_s.into());
        for name in ["status", "background", "error", "incomplete_details"] {
            object.insert(name.to_owned(), Value::Null);
        }
        object.insert("background".to_owned(), false.into());
        object.insert("output".to_owned(), json!([]));
        for (name, nothing) in TOLD_BACK {
            let said = given(&request.body, name).cloned();
            let value = said.unwrap_or_else(|| serde_json::from_str(nothing).unwrap_or_default());
            object.insert(name.to_owned(), value);
        }
        object.insert("truncation".to_owned(), "disabled".into());
        object.insert("usage".to_owned(), Value::Null);
        Self { id, object }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The response that an engine's completion holds; none when it is no completion.
    pub fn from_chat(&self, completion: &[u8]) -> Option<Value> {
        let answered = Answered::read(completion)?;
        let choice = answered.choices.first()?;
        let status = status(choice).unwrap_or(Status::Completed);
        let logprobs = choice.logprobs.clone().unwrap_or_default().content;
        let output = (0..).zip(choice.pieces());
        let output = output.map(|(at, piece)| match piece {
            Piece::Thought(text) => thought(&self.item_id("rs", at), Some(text)),
            Piece::Text(text) => {
                let part = text_part(text, &logprobs);
                message(&self.item_id("msg", at), status.name(), &[part])
            }
            Piece::Call { index, id, name, arguments } => {
                let id = id.map_or_else(|| call_id(&self.id, index), str::to_owned);
                let name = name.unwrap_or_default();
                call(&self.item_id("fc", at), &id, name, Some(arguments))
            }
        });
        Some(self.object(status, output.collect(), answered.usage.as_ref()))
    }

    /// The input as it is told back, and kept.
    pub fn input(&self, request: &Request) -> Vec<Value> {
        let item = |(at, item): (u32, &Value)| items::shown(item, || self.item_id("in", at));
        (0..).zip(&request.input).map(item).collect()
    }

    pub(super) fn object(&self, status: Status, output: Vec<Value>, used: Option<&Usage>) -> Value {
        let mut object = self.object.clone();
        object.insert("status".to_owned(), status.name().into());
        if let Status::Incomplete(reason) = status {
            object.insert("incomplete_details".to_owned(), json!({"reason": reason}));
        }
        object.insert("output".to_owned(), output.into());
        object.insert("usage".to_owned(), used.map_or(Value::Null, usage));
        Value::Object(object)
    }

    pub(super) fn failed(&self, output: Vec<Value>, code: &str, message: &str) -> Value {
        let mut object = self.object(Status::Running, output, None);
        object["status"] = "failed".into();
        object["error"] = json!({"code": code, "message": message});
        object
    }

    /// The id of the item at that place.
    pub(super) fn item_id(&self, kind: &str, at: u32) -> String {
        let own = self.id.split_once('_').map_or(self.id.as_str(), |(_, own)| own);
        format!("{kind}_{own}_{at}")
    }
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Running => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
        }
    }
}

/// Where a response stands after this choice; none when its answer goes on.
pub(super) fn status(choice: &Choice) -> Option<Status> {
    Some(match choice.finish()? {
        Finish::Length => Status::Incomplete("max_output_tokens"),
        Finish::Filter => Status::Incomplete("content_filter"),
        Finish::Stop | Finish::Calls => Status::Completed,
    })
}

pub(super) fn text_part(text: &str, logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

pub(super) fn message(id: &str, status: &str, content: &[Value]) -> Value {
    let role = "assistant";
    json!({"id": id, "type": "message", "status": status, "role": role, "content": content})
}

/// An item of thoughts; without a text, one that has just begun.
pub(super) fn thought(id: &str, text: Option<&str>) -> Value {
    let content: Vec<Value> =
        text.map(|text| json!({"type": "reasoning_text", "text": text})).into_iter().collect();
    let status = if text.is_some() { "completed" } else { "in_progress" };
    json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
}

/// A call; without arguments, one that has just begun.
pub(super) fn call(id: &str, call_id: &str, name: &str, arguments: Option<&str>) -> Value {
    let status = if arguments.is_some() { "completed" } else { "in_progress" };
    json!({
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments.unwrap_or_default(),
    })
}

/// The id of a call whose engine gave it none.
pub(super) fn call_id(response: &str, index: u32) -> String {
    format!("call_{response}_{index}")
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens(), "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    })
}
