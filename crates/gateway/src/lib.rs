//! HTTP in and out: requests come in, wait for their turn, go to a replica, and their answers come
//! back. Which request and which replica is the core's to decide; this crate carries it out.

pub mod admin;
mod app;
mod auth;
mod body;
pub mod config;
mod directory;
pub mod driver;
pub mod epp;
mod forward;
mod kv_events;
mod metrics;
mod names;
mod quotas;
mod reply;
mod reports;
mod responses;
mod stored;
mod table;
mod trail;
mod triage;
mod trials;

pub use app::{ConfigError, Front, Gateway, Readiness};
pub use config::{
    CacheConfig, GatewayConfig, IdentityConfig, KeyConfig, LaneConfig, Limits, MediaLimits, Merge,
    Oidc, Price, Resume, Retries, RouteConfig, StoredLimits, TenantConfig, Timeouts,
};
pub use directory::DirectoryError;
pub use driver::{LaneHandle, PodName, Replica};
pub use forward::{Pick, Picked, Trouble};
pub use reports::HealthCheck;
#[doc(hidden)]
pub use trail::Leaving;
pub use trail::{AddRow, Ledger};
pub use trials::Judged;
