//! Chat templates: a conversation becomes the text that the model was trained on, rendered from
//! the Jinja template in the weights file as Hugging Face's `transformers` renders it.
//!
//! What people say is kept apart from what the template says: the text of a control token inside a
//! message stays text, so that nobody can open a turn of the system's by writing its token.

mod date;
mod json;

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};
use pilotage_wire::openai::chat::{ChatRequest, Content, Message, Role, Tool};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::wrong;
use serde_json::{Map, Value, json};

use crate::backend::{ModelFacts, Vocabulary};
use crate::job::Token;

/// Work units of minijinja for one rendering: far more than any template needs for a conversation
/// that fits a body, and an end to one that does not stop.
const FUEL: u64 = 20_000_000;

/// Used when the weights file has none: the template that most small models share.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Where control tokens' texts in messages hide while the template is rendered: Unicode's private
/// use area.
const HIDDEN: u32 = 0xe000;

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Texts of the control tokens.
    controls: Vec<String>,
    /// Whether the template itself says what tools there are.
    knows_tools: bool,
}

impl Template {
    /// The template of a model.
    ///
    /// # Errors
    /// It is not Jinja, or uses what is not known here.
    pub fn new(facts: &ModelFacts) -> Result<Self, Error> {
        let source = without_marks(facts.chat_template.as_deref().unwrap_or(CHATML));
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_filter("tojson", json::tojson);
        environment.add_template_owned("chat", source)?;
        let (bos, eos, controls) = (facts.bos.clone(), facts.eos.clone(), facts.controls.clone());
        let mut template = Self { environment, bos, eos, controls, knows_tools: false };
        template.knows_tools = template.probes_tools();
        Ok(template)
    }

    /// The tokens of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// Status 400: the conversation has parts that are no text, or the template refuses it.
    pub fn tokens(
        &self,
        request: &ChatRequest,
        unix_ms: u64,
        vocabulary: &Arc<dyn Vocabulary>,
    ) -> Result<Vec<Token>, ApiError> {
        let mut messages =
            request.messages.iter().enumerate().map(message).collect::<Result<Vec<_>, _>>()?;
        let tools = request.tools.as_deref().unwrap_or_default();
        if !tools.is_empty() && !self.knows_tools {
            explain_tools(&mut messages, tools);
        }
        for message in &mut messages {
            self.hide_controls(message);
        }
        let ending = Ending::of(request)?;
        let text = self.render(&messages, tools, ending, unix_ms).map_err(|error| {
            let said = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            ApiError::invalid_request(format!(
                "the model's chat template refuses the messages: {said}"
            ))
            .with_param("messages")
        })?;
        let text = match ending {
            Ending::Continued => up_to_last_message(text, &messages)?,
            Ending::Answer | Ending::Open => text,
        };
        Ok(self.tokenize(&text, vocabulary))
    }

    fn render(
        &self,
        messages: &[Value],
        tools: &[Tool],
        ending: Ending,
        unix_ms: u64,
    ) -> Result<String, Error> {
        let mut environment = self.environment.clone();
        environment.add_function("strftime_now", move |format: &str| date::format(unix_ms, format));
        let tools = if tools.is_empty() { Value::Null } else { json!(tools) };
        environment.get_template("chat")?.render(context! {
            messages => Serde(messages),
            tools => Serde(tools),
            add_generation_prompt => ending == Ending::Answer,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        })
    }

    /// Whether a tool's name shows up in the text.
    fn probes_tools(&self) -> bool {
        let marker = "pilotage_probe";
        let tool = json!({"type": "function", "function": {"name": marker, "description": "", "parameters": {}}});
        let Ok(tool) = serde_json::from_value::<Tool>(tool) else { return false };
        let hello = [json!({"role": "user", "content": "Hello"})];
        self.render(&hello, &[tool], Ending::Answer, 0).is_ok_and(|text| text.contains(marker))
    }

    fn hide_controls(&self, message: &mut Value) {
        let Some(Value::String(content)) = message.get_mut("content") else { return };
        for (control, hidden) in self.controls.iter().zip(HIDDEN..) {
            if let Some(hidden) =
                char::from_u32(hidden).filter(|_| content.contains(control.as_str()))
            {
                *content = content.replace(control.as_str(), hidden.encode_utf8(&mut [0; 4]));
            }
        }
    }

    /// The template's own text with its control tokens, what was hidden as plain text.
    fn tokenize(&self, text: &str, vocabulary: &Arc<dyn Vocabulary>) -> Vec<Token> {
        let control = |found: char| {
            let at = u32::from(found).checked_sub(HIDDEN)?;
            self.controls.get(usize::try_from(at).ok()?)
        };
        if !text.chars().any(|found| control(found).is_some()) {
            return vocabulary.tokenize(text, false, true);
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((at, found)) =
            rest.char_indices().find(|(_, found)| control(*found).is_some())
        {
            tokens.extend(vocabulary.tokenize(&rest[..at], false, true));
            let plain = control(found).map_or("", String::as_str);
            tokens.extend(vocabulary.tokenize(plain, false, false));
            rest = &rest[at + found.len_utf8()..];
        }
        tokens.extend(vocabulary.tokenize(rest, false, true));
        tokens
    }
}

/// With what a prompt ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// The begin of an answer.
    Answer,
    /// The last message.
    Open,
    /// The text of the last message, which the answer goes on with.
    Continued,
}

