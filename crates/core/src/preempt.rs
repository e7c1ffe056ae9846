//! Whose work is stopped for whom: the one function that chooses victims, free of side effects.
//!
//! Work is stopped for three reasons, in this order: a more *urgent* band waits; a tenant *reclaims*
//! its guarantee from one that borrows (Kueue's loop-free rule); a tenant received so much more than
//! another that *over-share* work stands aside. Where a replica can pause a sequence by itself and
//! go on later, nothing is lost; where it cannot, work that keeps its tokens is stopped, or work of
//! which the client has seen nothing.

use serde::{Deserialize, Serialize};

use crate::{Band, Queue, ReplicaId, RequestId, Span, Time};

/// When running work is stopped for other work.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PreemptConfig {
    /// Whether anything is stopped at all.
    pub enabled: bool,
    /// How much more service than the waiting tenant's the running one's must have had before work of
    /// the same band stands aside, in thousandths of a weighted token for weight one. The hysteresis:
    /// the order turns around only after as much service again. None turns that reason off.
    pub over_share: Option<u64>,
    /// How often one request can be stopped.
    pub stops_max: u32,
    /// How long work of the same band runs at least before it is stopped.
    pub run_min: Span,
}

impl Default for PreemptConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            over_share: Some(2_000_000),
            stops_max: 3,
            run_min: Span::from_millis(500),
        }
    }
}

/// What may be done to a running request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stop {
    /// Nothing: it cannot go on exactly where it stopped, and the client may have seen a part.
    #[default]
    Never,
    /// It can be stopped while the client has seen nothing.
    BeforeFirstToken,
    /// It can be stopped at any time, and goes on from its tokens.
    Anytime,
}

/// Why work was stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// For a more urgent band.
    Urgent,
    /// For a tenant within its guarantee, from one that borrows.
    Reclaim,
    /// For a tenant that received much less.
    OverShare,
}

impl Reason {
    /// Every reason, the strongest first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Reclaim, Self::OverShare];

    /// The name used in headers, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Reclaim => "reclaim",
            Self::OverShare => "over_share",
        }
    }
}

/// A running request as a victim is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: RequestId,
    pub(crate) replica: ReplicaId,
    pub(crate) band: Band,
    pub(crate) started: Time,
    /// KV tokens it holds.
    pub(crate) tokens: u64,
    pub(crate) stops: u32,
    /// Whether the replica would only pause it.
    pub(crate) pausable: bool,
}

/// A victim, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Victim {
    pub(crate) id: RequestId,
    pub(crate) replica: ReplicaId,
    pub(crate) tokens: u64,
    pub(crate) pausable: bool,
    pub(crate) reason: Reason,
}

/// Those that may be stopped for the request that waits, best first: the least urgent, for the
/// strongest reason, with the least work lost, the newest.
pub(crate) fn rank(
    now: Time,
    config: &PreemptConfig,
    queue: &Queue,
    waiting: (RequestId, Band),
    candidates: Vec<Candidate>,
) -> Vec<Victim> {
    if !config.enabled {
        return Vec::new();
    }
    let mut ranked: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| candidate.stops < config.stops_max)
        .filter_map(|candidate| {
            let reason = reason(now, config, queue, waiting, &candidate)?;
            let lost = if candidate.pausable { 0 } else { candidate.tokens };
            let newest = std::cmp::Reverse((candidate.started, candidate.id));
            let order =
                (std::cmp::Reverse(candidate.band), reason as u8, lost, candidate.tokens, newest);
            let Candidate { id, replica, tokens, pausable, .. } = candidate;
            Some((order, Victim { id, replica, tokens, pausable, reason }))
        })
        .collect();
    ranked.sort_by_key(|(order, _)| *order);
    ranked.into_iter().map(|(_, victim)| victim).collect()
}

fn reason(
    now: Time,
    config: &PreemptConfig,
    queue: &Queue,
    (waiting, band): (RequestId, Band),
    candidate: &Candidate,
) -> Option<Reason> {
    if candidate.band != band {
        return (candidate.band > band).then_some(Reason::Urgent);
    }
    if now.since(candidate.started) < config.run_min {
        return None;
    }
    let standing = queue.compare(waiting, candidate.id)?;
    if standing.entitled && standing.borrows && standing.fair {
        return Some(Reason::Reclaim);
    }
    // What is within a guarantee was not received at anybody's cost.
    let over = config.over_share.is_some_and(|most| standing.ahead > u128::from(most));
    (over && standing.borrows).then_some(Reason::OverShare)
}
