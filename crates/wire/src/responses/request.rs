//! A Responses request as a chat request.

use serde_json::{Map, Value, json};

use super::items::{self, Conversation};
use crate::openai::error::ApiError;
use crate::openai::params::wrong;
use crate::openai::read;

/// A request, understood as far as its members go by themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub(super) body: Map<String, Value>,
    /// The model's name, as the client wrote it.
    pub model: String,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Whether the response is to be kept; it is when nothing is said.
    pub store: bool,
    /// The response that it goes on from.
    pub previous: Option<String>,
    /// What is new in this request: its input as a list of items.
    pub input: Vec<Value>,
}

/// Members that would change the answer, and cannot be done here.
const UNSUPPORTED: [&str; 6] = [
    "background_options",
    "context_management",
    "conversation",
    "moderation",
    "multi_agent",
    "prompt",
];

/// Members that mean the same in both APIs, and how to sample as vLLM has it.
const SAME: [&str; 15] = [
    "model",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "logit_bias",
    "ignore_eos",
    "chat_template_kwargs",
    "parallel_tool_calls",
    "user",
];

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// Status 400, naming the member that is wrong, or that is not supported.
    pub fn read(body: &[u8]) -> Result<Self, ApiError> {
        let body: Map<String, Value> = read(body)?;
        for name in UNSUPPORTED {
            if given(&body, name).is_some() {
                return wrong(name, "is not supported here; leave it out");
            }
        }
        if given(&body, "background").is_some_and(|background| *background != false) {
            return wrong("background", "is not supported here; ask for a stream instead");
        }
        if given(&body, "truncation").is_some_and(|truncation| truncation != "disabled") {
            return wrong(
                "truncation",
                "must be `disabled`: nothing is left out of a conversation",
            );
        }
        let model = match given(&body, "model") {
            Some(Value::String(model)) => model.clone(),
            Some(_) => return wrong("model", "must be a string"),
            None => return wrong("model", "is missing; name the model to use"),
        };
        let previous = match given(&body, "previous_response_id") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return wrong("previous_response_id", "must be a string"),
        };
        let input = items::listed(given(&body, "input"), previous.is_some())?;
        let stream = flag(&body, "stream")?.unwrap_or(false);
        let store = flag(&body, "store")?.unwrap_or(true);
        Ok(Self { model, stream, store, previous, input, body })
    }

    /// The chat request; `history` holds the items of the response that it goes on from, oldest
    /// first.
    ///
    /// # Errors
    /// Status 400, naming the member that is wrong, or that is not supported.
    pub fn chat<'a>(
        &self,
        history: impl IntoIterator<Item = &'a Value>,
    ) -> Result<Vec<u8>, ApiError> {
        let mut chat = Map::new();
        for name in SAME {
            if let Some(value) = given(&self.body, name) {
                chat.insert(name.to_owned(), value.clone());
            }
        }
        let mut conversation = Conversation::default();
        match given(&self.body, "instructions") {
            None => {}
            Some(Value::String(instructions)) => conversation.system(instructions),
            Some(_) => return wrong("instructions", "must be a string"),
        }
        for item in history {
            conversation.add(item, "previous_response_id")?;
        }
        for (at, item) in self.input.iter().enumerate() {
            conversation.add(item, &format!("input[{at}]"))?;
        }
        chat.insert("messages".to_owned(), conversation.messages().into());
        if let Some(most) = given(&self.body, "max_output_tokens") {
            if most.as_u64().is_none_or(|most| most == 0) {
                return wrong("max_output_tokens", "must be a whole number of at least 1");
            }
            chat.insert("max_tokens".to_owned(), most.clone());
        }
        self.tools(&mut chat)?;
        self.format(&mut chat)?;
        self.logprobs(&mut chat);
        if let Some(effort) = given(&self.body, "reasoning").and_then(|all| all["effort"].as_str())
        {
            chat.insert("reasoning_effort".to_owned(), effort.into());
        }
        if self.stream {
            chat.insert("stream".to_owned(), true.into());
            chat.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        Ok(Value::Object(chat).to_string().into_bytes())
    }

    fn tools(&self, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
        let tools = match given(&self.body, "tools") {
            None => Vec::new(),
            Some(Value::Array(tools)) => {
                (0..).zip(tools).map(|(at, tool)| function(at, tool)).collect::<Result<_, _>>()?
            }
            Some(_) => return wrong("tools", "must be a list"),
        };
        if !tools.is_empty() {
            chat.insert("tools".to_owned(), Value::Array(tools));
        }
        let choice = match given(&self.body, "tool_choice") {
            None => return Ok(()),
            Some(Value::String(mode)) => json!(mode),
            Some(choice) => match (choice["type"].as_str(), choice["name"].as_str()) {
                (Some("function"), Some(name)) => {
                    json!({"type": "function", "function": {"name": name}})
                }
                _ => {
                    return wrong(
                        "tool_choice",
                        "must be `none`, `auto`, `required` or name a function; other kinds are not \
                         supported here",
                    );
                }
            },
        };
        chat.insert("tool_choice".to_owned(), choice);
        Ok(())
    }

    fn format(&self, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
        let format = given(&self.body, "text").map_or(&Value::Null, |text| &text["format"]);
        let format = match (format, format["type"].as_str()) {
            (Value::Null, _) | (_, Some("text")) => return Ok(()),
            (_, Some("json_object")) => json!({"type": "json_object"}),
            (Value::Object(format), Some("json_schema")) => {
                let mut schema = format.clone();
                schema.shift_remove("type");
                json!({"type": "json_schema", "json_schema": schema})
            }
            _ => {
                return wrong("text.format.type", "must be `text`, `json_object` or `json_schema`");
            }
        };
        chat.insert("response_format".to_owned(), format);
        Ok(())
    }

    fn logprobs(&self, chat: &mut Map<String, Value>) {
        let include = given(&self.body, "include").and_then(Value::as_array);
        let asked =
            include.is_some_and(|all| all.iter().any(|one| one == "message.output_text.logprobs"));
        let top = given(&self.body, "top_logprobs").filter(|top| **top != 0);
        if asked || top.is_some() {
            chat.insert("logprobs".to_owned(), true.into());
        }
        if let Some(top) = top {
            chat.insert("top_logprobs".to_owned(), top.clone());
        }
    }
}

fn function(at: usize, tool: &Value) -> Result<Value, ApiError> {
    if tool["type"] != "function" {
        let message = "is a tool that runs on the server; only functions of the client's own are \
                       supported here";
        return wrong(&format!("tools[{at}].type"), message);
    }
    let Value::Object(tool) = tool else {
        return wrong(&format!("tools[{at}]"), "must be an object");
    };
    let mut function = tool.clone();
    function.retain(|name, value| {
        matches!(name.as_str(), "name" | "description" | "parameters" | "strict")
            && !value.is_null()
    });
    if !function.get("name").is_some_and(Value::is_string) {
        return wrong(&format!("tools[{at}].name"), "is missing; give the function a name");
    }
    Ok(json!({"type": "function", "function": function}))
}

fn flag(body: &Map<String, Value>, name: &str) -> Result<Option<bool>, ApiError> {
    match given(body, name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => wrong(name, "must be true or false"),
    }
}

pub(super) fn given<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}
