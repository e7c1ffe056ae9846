//! What prompts say: words that mean nothing, four bytes a token, the same for the same seed.
//! Nothing in them needs an escape in JSON, so that a body is put together by copying.

use pilotage_chance::{Draws, derive};

use super::plan::{Item, Opening};

/// Bytes that make about one token.
pub const BYTES_PER_TOKEN: usize = 4;

/// Bytes of text to copy from.
const CORPUS_BYTES: usize = 1 << 18;

/// Writes prompts.
#[derive(Clone, Debug)]
pub struct Author {
    seed: u64,
    corpus: String,
    prefix_tokens: u32,
}

impl Author {
    /// The author of that seed, who begins groups of prompts with so many tokens.
    pub fn new(seed: u64, prefix_tokens: u32) -> Self {
        let mut draws = Draws::of_part(seed, "text");
        let mut corpus = String::with_capacity(CORPUS_BYTES + 16);
        while corpus.len() < CORPUS_BYTES {
            for _ in 0..=1 + draws.below(3) {
                const ONSETS: &[u8] = b"bdfgklmnprstvz";
                const VOWELS: &[u8] = b"aeiou";
                corpus.push(char::from(ONSETS[draws.below(ONSETS.len())]));
                corpus.push(char::from(VOWELS[draws.below(VOWELS.len())]));
            }
            corpus.push(' ');
        }
        corpus.truncate(CORPUS_BYTES);
        Self { seed, corpus, prefix_tokens }
    }

    /// The prompt of a request's first turn: what it shares with others, then its own.
    pub fn prompt(&self, item: &Item) -> String {
        let mut text = String::with_capacity((item.input as usize + 16) * BYTES_PER_TOKEN);
        let mut own = item.input;
        match &item.opening {
            Opening::Own => {}
            Opening::Group(group) => {
                self.write(derive(self.seed, u64::from(*group)), self.prefix_tokens, &mut text);
            }
            Opening::Blocks(blocks, tokens) => {
                for block in blocks {
                    self.write(derive(self.seed, *block), *tokens, &mut text);
                    own = own.saturating_sub(*tokens);
                }
            }
        }
        self.write(derive(!self.seed, item.number), own, &mut text);
        text
    }

    /// What a later turn of the same conversation says.
    pub fn turn(&self, item: &Item, turn: u32, tokens: u32) -> String {
        let mut text = String::with_capacity(tokens as usize * BYTES_PER_TOKEN);
        let part = derive(derive(!self.seed, item.number), u64::from(turn));
        self.write(part, tokens, &mut text);
        text
    }

    /// Text of so many tokens. It begins with what no other text begins with, so that texts share
    /// nothing unless they are meant to.
    fn write(&self, part: u64, tokens: u32, into: &mut String) {
        let mut left = tokens as usize * BYTES_PER_TOKEN;
        let mark = format!("{part:016x} ");
        let mark = &mark[..mark.len().min(left)];
        into.push_str(mark);
        left -= mark.len();
        let mut from = part as usize % self.corpus.len();
        while left > 0 {
            let piece = &self.corpus[from..self.corpus.len().min(from + left)];
            into.push_str(piece);
            left -= piece.len();
            from = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::trace::BLOCK_TOKENS;

    fn item(number: u64, input: u32, opening: Opening) -> Item {
        Item { at: 0, number, tenant: 0, input, output: 1, opening }
    }

    #[test]
    fn prompts_are_as_long_as_asked_and_repeat() {
        for tokens in [1, 3, 4, 100, 200_000] {
            let author = Author::new(5, 0);
            let text = author.prompt(&item(9, tokens, Opening::Own));
            assert_eq!(text.len(), tokens as usize * BYTES_PER_TOKEN);
            assert_eq!(text, Author::new(5, 0).prompt(&item(9, tokens, Opening::Own)));
            assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn what_is_shared_is_shared_to_the_byte_and_nothing_else_is() {
        let author = Author::new(5, 64);
        let shared = |one: &Item, other: &Item| {
            let (one, other) = (author.prompt(one), author.prompt(other));
            one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
        };
        let group = |number, group| item(number, 50, Opening::Group(group));
        let bytes = 64 * BYTES_PER_TOKEN;
        assert!((bytes..bytes + 8).contains(&shared(&group(1, 3), &group(2, 3))));
        assert!(shared(&group(1, 3), &group(2, 4)) < 8);
        assert!(shared(&item(1, 50, Opening::Own), &item(2, 50, Opening::Own)) < 8);
        let blocks = |number, blocks: &[u64]| {
            item(number, 1_100, Opening::Blocks(blocks.into(), BLOCK_TOKENS))
        };
        let block = BLOCK_TOKENS as usize * BYTES_PER_TOKEN;
        let found = shared(&blocks(1, &[0, 7]), &blocks(2, &[0, 8]));
        assert!((block..block + 8).contains(&found), "{found}");
        assert_eq!(author.prompt(&blocks(1, &[0, 7])).len(), 1_100 * BYTES_PER_TOKEN);
    }

    #[test]
    fn turns_differ() {
        let author = Author::new(5, 0);
        let item = item(1, 50, Opening::Own);
        assert_ne!(author.turn(&item, 1, 20), author.turn(&item, 2, 20));
        assert_eq!(author.turn(&item, 1, 20).len(), 20 * BYTES_PER_TOKEN);
    }
}
