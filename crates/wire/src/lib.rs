//! What do the bytes mean? Reading and writing of everything that crosses a wire, without I/O.
//!
//! The gateway does not parse bodies: [`peek`] finds the few fields it needs in one forward pass.
//! Streams are cut into events by [`sse`]. The engine, which needs every field, uses the types in
//! [`openai`]. Clients that speak another API have their requests told in OpenAI's chat completions,
//! and the answers told back, by [`anthropic`] and [`responses`]. What engines tell of their KV caches is
//! read by [`kv_events`]. How they differ otherwise is the table in [`dialect`].

pub mod anthropic;
#[cfg(test)]
mod chunks;
pub mod dialect;
pub mod envelope;
pub mod extproc;
pub mod kv_events;
pub mod media;
pub mod multipart;
pub mod openai;
pub mod peek;
pub mod repeat;
pub mod responses;
pub mod resume;
pub mod sse;
pub mod trace;
