//! Runs a model with llama.cpp in a process of its own: continuous batching under our own order.

pub mod job;
