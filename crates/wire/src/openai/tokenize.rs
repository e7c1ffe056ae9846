//! `POST /tokenize` and `POST /detokenize`, as in vLLM.

use serde::{Deserialize, Serialize};

use super::chat::{Message, Tool};

/// A text or a conversation to cut into tokens.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct TokenizeRequest {
    /// The model's name.
    #[serde(default)]
    pub model: Option<String>,
    /// The text.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The conversation, instead of a text.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// Functions that go with the conversation.
    #[serde(default)]
    pub tools: Option<Vec<Tool>>,
    /// Whether to report each token's text.
    #[serde(default)]
    pub return_token_strs: Option<bool>,
    /// Whether to add the begin-of-text token where the model wants one.
    #[serde(default)]
    pub add_special_tokens: Option<bool>,
}

/// Its tokens.
#[derive(Clone, Debug, Serialize)]
pub struct TokenizeResponse {
    /// How many.
    pub count: u32,
    /// Tokens of prompt and answer together.
    pub max_model_len: u32,
    /// Their ids.
    pub tokens: Vec<i32>,
    /// Their texts, when asked for.
    pub token_strs: Option<Vec<String>>,
}

/// Tokens to join to a text.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct DetokenizeRequest {
    /// The model's name.
    #[serde(default)]
    pub model: Option<String>,
    /// Their ids.
    pub tokens: Vec<i64>,
}

/// Their text.
#[derive(Clone, Debug, Serialize)]
pub struct DetokenizeResponse {
    /// The text.
    pub prompt: String,
}
