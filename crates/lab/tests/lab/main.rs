//! Load against a scripted server, over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod load;
mod server;
