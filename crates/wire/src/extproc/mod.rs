//! What a proxy and an endpoint picker say to each other: Envoy's external processing, and in it the
//! protocol of the Gateway API Inference Extension. A request is shown before it goes anywhere; the
//! reply names the replica, or answers in its place; then the response is shown on its way back.
//!
//! [`Conversation`] follows one request, in whichever way the proxy sends bodies. It keeps the request's
//! body up to a limit, and nothing of the response's.

mod conversation;
mod endpoint;
mod message;
#[cfg(test)]
mod tests;

pub use conversation::{Answered, Asked, Conversation, Direction, Step, Wrong, immediate};
pub use endpoint::{DESTINATION, SERVED, SUBSET};
pub use message::*;

/// The method that proxies call.
pub const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// The service that it belongs to, as health checks name it.
pub const SERVICE: &str = "envoy.service.ext_proc.v3.ExternalProcessor";
