//! The gateway end to end inside one process, with scripted engines behind it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their scaffolding")]

mod accounts;
mod adapters;
mod answers;
mod apis;
mod bytes;
mod cache;
mod cancel;
mod epp;
mod explain;
mod failures;
mod faults;
mod hedge;
mod identity;
mod kv_events;
mod limits;
mod merge;
mod messages;
mod mirror;
mod names;
mod observed;
mod outcomes;
mod quotas;
mod regions;
mod replicas;
mod responses;
mod rest;
mod resume;
mod routes;
mod runtimes;
mod support;
mod trail;
mod turns;
