//! Text Generation Inference's own API, for versions before 1.4, which have no other.

use serde_json::{Value, json};

use super::answer::Piece;
use super::{Own, Prompt, Request};
use crate::openai::error::ApiError;

pub(super) fn request(request: &Request) -> Result<(String, Value), ApiError> {
    let own = Own::Tgi;
    let Prompt::Text(prompt) = &request.prompt else { return Err(own.refuse("messages")) };
    // Its own penalties are of another kind.
    if request.presence_penalty.is_some() {
        return Err(own.refuse("presence_penalty"));
    }
    let mut parameters = json!({"details": true, "return_full_text": false});
    if let Some(most) = request.tokens_max {
        parameters["max_new_tokens"] = most.into();
    }
    match request.temperature {
        // Zero is no temperature there: nothing is drawn.
        Some(temperature) if temperature <= 0.0 => {}
        Some(temperature) => {
            parameters["temperature"] = temperature.into();
            parameters["do_sample"] = true.into();
        }
        None => parameters["do_sample"] = true.into(),
    }
    if let Some(top_p) = request.top_p.filter(|top_p| *top_p < 1.0) {
        parameters["top_p"] = top_p.into();
    }
    if let Some(seed) = request.seed {
        parameters["seed"] = seed.into();
    }
    if let Some(penalty) = request.frequency_penalty {
        parameters["frequency_penalty"] = penalty.into();
    }
    if !request.stop.is_empty() {
        parameters["stop"] = json!(request.stop);
    }
    let path = if request.stream { "/generate_stream" } else { "/generate" };
    Ok((path.to_owned(), json!({"inputs": prompt, "parameters": parameters})))
}

pub(super) fn piece(value: &Value, is_whole: bool) -> Option<Piece> {
    let details = value.get("details").filter(|details| details.is_object());
    let of = |name: &str| details.and_then(|details| details.get(name));
    let reason = match of("finish_reason").and_then(Value::as_str) {
        Some("length") => Some("length"),
        Some(_) => Some("stop"),
        None => None,
    };
    let text = if is_whole {
        value.get("generated_text")?.as_str()?
    } else {
        let token = value.get("token")?;
        let is_special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
        if is_special { "" } else { token.get("text")?.as_str()? }
    };
    Some(Piece {
        text: text.to_owned(),
        reason,
        prompt_tokens: of("input_length").and_then(Value::as_u64),
        answer_tokens: of("generated_tokens").and_then(Value::as_u64),
        // The whole text comes with the last token.
        is_last: value.get("generated_text").is_some_and(Value::is_string),
        ..Piece::default()
    })
}
