//! The usage ledger: what every request used, kept for good, so that bills and questions about them rest on
//! rows and not on counters of a process that may be gone.
//!
//! A request hands its record over and goes on ([`Ledger::add`]). One thread writes what waits into a journal on this
//! machine and publishes up to where: what is there survives SIGKILL. A task moves rows from the journal into a
//! [`Store`], SQLite or PostgreSQL, each exactly once, however often either side dies between.
//!
//! Everything is bounded, and nothing that is billed is lost while this process lives: where the disk is full or
//! slow, rows wait in memory; beyond that they are folded into sums by hour, tenant, model, version and hardware.

mod buffer;
mod entry;
mod frame;
mod journal;
mod ledger;
mod meter;
mod routes;
mod settings;
mod state;
mod store;
mod storer;

pub use entry::{Entry, Folded};
pub use journal::JournalError;
pub use ledger::{Budget, Ledger, Look, Looks, Now};
pub use settings::{Bounds, Settings, Where};
pub use state::State;
pub use store::{
    Ask, AskRows, Batch, Dimension, Done, Forgotten, Old, Page, PageKey, Postgres, Range, Spent,
    Sqlite, Store, StoreError, Summed, Used,
};
