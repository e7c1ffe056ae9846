//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// An error as the client gets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// What was wrong and what to do, for people.
    pub message: String,
    /// The class of error, `type` in the JSON.
    pub kind: &'static str,
    /// The parameter that is wrong.
    pub param: Option<String>,
    /// The exact error, for programs.
    pub code: Option<Cow<'static, str>>,
}

/// `type` of errors that are the caller's.
pub const INVALID_REQUEST: &str = "invalid_request_error";

/// `type` of errors that are ours.
pub const SERVER: &str = "server_error";

/// `type` of errors of the engine behind the gateway.
pub const UPSTREAM: &str = "upstream_error";

impl ApiError {
    /// An error with a status and a class.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None }
    }

    /// The same, about a parameter.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same, with an exact code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// 400: the request is wrong.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(400, INVALID_REQUEST, message)
    }

    /// 400: prompt and answer do not fit the context.
    pub fn context_length_exceeded(message: impl Into<String>) -> Self {
        Self::invalid_request(message).with_code("context_length_exceeded")
    }

    /// 401: the key is missing or unknown.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(401, "authentication_error", message).with_code("invalid_api_key")
    }

    /// 404: no such model; `message` names the ones there are.
    pub fn model_not_found(message: impl Into<String>) -> Self {
        Self::new(404, INVALID_REQUEST, message).with_param("model").with_code("model_not_found")
    }

    /// 404: no such path.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, INVALID_REQUEST, message).with_code("not_found")
    }

    /// 405: the path exists, the method does not.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, INVALID_REQUEST, message).with_code("method_not_allowed")
    }

    /// 408: the request came too slowly.
    pub fn request_timeout(message: impl Into<String>) -> Self {
        Self::new(408, INVALID_REQUEST, message).with_code("request_timeout")
    }

    /// 413: the body is too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, INVALID_REQUEST, message).with_code("request_too_large")
    }

    /// 402: the money is spent.
    pub fn over_budget(message: impl Into<String>) -> Self {
        Self::new(402, "insufficient_quota", message).with_code("insufficient_quota")
    }

    /// 403: whoever asks may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "permission_error", message).with_code("forbidden")
    }

    /// 429: the caller has used its share up.
    pub fn rate_limited(message: impl Into<String>) -> Self {
        Self::new(429, "rate_limit_error", message).with_code("rate_limit_exceeded")
    }

    /// 503: too much waits already, whoever asks.
    pub fn queue_full(message: impl Into<String>) -> Self {
        Self::unavailable(message).with_code("queue_full")
    }

    /// 500: our mistake.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, SERVER, message).with_code("internal_error")
    }

    /// 502: the engine failed, or broke off.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self::new(502, UPSTREAM, message).with_code("upstream_disconnected")
    }

    /// 503: nothing can serve it at the moment.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, SERVER, message).with_code("overloaded")
    }

    /// 504: the answer did not come in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, SERVER, message).with_code("timeout")
    }

    /// The JSON, on one line.
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            r#type: &'static str,
            param: Option<&'a str>,
            code: Option<&'a str>,
        }
        let inner = Inner {
            message: &self.message,
            r#type: self.kind,
            param: self.param.as_deref(),
            code: self.code.as_deref(),
        };
        serde_json::to_vec(&Body { error: inner }).unwrap_or_default()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_openais_shape() {
        let error =
            ApiError::invalid_request("temperature must be 0 to 2").with_param("temperature");
        let expect = r#"{"error":{"message":"temperature must be 0 to 2","type":"invalid_request_error","param":"temperature","code":null}}"#;
        assert_eq!(String::from_utf8(error.body()).unwrap(), expect);
    }
}
