//! The real world: the only crate that reads the clock, the environment and the system's
//! randomness, and that sets options of sockets. Everybody else is handed these.

pub mod access;
pub mod certificate;
pub mod client;
pub mod clock;
pub mod date;
pub mod descriptors;
mod dial;
pub mod dirs;
pub mod dns;
pub mod env;
pub mod files;
pub mod grpc;
pub mod id;
pub mod jwt;
pub mod metrics;
pub mod otlp;
pub mod percent;
pub mod plain;
pub mod port;
pub mod secret;
pub mod serve;
pub mod signals;
pub mod tasks;
pub mod telemetry;
pub mod timer;
pub mod wall;
