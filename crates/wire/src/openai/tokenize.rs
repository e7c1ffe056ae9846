//! `POST /tokenize` and `POST /detokenize`, as in vLLM.

use serde::{Deserialize, Serialize};

/// A text to cut into tokens.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct TokenizeRequest {
    /// The text.
    pub prompt: String,
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
}

/// Tokens to join to a text.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct DetokenizeRequest {
    /// Their ids.
    pub tokens: Vec<i64>,
}

/// Their text.
#[derive(Clone, Debug, Serialize)]
pub struct DetokenizeResponse {
    /// The text.
    pub prompt: String,
}
