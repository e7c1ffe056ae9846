//! Regions: nearest first, and another only when the near ones are full, slow or gone.
//!
//! All of it is one number for each replica, seconds of distance, which the choice of a replica adds to
//! what waiting and computing there cost: the way there and back, and for each region that is preferred
//! to its own as long a wait as is borne there. So a request waits near by exactly as long as that is
//! worth it, goes on where nobody near takes work, and comes back at once when somebody does. A zone is
//! one of several in a region: between two of them is a way, too, and no wait is borne for it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::name::Name;
use crate::{Site, Span};

/// The way there and back between two zones of a region, rounded up from what public clouds have. All
/// that a request pays for it: prompts of any size are sent in one go.
pub const ZONE_ROUND_TRIP: Span = Span::from_millis(1);

/// Where this process runs: a zone, and its region where zones of several have the same name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    region: Option<Name>,
    name: Name,
}

/// Why a text names no zone.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a zone is written `ZONE` or `REGION/ZONE`, as manifests name them")]
pub struct ZoneError;

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let (region, name) =
            text.split_once('/').map_or((None, text), |(region, name)| (Some(region), name));
        let plain = |text: &str| !text.is_empty() && !text.contains('/') && text.trim() == text;
        if !plain(name) || !region.is_none_or(plain) {
            return Err(ZoneError);
        }
        Ok(Self { region: region.map(Name::from), name: Name::from(name) })
    }
}

impl Zone {
    /// Its name, without its region.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether a replica is in it. One that does not say is not.
    pub fn holds(&self, region: Option<&str>, zone: Option<&str>) -> bool {
        let same = self.region.as_ref().is_none_or(|own| Some(own.as_str()) == region);
        zone == Some(self.name.as_str()) && same
    }
}

/// Regions in the order of preference, as seen from where this process runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Regions {
    /// Each region; several may share a tier.
    pub order: Vec<Region>,
    /// How long a wait is borne before a replica of the next tier is better.
    pub spill_after: Span,
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

impl Regions {
    /// Waits of two seconds are borne.
    pub const fn new(order: Vec<Region>) -> Self {
        Self { order, spill_after: Span::from_secs(2) }
    }

    /// Where a replica is that is in this region. One that is not listed, or that does not say, comes
    /// after all others.
    pub fn site(&self, region: Option<&str>) -> Site {
        let listed = self.order.iter().position(|one| Some(one.name.as_str()) == region);
        let (tier, round_trip) = match listed.and_then(|at| self.order.get(at)) {
            Some(one) => (one.tier.into(), one.round_trip),
            None => {
                let tiers = self.order.iter().map(|one| u64::from(one.tier) + 1);
                let trips = self.order.iter().map(|one| one.round_trip);
                (tiers.max().unwrap_or(0), trips.max().unwrap_or_default())
            }
        };
        let waits = Span::from_nanos(self.spill_after.as_nanos().saturating_mul(tier));
        let number = listed.map_or(0, |at| at + 1);
        let region = u16::try_from(number).unwrap_or(u16::MAX);
        Site { network: round_trip + waits, region, ..Site::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_in_the_zone_that_it_says() {
        let check = |own: &str, region: Option<&str>, zone: Option<&str>, expect: bool| {
            let own: Zone = own.parse().unwrap();
            assert_eq!(own.holds(region, zone), expect, "{own:?} {region:?} {zone:?}");
        };
        check("a", Some("fra"), Some("a"), true);
        check("a", None, Some("a"), true);
        check("a", Some("fra"), Some("b"), false);
        check("a", Some("a"), None, false);
        check("fra/a", Some("fra"), Some("a"), true);
        check("fra/a", Some("ams"), Some("a"), false);
        check("fra/a", None, Some("a"), false);
        for nonsense in ["", "/", "a/", "/a", "a/b/c", " a"] {
            assert_eq!(nonsense.parse::<Zone>(), Err(ZoneError), "{nonsense}");
        }
    }

    #[test]
    fn distance_is_the_way_and_the_waits_that_are_borne_before() {
        let region = |name: &str, tier: u8, ms: u64| Region {
            name: Name::from(name),
            tier,
            round_trip: Span::from_millis(ms),
        };
        let order = vec![region("fra", 0, 1), region("ams", 1, 8), region("nyc", 2, 90)];
        let check = |region: Option<&str>, expect_ms: u64, number: u16| {
            let site = Regions::new(order.clone()).site(region);
            assert_eq!((site.network.as_millis(), site.region), (expect_ms, number), "{region:?}");
        };
        check(Some("fra"), 1, 1);
        check(Some("ams"), 2008, 2);
        check(Some("nyc"), 4090, 3);
        check(Some("elsewhere"), 6090, 0);
        check(None, 6090, 0);
        let none = Regions::new(Vec::new());
        assert_eq!(none.site(Some("fra")), Site::default(), "all are alike");
    }
}
