//! Items of the Responses API as messages of a chat: what the assistant thought, said and called
//! between two turns of others is one message there.

use serde_json::{Map, Value, json};

use crate::openai::error::ApiError;
use crate::openai::params::wrong;

/// Between texts that come apart and leave as one.
const BETWEEN: &str = "\n\n";

/// The input as a list of items, in the form in which they are told back.
pub(super) fn listed(input: Option<&Value>, goes_on: bool) -> Result<Vec<Value>, ApiError> {
    match input {
        Some(Value::String(text)) => Ok(vec![json!({"role": "user", "content": text})]),
        Some(Value::Array(items)) if !items.is_empty() || goes_on => Ok(items.clone()),
        Some(Value::Array(_)) => wrong("input", "is empty"),
        Some(_) => wrong("input", "must be a string or a list of items"),
        None if goes_on => Ok(Vec::new()),
        None => wrong("input", "is missing; say something"),
    }
}

/// An item as a list of inputs shows it: with an id, and its content as parts.
pub(super) fn shown(item: &Value, id: impl FnOnce() -> String) -> Value {
    let Value::Object(item) = item else { return item.clone() };
    let mut shown = Map::new();
    shown.insert("id".to_owned(), id().into());
    shown.insert("type".to_owned(), "message".into());
    shown.extend(item.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(text) = item.get("content").and_then(Value::as_str) {
        let kind = if item.get("role").is_some_and(|role| role == "assistant") {
            json!({"type": "output_text", "text": text, "annotations": []})
        } else {
            json!({"type": "input_text", "text": text})
        };
        shown.insert("content".to_owned(), json!([kind]));
    }
    if shown["type"] == "message" && !shown.contains_key("status") {
        shown.insert("status".to_owned(), "completed".into());
    }
    Value::Object(shown)
}

/// Messages, put together item by item.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    messages: Vec<Map<String, Value>>,
    /// What the assistant thought before what comes next.
    thoughts: Option<String>,
}

impl Conversation {
    pub(super) fn messages(self) -> Vec<Value> {
        self.messages.into_iter().map(Value::Object).collect()
    }

    /// Instructions. Those at the begin become one message: many templates take no more.
    pub(super) fn system(&mut self, text: &str) {
        if let [first] = &mut self.messages[..]
            && first["role"] == "system"
            && let Some(Value::String(said)) = first.get_mut("content")
        {
            said.push_str(BETWEEN);
            said.push_str(text);
            return;
        }
        self.push("system", text.into());
    }

    pub(super) fn add(&mut self, item: &Value, path: &str) -> Result<(), ApiError> {
        let kind = item["type"].as_str().unwrap_or("message");
        match kind {
            "message" => self.message(item, path),
            "function_call" => self.call(item, path),
            "function_call_output" => self.output(item, path),
            "reasoning" => {
                self.reasoning(item);
                Ok(())
            }
            _ => wrong(&format!("{path}.type"), "is a kind of item that is not supported here"),
        }
    }

    fn message(&mut self, item: &Value, path: &str) -> Result<(), ApiError> {
        let content = &format!("{path}.content");
        match item["role"].as_str() {
            Some("user") => {
                let parts = parts(&item["content"], content)?;
                self.push("user", plain(parts));
            }
            Some("system" | "developer") => {
                let parts = parts(&item["content"], content)?;
                if parts.iter().any(|part| part["type"] != "text") {
                    return wrong(content, "may only hold text");
                }
                self.system(&join(&parts));
            }
            Some("assistant") => {
                let text = join(&parts(&item["content"], content)?);
                let message = self.assistant();
                let said = match message.get("content").and_then(Value::as_str) {
                    Some(said) => [said, &text].join(BETWEEN),
                    None => text,
                };
                message.insert("content".to_owned(), said.into());
            }
            _ => {
                let role = format!("{path}.role");
                return wrong(&role, "must be `user`, `assistant`, `system` or `developer`");
            }
        }
        Ok(())
    }

