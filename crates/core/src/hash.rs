//! Numbers that look drawn and are not: the same seed gives the same one, so that a decision can be
//! repeated.

/// A number with every bit of the seed in each of its bits; different seeds give different ones
/// (splitmix64; Steele, Lea, Flood, OOPSLA 2014).
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
