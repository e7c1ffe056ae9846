//! Errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use serde_json::json;

/// The JSON of an error that has this HTTP status, on one line.
pub fn error(status: u16, message: &str, request_id: &str) -> Vec<u8> {
    let error = json!({
        "type": "error",
        "error": {"type": kind(status), "message": message},
        "request_id": request_id,
    });
    error.to_string().into_bytes()
}

/// The status that says the same to a client of this API: overload has one of its own.
pub const fn status(status: u16) -> u16 {
    if status == 503 { 529 } else { status }
}

const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
