//! HTTP in and out: requests come in, wait for their turn, go to a replica, and their answers come
//! back. Which request and which replica is the core's to decide; this crate carries it out.

pub mod admin;
mod app;
mod auth;
mod body;
pub mod config;
mod directory;
pub mod driver;
mod forward;
mod metrics;
mod quotas;
mod reply;
mod reports;

pub use app::Gateway;
pub use config::{
    GatewayConfig, IdentityConfig, KeyConfig, LaneConfig, Limits, Oidc, Price, TenantConfig,
    Timeouts,
};
pub use directory::DirectoryError;
pub use driver::Replica;
