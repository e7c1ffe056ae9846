//! Draws that are the same for the same key: who goes where is decided by a hash, so that it can be
//! repeated, explained and kept.

pub(super) use crate::hash::mix;

/// Two keys as one, in this order.
pub(super) const fn join(first: u64, second: u64) -> u64 {
    mix(mix(first) ^ second)
}

/// The key of a text (FNV-1a, mixed).
pub fn key(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A number in (0, 1) by the upper bits of a hash; never one of its ends, so that it has a logarithm.
pub(super) fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// One of the weighted, by weighted rendezvous hashing: each scores `−w / ln u` with a number `u` of
/// its own and the highest wins, so that it wins in proportion to its weight, and a change of one weight moves
/// keys only to or from that one (Schindelhauer and Schomaker, "Weighted distributed hash tables",
/// SPAA 2005). None when nobody has weight.
pub(super) fn pick(key: u64, weighted: impl Iterator<Item = (u64, f64)>) -> Option<u64> {
    let scored = weighted.filter(|(_, weight)| *weight > 0.0).map(|(which, weight)| {
        let score = -weight / unit(join(key, mix(which))).ln();
        (score, which)
    });
    scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, which)| which)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[f64], keys: u64) -> Vec<u64> {
        let weighted = || (0_u64..).zip(weights.iter().copied());
        (0..keys).filter_map(|key| pick(mix(key), weighted())).collect()
    }

    #[test]
    fn shares_are_the_weights() {
        let chosen = picks(&[1.0, 3.0, 0.0, 6.0], 100_000);
        let of = |which: u64| chosen.iter().filter(|one| **one == which).count();
        for (which, expect) in [(0, 10_000), (1, 30_000), (2, 0), (3, 60_000)] {
            assert!(of(which).abs_diff(expect) < 600, "{which}: {}", of(which));
        }
        assert_eq!(picks(&[0.0], 3), Vec::<u64>::new());
    }

    #[test]
    fn a_change_of_weight_moves_only_what_it_must() {
        let before = picks(&[50.0, 30.0, 20.0], 100_000);
        let after = picks(&[50.0, 30.0, 40.0], 100_000);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == 2));
        // 20 of 100 become 40 of 120.
        assert!(moved.count().abs_diff(13_333) < 500);
    }

    #[test]
    fn salts_make_draws_independent() {
        let arm = |salt: u64, key: u64| unit(join(salt, key)) < 0.5;
        let both = (0..100_000).filter(|key| arm(1, *key) && arm(2, *key)).count();
        assert!(both.abs_diff(25_000) < 600, "{both}");
    }
}
