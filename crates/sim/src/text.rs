//! What prompts consist of, as far as caches can tell: names for blocks of any size, equal where the
//! text is equal from its begin.
//!
//! Sources name the blocks that prompts share in sizes of their own; engines and routers count in
//! theirs. What comes after the shared begin, the answer too, is the request's own.

use std::sync::Arc;

use pilotage_chance::mix;
use pilotage_core::{Prompt, RequestId, prefix};

use crate::arrival::Arrival;

/// One request's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    prefix: &'a [u64],
    block_tokens: u32,
    own: u64,
}

impl<'a> Text<'a> {
    /// What begins with these blocks of so many tokens.
    pub(crate) fn of(prefix: &'a [u64], block_tokens: u32, id: RequestId) -> Self {
        Self { prefix, block_tokens, own: mix(mix(id.0)) }
    }

    /// The name of a block of so many tokens, with everything before it; never zero.
    pub(crate) fn block(&self, at: u32, tokens: u32) -> u64 {
        let last = (u64::from(at) + 1) * u64::from(tokens) - 1;
        let place = last.checked_div(u64::from(self.block_tokens));
        let place = place.and_then(|place| usize::try_from(place).ok());
        // A name of the source covers all that comes before it.
        let begin = place.and_then(|place| self.prefix.get(place)).copied();
        mix(begin.unwrap_or(self.own) ^ mix(u64::from(at))).max(1)
    }
}

/// A prompt as a router sees it.
pub(crate) fn prompt(arrival: &Arrival, id: RequestId) -> Prompt {
    let text = Text::of(&arrival.prefix, arrival.block_tokens, id);
    let count = arrival.input / prefix::BLOCK_TOKENS;
    let blocks: Arc<[u64]> = (0..count).map(|at| text.block(at, prefix::BLOCK_TOKENS)).collect();
    let session = arrival.conversation.map_or(0, mix);
    Prompt { blocks: Some(blocks), session, streams: true, ..Prompt::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_any_size_are_shared_as_far_as_the_text_is() {
        let check = |tokens: u32, expect: usize| {
            let one = Text::of(&[7, 8, 9], 100, RequestId(1));
            let other = Text::of(&[7, 8, 5], 100, RequestId(2));
            let same = (0..40).take_while(|at| one.block(*at, tokens) == other.block(*at, tokens));
            assert_eq!(same.count(), expect, "{tokens}");
        };
        check(100, 2);
        check(16, 12);
        check(64, 3);
        check(200, 1);
        check(512, 0);
        let alone = |id: u64| Text::of(&[], 0, RequestId(id)).block(0, 16);
        assert_ne!(alone(1), alone(2));
        assert_eq!(alone(1), alone(1));
        let mut seen = std::collections::BTreeSet::new();
        for (id, at) in (0..50).flat_map(|id| (0..50).map(move |at| (id, at))) {
            assert!(seen.insert(Text::of(&[], 0, RequestId(id)).block(at, 16)), "{id}, {at}");
        }
    }
}
