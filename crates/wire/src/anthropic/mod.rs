//! Anthropic's Messages API, told in chat completions and back: what a client of that API sends
//! becomes a chat request, and the engine's answer becomes a message or a stream of its events.
//!
//! Members that only save money or time at Anthropic (`cache_control`, `service_tier`, …) are passed
//! over. What would change the answer and cannot be done is refused with its name.

mod answer;
mod blocks;
mod error;
mod request;
mod stream;

#[cfg(test)]
mod tests;

pub use answer::from_chat;
pub use error::{error, status};
pub use request::{Asked, to_chat, to_count};
pub use stream::Stream;
