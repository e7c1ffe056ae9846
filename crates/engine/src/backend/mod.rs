//! What the loop needs of a library that computes: cells moved, a batch computed, logits read.

pub mod llama;

#[cfg(test)]
pub(crate) mod fake;

use std::sync::Arc;

use thiserror::Error;

use crate::batch::Entry;
use crate::job::{JobError, Token};
use crate::sample::TokenSet;

/// A library with a loaded model and its KV streams. Lives on one thread.
pub trait Backend {
    /// A sequence's cells in the host's memory.
    type Swapped;
    /// A grammar and how far the output has come in it.
    type Grammar: Grammar;

    /// Computes the batch. Positions continue each slot's cells.
    ///
    /// # Errors
    /// The library failed; the cells of the slots in the batch are in doubt.
    fn compute(&mut self, entries: &[Entry]) -> Result<(), BackendError>;

    /// The logits of the batch's entry at that index, which asked for them.
    fn logits(&self, index: usize) -> &[f32];

    /// Makes `to` a copy of `from`.
    ///
    /// # Errors
    /// The library refused; the cells of `to` are in doubt.
    fn copy(&mut self, from: u32, to: u32) -> Result<(), BackendError>;

    /// Drops all but the first `len` cells.
    ///
    /// # Errors
    /// The library cannot cut there; the slot's cells are in doubt.
    fn keep(&mut self, slot: u32, len: u32) -> Result<(), BackendError>;

    /// Copies a slot's cells to the host's memory and empties the slot.
    ///
    /// # Errors
    /// The library failed; the cells are lost.
    fn swap_out(&mut self, slot: u32) -> Result<Self::Swapped, BackendError>;

    /// Copies cells back into an empty slot.
    ///
    /// # Errors
    /// The library failed; the slot's cells are in doubt.
    fn swap_in(&mut self, slot: u32, swapped: &Self::Swapped) -> Result<(), BackendError>;

    /// A grammar from its GBNF text.
    ///
    /// # Errors
    /// [`JobError::BadGrammar`].
    fn grammar(&self, gbnf: &str) -> Result<Self::Grammar, JobError>;

    /// One vector of length one for each prompt.
    ///
    /// # Errors
    /// The library failed.
    fn embed(&mut self, prompts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError>;
}

/// A grammar in use.
pub trait Grammar {
    /// Whether the token may come next: cheap, one candidate.
    fn allows(&mut self, token: Token) -> bool;

    /// Every token that may come next: expensive, the whole vocabulary.
    fn allowed(&mut self) -> TokenSet;

    /// The token came.
    ///
    /// # Errors
    /// It does not fit, or the library failed.
    fn accept(&mut self, token: Token) -> Result<(), BackendError>;
}

/// The library failed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0}")]
pub struct BackendError(pub String);

/// The vocabulary and what is known of the model. Shared between threads.
pub trait Vocabulary: Send + Sync {
    /// Tokens of a text. `special` recognises control tokens written out in the text, which only
    /// the chat template's own text may contain; `begin` adds the begin-of-text token where the
    /// model wants one.
    fn tokenize(&self, text: &str, begin: bool, special: bool) -> Vec<Token>;

    /// The bytes of a token; control tokens have some only if `special`.
    fn piece(&self, token: Token, special: bool) -> Vec<u8>;

    /// Whether the token ends a generation.
    fn is_end(&self, token: Token) -> bool;

    /// Tokens in the vocabulary.
    fn size(&self) -> usize;

    /// What is known of the model.
    fn model(&self) -> &ModelFacts;
}

/// A shared vocabulary.
pub type SharedVocabulary = Arc<dyn Vocabulary>;

/// What a weights file says of its model.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ModelFacts {
    /// Its name.
    pub name: Option<String>,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
    /// The begin-of-text token's text.
    pub bos: String,
    /// The end-of-text token's text.
    pub eos: String,
    /// The texts of the control tokens, such as those that begin and end a turn.
    pub controls: Vec<String>,
    /// Length of an embedding.
    pub embedding_size: u32,
    /// Context the model was trained for.
    pub context_trained: u32,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes of one KV cell over all layers, keys and values at two bytes an element.
    pub cell_bytes: u64,
    /// Whether cells cannot be cut back (recurrent or hybrid models).
    pub recurrent: bool,
}
