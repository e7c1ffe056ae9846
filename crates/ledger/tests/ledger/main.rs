//! The ledger as its users see it: what is added is there once, whatever happens between.

mod crashes;
mod postgres;
mod questions;
mod record;
mod stores;
mod support;
