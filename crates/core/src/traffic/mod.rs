//! Which model answers a request of a route: rules, weights, experiments, canaries, copies and
//! fallbacks, decided before any replica is looked at.
//!
//! A [`Route`] has public names and chooses among models; each model is a lane with a queue and
//! replicas of its own. [`Router`] is the table of all routes, immutable, so that a new configuration
//! replaces it whole; what changes with time (a canary's share, whether a lane is open) is asked
//! through [`Live`]. Every choice carries [`Why`]; a request that nothing fits gets [`NoRoute`], which
//! says what is missing where.
//!
//! ```text
//! router.choose(public name, asked, live) → Choice { lane, fallbacks, mirror, why }
//! refused there?  fallback::moves_on(miss) → the next of `fallbacks`, or the refusal stands
//! ```

pub mod canary;
mod dice;
pub mod fallback;
pub mod fit;
pub mod merge;
pub mod mirror;
pub mod name;
pub mod region;
pub mod router;
pub mod spec;
pub mod stats;
pub mod tally;

pub use canary::{Arm, Canary, CanaryPlan, Judgement, OnFail, Step, Tolerance, Verdict};
pub use dice::key;
pub use fallback::{Miss, MovesOn};
pub use fit::{Capabilities, Feature, Features, Lack, Misfit, Needs};
pub use merge::Charge;
pub use mirror::Shadow;
pub use name::{ANY, Name, Tag, TagError};
pub use region::{Region, Regions, ZONE_ROUND_TRIP, Zone, ZoneError};
pub use router::{Asked, By, Choice, Explained, Live, NoRoute, Offer, Router, Why};
pub use spec::{
    Experiment, HeaderMatch, LaneId, Mirror, Model, Role, Route, Rule, Sticky, Target, TokenRange,
    When,
};
pub use tally::{Sample, Tally};
