//! `POST /v1/chat/completions`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::Usage;

/// The parts of a request that only chat has; [`super::params::Params`] reads the others.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// The conversation, never empty.
    pub messages: Vec<Message>,
    /// Functions the model may call.
    #[serde(default)]
    pub tools: Option<Vec<Tool>>,
    /// Whether it may or must.
    #[serde(default)]
    pub tool_choice: Option<ToolChoice>,
    /// Whether one answer may hold several calls; it may when nothing is said.
    #[serde(default)]
    pub parallel_tool_calls: Option<bool>,
    /// What the answer must look like.
    #[serde(default)]
    pub response_format: Option<ResponseFormat>,
    /// Whether to report log probabilities.
    #[serde(default)]
    pub logprobs: Option<bool>,
    /// Alternatives to report for each token.
    #[serde(default)]
    pub top_logprobs: Option<u32>,
    /// Whether the prompt ends with the begin of an answer; it does when nothing is said and no
    /// message is continued.
    #[serde(default)]
    pub add_generation_prompt: Option<bool>,
    /// Whether the answer goes on with the last message, as if that were not over.
    #[serde(default)]
    pub continue_final_message: Option<bool>,
}

/// One turn.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(default)]
    pub content: Option<Content>,
    /// The speaker's name.
    #[serde(default)]
    pub name: Option<String>,
    /// Calls the assistant made.
    #[serde(default)]
    pub tool_calls: Option<Vec<Value>>,
    /// Which call a tool answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions, by their newer name.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A function's result.
    Tool,
}

/// What is said.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "a string or a list of parts")]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts.
    Parts(Vec<Part>),
}

/// A part of what is said.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Part {
    /// `text`; other kinds need another model.
    pub r#type: String,
    /// Its text.
    #[serde(default)]
    pub text: Option<String>,
}

/// A function the model may call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tool {
    /// `function`.
    pub r#type: String,
    /// The function.
    pub function: Function,
}

/// A function.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// Whether the model may or must call a function.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "`none`, `auto`, `required` or an object that names a function")]
pub enum ToolChoice {
    /// A word.
    Mode(ToolMode),
    /// This one.
    Named {
        /// `function`.
        r#type: String,
        /// Which one.
        function: ToolName,
    },
}

/// A function's name.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ToolName {
    /// The name.
    pub name: String,
}

/// Whether the model may or must call a function.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// It must not.
    None,
    /// It may.
    Auto,
    /// It must.
    Required,
}

/// What the answer must look like.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ResponseFormat {
    /// Anything.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchema,
    },
}

/// A named schema.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct JsonSchema {
    /// Its name.
    pub name: String,
    /// The schema itself; anything when it is not given.
    #[serde(default)]
    pub schema: Option<Value>,
}

/// A whole answer.
#[derive(Clone, Debug, Serialize)]
pub struct ChatResponse {
    /// Its id.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// The answers.
    pub choices: Vec<Choice>,
    /// Token counts.
    pub usage: Usage,
    /// The build that answered.
    pub system_fingerprint: String,
    /// The prompt's ids, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<i32>>,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Which one.
    pub index: u32,
    /// What is said.
    pub message: AnswerMessage,
    /// Log probabilities, when asked for.
    pub logprobs: Option<LogProbs>,
    /// Why it ended.
    pub finish_reason: &'static str,
    /// The stop text that ended it. As in vLLM.
    pub stop_reason: Option<String>,
    /// The answer's ids, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<i32>>,
}

/// What the model says.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The text; none beside tool calls.
    pub content: Option<String>,
    /// Always null: this engine refuses with a text.
    pub refusal: Option<String>,
    /// Calls it wants made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// A call the model wants made; in a stream, a part of one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ToolCall {
    /// Which one, in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Its id; in a stream only in its first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`; in a stream only in its first part.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The function.
    pub function: CalledFunction,
}

/// The function of a call.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CalledFunction {
    /// Its name; in a stream only in its first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its arguments as JSON text; in a stream, a piece of it.
    pub arguments: String,
}

/// One chunk of a stream.
#[derive(Clone, Debug, Serialize)]
pub struct ChatChunk {
    /// The answer's id.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: &'static str,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// What is new; empty in the chunk that only holds the usage.
    pub choices: Vec<ChunkChoice>,
    /// The build that answers.
    pub system_fingerprint: String,
    /// Token counts, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The prompt's ids, in the first chunk, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<i32>>,
}

/// What is new in one answer.
#[derive(Clone, Debug, Serialize)]
pub struct ChunkChoice {
    /// Which answer.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Log probabilities, when asked for.
    pub logprobs: Option<LogProbs>,
    /// Why it ended, in its last chunk.
    pub finish_reason: Option<&'static str>,
    /// The stop text that ended it. As in vLLM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
    /// The new ids, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<i32>>,
}

/// What is new.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Delta {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Parts of calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// Log probabilities of some tokens.
#[derive(Clone, Debug, Serialize)]
pub struct LogProbs {
    /// One for each token.
    pub content: Vec<TokenLogProb>,
}

/// A token's log probability.
#[derive(Clone, Debug, Serialize)]
pub struct TokenLogProb {
    /// Its text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The most likely tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<Vec<Self>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::read;

    fn body(message: &str, more: &str) -> String {
        format!(r#"{{"model":"m","messages":[{message}]{more}}}"#)
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |body: &str, param: Option<&str>| {
            let error = read::<ChatRequest>(body.as_bytes()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, param), "{body}: {error}");
        };
        let hi = r#"{"role":"user","content":"Hi"}"#;
        check(r#"{"messages":[]}"#, Some("model"));
        check(r#"{"model":"m"}"#, Some("messages"));
        check(r#"{"model":5,"messages":[]}"#, Some("model"));
        check(&body(r#"{"content":"Hi"}"#, ""), Some("messages[0].role"));
        check(&body(r#"{"role":"emperor"}"#, ""), Some("messages[0].role"));
        check(&body(r#"{"role":"user","content":5}"#, ""), Some("messages[0].content"));
        check(&body(hi, r#","tools":[{"type":"function"}]"#), Some("tools[0].function"));
        check(
            &body(hi, r#","tools":[{"type":"function","function":{}}]"#),
            Some("tools[0].function.name"),
        );
        check(&body(hi, r#","tool_choice":"sometimes""#), Some("tool_choice"));
        check(&body(hi, r#","parallel_tool_calls":"no""#), Some("parallel_tool_calls"));
        check(&body(hi, r#","response_format":{"type":"xml"}"#), Some("response_format.type"));
        check(&body(hi, r#","top_logprobs":-1"#), Some("top_logprobs"));
        check("{", None);
        check("[]", None);
    }

    #[test]
    fn all_ways_of_saying_it_are_read() {
        let check = |message: &str| read::<ChatRequest>(body(message, "").as_bytes()).unwrap();
        check(r#"{"role":"developer","content":"Be brief","unknown":[1]}"#);
        check(r#"{"role":"user","content":[{"type":"text","text":"Hi"}],"name":"Ada"}"#);
        check(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#);
        check(
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        );
        check(r#"{"role":"tool","tool_call_id":"1","content":"42"}"#);
        let named = r#","tool_choice":{"type":"function","function":{"name":"f"}}"#;
        let request: ChatRequest = read(body("", named).as_bytes()).unwrap();
        assert!(
            matches!(request.tool_choice, Some(ToolChoice::Named { function, .. }) if function.name == "f")
        );
    }
}
