//! OpenAI's Responses API, told in chat completions and back: a request becomes a chat request, with
//! what a stored response holds in front of it, and the engine's answer becomes a response object or
//! a stream of its typed events.
//!
//! What only OpenAI's own service can do is refused with its name: background runs, conversations,
//! prompt templates, tools that run on the server.

mod answer;
mod items;
mod request;
mod stream;

#[cfg(test)]
mod tests;

pub use answer::Frame;
pub use request::Request;
pub use stream::Stream;
