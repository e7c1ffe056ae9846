//! Adds up: distributions, percentiles, what was in flight when.

pub mod book;
pub mod flight;
pub mod latency;
pub mod spread;
pub mod timeline;