    fn call(&mut self, item: &Value, path: &str) -> Result<(), ApiError> {
        let text = |name: &str| item[name].as_str();
        let (Some(id), Some(name), Some(arguments)) =
            (text("call_id"), text("name"), text("arguments"))
        else {
            return wrong(path, "needs `call_id`, `name` and `arguments`");
        };
        let function = json!({"name": name, "arguments": arguments});
        let call = json!({"id": id, "type": "function", "function": function});
        let message = self.assistant();
        match message.get_mut("tool_calls") {
            Some(Value::Array(calls)) => calls.push(call),
            _ => drop(message.insert("tool_calls".to_owned(), json!([call]))),
        }
        Ok(())
    }

    fn output(&mut self, item: &Value, path: &str) -> Result<(), ApiError> {
        let Some(id) = item["call_id"].as_str() else {
            return wrong(&format!("{path}.call_id"), "is missing; name the call that it answers");
        };
        let content = plain(parts(&item["output"], &format!("{path}.output"))?);
        self.push("tool", content);
        if let Some(last) = self.messages.last_mut() {
            last.insert("tool_call_id".to_owned(), id.into());
        }
        Ok(())
    }

    fn reasoning(&mut self, item: &Value) {
        let texts = [&item["content"], &item["summary"]].into_iter().filter_map(Value::as_array);
        let Some(texts) = texts.into_iter().find(|texts| !texts.is_empty()) else { return };
        self.thoughts = Some(join(texts));
    }

    /// The message in which the assistant goes on.
    fn assistant(&mut self) -> &mut Map<String, Value> {
        let thoughts = self.thoughts.take();
        let goes_on = self.messages.last().is_some_and(|last| last["role"] == "assistant");
        if !goes_on || thoughts.is_some() {
            self.push("assistant", Value::Null);
        }
        let at = self.messages.len() - 1;
        let message = &mut self.messages[at];
        if let Some(thoughts) = thoughts {
            message.insert("reasoning_content".to_owned(), thoughts.into());
        }
        message
    }

    fn push(&mut self, role: &str, content: Value) {
        let mut message = Map::new();
        message.insert("role".to_owned(), role.into());
        message.insert("content".to_owned(), content);
        self.messages.push(message);
    }
}

/// A content as parts of a chat message.
fn parts(content: &Value, path: &str) -> Result<Vec<Value>, ApiError> {
    match content {
        Value::String(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Value::Array(parts) => {
            (0..).zip(parts).map(|(at, one)| part(one, &format!("{path}[{at}]"))).collect()
        }
        _ => wrong(path, "must be a string or a list of parts"),
    }
}

fn part(part: &Value, path: &str) -> Result<Value, ApiError> {
    let file_id = format!("{path}.file_id");
    match part["type"].as_str() {
        Some("input_text" | "output_text" | "text" | "summary_text" | "reasoning_text") => {
            Ok(json!({"type": "text", "text": part["text"]}))
        }
        Some("refusal") => Ok(json!({"type": "text", "text": part["refusal"]})),
        Some("input_image") => match &part["image_url"] {
            Value::String(url) => {
                let mut image = json!({"url": url});
                if !part["detail"].is_null() {
                    image["detail"] = part["detail"].clone();
                }
                Ok(json!({"type": "image_url", "image_url": image}))
            }
            _ => wrong(&file_id, "is not supported: there is no store of files; send `image_url`"),
        },
        Some("input_file") => match &part["file_data"] {
            Value::String(data) => {
                let name = part["filename"].as_str().unwrap_or("file");
                Ok(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
            }
            _ => wrong(&file_id, "and `file_url` are not supported; send `file_data`"),
        },
        Some("input_audio") => {
            Ok(json!({"type": "input_audio", "input_audio": part["input_audio"]}))
        }
        _ => wrong(&format!("{path}.type"), "is a kind of part that is not supported here"),
    }
}

/// Texts alone are written as one text; templates of models that only read text know nothing else.
fn plain(parts: Vec<Value>) -> Value {
    if parts.iter().all(|part| part["type"] == "text") { join(&parts).into() } else { parts.into() }
}

fn join(texts: &[Value]) -> String {
    let texts: Vec<&str> = texts.iter().filter_map(|part| part["text"].as_str()).collect();
    texts.join(BETWEEN)
}
