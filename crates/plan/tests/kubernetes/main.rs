//! What Pilotage is on Kubernetes: its resource definitions, and what becomes of Models there.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod adapters;
mod chart;
mod decided;
mod definitions;
mod lint;
mod objects;
mod properties;
mod structural;
mod typed;
