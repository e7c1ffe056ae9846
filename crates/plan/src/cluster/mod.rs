//! What is to be done in a cluster: resources of all namespaces and what was observed go in, plans
//! come out that leave no choice to whoever carries them out.
//!
//! ```text
//! objects as the API server has them ──observe──▶ World ──next, plan──▶ Plan: apply, delete, status, tell
//!                                        ▲                                │
//!                                        └──── applied, refused, key ◀────┘
//! ```
//!
//! [`admit()`] says which resources count. A [`World`] keeps what matters of what was seen, knows which
//! resources a change is about, and plans for one of them at a time.

mod action;
mod adapters;
pub mod admit;
mod conditions;
mod difference;
mod kept;
mod kinds;
pub mod lease;
mod mind;
mod model;
mod observed;
mod others;
mod pod;
mod trouble;
mod versions;
mod world;

pub use action::{About, Action, Apply, Keys, Note, Plan, Target, Why};
pub use admit::{Admission, Identity, Refusal, Refused, Seen, admit};
pub use difference::{Difference, differences};
pub use kept::{FETCHES_WITH, PODS};
pub use kinds::{Row, Sort};
pub(crate) use model::PULL_SECONDS;
pub use observed::{FILLED, RENDERED};
pub use pod::PodOf;
pub use trouble::{Failure, Trouble, pod_trouble, trouble};
pub use world::{Place, Ref, Running, Watched, World};

/// The label with a Model's name.
pub const MODEL: &str = "pilotage.dev/model";

/// The Secret with the keys of all Models, which gateways read.
pub const KEYS: &str = "pilotage-engine-keys";

/// The name that the operator writes by.
pub const MANAGER: &str = "pilotage";
