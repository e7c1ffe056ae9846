//! The operator against a Kubernetes API server in memory.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure ends the test")]

mod keda;
mod metrics;
mod registration;
mod scaling;
mod stand;
