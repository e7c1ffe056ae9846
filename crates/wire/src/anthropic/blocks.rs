//! Content blocks of the Messages API as messages of a chat: one turn with results of tools becomes
//! several messages, for chat gives each result its own.

use serde_json::{Map, Value, json};

use super::request::given;
use crate::openai::error::ApiError;
use crate::openai::params::wrong;

/// Between texts that come as blocks of their own and leave as one text.
const BETWEEN: &str = "\n\n";

/// All messages of a request, the system's first.
pub(super) fn messages(body: &Map<String, Value>) -> Result<Vec<Value>, ApiError> {
    let mut out = Vec::new();
    if let Some(system) = given(body, "system") {
        let text = only_text(system, "system")?;
        if !text.is_empty() {
            out.push(json!({"role": "system", "content": text}));
        }
    }
    let list = match given(body, "messages") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(Value::Array(_)) => return wrong("messages", "is empty"),
        Some(_) => return wrong("messages", "must be a list"),
        None => return wrong("messages", "is missing; send the conversation"),
    };
    for (at, message) in list.iter().enumerate() {
        let path = format!("messages[{at}].content");
        let content = &message["content"];
        match message["role"].as_str() {
            Some("user") => user(content, &path, &mut out)?,
            Some("assistant") => out.push(assistant(content, &path)?),
            Some("system") => {
                out.push(json!({"role": "system", "content": only_text(content, &path)?}));
            }
            _ => {
                let role = format!("messages[{at}].role");
                return wrong(&role, "must be `user`, `assistant` or `system`");
            }
        }
    }
    if list.last().is_some_and(|last| last["role"] == "assistant") {
        return wrong(
            &format!("messages[{}].role", list.len() - 1),
            "is `assistant` in the last message; answers that the client begins are not supported, \
             so end with a message of the user",
        );
    }
    Ok(out)
}

/// A user's turn: results of tools come first, each a message, then what the user says.
fn user(content: &Value, path: &str, out: &mut Vec<Value>) -> Result<(), ApiError> {
    let mut parts = Vec::new();
    for (at, block) in blocks(content, path)?.iter().enumerate() {
        let path = format!("{path}[{at}]");
        if block["type"] == "tool_result" {
            out.push(result(block, &path)?);
        } else {
            parts.push(part(block, &path)?);
        }
    }
    if !parts.is_empty() {
        out.push(json!({"role": "user", "content": said(parts)}));
    }
    Ok(())
}

fn result(block: &Value, path: &str) -> Result<Value, ApiError> {
    let Some(id) = block["tool_use_id"].as_str() else {
        return wrong(&format!("{path}.tool_use_id"), "is missing; name the call that it answers");
    };
    let path = format!("{path}.content");
    let parts = match &block["content"] {
        Value::Null => Vec::new(),
        content => {
            let blocks = blocks(content, &path)?;
            let each = (0..).zip(&blocks);
            each.map(|(at, block): (usize, _)| part(block, &format!("{path}[{at}]")))
                .collect::<Result<Vec<_>, _>>()?
        }
    };
    let only_text = parts.iter().all(|part| part["type"] == "text");
    let content = if only_text { join(&parts).into() } else { Value::Array(parts) };
    Ok(json!({"role": "tool", "tool_call_id": id, "content": content}))
}

