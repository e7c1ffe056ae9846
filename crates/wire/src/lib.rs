//! What do the bytes mean? Reading and writing of everything that crosses a wire, without I/O.
//!
//! The gateway does not parse bodies: [`peek`] finds the few fields it needs in one forward pass.
//! Streams are cut into events by [`sse`]. The engine, which needs every field, uses the types in
//! [`openai`].

pub mod envelope;
pub mod openai;
pub mod peek;
pub mod prometheus;
pub mod resume;
pub mod sse;
pub mod trace;
