//! The gateway end to end inside one process, with scripted engines behind it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their scaffolding")]

mod answers;
mod failures;
mod limits;
mod support;
