//! Resources of the Gateway API that say what our own resources say: they are translated into these.
//!
//! ```text
//! GatewayClass, Gateway ──▶ which HTTPRoutes are ours ──▶ Route
//!                                     └── lead to an InferencePool ──▶ Model
//! ```
//!
//! What cannot be done exactly is refused with the reason that the Gateway API has for it, never done
//! nearly. Gateways go by the translation; the operator tells the verdict in the resource's status
//! ([`Catalogue::verdicts`]), by the same [`Catalogue`].

mod attach;
mod catalogue;
mod conditions;
mod pool;
mod status;
mod translate;

#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, Change, POOLS_MAX, Part};
pub use pool::{Pool, pool_of};
pub use status::Write;
pub use translate::{http_route, is_ours, translate};

/// The name by which what we do is known: that of GatewayClasses which are ours, and of what we say in
/// the status of others.
pub const CONTROLLER: &str = "pilotage.dev/gateway";

/// The GatewayClass whose Gateways are taken for ours where classes cannot be looked at.
pub const CLASS: &str = "pilotage";

/// The API group of gateways and routes.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The API group of InferencePools.
pub const POOL_GROUP: &str = "inference.networking.k8s.io";

/// The annotation of an HTTPRoute, or of an InferencePool that a picker serves, with the names that clients
/// write as `model`, with commas between.
pub const MODELS_ANNOTATION: &str = "pilotage.dev/models";

/// The annotation of an InferencePool with what its pods run, as `dialect` of a Model.
pub const DIALECT_ANNOTATION: &str = "pilotage.dev/dialect";

/// The annotation of an InferencePool with the sequences that each port of a pod computes at once.
pub const PARALLEL_ANNOTATION: &str = "pilotage.dev/parallel";

/// The annotation of an InferencePool with the tokens of context of each sequence.
pub const CONTEXT_ANNOTATION: &str = "pilotage.dev/context";

/// Namespace and name; the namespace is empty for what has none.
pub type Place = (String, String);

/// Why a resource of the Gateway API is not accepted, in its words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The reason of its condition.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Verdict {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
