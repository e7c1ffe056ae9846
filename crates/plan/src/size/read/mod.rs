//! Readers of the files that say what a model is: `config.json`, indexes and headers of
//! safetensors, and GGUF.
//!
//! What they read comes from strangers. Every count, width and nesting has a named limit,
//! arithmetic saturates, and what is wrong becomes one [`ReadError`] that names the field and what
//! to do.

pub mod config;
mod elements;
mod family;
mod feedforward;
mod fields;
mod ggml;
pub mod gguf;
mod mixer;
mod parameters;
mod quant;
pub mod safetensors;
pub mod tensors;
mod vision;

use thiserror::Error;

pub use config::Config;
pub use gguf::Gguf;
pub use safetensors::Index;
pub use tensors::{Tensor, Tensors};

/// Why a file does not say what a model is.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ReadError {
    /// There is more of it than any real one has.
    #[error("{what} has {bytes} bytes, at most {max} are read; check that it is the right file")]
    TooLarge {
        /// The file.
        what: &'static str,
        /// Bytes it has.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It is not JSON, or not an object.
    #[error("{what} is not a JSON object ({reason}); fetch it again")]
    NotJson {
        /// The file.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A field is not there.
    #[error("`{field}` is missing from {what}; {fix}")]
    Missing {
        /// The file.
        what: &'static str,
        /// The field.
        field: String,
        /// What to do.
        fix: &'static str,
    },
    /// A field is of another type.
    #[error("`{field}` in {what} is {found}, not {expected}; correct it or fetch the file again")]
    WrongType {
        /// The file.
        what: &'static str,
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A number is none that a model could have.
    #[error(
        "`{field}` in {what} is {value}, which must be {min} to {max}; correct it or fetch the file again"
    )]
    OutOfRange {
        /// The file.
        what: &'static str,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// The least there can be.
        min: u64,
        /// The most there can be.
        max: u64,
    },
    /// A word that nothing here knows, where each means something else.
    #[error(
        "`{field}` in {what} is `{value}`, which must be one of {known}; correct it or fetch the file again"
    )]
    UnknownWord {
        /// The file.
        what: &'static str,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// The words that are known.
        known: &'static str,
    },
    /// Two fields contradict each other.
    #[error("{what} contradicts itself: {detail}; correct it or fetch the file again")]
    Contradiction {
        /// The file.
        what: &'static str,
        /// What does not go together.
        detail: String,
    },
    /// There are fewer weights than the configuration describes.
    #[error(
        "the weights are incomplete: their files have {percent} % of the {counted} parameters that config.json \
         describes; {lacking}; fetch all shards and model.safetensors.index.json, or the config.json of these weights"
    )]
    Incomplete {
        /// The share that is there.
        percent: u64,
        /// Parameters by the configuration.
        counted: u64,
        /// What is not there.
        lacking: String,
    },
    /// Nothing here knows how such a model is built.
    #[error(
        "architecture `{name}` is not known; give the weights' index or headers too: with num_hidden_layers, \
         hidden_size, num_attention_heads and vocab_size from config.json they suffice"
    )]
    UnknownArchitecture {
        /// Its name.
        name: String,
    },
    /// It is of another format.
    #[error("this is not {what}: it does not begin as one does; give the path of such a file")]
    NotThis {
        /// What it should have been.
        what: &'static str,
    },
    /// A version that is not known.
    #[error("{what} is of version {version}; versions {known} are read")]
    Version {
        /// The file.
        what: &'static str,
        /// Its version.
        version: u64,
        /// The ones that are.
        known: &'static str,
    },
    /// There are fewer bytes than the header says.
    #[error(
        "{what} is cut off: {has} bytes are there and at least {needs} are needed; fetch it again"
    )]
    Truncated {
        /// The file.
        what: &'static str,
        /// Bytes that are there.
        has: u64,
        /// Bytes that are needed to go on.
        needs: u64,
    },
    /// The header says what cannot be.
    #[error("{what} is damaged: {detail}; fetch it again")]
    Damaged {
        /// The file.
        what: &'static str,
        /// What cannot be.
        detail: String,
    },
}

/// Either what was asked for, or which bytes of the file are needed first.
#[derive(Clone, Debug, PartialEq)]
pub enum Partial<T> {
    /// It is read.
    Done(T),
    /// The bytes from the file's begin up to here are needed: ask for `bytes=0-(end-1)`, or append
    /// what is missing.
    Needs {
        /// Bytes from the begin.
        end: u64,
    },
}
