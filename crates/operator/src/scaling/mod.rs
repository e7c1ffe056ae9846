//! Copies of Models that follow their load, on a cluster.
//!
//! ```text
//! every gateway ──GET /scaling──▶ Regulator ──▶ scale of the workload · engines asleep and awake
//! (leader only)                      │
//!                                    ▼
//!                      Model.status.scaling ──▶ external metrics (HPA) · external scaler (KEDA)
//! ```
//!
//! The leader decides and writes down what it decided. Whoever else counts copies is told what is
//! written, by the leader or by the pod beside it, so that both say the same; a new leader says what
//! the last one decided until it has seen enough to decide itself.
//!
//! Contract: the number of copies is in the workload's scale and nowhere else. What renders workloads
//! leaves it out, so that nobody writes it against somebody.

mod board;
mod cluster;
mod conduct;
mod keda;
mod metrics_api;
mod reach;
mod registration;
mod service;
mod view;
mod write;

pub use board::Board;
pub use cluster::FromWatches;
pub use conduct::{Conduct, POLL};
pub use keda::keda;
pub use metrics_api::{MetricsApi, respond};
pub use reach::{Ask, Asleep, Reach, ReachError};
pub use registration::{Registration, RegistrationError};
pub use service::{Settings, run};
pub use view::{GatewayView, Known, ModelView, PodView, View, Workload, WorkloadKind};
pub(crate) use write::MANAGER;
