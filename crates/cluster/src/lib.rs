//! A Kubernetes API server in memory, for tests and benchmarks of what talks to one.
//!
//! [`Cluster`] is the server, pure: calls and the time go in, answers come out. [`serve::Server`]
//! shares one between clients, in process or over loopback HTTP, and is what most tests want.
//!
//! What it does is what a real server does where operators can tell: server-side apply with
//! managers and conflicts, versions and conflicts of updates, watches with bookmarks and expiry,
//! generations, subresources, finalizers, owners, quotas, definitions with their schemas, and refusals of
//! what is no object. The rules (CEL) of definitions are not evaluated; see [`Cluster::judge_by`]. Besides, it fails
//! as told ([`fault`]) and remembers what was asked ([`record`]).

mod api;
mod apply;
mod check;
pub mod fault;
pub mod foreign;
mod patch;
pub mod record;
pub mod serve;
mod server;
mod shape;
mod store;
pub mod world;

pub use api::call::Call;
pub use server::{Answer, Cluster, Judge, Limits, Payload, Stream};
pub use store::Pulled;
