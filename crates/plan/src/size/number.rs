//! Whole numbers as estimates: conversions that lose digits on purpose, in one place where that is
//! said.

/// A whole number that an estimate is made from.
pub(super) trait Number {
    /// The nearest floating-point number: exact up to 2^53, good to 15 digits beyond.
    fn approximate(self) -> f64;
}

impl Number for u64 {
    fn approximate(self) -> f64 {
        self as f64
    }
}

/// The whole number below an estimate. What is negative or not a number becomes 0, what is too
/// large the largest there is: casts from floating point saturate.
pub(super) fn whole(value: f64) -> u64 {
    value.max(0.0).floor() as u64
}
