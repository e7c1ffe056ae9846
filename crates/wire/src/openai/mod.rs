//! OpenAI's HTTP API: errors and usage, which the gateway needs, and the types of requests and
//! responses, which the engine needs.

pub mod error;
pub mod usage;
