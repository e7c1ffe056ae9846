//! What is stored: objects by kind and name, and the log of changes that watches read.
//!
//! Contract: an object is stored as the text that is sent, serialised once; changes are numbered by
//! one counter, the resource version.

mod object;
mod table;
mod watch;

pub(crate) use object::{Field, Object, Selection};
pub(crate) use table::{Change, Key, Table};
pub use watch::Pulled;
pub(crate) use watch::{Feed, Watch};
