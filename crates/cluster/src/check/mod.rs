//! Whether objects are as their types say: reading drops what nobody declared, then defaults are
//! filled in, then what must hold is checked.

mod builtin;
mod decode;
mod meta;
mod moment;
mod names;
mod objects;
mod pod;
mod quantity;
mod valid;

pub(crate) use builtin::{defaults, immutable};
pub(crate) use decode::{decode, fill};
pub(crate) use meta::{meta, name};
pub(crate) use objects::required;
pub(crate) use quantity::Quantity;
pub(crate) use valid::valid;
