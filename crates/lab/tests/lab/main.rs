//! Load against a scripted server, over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod load;
mod server;
