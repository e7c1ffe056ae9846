//! Fewest tokens in flight wins: tokens, not requests, because one long prompt can weigh as much
//! as fifty short ones. Ties go to the lowest id, so that equal inputs give equal choices.

use super::{Choice, Placement};
use crate::fleet::Replica;
use crate::{Fleet, Time, Why};

pub(super) fn choose(now: Time, fleet: &Fleet, placement: &Placement<'_>) -> Option<Choice> {
    let fresh = |replica: &&Replica| !placement.tried.contains(&replica.id);
    let some_fresh_up = fleet.iter().filter(|replica| replica.up).any(|replica| fresh(&replica));
    let candidates = || {
        fleet
            .iter()
            .filter(|replica| fleet.has_room(now, replica, &placement.claim))
            .filter(|replica| !some_fresh_up || fresh(replica))
    };
    let best = candidates().min_by_key(|replica| (replica.tokens, replica.id))?;
    let why = Why::LeastLoaded {
        replica: best.id,
        tokens_in_flight: best.tokens,
        candidates: u32::try_from(candidates().count()).unwrap_or(u32::MAX),
        queued: placement.queued,
        attempt: placement.attempt,
    };
    Some(Choice { replica: best.id, why })
}
