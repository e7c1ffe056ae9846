//! OpenAI's API told to servers that have another: requests in theirs, their answers and streams back. Bytes
//! in, bytes out.
//!
//! What cannot be told is refused by name, before anything is computed: an answer that leaves out what was
//! asked for is worse than none. What is no more than a hint, such as `user`, is left out.

mod answer;
mod deepspeed;
mod ollama;
mod request;
#[cfg(test)]
mod tests;
mod tgi;
mod triton;

pub use answer::{Garbled, Reader};
pub use request::{Message, Prompt, Request};

use super::screen::screened;
use super::{Fault, Own, fault};
use crate::openai::error::ApiError;

/// The path of chats in OpenAI's API.
const CHAT: &str = "/v1/chat/completions";

/// The path of completions.
const COMPLETIONS: &str = "/v1/completions";

/// What to send instead of a request, and who reads the answer.
#[derive(Debug)]
pub struct Told {
    /// The path, below the server's URL.
    pub path: String,
    /// The body, JSON.
    pub body: Vec<u8>,
    /// Reads what comes back.
    pub reader: Reader,
}

/// Tells a request of OpenAI's API to a server with that API of its own. The answer has this id, and was
/// made at this time, in seconds since 1970.
///
/// # Errors
/// Status 400, and what cannot be told: the fault is the client's.
pub fn tell(
    own: Own,
    path: &str,
    body: &[u8],
    (id, created): (&str, u64),
) -> Result<Told, ApiError> {
    let is_chat = match path {
        CHAT => true,
        COMPLETIONS => false,
        other => {
            let message =
                format!("{} serves nothing like `{other}`; ask another model", own.title());
            return Err(ApiError::invalid_request(message).with_code(UNSUPPORTED));
        }
    };
    let request = Request::read(own, is_chat, body)?;
    let (path, body) = match own {
        Own::Triton => triton::request(&request),
        Own::DeepSpeed => deepspeed::request(&request),
        Own::Tgi => tgi::request(&request),
        Own::Ollama => ollama::request(&request),
    }?;
    let body = serde_json::to_vec(&body).unwrap_or_default();
    Ok(Told { path, body, reader: Reader::new(own, &request, (id, created)) })
}

/// The code of errors that say what cannot be told.
const UNSUPPORTED: &str = "unsupported_by_runtime";

/// A server's error in the words of OpenAI's API.
pub fn error(own: Own, status: u16, body: &[u8]) -> ApiError {
    let told = fault::read(own.dialect(), status, body);
    let message = screened(&told.message).unwrap_or_else(|| "the engine gives no reason".into());
    match told.fault {
        Fault::TooLong => ApiError::context_length_exceeded(message),
        Fault::UnknownModel => ApiError::upstream(message),
        Fault::Invalid => ApiError::invalid_request(message),
        Fault::Overloaded | Fault::Loading => ApiError::unavailable(message),
        Fault::EngineDead | Fault::Failed | Fault::Unsupported | Fault::Unauthenticated => {
            ApiError::upstream(message)
        }
    }
}

impl Own {
    /// Whose API it is.
    pub const fn dialect(self) -> super::Dialect {
        match self {
            Self::Triton => super::Dialect::Triton,
            Self::DeepSpeed => super::Dialect::DeepSpeed,
            Self::Tgi => super::Dialect::Tgi,
            Self::Ollama => super::Dialect::Ollama,
        }
    }

    const fn title(self) -> &'static str {
        self.dialect().title()
    }

    fn refuse(self, member: &str) -> ApiError {
        let message = format!(
            "`{member}` cannot be told to {}; leave it out, or ask another model",
            self.title()
        );
        ApiError::invalid_request(message).with_param(member).with_code(UNSUPPORTED)
    }
}
