//! How fast is it, and can the answer be trusted? Load against an inference server, measured from
//! the moment each request was meant to be sent, with a verdict on whether the numbers hold.
//!
//! Only `load` has sockets and a clock; everything else computes from what is handed in.

pub mod arrivals;
pub mod calibrate;
pub mod diff;
pub mod engine;
pub mod load;
pub mod record;
pub mod report;
pub mod search;
pub mod slo;
pub mod stats;
pub mod verdict;
pub mod workload;
