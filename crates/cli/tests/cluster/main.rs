//! Commands that talk to a cluster, as people start them: the program in a process of its own, an API server in
//! memory on loopback.

#![expect(clippy::unwrap_used, reason = "tests and their scaffolding")]

mod diff;
mod leave;
mod stage;
