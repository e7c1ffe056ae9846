//! Which band is next: strict by urgency, with a floor under each band, a cap over it, and turns for
//! those that waited long, so that strictness starves nobody.

use serde::{Deserialize, Serialize};

use super::tree::WHOLE;
use crate::{Band, Span};

/// Of so many turns at most one goes to a band for its age: a flood of old bulk work must not turn
/// the order upside down. Bands that aged take these turns in rotation, so that the flood of one
/// does not starve another.
pub(super) const AGED_ONE_IN: u32 = 5;

/// One band's rights beside the others, in thousandths of the capacity in KV tokens in flight.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BandPolicy {
    /// While the band uses less and has work, it goes before all bands that are over their floors.
    pub floor: u32,
    /// The band starts nothing more from here on, so that the rest stays free for others.
    pub cap: u32,
    /// How long its oldest request waits before the band gets turns out of order; none is for ever.
    pub age_after: Option<Span>,
}

impl BandPolicy {
    /// No floor, no cap, no ageing: strict order alone.
    pub const STRICT: Self = Self { floor: 0, cap: WHOLE, age_after: None };

    /// What each band has when nothing is said, most urgent first. Thresholds of age are those of
    /// SMG's starvation guard for its four classes, 5, 5, 30 and 120 seconds. There are no floors:
    /// on a small replica even a small one would let bulk work in front of somebody who waits for
    /// each word.
    pub const DEFAULT: [Self; Band::ALL.len()] = [
        Self { floor: 0, cap: WHOLE, age_after: None },
        Self { floor: 0, cap: WHOLE, age_after: Some(Span::from_secs(5)) },
        Self { floor: 0, cap: WHOLE, age_after: Some(Span::from_secs(30)) },
        Self { floor: 0, cap: WHOLE, age_after: Some(Span::from_secs(120)) },
    ];

    pub(super) fn floor_tokens(&self, capacity: u64) -> u64 {
        part(self.floor, capacity)
    }

    /// None when there is no cap, or no capacity is known yet.
    pub(super) fn cap_tokens(&self, capacity: u64) -> Option<u64> {
        (self.cap < WHOLE && capacity > 0).then(|| part(self.cap, capacity).max(1))
    }
}

fn part(thousandths: u32, capacity: u64) -> u64 {
    let tokens = u128::from(capacity) * u128::from(thousandths) / u128::from(WHOLE);
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

/// What a band looks like when a turn is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) band: Band,
    /// Somebody waits who may be served.
    pub(super) waits: bool,
    pub(super) below_floor: bool,
    pub(super) over_cap: bool,
    pub(super) aged: bool,
}

/// The band whose turn it is, and whether it got it for its age. `aged_after` is the band that had
/// such a turn last, where another one is due.
pub(super) fn choose(bands: &[Standing], aged_after: Option<Band>) -> Option<(Band, bool)> {
    let open = || bands.iter().filter(|band| band.waits && !band.over_cap);
    let first = open().find(|band| band.below_floor).or_else(|| open().next())?.band;
    let aged = aged_after.and_then(|last| {
        let aged = open().filter(|band| band.aged && band.band != first);
        aged.map(|band| band.band).min_by_key(|band| (*band <= last, *band))
    });
    Some(aged.map_or((first, false), |aged| (aged, true)))
}
