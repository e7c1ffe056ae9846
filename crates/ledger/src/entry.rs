//! What is written into the journal.

use pilotage_lens::usage::{Entitlement, Group, Meters, Row, Sums, UpTime};
use serde::{Deserialize, Serialize};

/// One entry of the journal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A request.
    Row(Box<Row>),
    /// Requests that there was no room for one by one.
    Folded(Box<Folded>),
    /// How long replicas were up, as one gateway alone counted it: in journals of before [`Entry::Meters`].
    Up(Box<UpTime>),
    /// What this gateway saw of replicas, which others may have seen as well.
    Meters(Box<Meters>),
    /// Who could count on what of them, a part of it: before the first readings that it goes with.
    Entitled(Box<Entitlement>),
}

/// Sums over requests that there was no room for one by one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Folded {
    /// The hour, since 1970.
    pub hour: u64,
    /// What they have in common.
    #[serde(flatten)]
    pub group: Group,
    /// Sums over them.
    pub sums: Sums,
}

/// The hour of a moment.
pub(crate) const fn hour(unix_ms: u64) -> u64 {
    unix_ms / 3_600_000
}
