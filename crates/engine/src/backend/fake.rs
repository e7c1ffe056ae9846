//! A backend for tests: its next token is a function of all cells before, so that mixed-up cells
//! show in the output. Panics on whatever would abort llama.cpp.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Backend, BackendError, Grammar, ModelFacts, Vocabulary};
use crate::batch::Entry;
use crate::job::{JobError, Token};
use crate::sample::TokenSet;

/// Tokens 0 to 127 are ASCII characters, this one ends a generation.
pub(crate) const END: Token = 128;

const VOCABULARY: usize = 129;

/// Slots of tokens instead of cells.
pub(crate) struct Fake {
    slots: Vec<Vec<Token>>,
    logits: Vec<Vec<f32>>,
    /// Makes the next computation fail.
    pub(crate) fails: Arc<AtomicBool>,
}

impl Fake {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: vec![Vec::new(); slots as usize], logits: Vec::new(), fails: Arc::default() }
    }
}

/// What the model says after these tokens: a lower-case letter, or the end after every `z`.
pub(crate) fn next(tokens: &[Token]) -> Token {
    let hash =
        tokens.iter().fold(17_u32, |hash, token| hash.wrapping_mul(31) ^ token.unsigned_abs());
    if tokens.last() == Some(&Token::from(b'z')) {
        END
    } else {
        Token::from(b'a') + (hash % 26) as Token
    }
}

impl Backend for Fake {
    type Swapped = Vec<Token>;
    type Grammar = Digits;

    fn compute(&mut self, entries: &[Entry]) -> Result<(), BackendError> {
        if self.fails.swap(false, Ordering::SeqCst) {
            return Err(BackendError("out of order".to_owned()));
        }
        self.logits = entries
            .iter()
            .map(|entry| {
                let cells = &mut self.slots[entry.slot as usize];
                assert_eq!(cells.len(), entry.position as usize);
                cells.push(entry.token);
                let mut logits = vec![0.0; VOCABULARY];
                logits[next(cells) as usize] = 20.0;
                logits
            })
            .collect();
        Ok(())
    }

    fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index]
    }

    fn copy(&mut self, from: u32, to: u32) -> Result<(), BackendError> {
        self.slots[to as usize] = self.slots[from as usize].clone();
        Ok(())
    }

    fn keep(&mut self, slot: u32, len: u32) -> Result<(), BackendError> {
        self.slots[slot as usize].truncate(len as usize);
        Ok(())
    }

    fn swap_out(&mut self, slot: u32) -> Result<Vec<Token>, BackendError> {
        Ok(std::mem::take(&mut self.slots[slot as usize]))
    }

    fn swap_in(&mut self, slot: u32, swapped: &Vec<Token>) -> Result<(), BackendError> {
        self.slots[slot as usize].clone_from(swapped);
        Ok(())
    }

    fn grammar(&self, gbnf: &str) -> Result<Digits, JobError> {
        let digits = gbnf.parse().map_err(|_| JobError::BadGrammar("not a number".to_owned()))?;
        Ok(Digits { left: digits })
    }

    fn embed(&mut self, prompts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        Ok(prompts.iter().map(|prompt| vec![prompt.len() as f32, 0.0]).collect())
    }
}

/// A grammar of that many digits and then the end.
pub(crate) struct Digits {
    left: u32,
}

impl Grammar for Digits {
    fn allows(&mut self, token: Token) -> bool {
        self.allowed().contains(token)
    }

    fn allowed(&mut self) -> TokenSet {
        let mut set = TokenSet::with_len(VOCABULARY);
        if self.left == 0 {
            set.insert(END);
        } else {
            (b'0'..=b'9').for_each(|digit| set.insert(digit.into()));
        }
        set
    }

    fn accept(&mut self, token: Token) -> Result<(), BackendError> {
        assert!(self.allows(token), "{token} is not allowed");
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

/// One token for each ASCII character.
#[derive(Default)]
pub(crate) struct Ascii {
    pub(crate) facts: ModelFacts,
}

impl Vocabulary for Ascii {
    fn tokenize(&self, text: &str, _begin: bool, _special: bool) -> Vec<Token> {
        text.bytes().map(|byte| Token::from(byte & 0x7f)).collect()
    }

    fn piece(&self, token: Token, _special: bool) -> Vec<u8> {
        u8::try_from(token).ok().filter(u8::is_ascii).into_iter().collect()
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn size(&self) -> usize {
        VOCABULARY
    }

    fn model(&self) -> &ModelFacts {
        &self.facts
    }
}
