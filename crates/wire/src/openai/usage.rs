//! How many tokens a request took: the engine's own count, passed on unchanged.

use serde::{Deserialize, Serialize};

/// The `usage` object.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Told")]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Prompt and answer together.
    pub total_tokens: u32,
    /// Tokens of the answer; nothing for embeddings.
    pub completion_tokens: u32,
    /// More about the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
    /// More about the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

/// The object as endpoints differ: those for audio and images say `input` and `output`, and some
/// rerankers tell the total alone.
#[derive(Deserialize)]
struct Told {
    prompt_tokens: Option<u32>,
    input_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    output_tokens: Option<u32>,
    total_tokens: u32,
    prompt_tokens_details: Option<PromptTokensDetails>,
    #[serde(alias = "output_tokens_details")]
    completion_tokens_details: Option<CompletionTokensDetails>,
}

impl From<Told> for Usage {
    fn from(told: Told) -> Self {
        let total_tokens = told.total_tokens;
        let completion_tokens = told.completion_tokens.or(told.output_tokens).unwrap_or(0);
        let prompt = told.prompt_tokens.or(told.input_tokens);
        let prompt_tokens =
            prompt.unwrap_or_else(|| total_tokens.saturating_sub(completion_tokens));
        Self {
            prompt_tokens,
            total_tokens,
            completion_tokens,
            prompt_tokens_details: told.prompt_tokens_details,
            completion_tokens_details: told.completion_tokens_details,
        }
    }
}

/// More about the prompt.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens found in the prefix cache.
    #[serde(default)]
    pub cached_tokens: Option<u32>,
}

/// More about the answer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CompletionTokensDetails {
    /// Tokens of the answer that were thoughts.
    #[serde(default)]
    pub reasoning_tokens: Option<u32>,
}

impl Usage {
    /// The count of one request.
    pub fn new(prompt_tokens: u32, completion_tokens: u32, cached_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens: Some(cached_tokens) }),
            completion_tokens_details: None,
        }
    }

    /// Prompt tokens found in the prefix cache; zero where nothing is said.
    pub fn cached_tokens(&self) -> u32 {
        self.prompt_tokens_details.as_ref().and_then(|more| more.cached_tokens).unwrap_or(0)
    }

    /// Tokens of the answer that were thoughts; zero where nothing is said.
    pub fn reasoning_tokens(&self) -> u32 {
        let more = self.completion_tokens_details.as_ref();
        more.and_then(|more| more.reasoning_tokens).unwrap_or(0).min(self.completion_tokens)
    }
}

/// The top-level `usage` of a response or of one chunk of a stream; none when it is absent or
/// null, or the JSON is not valid.
pub fn find_usage(json: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Body {
        usage: Option<Usage>,
    }
    // Most chunks have none, and a search for the name is cheaper than reading the JSON.
    memchr::memmem::find(json, b"\"usage\"")?;
    serde_json::from_slice::<Body>(json).ok()?.usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_only_the_top_level_usage() {
        let check = |json: &str, expect: Option<u32>| {
            assert_eq!(
                find_usage(json.as_bytes()).map(|usage| usage.total_tokens),
                expect,
                "{json}"
            );
        };
        check(r#"{"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}"#, Some(5));
        check(r#"{"choices":[],"usage":{"prompt_tokens":2,"total_tokens":2}}"#, Some(2));
        check(r#"{"usage":{"total_tokens":2}}"#, Some(2));
        check(r#"{"usage":{"type":"duration","seconds":9}}"#, None);
        check(r#"{"usage":null}"#, None);
        check(r#"{"choices":[{"usage":{"total_tokens":9}}]}"#, None);
        check(r#"{"usage":{"prompt_tokens":-1,"total_tokens":2}}"#, None);
        check("{", None);
        let image = br#"{"usage":{"input_tokens":4,"output_tokens":6,"total_tokens":10}}"#;
        let image = find_usage(image).unwrap();
        assert_eq!((image.prompt_tokens, image.completion_tokens), (4, 6));
        let cached = br#"{"usage":{"prompt_tokens":9,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        assert_eq!(find_usage(cached).unwrap().cached_tokens(), 4);
    }
}
