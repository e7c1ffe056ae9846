//! Whether the numbers may be believed: is there a steady state to measure, and was it the server
//! that was measured?

pub mod stability;
pub mod validity;

pub use stability::{Evidence, Stability, Steady};
pub use validity::{Finding, Severity};
