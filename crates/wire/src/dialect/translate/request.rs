//! What a request asks for, as far as servers with another API can be told.

use serde_json::{Map, Value};

use super::Own;
use crate::openai::error::ApiError;

/// Most stop texts of a request, as OpenAI's API has it.
const STOPS_MAX: usize = 4;

/// A request of OpenAI's API.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The model, by the name that the server knows it by.
    pub model: String,
    /// What to answer.
    pub prompt: Prompt,
    /// Most tokens of the answer.
    pub tokens_max: Option<u64>,
    /// How much is left to chance.
    pub temperature: Option<f64>,
    /// The part of the most likely tokens that are drawn from.
    pub top_p: Option<f64>,
    /// What makes chance repeatable.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Whether tokens are less likely the more often they came.
    pub frequency_penalty: Option<f64>,
    /// Whether tokens are less likely when they came.
    pub presence_penalty: Option<f64>,
    /// What shape the answer has: `json`, or a schema.
    pub format: Option<Value>,
    /// Whether the answer comes piece by piece.
    pub stream: bool,
    /// Whether the stream tells how many tokens there were.
    pub usage: bool,
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A text to go on with.
    Text(String),
    /// A conversation.
    Chat(Vec<Message>),
}

/// What somebody said.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who.
    pub role: String,
    /// What.
    pub text: String,
    /// Images, in base64.
    pub images: Vec<String>,
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Request {
    /// Reads a request for that server.
    pub(super) fn read(own: Own, is_chat: bool, body: &[u8]) -> Result<Self, ApiError> {
        let not_json =
            |error| ApiError::invalid_request(format!("the body is not valid JSON: {error}"));
        let body: Map<String, Value> = serde_json::from_slice(body).map_err(not_json)?;
        refuse(own, &body)?;
        let number = |member: &str| body.get(member).and_then(Value::as_f64);
        let tokens = |member: &str| body.get(member).and_then(Value::as_u64);
        let options = body.get("stream_options").and_then(|options| options.get("include_usage"));
        Ok(Self {
            model: text(&body, "model").to_owned(),
            prompt: if is_chat { chat(own, &body)? } else { prompt(own, &body)? },
            tokens_max: tokens("max_completion_tokens").or_else(|| tokens("max_tokens")),
            temperature: number("temperature"),
            top_p: number("top_p"),
            seed: body.get("seed").and_then(Value::as_i64),
            stop: stop(&body)?,
            frequency_penalty: number("frequency_penalty").filter(|penalty| *penalty != 0.0),
            presence_penalty: number("presence_penalty").filter(|penalty| *penalty != 0.0),
            format: format(own, &body)?,
            stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            usage: options.and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// What is said about sampling, by OpenAI's names but for that of the most tokens.
    pub(super) fn sampling(&self, tokens_max: &str) -> Map<String, Value> {
        let said = [
            (tokens_max, self.tokens_max.map(Value::from)),
            ("temperature", self.temperature.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            ("frequency_penalty", self.frequency_penalty.map(Value::from)),
            ("presence_penalty", self.presence_penalty.map(Value::from)),
            ("stop", (!self.stop.is_empty()).then(|| Value::from(self.stop.clone()))),
        ];
        let known = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        known.collect()
    }

    /// Whether it is a conversation.
    pub(super) const fn is_chat(&self) -> bool {
        matches!(self.prompt, Prompt::Chat(_))
    }
}

/// Sampling parameters beyond OpenAI's, and their values that change nothing.
const SAMPLING: [(&str, &[f64]); 6] = [
    ("top_k", &[-1.0, 0.0]),
    ("min_p", &[0.0]),
    ("typical_p", &[1.0]),
    ("repetition_penalty", &[1.0]),
    ("min_tokens", &[0.0]),
    ("length_penalty", &[1.0]),
];

/// Refuses what none of these servers can be told.
fn refuse(own: Own, body: &Map<String, Value>) -> Result<(), ApiError> {
    let is_asked = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    const NEVER: [&str; 21] = [
        "tools",
        "functions",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "echo",
        "suffix",
        "audio",
        "continue_final_message",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "guided_decoding_backend",
        "structured_outputs",
        "grammar",
        "json_schema",
        "stop_token_ids",
        "prompt_logprobs",
        "ignore_eos",
        "logits_processors",
    ];
    if let Some(member) = NEVER.into_iter().find(|member| body.get(*member).is_some_and(is_asked)) {
        return Err(own.refuse(member));
    }
    let is_set = |(member, neutral): &&(&str, &[f64])| {
        body.get(*member).and_then(Value::as_f64).is_some_and(|value| !neutral.contains(&value))
    };
    if let Some((member, _)) = SAMPLING.iter().find(is_set) {
        return Err(own.refuse(member));
    }
    let is_several =
        |member: &&str| body.get(*member).and_then(Value::as_u64).is_some_and(|n| n > 1);
    ["n", "best_of"]
        .iter()
        .find(|member| is_several(member))
        .map_or(Ok(()), |one| Err(own.refuse(one)))
}

fn text<'a>(body: &'a Map<String, Value>, member: &str) -> &'a str {
    body.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn prompt(own: Own, body: &Map<String, Value>) -> Result<Prompt, ApiError> {
    match body.get("prompt") {
        Some(Value::String(text)) => Ok(Prompt::Text(text.clone())),
        Some(Value::Array(all)) => match all.as_slice() {
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            _ => Err(own.refuse("prompt")),
        },
        _ => Err(ApiError::invalid_request("`prompt` is missing").with_param("prompt")),
    }
}

fn chat(own: Own, body: &Map<String, Value>) -> Result<Prompt, ApiError> {
    // What applies no template would answer something that nobody asked.
    if own != Own::Ollama {
        let message = format!(
            "{} takes prompts, not chats: it applies no template; ask at `/v1/completions`, or another model",
            own.title()
        );
        return Err(ApiError::invalid_request(message)
            .with_param("messages")
            .with_code(super::UNSUPPORTED));
    }
    let Some(messages) = body.get("messages").and_then(Value::as_array) else {
        return Err(ApiError::invalid_request("`messages` is missing").with_param("messages"));
    };
    messages.iter().map(|message| said(own, message)).collect::<Result<_, _>>().map(Prompt::Chat)
}

fn said(own: Own, message: &Value) -> Result<Message, ApiError> {
    let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
    if message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
        || role == "tool"
    {
        return Err(own.refuse("messages[].tool_calls"));
    }
    let mut said = Message { role: role.to_owned(), text: String::new(), images: Vec::new() };
    match message.get("content") {
        Some(Value::String(text)) => said.text.clone_from(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                add(own, part, &mut said)?;
            }
        }
        _ => {}
    }
    Ok(said)
}

fn add(own: Own, part: &Value, said: &mut Message) -> Result<(), ApiError> {
    let text = part.get("text").and_then(Value::as_str);
    let image = part.get("image_url").map(|image| image.get("url").unwrap_or(image));
    match (text, image.and_then(Value::as_str)) {
        (Some(text), _) => {
            if !said.text.is_empty() {
                said.text.push('\n');
            }
            said.text.push_str(text);
        }
        (None, Some(url)) => {
            let data = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
            let Some((_, data)) = data else { return Err(own.refuse("image_url.url")) };
            said.images.push(data.to_owned());
        }
        (None, None) => return Err(own.refuse("messages[].content[]")),
    }
    Ok(())
}

fn stop(body: &Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let wrong = || {
        let message = format!("`stop` takes a text, or a list of 1 to {STOPS_MAX}");
        ApiError::invalid_request(message).with_param("stop")
    };
    match body.get("stop") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(all)) if all.len() <= STOPS_MAX => {
            all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn format(own: Own, body: &Map<String, Value>) -> Result<Option<Value>, ApiError> {
    let Some(format) = body.get("response_format").filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    let kind = format.get("type").and_then(Value::as_str).unwrap_or_default();
    let schema = format.get("json_schema").and_then(|named| named.get("schema"));
    match (kind, own) {
        ("text", _) => Ok(None),
        ("json_object", Own::Ollama) => Ok(Some("json".into())),
        ("json_schema", Own::Ollama) if schema.is_some() => Ok(schema.cloned()),
        _ => Err(own.refuse("response_format")),
    }
}
