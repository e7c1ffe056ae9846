//! The operator against a cluster in memory, with time that stands still: what comes of resources, what
//! is told of them, and what happens when things fail.

mod adapters;
mod faults;
mod groups;
mod handover;
mod hands;
mod kit;
mod life;
mod nodes;
mod preview;
mod releases;
mod troubles;
mod versions;
