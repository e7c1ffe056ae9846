//! Whole numbers as estimates: conversions that lose digits on purpose, in one place where that is said.

/// A whole number that an estimate is made from.
pub trait Number {
    /// The nearest floating-point number: exact up to 2^53, good to 16 digits beyond.
    fn approximate(self) -> f64;
}

impl Number for u64 {
    #[expect(clippy::cast_precision_loss, reason = "estimates need no 17th digit")]
    fn approximate(self) -> f64 {
        self as f64
    }
}

/// The whole number below an estimate; what is negative or not a number becomes 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floating point saturate, and what is below zero is none"
)]
pub fn whole(value: f64) -> u64 {
    value.max(0.0).floor() as u64
}
