//! The catalogue of hardware classes, each with where its figures come from.

use super::Accelerator;

/// All classes, by vendor and age.
pub const CATALOGUE: &[Accelerator] = &[];
