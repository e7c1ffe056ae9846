//! Regions: nearest first, and the next only when the near ones are full, slow or gone.
//!
//! The answer is a number of tiers that are open, and seconds of network for each region, which the
//! choice of a replica adds to its cost. A tier that was opened stays open until the near ones have been well below the
//! limit for a while, so that requests do not swing between regions.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::{Span, Time};

/// Regions in the order of preference, as seen from where this process runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Regions {
    /// Each region; several may share a tier.
    pub order: Vec<Region>,
    /// The next tier opens when the predicted wait in all open ones is longer.
    pub spill_after: Span,
    /// How long the open ones must have been below half of that before a tier is closed again.
    pub close_after: Span,
}

impl Regions {
    /// Waits of two seconds are borne, and an opened tier is held open for half a minute.
    pub const fn new(order: Vec<Region>) -> Self {
        Self { order, spill_after: Span::from_secs(2), close_after: Span::from_secs(30) }
    }
}

/// One region.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Region {
    /// Its name, as replicas carry it.
    pub name: Name,
    /// Its place: zero is the most preferred.
    pub tier: u8,
    /// The way there and back.
    pub round_trip: Span,
}

/// What a region's replicas look like at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionState {
    /// Which region.
    pub name: Name,
    /// Replicas that take work.
    pub healthy: u32,
    /// Of those, replicas with no room.
    pub full: u32,
    /// How long a new request would wait; none where nobody knows.
    pub wait: Option<Span>,
}

/// How many tiers are open, and since when fewer would do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spill {
    /// The last tier that is open.
    pub tier: u8,
    calm_since: Option<Time>,
    /// Why.
    pub why: SpillWhy,
}

/// Why the tiers are open that are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum SpillWhy {
    /// The most preferred has room.
    #[default]
    Local,
    /// No nearer replica takes work.
    Unhealthy,
    /// Every nearer replica is full.
    Full,
    /// Waiting nearer takes longer than is borne.
    Wait {
        /// How long.
        wait: Span,
    },
    /// The nearer ones have room again, but not for long enough.
    Held,
}

impl fmt::Display for SpillWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("the nearest region has room"),
            Self::Unhealthy => f.write_str("no nearer replica takes work"),
            Self::Full => f.write_str("every nearer replica is full"),
            Self::Wait { wait } => write!(f, "the wait nearer by is {} ms", wait.as_millis()),
            Self::Held => f.write_str("nearer regions have had room for a short time only"),
        }
    }
}

/// A region's place at the moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tier {
    /// Which region.
    pub region: Name,
    /// Its place.
    pub tier: u8,
    /// Whether its replicas may be chosen.
    pub open: bool,
    /// Seconds that the way there and back takes.
    pub network_seconds: f64,
}

impl Regions {
    /// Which tiers are open from now on, given which were.
    pub fn spill(&self, now: Time, before: Spill, states: &[RegionState]) -> Spill {
        let (tier, why) = self.needed(states, self.spill_after);
        if tier >= before.tier {
            return Spill { tier, calm_since: None, why };
        }
        let half = Span::from_nanos(self.spill_after.as_nanos() / 2);
        let (calm_tier, calm_why) = self.needed(states, half);
        if calm_tier >= before.tier {
            return Spill { calm_since: None, why: calm_why, ..before };
        }
        let since = before.calm_since.unwrap_or(now);
        if now.since(since) >= self.close_after {
            return Spill { tier: calm_tier, calm_since: None, why: calm_why };
        }
        Spill { calm_since: Some(since), why: SpillWhy::Held, ..before }
    }

    /// Each region's place. A replica of a region that is not listed goes with the last tier.
    pub fn tiers(&self, spill: Spill) -> impl Iterator<Item = Tier> {
        self.order.iter().map(move |region| Tier {
            region: region.name.clone(),
            tier: region.tier,
            open: region.tier <= spill.tier,
            network_seconds: region.round_trip.as_secs_f64(),
        })
    }

    /// The tier of a region by name.
    pub fn tier_of(&self, region: &Name) -> u8 {
        let listed = self.order.iter().find(|one| one.name == *region);
        listed.map_or_else(|| self.last(), |one| one.tier)
    }

    fn last(&self) -> u8 {
        self.order.iter().map(|region| region.tier).max().unwrap_or(0)
    }

