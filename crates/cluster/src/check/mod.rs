//! Whether objects are as their types say: reading drops what nobody declared, then defaults are
//! filled in, then what must hold is checked.

mod builtin;
mod decode;
mod rules;
mod valid;

pub(crate) use builtin::{defaults, immutable, required};
pub(crate) use decode::{decode, fill};
pub(crate) use rules::name;
pub(crate) use valid::valid;
