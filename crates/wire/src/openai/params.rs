//! Parameters that chat completions and completions share: how to sample, when to stop, how to
//! answer. Ranges are OpenAI's where it has the parameter, vLLM's elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::ApiError;

/// Most answers to one request.
pub const N_MAX: u32 = 16;

/// Most stop texts.
pub const STOPS_MAX: usize = 16;

/// Most bytes of a stop text.
pub const STOP_BYTES_MAX: usize = 256;

/// Most alternatives for a token's log probability.
pub const TOP_LOGPROBS_MAX: u32 = 20;

/// The shared parameters, as they come.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Params {
    /// 0 takes the best token, 1 follows the model, 2 is the most.
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 up to 1.
    pub top_p: Option<f64>,
    /// Keep this many tokens; 0 and -1 keep all. As in vLLM.
    pub top_k: Option<i64>,
    /// Keep tokens this fraction as likely as the best, 0 to 1. As in vLLM.
    pub min_p: Option<f64>,
    /// Above 0 up to 10; 1 changes nothing. As in vLLM.
    pub repetition_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Token ids and what is added to their logits, -100 to 100.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Makes the answer repeatable.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Option<Stop>,
    /// Answers to give.
    pub n: Option<u32>,
    /// Tokens to generate at most.
    pub max_tokens: Option<u32>,
    /// Tokens to generate at most; wins over `max_tokens`.
    pub max_completion_tokens: Option<u32>,
    /// Whether the answer is a stream.
    pub stream: Option<bool>,
    /// More about the stream.
    pub stream_options: Option<StreamOptions>,
    /// Go on after the model's end-of-text token. As in vLLM.
    pub ignore_eos: Option<bool>,
    /// Report the ids of prompt and answer. As in vLLM.
    pub return_token_ids: Option<bool>,
}

/// One stop text or several.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// More about a stream.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct StreamOptions {
    /// A last chunk holds the usage.
    pub include_usage: Option<bool>,
    /// Every chunk holds the usage so far. As in vLLM.
    pub continuous_usage_stats: Option<bool>,
}

impl Params {
    /// Checks every range.
    ///
    /// # Errors
    /// Status 400, naming the first parameter that is out of its range.
    pub fn check(&self) -> Result<(), ApiError> {
        range("temperature", self.temperature, 0.0, 2.0)?;
        range("top_p", self.top_p, f64::MIN_POSITIVE, 1.0)?;
        range("min_p", self.min_p, 0.0, 1.0)?;
        range("repetition_penalty", self.repetition_penalty, f64::MIN_POSITIVE, 10.0)?;
        range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        if self.top_k.is_some_and(|top_k| top_k < -1) {
            return wrong("top_k", "must be -1 (all), 0 (all) or positive");
        }
        if self.n.is_some_and(|n| n == 0 || n > N_MAX) {
            return wrong("n", &format!("must be 1 to {N_MAX}"));
        }
        for (name, most) in
            [("max_tokens", self.max_tokens), ("max_completion_tokens", self.max_completion_tokens)]
        {
            if most == Some(0) {
                return wrong(name, "must be at least 1");
            }
        }
        self.check_stops()
    }

    fn check_stops(&self) -> Result<(), ApiError> {
        let stops = self.stops();
        if stops.len() > STOPS_MAX {
            return wrong("stop", &format!("may hold at most {STOPS_MAX} texts"));
        }
        if stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
            return wrong("stop", &format!("may hold texts of at most {STOP_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    /// The stop texts.
    pub fn stops(&self) -> Vec<String> {
        match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) => stops.clone(),
        }
    }

    /// The logit bias by token id, for a vocabulary of that size.
    ///
    /// # Errors
    /// Status 400 for what is not an id of the vocabulary or a bias out of range.
    pub fn biases(&self, vocabulary: usize) -> Result<Vec<(i32, f32)>, ApiError> {
        let biases = self.logit_bias.iter().flatten().map(|(token, bias)| {
            let id = token
                .parse::<i32>()
                .ok()
                .filter(|id| usize::try_from(*id).is_ok_and(|id| id < vocabulary));
            let Some(id) = id else {
                return wrong(
                    "logit_bias",
                    &format!("names the token `{token}`; ids go from 0 to {}", vocabulary - 1),
                );
            };
            if !(-100.0..=100.0).contains(bias) {
                return wrong(
                    "logit_bias",
                    &format!("gives token {id} a bias of {bias}; it must be -100 to 100"),
                );
            }
            Ok((id, *bias as f32))
        });
        biases.collect()
    }

    /// Tokens to generate at most, if it was said.
    pub fn tokens_max(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }
}

/// A parameter is wrong: `message` goes on after its name.
///
/// # Errors
/// Always: status 400.
pub fn wrong<T>(param: &str, message: &str) -> Result<T, ApiError> {
    Err(ApiError::invalid_request(format!("`{param}` {message}")).with_param(param.to_owned()))
}

fn range(name: &str, value: Option<f64>, from: f64, to: f64) -> Result<(), ApiError> {
    match value {
        Some(value) if !(from..=to).contains(&value) => {
            let from =
                if from == f64::MIN_POSITIVE { "above 0".to_owned() } else { format!("{from}") };
            wrong(name, &format!("is {value}; it must be {from} to {to}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::read;

    #[test]
    fn parameters_out_of_range_are_named() {
        let check = |body: &str, param: &str| {
            let error = read::<Params>(body.as_bytes())
                .and_then(|params| params.check().and_then(|()| params.biases(100).map(|_| ())))
                .unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{body}: {error}");
        };
        check(r#"{"temperature":-3}"#, "temperature");
        check(r#"{"temperature":"hot"}"#, "temperature");
        check(r#"{"top_p":0}"#, "top_p");
        check(r#"{"n":0}"#, "n");
        check(r#"{"n":1000}"#, "n");
        check(r#"{"max_tokens":-1}"#, "max_tokens");
        check(r#"{"max_tokens":1.5}"#, "max_tokens");
        check(r#"{"max_completion_tokens":0}"#, "max_completion_tokens");
        check(r#"{"stop":5}"#, "stop");
        check(r#"{"logit_bias":{"100":1}}"#, "logit_bias");
        check(r#"{"logit_bias":{"5":101}}"#, "logit_bias");
        check(r#"{"top_k":-7}"#, "top_k");
        check(r#"{"stream_options":{"include_usage":5}}"#, "stream_options.include_usage");
    }

    #[test]
    fn good_parameters_pass() {
        let body = r#"{"temperature":0,"top_p":1,"n":2,"stop":["a"],"logit_bias":{"5":-100},"other":1,"seed":null}"#;
        let params: Params = read(body.as_bytes()).unwrap();
        params.check().unwrap();
        assert_eq!(params.biases(100).unwrap(), [(5, -100.0)]);
    }
}