    /// The last tier that has to be open for a wait of at most this, and why it is not the one before.
    fn needed(&self, states: &[RegionState], wait_max: Span) -> (u8, SpillWhy) {
        let mut tiers: Vec<u8> = self.order.iter().map(|region| region.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        let (mut why, mut last, mut usable) = (SpillWhy::Local, 0, None);
        for tier in tiers {
            let here = || states.iter().filter(|state| self.tier_of(&state.name) == tier);
            let Some(reason) = saturated(here, wait_max) else { return (tier, why) };
            if reason != SpillWhy::Unhealthy {
                usable = Some((tier, why));
            }
            (why, last) = (reason, tier);
        }
        // Everything is saturated: all that can be used is, as far as the last that takes work.
        usable.unwrap_or((last, why))
    }
}

fn saturated<'a, I: Iterator<Item = &'a RegionState>>(
    here: impl Fn() -> I,
    wait_max: Span,
) -> Option<SpillWhy> {
    let healthy = || here().filter(|state| state.healthy > 0);
    if healthy().next().is_none() {
        return Some(SpillWhy::Unhealthy);
    }
    // The region where the wait is shortest decides: requests can go there.
    let waits = healthy().map(|state| state.wait.unwrap_or_default());
    let wait = waits.min().unwrap_or_default();
    if wait > wait_max {
        return Some(SpillWhy::Wait { wait });
    }
    let known = healthy().all(|state| state.wait.is_some());
    let full = healthy().all(|state| state.full >= state.healthy);
    // A full replica with a known, bearable wait is no reason to go far.
    (full && !known).then_some(SpillWhy::Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Regions {
        let region = |name: &str, tier: u8, ms: u64| Region {
            name: Name::from(name),
            tier,
            round_trip: Span::from_millis(ms),
        };
        let order = vec![region("fra", 0, 1), region("ams", 1, 8), region("nyc", 2, 90)];
        Regions::new(order)
    }

    fn state(name: &str, healthy: u32, full: u32, wait_ms: Option<u64>) -> RegionState {
        let wait = wait_ms.map(Span::from_millis);
        RegionState { name: Name::from(name), healthy, full, wait }
    }

    #[test]
    fn spills_when_the_near_is_full_slow_or_gone() {
        let idle = || [state("ams", 2, 0, Some(0)), state("nyc", 2, 0, Some(0))];
        let check = |near: RegionState, rest: [RegionState; 2], expect: u8, why: &str| {
            let states: Vec<RegionState> = [near].into_iter().chain(rest).collect();
            let spill = regions().spill(Time::ZERO, Spill::default(), &states);
            assert_eq!((spill.tier, spill.why.to_string().as_str()), (expect, why), "{states:?}");
        };
        check(state("fra", 2, 1, Some(0)), idle(), 0, "the nearest region has room");
        check(state("fra", 2, 2, Some(1500)), idle(), 0, "the nearest region has room");
        check(state("fra", 2, 2, Some(2500)), idle(), 1, "the wait nearer by is 2500 ms");
        check(state("fra", 2, 2, None), idle(), 1, "every nearer replica is full");
        check(state("fra", 0, 0, None), idle(), 1, "no nearer replica takes work");
        let far = [state("ams", 0, 0, None), state("nyc", 1, 0, Some(0))];
        check(state("fra", 0, 0, None), far, 2, "no nearer replica takes work");
        // All saturated, the last gone: nothing opens beyond what takes work.
        let gone = [state("ams", 1, 1, Some(9000)), state("nyc", 0, 0, None)];
        check(state("fra", 1, 1, Some(9000)), gone, 1, "the wait nearer by is 9000 ms");
        let none = [state("ams", 0, 0, None), state("nyc", 0, 0, None)];
        check(state("fra", 1, 1, Some(9000)), none, 0, "the nearest region has room");
    }

    #[test]
    fn an_opened_tier_is_held_until_it_is_calm() {
        let regions = regions();
        let at = |secs: u64, spill: Spill, wait_ms: u64| {
            let states = [state("fra", 1, 1, Some(wait_ms)), state("ams", 1, 0, Some(0))];
            regions.spill(Time::from_millis(secs * 1000), spill, &states)
        };
        let mut spill = at(0, Spill::default(), 3000);
        assert_eq!(spill.tier, 1);
        // Between half and the limit nothing closes; below half it takes its time.
        for (secs, wait_ms, expect) in [
            (10, 1500, 1),
            (60, 1500, 1),
            (61, 500, 1),
            (80, 1500, 1),
            (81, 500, 1),
            (110, 500, 1),
            (111, 500, 0),
        ] {
            spill = at(secs, spill, wait_ms);
            assert_eq!(spill.tier, expect, "at {secs} s: {}", spill.why);
        }
        let open: Vec<bool> = regions.tiers(spill).map(|tier| tier.open).collect();
        assert_eq!(open, [true, false, false]);
    }
}
