//! A Messages request as a chat request.

use serde_json::{Map, Value, json};

use super::blocks;
use crate::openai::error::ApiError;
use crate::openai::params::wrong;
use crate::openai::read;

/// A request, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The chat request.
    pub chat: Vec<u8>,
    /// The model's name, as the client wrote it.
    pub model: String,
    /// Whether the answer is a stream.
    pub stream: bool,
}

/// Members that would change the answer, and cannot be done here.
const UNSUPPORTED: [&str; 2] = ["container", "mcp_servers"];

/// Members that mean the same in both APIs.
const SAME: [&str; 4] = ["model", "temperature", "top_p", "top_k"];

/// Reads a request for a message.
///
/// # Errors
/// Status 400, naming the member that is wrong, or that is not supported.
pub fn to_chat(body: &[u8]) -> Result<Asked, ApiError> {
    let body: Map<String, Value> = read(body)?;
    let mut chat = conversation(&body)?;
    let Some(most) = given(&body, "max_tokens") else {
        return wrong("max_tokens", "is missing; say how long the answer may be");
    };
    if most.as_u64().is_none_or(|most| most == 0) {
        return wrong("max_tokens", "must be a whole number of at least 1");
    }
    chat.insert("max_tokens".to_owned(), most.clone());
    if let Some(stops) = given(&body, "stop_sequences") {
        chat.insert("stop".to_owned(), stops.clone());
    }
    if let Some(user) = given(&body, "metadata").and_then(|metadata| metadata["user_id"].as_str()) {
        chat.insert("user".to_owned(), user.into());
    }
    tool_choice(&body, &mut chat)?;
    thinking(&body, &mut chat)?;
    output(&body, &mut chat)?;
    let stream = match given(&body, "stream") {
        None => false,
        Some(Value::Bool(stream)) => *stream,
        Some(_) => return wrong("stream", "must be true or false"),
    };
    if stream {
        chat.insert("stream".to_owned(), true.into());
        chat.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    let model = chat["model"].as_str().unwrap_or_default().to_owned();
    Ok(Asked { chat: Value::Object(chat).to_string().into_bytes(), model, stream })
}

/// Reads a request for a count of tokens, as the request that `/tokenize` takes.
///
/// # Errors
/// As of [`to_chat`].
pub fn to_count(body: &[u8]) -> Result<Asked, ApiError> {
    let body: Map<String, Value> = read(body)?;
    let mut chat = conversation(&body)?;
    chat.retain(|name, _| matches!(name.as_str(), "model" | "messages" | "tools"));
    let model = chat["model"].as_str().unwrap_or_default().to_owned();
    Ok(Asked { chat: Value::Object(chat).to_string().into_bytes(), model, stream: false })
}

/// Model, messages, tools and what is the same in both APIs.
fn conversation(body: &Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    for name in UNSUPPORTED {
        if given(body, name).is_some() {
            return wrong(name, "is not supported here; leave it out");
        }
    }
    match given(body, "model") {
        Some(Value::String(_)) => {}
        Some(_) => return wrong("model", "must be a string"),
        None => return wrong("model", "is missing; name the model to use"),
    }
    let mut chat = Map::new();
    for name in SAME {
        if let Some(value) = given(body, name) {
            chat.insert(name.to_owned(), value.clone());
        }
    }
    chat.insert("messages".to_owned(), blocks::messages(body)?.into());
    let tools = match given(body, "tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) => {
            (0..).zip(tools).map(|(at, tool)| function(at, tool)).collect::<Result<_, _>>()?
        }
        Some(_) => return wrong("tools", "must be a list"),
    };
    if !tools.is_empty() {
        chat.insert("tools".to_owned(), Value::Array(tools));
    }
    Ok(chat)
}

fn function(at: usize, tool: &Value) -> Result<Value, ApiError> {
    let kind = tool["type"].as_str().unwrap_or("custom");
    if kind != "custom" {
        let message = "names a tool that runs at Anthropic; only tools of the client's own \
                       (with `input_schema`) are supported";
        return wrong(&format!("tools[{at}].type"), message);
    }
    let Some(name) = tool["name"].as_str() else {
        return wrong(&format!("tools[{at}].name"), "is missing; give the tool a name");
    };
    if !tool["input_schema"].is_object() {
        return wrong(&format!("tools[{at}].input_schema"), "must be a JSON schema");
    }
    let mut function = Map::new();
    function.insert("name".to_owned(), name.into());
    for (from, to) in
        [("description", "description"), ("input_schema", "parameters"), ("strict", "strict")]
    {
        if let Some(value) = tool.get(from).filter(|value| !value.is_null()) {
            function.insert(to.to_owned(), value.clone());
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

fn tool_choice(body: &Map<String, Value>, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(choice) = given(body, "tool_choice") else { return Ok(()) };
    let said = match choice["type"].as_str() {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => match choice["name"].as_str() {
            Some(name) => json!({"type": "function", "function": {"name": name}}),
            None => return wrong("tool_choice.name", "is missing; name the tool"),
        },
        _ => return wrong("tool_choice.type", "must be `auto`, `any`, `tool` or `none`"),
    };
    chat.insert("tool_choice".to_owned(), said);
    if choice["disable_parallel_tool_use"] == true {
        chat.insert("parallel_tool_calls".to_owned(), false.into());
    }
    Ok(())
}

/// Whether the model thinks before it answers: templates of models that can know a switch for it.
fn thinking(body: &Map<String, Value>, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(thinking) = given(body, "thinking") else { return Ok(()) };
    let on = match thinking["type"].as_str() {
        Some("enabled" | "adaptive" | "between_tools") => true,
        Some("disabled") => false,
        _ => return wrong("thinking.type", "must be `enabled`, `adaptive` or `disabled`"),
    };
    chat.insert("chat_template_kwargs".to_owned(), json!({"enable_thinking": on}));
    Ok(())
}

fn output(body: &Map<String, Value>, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(output) = given(body, "output_config") else { return Ok(()) };
    match output["effort"].as_str() {
        Some("xhigh" | "max") => drop(chat.insert("reasoning_effort".to_owned(), "high".into())),
        Some(effort) => drop(chat.insert("reasoning_effort".to_owned(), effort.into())),
        None => {}
    }
    let format = &output["format"];
    if format.is_null() {
        return Ok(());
    }
    if format["type"] != "json_schema" || !format["schema"].is_object() {
        return wrong("output_config.format", "must be of type `json_schema` and have a `schema`");
    }
    let schema = json!({"name": "answer", "strict": true, "schema": format["schema"]});
    let format = json!({"type": "json_schema", "json_schema": schema});
    chat.insert("response_format".to_owned(), format);
    Ok(())
}

pub(super) fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}
