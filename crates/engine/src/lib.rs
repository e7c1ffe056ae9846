//! Runs a model with llama.cpp in a process of its own: continuous batching under our own order.
//!
//! ```text
//! HTTP (server) ──Job──▶ loop (runner) ──▶ what to compute (batch, pure) ──▶ llama.cpp (backend)
//!               ◀─Event─              ◀── which token (sample, pure), which text (text, pure)
//! ```

pub mod backend;
pub mod batch;
pub mod bench;
pub mod config;
pub mod cpu;
pub mod gguf;
pub mod job;
pub mod runner;
pub mod sample;
pub mod server;
pub mod start;
pub mod stats;
pub mod template;
pub mod text;
pub mod tools;

pub use config::EngineConfig;
pub use runner::Engine;
pub use start::{StartError, start};
