//! Names for the blocks of a prompt: two prompts share the names of as many blocks as they share
//! bytes from their begin.
//!
//! The bytes are those of the request's body, so that naming needs neither a parser nor a tokenizer
//! and costs a fraction of reading them. A name covers all bytes before it, as the blocks of engines'
//! own prefix caches do. The seed is random for each process: names cannot be made to collide from
//! outside.

/// Bytes of one block: [`super::BLOCK_TOKENS`] at four bytes a token (OpenAI's rule of thumb).
pub const BYTES: usize = 256;

/// Blocks that are named: what comes after a megabyte is the same as nothing.
pub const BLOCKS_MAX: usize = 4096;

/// Odd numbers with about as many ones as zeros (the fractional parts of √2, √3 and √5).
const KEYS: [u64; 3] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

/// The names of a prompt's blocks, and one number for all of it. What is incomplete at its end, or behind
/// the last block that is named, has no name.
pub fn name(seed: u64, prompt: &[u8]) -> (Vec<u64>, u64) {
    let mut state = seed;
    let blocks = prompt.chunks_exact(BYTES).take(BLOCKS_MAX);
    let names: Vec<u64> = blocks
        .map(|block| {
            state = absorb(state, block);
            // Zero is the name of what nobody looks for.
            state.max(1)
        })
        .collect();
    let whole = digest(state, &prompt[names.len() * BYTES..]);
    (names, whole)
}

/// One number for any bytes, with a seed.
pub fn digest(seed: u64, bytes: &[u8]) -> u64 {
    absorb(seed ^ fold(bytes.len() as u64 ^ KEYS[2], KEYS[0]), bytes)
}

/// Mixes bytes into a state, sixteen at a time, each time by a multiplication folded to its half: in
/// four rows beside each other, so that nobody waits for the multiplication before.
fn absorb(state: u64, bytes: &[u8]) -> u64 {
    let mut rows = [state, state ^ KEYS[0], state ^ KEYS[1], state ^ KEYS[2]];
    let mut fours = bytes.chunks_exact(64);
    for four in &mut fours {
        for (row, pair) in rows.iter_mut().zip(four.chunks_exact(16)) {
            *row = mix(*row, pair);
        }
    }
    let mut state = state;
    if bytes.len() >= 64 {
        let [one, two, three, four] = rows;
        let halves = [fold(one ^ KEYS[1], two ^ KEYS[2]), fold(three ^ KEYS[0], four ^ KEYS[1])];
        state = fold(halves[0] ^ KEYS[2], halves[1].rotate_left(23) ^ state);
    }
    let mut pairs = fours.remainder().chunks_exact(16);
    for pair in &mut pairs {
        state = mix(state, pair);
    }
    let rest = pairs.remainder();
    if !rest.is_empty() {
        let (low, high) = rest.split_at(rest.len().min(8));
        state = fold(word(low) ^ KEYS[0] ^ state, word(high) ^ KEYS[2]) ^ state.rotate_left(31);
    }
    fold(state ^ KEYS[2], KEYS[1])
}

/// Mixes sixteen bytes into a state.
fn mix(state: u64, pair: &[u8]) -> u64 {
    let (low, high) = pair.split_at(8);
    fold(word(low) ^ KEYS[0] ^ state, word(high) ^ KEYS[1]) ^ state.rotate_left(29)
}

/// At most eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let length = bytes.len().min(8);
    word[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(word)
}

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_shared_as_far_as_bytes_are(
            shared in prop::collection::vec(any::<u8>(), 0..2000),
            one in prop::collection::vec(any::<u8>(), 0..1000),
            other in prop::collection::vec(any::<u8>(), 0..1000),
        ) {
            let (left, right) = ([shared.clone(), one].concat(), [shared, other].concat());
            let bytes = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
            let same = left == right;
            let ((left, one), (right, other)) = (name(7, &left), name(7, &right));
            prop_assert_eq!(one == other, same);
            let names = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(names, bytes / BYTES);
            prop_assert!(left.iter().skip(names).all(|name| !right.contains(name)));
        }
    }

    #[test]
    fn different_things_have_different_names() {
        let mut seen = BTreeSet::new();
        for at in 0..20_000_u64 {
            assert!(seen.insert(digest(1, &at.to_le_bytes())), "{at}");
            assert!(seen.insert(digest(2, &at.to_le_bytes())), "{at} with another seed");
        }
        let zeros = vec![0; BYTES * 20];
        let (names, _) = name(0, &zeros);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 20, "each covers all before it");
        assert_ne!(digest(0, &[0; 3]), digest(0, &[0; 4]));
        let long = |last: u8| [vec![1; BYTES * (BLOCKS_MAX + 5)], vec![last]].concat();
        let ((names, one), (_, other)) = (name(0, &long(1)), name(0, &long(2)));
        assert_eq!(names.len(), BLOCKS_MAX);
        assert_ne!(one, other, "the number is of all of it");
    }
}
