//! What should run where? Manifests go in, and an immutable plan comes out that leaves no choice
//! to whoever carries it out.
//!
//! ```text
//! text ──manifest::parse──▶ Resource… ──plan(resources, world)──▶ Plan ──▶ processes and gateway
//! ```
//!
//! Nothing here reads a file, a clock or the network: the caller hands in the text of manifests
//! and what it observed of the machine ([`World`]).

pub mod adapters;
pub mod api;
pub mod cluster;
pub mod crd;
pub mod default;
pub mod digest;
pub mod gateway_api;
pub mod ground;
pub mod hardware;
pub mod lane;
pub mod launch;
pub mod lint;
mod machine;
pub mod manifest;
pub mod nodes;
pub mod plan;
pub mod pods;
pub mod prices;
pub mod reference;
pub mod render;
pub mod routes;
pub mod scaling;
pub mod select;
pub mod signer;
pub mod size;
pub mod source;
mod table;
pub mod tenants;
pub mod timestamp;
pub mod update;
pub mod world;

pub use api::{Kind, Resource};
pub use digest::Digest;
pub use ground::Ground;
pub use lane::{
    CapabilitySpec, EndpointSpec, HealthSpec, KeySource, Lane, Price, Settings, Written,
};
pub use machine::programs;
pub use manifest::{ManifestError, parse, parse_all};
pub use plan::{Plan, PlanError, plan, serve};
pub use render::{ProcessSpec, Program, WeightsSpec};
pub use routes::Route;
pub use signer::Signer;
pub use source::{OciReference, WeightsSource};
pub use tenants::{ShareSpec, TenantSpec};
pub use timestamp::Timestamp;
pub use world::World;
