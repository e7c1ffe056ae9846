//! The ledger as its users see it: what is added is there once, whatever happens between.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a child tells its parent what is written, and a test why it is skipped"
)]

mod crashes;
mod postgres;
mod questions;
mod record;
mod stores;
mod support;
