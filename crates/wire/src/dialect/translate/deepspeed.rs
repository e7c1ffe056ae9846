//! DeepSpeed-MII's REST gateway, which does not stream: a stream is told once all of it is there.

use serde_json::{Value, json};

use super::answer::Piece;
use super::{Own, Prompt, Request};
use crate::dialect::call::path_text;
use crate::openai::error::ApiError;

pub(super) fn request(request: &Request) -> Result<(String, Value), ApiError> {
    let own = Own::DeepSpeed;
    let Prompt::Text(prompt) = &request.prompt else { return Err(own.refuse("messages")) };
    let asked = [
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
    ];
    if let Some((member, _)) = asked.into_iter().find(|(_, is_asked)| *is_asked) {
        return Err(own.refuse(member));
    }
    let mut body = json!({"prompts": [prompt], "return_full_text": false});
    if let Some(most) = request.tokens_max {
        body["max_new_tokens"] = most.into();
    }
    // It takes no temperature of zero.
    match request.temperature {
        Some(temperature) if temperature <= 0.0 => body["do_sample"] = false.into(),
        Some(temperature) => body["temperature"] = temperature.into(),
        None => {}
    }
    if let Some(top_p) = request.top_p {
        body["top_p"] = top_p.into();
    }
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    Ok((format!("/mii/{}", path_text(&request.model)), body))
}

pub(super) fn piece(value: &Value) -> Option<Piece> {
    let first = value.as_array()?.first()?;
    Some(Piece {
        text: first.get("generated_text")?.as_str()?.to_owned(),
        reason: match first.get("finish_reason").and_then(Value::as_str) {
            Some("length") => Some("length"),
            _ => Some("stop"),
        },
        prompt_tokens: first.get("prompt_length").and_then(Value::as_u64),
        answer_tokens: first.get("generated_length").and_then(Value::as_u64),
        is_last: true,
        ..Piece::default()
    })
}
