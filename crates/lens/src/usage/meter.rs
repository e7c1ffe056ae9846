//! What a gateway saw of replicas: which of them were up in which seconds, and who could count on what of them.

use serde::{Deserialize, Serialize};

use super::seconds::{HOUR_SECONDS, Seconds};
use super::sums::Entitled;

/// What one gateway saw of replicas in one hour, or in a part of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Meters {
    /// The hour, since 1970.
    pub hour: u64,
    /// The [`digest`] of who could count on what.
    pub entitled: String,
    /// Of each replica.
    pub readings: Vec<Reading>,
}

/// What was seen of one replica.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reading {
    /// Its name, the same for all who see it.
    pub replica: String,
    /// The Model it serves.
    pub model: String,
    /// The class of its hardware; empty where it is not known.
    pub hardware: String,
    /// Its accelerators; one for a processor.
    pub accelerators: u32,
    /// What it costs an hour, in millionths of the currency's unit.
    pub micros_per_hour: u64,
    /// When it was up.
    pub seconds: Seconds,
}

/// What a reading adds to what is known of its replica in that hour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Added {
    /// Accelerator-milliseconds.
    pub up_ms: u64,
    /// What they cost, in millionths of the currency's unit.
    pub cost_micros: u64,
}

impl Reading {
    /// Adds it to what is known. Only seconds that nobody had seen count, so that the sum over all readings, in
    /// whatever order and however often they come, is that of one who saw everything. Cost is what is owed in whole
    /// millionths for all seconds now, beyond what it was before: an hour's parts sum up to the hour's price.
    pub fn add_to(&self, known: &mut Seconds) -> Added {
        let before = known.count();
        known.add_all(&self.seconds);
        let now = known.count();
        let owed = |seconds: u64| {
            let micros = u128::from(seconds) * u128::from(self.micros_per_hour);
            u64::try_from(micros / u128::from(HOUR_SECONDS)).unwrap_or(u64::MAX)
        };
        Added {
            up_ms: (now - before)
                .saturating_mul(1000)
                .saturating_mul(self.accelerators.max(1).into()),
            cost_micros: owed(now) - owed(before),
        }
    }
}

/// Who can count on what, or a part of that list.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entitlement {
    /// The [`digest`] of the whole list.
    pub digest: String,
    /// Which part of it, from 0.
    pub part: u64,
    /// The hour in which it held, since 1970.
    pub hour: u64,
    /// The part.
    pub entitled: Vec<Entitled>,
}

/// What a list is known by, so that it is kept once: its length, and FNV-1a over what is in it. Begins with `#`.
pub fn digest(entitled: &[Entitled]) -> String {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for one in entitled {
        hash = one.tenant.as_bytes().iter().fold(hash, fnv);
        // No text has this byte: where a name ends is part of it.
        hash = [0xff].iter().fold(hash, fnv);
        hash = one.guaranteed.to_le_bytes().iter().fold(hash, fnv);
        hash = one.weight.to_le_bytes().iter().fold(hash, fnv);
    }
    format!("#{}-{hash:016x}", entitled.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(seconds: Seconds, micros_per_hour: u64) -> Reading {
        Reading { accelerators: 2, micros_per_hour, seconds, ..Reading::default() }
    }

    #[test]
    fn parts_of_an_hour_cost_the_hour() {
        for price in [1, 999, 1000, 2_490_000] {
            let mut known = Seconds::default();
            let (mut up, mut cost) = (0, 0);
            for from in (0..HOUR_SECONDS).step_by(7) {
                let added = reading(Seconds::stretch(from, from + 7), price).add_to(&mut known);
                (up, cost) = (up + added.up_ms, cost + added.cost_micros);
            }
            assert_eq!((up, cost), (7_200_000, price));
        }
    }

    #[test]
    fn lists_that_differ_have_digests_that_differ() {
        let one = |tenant: &str, guaranteed, weight| Entitled {
            tenant: tenant.to_owned(),
            guaranteed,
            weight,
        };
        let lists = [
            vec![],
            vec![one("a", 1, 2)],
            vec![one("a", 2, 1)],
            vec![one("b", 1, 2)],
            vec![one("a", 1, 2), one("a", 1, 2)],
        ];
        let mut digests: Vec<String> = lists.iter().map(|list| digest(list)).collect();
        assert!(digests.iter().all(|digest| digest.starts_with('#')));
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), lists.len());
    }

    proptest! {
        #[test]
        fn who_sees_it_again_adds_nothing(
            parts in prop::collection::vec((0u16..3600, 0u16..600), 1..30),
            price in 0u64..10_000_000_000,
            order in any::<prop::sample::Index>(),
        ) {
            let mut all = Seconds::default();
            parts.iter().for_each(|(from, len)| all.add(*from, from + len));
            let mut alone = Seconds::default();
            let expect = reading(all, price).add_to(&mut alone);
            let (mut known, mut got) = (Seconds::default(), Added::default());
            let turn = order.index(parts.len());
            // All of them, from one of them on, and then all once more.
            for (from, len) in parts[turn..].iter().chain(&parts[..turn]).chain(&parts) {
                let added = reading(Seconds::stretch(*from, from + len), price).add_to(&mut known);
                got = Added { up_ms: got.up_ms + added.up_ms, cost_micros: got.cost_micros + added.cost_micros };
            }
            prop_assert_eq!(got, expect);
        }
    }
}
