//! A set of tokens as bits: which tokens a grammar allows next.

use crate::job::Token;

/// A set over a vocabulary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenSet {
    words: Vec<u64>,
}

impl TokenSet {
    /// An empty set over a vocabulary of that size.
    pub fn with_len(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)] }
    }

    /// Adds a token; one outside the vocabulary is ignored.
    pub fn insert(&mut self, token: Token) {
        let at = super::index(token);
        if let Some(word) = self.words.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Whether the token is in the set.
    pub fn contains(&self, token: Token) -> bool {
        let at = super::index(token);
        self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// The lowest token in the set.
    pub fn first(&self) -> Option<Token> {
        let at = self.words.iter().position(|word| *word != 0)?;
        Some(super::token(at * 64 + self.words[at].trailing_zeros() as usize))
    }

    /// Makes every other token impossible.
    pub fn mask(&self, logits: &mut [f32]) {
        for (lanes, word) in logits.chunks_mut(64).zip(&self.words) {
            for (at, logit) in lanes.iter_mut().enumerate() {
                if word >> at & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}
