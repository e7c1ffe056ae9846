//! Triton's extension `generate`, with its vLLM and its TensorRT-LLM backend. What a backend has no input
//! for becomes a parameter that it does not look at (`src/http_server.cc`, `ExactMappingInput`), so that one
//! request can name what either of them wants.

use serde_json::{Value, json};

use super::answer::Piece;
use super::{Own, Prompt, Request};
use crate::dialect::call::path_text;
use crate::openai::error::ApiError;

pub(super) fn request(request: &Request) -> Result<(String, Value), ApiError> {
    let Prompt::Text(prompt) = &request.prompt else { return Err(Own::Triton.refuse("messages")) };
    // The TensorRT-LLM backend takes lists, the vLLM backend has no such input: only a text is for both.
    if request.stop.len() > 1 {
        return Err(Own::Triton.refuse("stop"));
    }
    let method = if request.stream { "generate_stream" } else { "generate" };
    let path = format!("/v2/models/{}/{method}", path_text(&request.model));
    let mut body = json!({
        "text_input": prompt,
        "exclude_input_in_output": true,
        "stream": request.stream,
        // Of the vLLM backend.
        "sampling_parameters": Value::Object(request.sampling("max_tokens")).to_string(),
        "return_finish_reason": true,
        "return_num_input_tokens": true,
        "return_num_output_tokens": true,
        // Of TensorRT-LLM's models made with its LLM API.
        "streaming": request.stream,
        "sampling_param_exclude_input_from_output": true,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[name] = value;
        }
    };
    set("max_tokens", request.tokens_max.map(Value::from));
    set("sampling_param_max_tokens", request.tokens_max.map(Value::from));
    set("temperature", request.temperature.map(Value::from));
    set("top_p", request.top_p.map(Value::from));
    set("random_seed", request.seed.map(Value::from));
    set("stop_words", request.stop.first().map(|stop| Value::from(&**stop)));
    Ok((path, body))
}

pub(super) fn piece(value: &Value) -> Option<Piece> {
    let first = |name: &str| {
        let found = value.get(name)?;
        found.as_array().map_or(Some(found), |all| all.first())
    };
    let reason = match first("finish_reason").and_then(Value::as_str) {
        Some("length") => Some("length"),
        Some("stop") => Some("stop"),
        _ => None,
    };
    Some(Piece {
        text: first("text_output")?.as_str()?.to_owned(),
        reason,
        prompt_tokens: first("num_input_tokens").and_then(Value::as_u64),
        more_tokens: first("num_output_tokens").and_then(Value::as_u64),
        ..Piece::default()
    })
}
