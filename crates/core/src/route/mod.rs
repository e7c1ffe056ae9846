//! Where a request goes: the one function that chooses a replica, free of side effects.
//!
//! Filter (up, room, not tried before), then cost, then pick. Only the scheduler books.

mod least_loaded;

use crate::fleet::Claim;
use crate::{Fleet, ReplicaId, Span, Time, Why};

/// What the choice may depend on besides the fleet.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// Replicas that already failed this request.
    pub tried: &'a [ReplicaId],
    /// What it asks of a replica.
    pub claim: Claim,
    /// How long it waited.
    pub queued: Span,
    /// One for the first attempt.
    pub attempt: u32,
}

/// A replica and the reason for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Where to send the request.
    pub replica: ReplicaId,
    /// Why there.
    pub why: Why,
}

/// Chooses a replica with room, or none when the request has to wait.
///
/// A replica that failed this request before is taken again only when it is the only one up:
/// then it has most likely been restarted.
pub fn choose(now: Time, fleet: &Fleet, placement: &Placement<'_>) -> Option<Choice> {
    least_loaded::choose(now, fleet, placement)
}
