//! The result file of vLLM's `bench serve`, and of tools that write the same.
//!
//! Every field may be missing: arrays are there with `--save-detailed` alone, and versions differ.
//! Python writes `NaN` and `Infinity`, which are no JSON; they are taken for unknown.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

/// Most bytes of a text: a million requests with a thousand tokens each would be more, and nobody
/// triages those from a file.
pub const TEXT_BYTES_MAX: usize = 512 << 20;

/// Most requests of a file.
pub const REQUESTS_MAX: usize = 1 << 20;

/// Most files that are looked at together.
pub const FILES_MAX: usize = 1024;

/// What a file says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct ResultFile {
    /// What the run was called.
    pub label: Option<String>,
    /// The model.
    pub model_id: Option<String>,
    /// Requests for each second that were meant to be sent; `inf` where all were at once.
    pub request_rate: Option<Number>,
    /// Requests at once that the client allowed itself.
    pub max_concurrency: Option<Number>,
    /// Seconds.
    pub duration: Option<f64>,
    /// Requests that were answered.
    pub completed: Option<f64>,
    /// Requests that failed.
    pub failed: Option<f64>,
    /// Tokens of all prompts.
    pub total_input_tokens: Option<f64>,
    /// Tokens of all answers.
    pub total_output_tokens: Option<f64>,
    /// Mean time to the first token.
    pub mean_ttft_ms: Option<f64>,
    /// Its median.
    pub median_ttft_ms: Option<f64>,
    /// Mean time for each further token.
    pub mean_tpot_ms: Option<f64>,
    /// Waiting in the client, 99th percentile.
    pub p99_client_queue_time_ms: Option<f64>,
    /// Seconds to the first token of each request; zero for one that failed.
    pub ttfts: Option<Vec<Option<f64>>>,
    /// Seconds between the tokens of each request.
    pub itls: Option<Vec<Option<Vec<Option<f64>>>>>,
    /// Tokens of each prompt.
    pub input_lens: Option<Vec<Option<f64>>>,
    /// Tokens of each answer.
    pub output_lens: Option<Vec<Option<f64>>>,
    /// When each request was sent, in seconds since anything.
    pub start_times: Option<Vec<Option<f64>>>,
    /// How long each request waited in the client.
    pub queue_times: Option<Vec<Option<f64>>>,
    /// What went wrong with each request; empty where nothing did.
    pub errors: Option<Vec<Option<String>>>,
}

/// A number, or a word for one.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Number {
    /// A number.
    Is(f64),
    /// A word: `inf`.
    Word(String),
}

impl Number {
    /// What it is; none where it is without end or none at all.
    pub fn finite(&self) -> Option<f64> {
        let number = match self {
            Self::Is(number) => *number,
            Self::Word(word) => word.parse().ok()?,
        };
        Some(number).filter(|number| number.is_finite())
    }
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum BenchError {
    /// It is too long.
    TooLong(usize),
    /// It has too many requests.
    TooMany(usize),
    /// It is no JSON, or none of a benchmark.
    Malformed(serde_json::Error),
    /// It is JSON, and of something else.
    Foreign,
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => {
                write!(
                    f,
                    "the result has {bytes} bytes, more than {TEXT_BYTES_MAX}: save it without generated texts"
                )
            }
            Self::TooMany(requests) => {
                write!(
                    f,
                    "the result has {requests} requests, more than {REQUESTS_MAX}: run a shorter one"
                )
            }
            Self::Malformed(_) => {
                write!(f, "the result is no JSON as `vllm bench serve --save-result` writes it")
            }
            Self::Foreign => {
                write!(
                    f,
                    "the JSON is no result of `vllm bench serve`: it has neither `completed` nor `ttfts`"
                )
            }
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::TooLong(_) | Self::TooMany(_) | Self::Foreign => None,
        }
    }
}

/// The results in a text: one, or one after the other as `--append-result` writes them.
pub fn parse(text: &str) -> Result<Vec<ResultFile>, BenchError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(BenchError::TooLong(text.len()));
    }
    let text = without_words(text);
    let files: Result<Vec<ResultFile>, _> =
        serde_json::Deserializer::from_str(&text).into_iter().collect();
    let files = files.map_err(BenchError::Malformed)?;
    for file in &files {
        if file.completed.is_none() && file.ttfts.is_none() {
            return Err(BenchError::Foreign);
        }
        let requests = file.ttfts.as_ref().map_or(0, Vec::len);
        if requests > REQUESTS_MAX {
            return Err(BenchError::TooMany(requests));
        }
    }
    if files.is_empty() { Err(BenchError::Foreign) } else { Ok(files) }
}

/// With `null` for the words that Python writes for what is no number.
fn without_words(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = WORDS.iter().find(|word| rest.starts_with(**word));
        let taken = match (first, word) {
            ('"', _) => quoted(rest),
            (_, Some(word)) => {
                out.push_str("null");
                rest = &rest[word.len()..];
                continue;
            }
            _ => first.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Cow::Owned(out)
}

/// How long the string is that the text begins with.
fn quoted(text: &str) -> usize {
    let mut is_escaped = true;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_fields_and_words_are_unknown() {
        let text = r#"{"completed": 3, "request_rate": "inf", "mean_ttft_ms": NaN, "x": "NaN \" -Infinity",
            "ttfts": [0.1, null, Infinity], "itls": [[0.01, NaN], null], "generated_texts": ["secret"]}"#;
        let file = &parse(text).unwrap()[0];
        assert_eq!(file.completed, Some(3.0));
        assert_eq!(file.mean_ttft_ms, None);
        assert_eq!(file.request_rate.as_ref().and_then(Number::finite), None);
        assert_eq!(file.ttfts, Some(vec![Some(0.1), None, None]));
        assert_eq!(file.itls, Some(vec![Some(vec![Some(0.01), None]), None]));
        assert!(!format!("{file:?}").contains("secret"));
    }

    #[test]
    fn results_may_follow_each_other() {
        assert_eq!(parse("{\"completed\":1}\n{\"completed\":2}\n").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_result_is_refused_with_a_word() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("", "neither");
        check("{}", "neither");
        check("[]", "neither");
        check("3", "no JSON as");
        check("{\"completed\": \"many\"}", "no JSON as");
        check("{\"completed\": 1", "no JSON as");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[\\[\\]{}\":,\\\\ a-zNI0-9é.-]{0,80}") {
            drop(parse(&text));
            let kept = without_words(&text);
            if !text.contains("NaN") && !text.contains("Infinity") {
                prop_assert_eq!(&*kept, text.as_str());
            }
        }
    }
}
