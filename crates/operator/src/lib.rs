//! Makes reality match a plan: on one machine with local processes (weights fetched, engines started,
//! watched and started again), on Kubernetes with the objects of a cluster, whose copies follow their load.

pub mod adapters;
pub mod install;
pub mod kubernetes;
pub mod local;
pub mod scaling;
pub mod verdicts;
pub mod weights;
