//! What the API is, apart from what is stored: kinds, calls, selectors, failures, discovery.

pub(crate) mod call;
pub(crate) mod discover;
pub(crate) mod failure;
pub(crate) mod kinds;
pub(crate) mod select;
pub(crate) mod stamp;
