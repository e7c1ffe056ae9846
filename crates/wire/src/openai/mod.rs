//! OpenAI's HTTP API: errors and usage, which the gateway needs, and the types of requests and
//! responses, which the engine needs.
//!
//! Fields that this API does not know are ignored, as OpenAI-compatible servers do; fields that it
//! knows are checked, and an error names the parameter.

pub mod answered;
pub mod chat;
pub mod chunk;
pub mod completion;
pub mod embedding;
pub mod error;
pub mod model;
pub mod params;
pub mod tokenize;
pub mod usage;

use serde::de::DeserializeOwned;

use error::ApiError;

/// Reads a request's body.
///
/// # Errors
/// Status 400; `param` is the path of the field that does not fit, such as `messages[0].role`.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return ApiError::invalid_request(format!("the body is not valid JSON: {inner}"));
        }
        let said = inner.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        match missing(said) {
            Some(field) => {
                let param = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
                ApiError::invalid_request(format!("`{param}` is missing")).with_param(param)
            }
            None if path == "." => ApiError::invalid_request(said),
            None => ApiError::invalid_request(format!("`{path}`: {said}")).with_param(path),
        }
    })?;
    from.end().map_err(|error| {
        ApiError::invalid_request(format!("the body is not valid JSON: {error}"))
    })?;
    Ok(value)
}

fn missing(said: &str) -> Option<&str> {
    said.strip_prefix("missing field `")?.strip_suffix('`')
}