impl Ending {
    fn of(request: &ChatRequest) -> Result<Self, ApiError> {
        let (adds, continues) = (request.add_generation_prompt, request.continue_final_message);
        match (continues.unwrap_or(false), adds) {
            (true, Some(true)) => wrong(
                "continue_final_message",
                "cannot be combined with `add_generation_prompt`: an answer is begun or continued",
            ),
            (true, _) => Ok(Self::Continued),
            (false, Some(false)) => Ok(Self::Open),
            (false, _) => Ok(Self::Answer),
        }
    }
}

/// The text up to where the last message's own ends, by the rule of `transformers`: templates may
/// strip white space around it, and print it more than once.
fn up_to_last_message(mut text: String, messages: &[Value]) -> Result<String, ApiError> {
    let name = "continue_final_message";
    let content = messages.last().and_then(|message| message["content"].as_str()).unwrap_or("");
    let bare = content.trim();
    if bare.is_empty() {
        return wrong(name, "needs a last message with text");
    }
    let Some(at) = text.rfind(bare) else {
        return wrong(
            name,
            "does not work with the model's chat template, which changes the message",
        );
    };
    let kept = text[at..].starts_with(content.trim_start());
    let len = if kept { content.trim_start().len() } else { bare.len() };
    text.truncate(at + len);
    Ok(text)
}

/// `transformers` knows a block `generation`, which marks what a model is trained to say and prints
/// nothing: for rendering, it is a condition that holds.
fn without_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let sign = after.starts_with(['-', '+']).into();
        let (sign, block) = after.split_at(sign);
        let word = block.trim_start();
        let tail = |name: &str| word.strip_prefix(name).filter(|tail| ends_block(tail));
        out.push_str(sign);
        rest = match (tail("generation"), tail("endgeneration")) {
            (Some(tail), _) => {
                out.push_str(" if true");
                tail
            }
            (_, Some(tail)) => {
                out.push_str(" endif");
                tail
            }
            _ => block,
        };
    }
    out.push_str(rest);
    out
}

fn ends_block(tail: &str) -> bool {
    let tail = tail.trim_start();
    tail.strip_prefix(['-', '+']).unwrap_or(tail).starts_with("%}")
}

/// A message as templates expect it: content as one text, arguments of calls as objects.
fn message((at, message): (usize, &Message)) -> Result<Value, ApiError> {
    let role = match message.role {
        Role::Developer | Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut value = Map::new();
    value.insert("role".to_owned(), role.into());
    let content = content(at, message)?;
    if content.is_none() && message.tool_calls.is_none() {
        return wrong(&format!("messages[{at}].content"), "is missing");
    }
    value.insert("content".to_owned(), content.unwrap_or_default().into());
    if let Some(name) = &message.name {
        value.insert("name".to_owned(), name.as_str().into());
    }
    if let Some(id) = &message.tool_call_id {
        value.insert("tool_call_id".to_owned(), id.as_str().into());
    }
    if let Some(calls) = &message.tool_calls {
        value.insert("tool_calls".to_owned(), calls.iter().cloned().map(with_arguments).collect());
    }
    Ok(value.into())
}

fn content(at: usize, message: &Message) -> Result<Option<String>, ApiError> {
    let parts = match &message.content {
        None => return Ok(None),
        Some(Content::Text(text)) => return Ok(Some(text.clone())),
        Some(Content::Parts(parts)) => parts,
    };
    let mut texts = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let path = format!("messages[{at}].content[{number}]");
        match (part.r#type.as_str(), &part.text) {
            ("text", Some(text)) => texts.push(text.as_str()),
            ("text", None) => return wrong(&format!("{path}.text"), "is missing"),
            (other, _) => {
                let message = format!("is of type `{other}`; this model reads only text");
                return wrong(&path, &message);
            }
        }
    }
    Ok(Some(texts.join("\n")))
}

/// Clients send the arguments of a call as JSON text, templates want the JSON itself.
fn with_arguments(mut call: Value) -> Value {
    if let Some(arguments) = call.pointer_mut("/function/arguments") {
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(parsed) = parsed {
            *arguments = parsed;
        }
    }
    call
}

/// For templates that know no tools: says in the system's turn what there is and how to call it,
/// in the words of the Hermes format, which many models have seen.
fn explain_tools(messages: &mut Vec<Value>, tools: &[Tool]) {
    let list: Vec<String> =
        tools.iter().filter_map(|tool| serde_json::to_string(tool).ok()).collect();
    let text = format!(
        "You may call functions. They are listed as JSON between <tools> and </tools>:\n<tools>\n{}\n</tools>\n\
         To call one, answer with JSON between <tool_call> and </tool_call>:\n\
         <tool_call>\n{{\"name\": FUNCTION, \"arguments\": OBJECT}}\n</tool_call>",
        list.join("\n"),
    );
    match messages.first_mut() {
        Some(first) if first["role"] == "system" => {
            let before = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{before}\n\n{text}").into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": text})),
    }
    // A template without tools has no turn for their results either.
    for message in messages {
        if message["role"] == "tool" {
            let result = message["content"].as_str().unwrap_or_default();
            *message = json!({"role": "user", "content": format!("<tool_response>\n{result}\n</tool_response>")});
        } else if let Some(calls) = message.get("tool_calls").and_then(Value::as_array) {
            let calls =
                calls.iter().map(|call| format!("<tool_call>\n{}\n</tool_call>", call["function"]));
            let said = message["content"].as_str().unwrap_or_default().to_owned();
            let text: Vec<String> =
                std::iter::once(said).filter(|said| !said.is_empty()).chain(calls).collect();
            message["content"] = text.join("\n").into();
        }
    }
}

#[cfg(test)]
mod tests;
