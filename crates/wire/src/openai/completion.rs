//! `POST /v1/completions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::usage::Usage;

/// The parts of a request that only completions have; [`super::params::Params`] reads the others.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct CompletionRequest {
    /// The model's name.
    pub model: String,
    /// What to continue.
    pub prompt: Prompt,
    /// Whether the answer begins with the prompt.
    #[serde(default)]
    pub echo: Option<bool>,
    /// Alternatives to report for each token.
    #[serde(default)]
    pub logprobs: Option<u32>,
    /// Not supported.
    #[serde(default)]
    pub suffix: Option<String>,
    /// Not supported beyond `n`.
    #[serde(default)]
    pub best_of: Option<u32>,
    /// Whether a text gets the model's begin-of-text token; it does when nothing is said. As in
    /// vLLM.
    #[serde(default)]
    pub add_special_tokens: Option<bool>,
}

/// What to continue: a text or token ids, one or several.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(
    untagged,
    expecting = "a string, a list of strings, a list of token ids or a list of such lists"
)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Token ids.
    Tokens(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
    /// Lists of token ids.
    TokenLists(Vec<Vec<i64>>),
}

/// A whole answer or one chunk of a stream: they have the same shape.
#[derive(Clone, Debug, Serialize)]
pub struct CompletionResponse {
    /// Its id.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// The answers.
    pub choices: Vec<CompletionChoice>,
    /// The build that answers.
    pub system_fingerprint: String,
    /// Token counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct CompletionChoice {
    /// Which one: prompts in order, `n` for each.
    pub index: u32,
    /// The text.
    pub text: String,
    /// Log probabilities, when asked for.
    pub logprobs: Option<CompletionLogProbs>,
    /// Why it ended.
    pub finish_reason: Option<&'static str>,
    /// The stop text that ended it. As in vLLM.
    pub stop_reason: Option<String>,
    /// The answer's ids, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<i32>>,
    /// The prompt's ids, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<i32>>,
}

/// Log probabilities in the older shape: lists side by side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompletionLogProbs {
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<u32>,
    /// Each token's log probability.
    pub token_logprobs: Vec<f32>,
    /// Each token's text.
    pub tokens: Vec<String>,
    /// The most likely tokens at each place.
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::read;

    fn prompt(prompt: &str) -> Result<Prompt, String> {
        let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
        let request = read::<CompletionRequest>(body.as_bytes());
        request.map(|request| request.prompt).map_err(|error| error.param.unwrap_or_default())
    }

    #[test]
    fn prompts_come_in_four_ways() {
        assert_eq!(prompt(r#""a""#), Ok(Prompt::Text("a".to_owned())));
        assert_eq!(prompt(r#"["a","b"]"#), Ok(Prompt::Texts(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(prompt("[1,2]"), Ok(Prompt::Tokens(vec![1, 2])));
        assert_eq!(prompt("[[1],[2,3]]"), Ok(Prompt::TokenLists(vec![vec![1], vec![2, 3]])));
        for other in [r#"{"a":1}"#, "5", "null", r#"["a",1]"#, "[1.5]", "[[[1]]]"] {
            assert_eq!(prompt(other), Err("prompt".to_owned()), "{other}");
        }
    }
}
