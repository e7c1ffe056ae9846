//! What is to be done in a cluster: resources of all namespaces and what was observed go in, a plan
//! comes out that leaves no choice to whoever carries it out.
//!
//! ```text
//! objects as the API server has them ──Seen──▶ admit ──▶ resources that count, and why others do not
//! ```

pub mod admit;

pub use admit::{Admission, Identity, Refusal, Refused, Seen, admit};
