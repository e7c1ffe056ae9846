//! What a request for work asks for, as far as a scripted engine cares.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::request::Target;
use super::text;

/// Choices of one request, at most.
const CHOICES_MAX: u32 = 16;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) model: String,
    /// The rendered prompt.
    pub(super) prompt: Vec<u32>,
    /// As the request says; none where it says nothing.
    pub(super) output_max: Option<u32>,
    pub(super) choices: u32,
    pub(super) usage: bool,
    pub(super) token_ids: bool,
    /// Inputs of an embedding, documents of a reranking.
    pub(super) inputs: usize,
}

/// The fields that are read.
#[derive(Debug, Default, Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    prompt: Option<Value>,
    input: Option<Value>,
    query: Option<String>,
    documents: Option<Vec<Value>>,
    tools: Option<&'a RawValue>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    stream_options: Option<StreamOptions>,
    return_token_ids: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: Option<String>,
    content: Option<Value>,
}

impl Ask {
    /// Reads a body. One that was thrown away asks for nothing in particular.
    pub(super) fn read(target: Target, body: &[u8]) -> Result<Self, serde_json::Error> {
        let read: Body<'_> =
            if body.is_empty() { Body::default() } else { serde_json::from_slice(body)? };
        let mut inputs = 0;
        let prompt = match target {
            Target::Chat => text::tokens(chat(&read)?.as_bytes()),
            Target::Completions => read.prompt.as_ref().map(prompt).unwrap_or_default(),
            Target::Embeddings => {
                let input = read.input.as_ref();
                inputs = match input {
                    Some(Value::Array(all)) if !all.iter().all(Value::is_number) => all.len(),
                    _ => 1,
                };
                input.map(prompt).unwrap_or_default()
            }
            _ => {
                let documents = read.documents.as_deref().unwrap_or_default();
                inputs = documents.len();
                let mut all = read.query.clone().unwrap_or_default();
                documents.iter().for_each(|document| put_text(&mut all, document));
                text::tokens(all.as_bytes())
            }
        };
        Ok(Self {
            model: read.model.unwrap_or_default(),
            prompt,
            output_max: read.max_completion_tokens.or(read.max_tokens),
            choices: read.n.unwrap_or(1).clamp(1, CHOICES_MAX),
            usage: read.stream_options.and_then(|options| options.include_usage) == Some(true),
            token_ids: read.return_token_ids == Some(true),
            inputs,
        })
    }
}

/// A chat as the engine reads it: short marks, so that prompts that differ do so early.
fn chat(body: &Body<'_>) -> Result<String, serde_json::Error> {
    let messages: Vec<Message> = match body.messages {
        Some(raw) => serde_json::from_str(raw.get())?,
        None => Vec::new(),
    };
    let mut text = String::new();
    if let Some(tools) = body.tools {
        text.push_str(tools.get());
    }
    for message in &messages {
        text.push_str(message.role.as_deref().and_then(|role| role.get(..1)).unwrap_or("?"));
        text.push(':');
        if let Some(content) = &message.content {
            put_text(&mut text, content);
        }
        text.push('\n');
    }
    Ok(text)
}

/// A prompt of text or tokens.
fn prompt(value: &Value) -> Vec<u32> {
    match value {
        Value::Array(all) if all.iter().all(Value::is_number) => {
            let token =
                |id: &Value| u32::try_from(id.as_u64().unwrap_or_default()).unwrap_or_default();
            all.iter().map(token).collect()
        }
        other => {
            let mut text = String::new();
            put_text(&mut text, other);
            text::tokens(text.as_bytes())
        }
    }
}

/// All the text in a content, one part after the other.
fn put_text(text: &mut String, value: &Value) {
    match value {
        Value::String(part) => text.push_str(part),
        Value::Array(parts) => parts.iter().for_each(|part| put_text(text, part)),
        Value::Object(fields) => {
            if let Some(part) = fields.get("text") {
                put_text(text, part);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: Target, body: &str, prompt: &str) -> Ask {
        let ask = Ask::read(target, body.as_bytes()).unwrap();
        assert_eq!(ask.prompt, text::tokens(prompt.as_bytes()), "{body}");
        ask
    }

    #[test]
    fn reads_what_matters() {
        let chat = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]},{"role":"assistant","content":"b"}],"n":2,"max_tokens":5,"stream_options":{"include_usage":true}}"#;
        let ask = check(Target::Chat, chat, "u:a\na:b\n");
        assert_eq!((ask.choices, ask.output_max, ask.usage), (2, Some(5), true));
        check(Target::Completions, r#"{"prompt":"abcd"}"#, "abcd");
        check(Target::Completions, r#"{"prompt":[1684234849]}"#, "abcd");
        assert_eq!(check(Target::Embeddings, r#"{"input":["ab","cd"]}"#, "abcd").inputs, 2);
        assert_eq!(
            check(Target::Rerank, r#"{"query":"a","documents":["b",{"text":"c"}]}"#, "abc").inputs,
            2
        );
        check(Target::Chat, "", "");
        assert!(Ask::read(Target::Chat, b"{").is_err());
    }
}
