//! The ledger as its users see it: what is added is there once, whatever happens between.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their scaffolding")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a child tells its parent what is written, and finds its folder in a variable of its own"
)]

mod crashes;
mod meters;
mod postgres;
mod questions;
mod record;
mod stores;
mod support;