fn assistant(content: &Value, path: &str) -> Result<Value, ApiError> {
    let (mut texts, mut calls, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    for (at, block) in blocks(content, path)?.iter().enumerate() {
        let path = format!("{path}[{at}]");
        match block["type"].as_str() {
            Some("text") => texts.push(part(block, &path)?),
            Some("thinking") => thoughts.push(json!({"text": block["thinking"]})),
            // Encrypted by Anthropic for Anthropic: nobody here can read it.
            Some("redacted_thinking") => {}
            Some("tool_use") => calls.push(call(block, &path)?),
            _ => return unknown(&path),
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let silent = texts.is_empty() && !calls.is_empty();
    let content = if silent { Value::Null } else { join(&texts).into() };
    message.insert("content".to_owned(), content);
    if !thoughts.is_empty() {
        message.insert("reasoning_content".to_owned(), join(&thoughts).into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    Ok(Value::Object(message))
}

fn call(block: &Value, path: &str) -> Result<Value, ApiError> {
    let (Some(id), Some(name)) = (block["id"].as_str(), block["name"].as_str()) else {
        return wrong(path, "is a call without its `id` or `name`");
    };
    let arguments = if block["input"].is_null() { "{}".into() } else { block["input"].to_string() };
    let function = json!({"name": name, "arguments": arguments});
    Ok(json!({"id": id, "type": "function", "function": function}))
}

/// A text, an image or a document as a part of a chat message.
fn part(block: &Value, path: &str) -> Result<Value, ApiError> {
    match block["type"].as_str() {
        Some("text") => match block["text"].as_str() {
            Some(text) => Ok(json!({"type": "text", "text": text})),
            None => wrong(&format!("{path}.text"), "must be a string"),
        },
        Some("image") => {
            let url = source(&block["source"], &format!("{path}.source"))?;
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        Some("document") => document(block, path),
        Some("search_result") => {
            let text = only_text(&block["content"], &format!("{path}.content"))?;
            let title = block["title"].as_str().unwrap_or_default();
            let source = block["source"].as_str().unwrap_or_default();
            Ok(json!({"type": "text", "text": format!("{title}\n{source}\n{text}")}))
        }
        _ => unknown(path),
    }
}

fn document(block: &Value, path: &str) -> Result<Value, ApiError> {
    let (source, path) = (&block["source"], format!("{path}.source"));
    let title = block["title"].as_str();
    let text = match source["type"].as_str() {
        Some("text") => source["data"].as_str().unwrap_or_default().to_owned(),
        Some("content") => only_text(&source["content"], &format!("{path}.content"))?,
        Some("base64") => {
            let url = self::source(source, &path)?;
            let name = title.unwrap_or("document.pdf");
            return Ok(json!({"type": "file", "file": {"filename": name, "file_data": url}}));
        }
        _ => return wrong(&format!("{path}.type"), "must be `text`, `content` or `base64`"),
    };
    let title = title.map(|title| format!("{title}\n")).unwrap_or_default();
    Ok(json!({"type": "text", "text": format!("{title}{text}")}))
}

/// Where an image or a document comes from, as a URL.
fn source(source: &Value, path: &str) -> Result<String, ApiError> {
    match source["type"].as_str() {
        Some("base64") => match (source["media_type"].as_str(), source["data"].as_str()) {
            (Some(kind), Some(data)) => Ok(format!("data:{kind};base64,{data}")),
            _ => wrong(path, "needs `media_type` and `data`"),
        },
        Some("url") => match source["url"].as_str() {
            Some(url) => Ok(url.to_owned()),
            None => wrong(&format!("{path}.url"), "must be a string"),
        },
        _ => {
            wrong(&format!("{path}.type"), "must be `base64` or `url`; there is no store of files")
        }
    }
}

fn unknown<T>(path: &str) -> Result<T, ApiError> {
    wrong(&format!("{path}.type"), "is a kind of block that is not supported here")
}

/// The blocks of a content, which may be a plain text.
fn blocks(content: &Value, path: &str) -> Result<Vec<Value>, ApiError> {
    match content {
        Value::String(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Value::Array(blocks) => Ok(blocks.clone()),
        _ => wrong(path, "must be a string or a list of blocks"),
    }
}

fn only_text(content: &Value, path: &str) -> Result<String, ApiError> {
    let blocks = blocks(content, path)?;
    if let Some(at) = blocks.iter().position(|block| block["type"] != "text") {
        return wrong(&format!("{path}[{at}].type"), "must be `text`");
    }
    Ok(join(&blocks))
}

fn join(texts: &[Value]) -> String {
    let texts: Vec<&str> = texts.iter().filter_map(|part| part["text"].as_str()).collect();
    texts.join(BETWEEN)
}

/// One text is written as such; templates of models that only read text know nothing else.
fn said(mut parts: Vec<Value>) -> Value {
    if parts.iter().all(|part| part["type"] == "text") {
        return join(&parts).into();
    }
    parts.shrink_to_fit();
    Value::Array(parts)
}
