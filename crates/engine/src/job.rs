//! A job: one sequence to generate, as the HTTP side hands it to the engine's loop, and the events
//! that come back. The two sides share nothing else.

use std::sync::Arc;

use pilotage_core::{Band, TenantId, Time};
use tokio::sync::mpsc::UnboundedSender;

use crate::sample::Sampling;

/// A token id of the loaded model's vocabulary.
pub type Token = i32;

/// Names a job within the process.
pub type JobId = u64;

/// One sequence to generate.
#[derive(Debug)]
pub struct Job {
    /// Its id; siblings of one request (`n` > 1) have different ids.
    pub id: JobId,
    /// The request it belongs to, as the gateway names it.
    pub origin: Option<u64>,
    /// The request whose place it takes, by the gateway's name.
    pub displaces: Option<u64>,
    /// Whose it is, for the order inside the batch.
    pub tenant: TenantId,
    /// How urgent it is.
    pub band: Band,
    /// When the caller stops waiting for its turn.
    pub deadline: Option<Time>,
    /// The prompt; never empty, and shorter than the context.
    pub prompt: Arc<[Token]>,
    /// The most tokens to generate; prompt and this together fit the context.
    pub tokens_max: u32,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// A GBNF grammar that the output must match, with `root` as its start.
    pub grammar: Option<String>,
    /// Texts that end the output and are not part of it.
    pub stop: Vec<String>,
    /// How many alternatives to report for each token; none when no log probabilities are wanted.
    pub logprobs: Option<u8>,
    /// Whether the prompt may start from a cached prefix and be cached for others. A seeded job
    /// says no, because another batch shape changes low-order bits.
    pub reuse_prefix: bool,
    /// Whether the model's end-of-generation tokens are ignored.
    pub ignore_end: bool,
    /// Where the events go. The number of events is bounded by `tokens_max` + 2. A closed receiver
    /// cancels the job within one step.
    pub events: UnboundedSender<Event>,
}

/// What happens to a job, in this order: `Started`, any number of `Piece`, then `Done` or `Failed`.
#[derive(Clone, Debug)]
pub enum Event {
    /// The prompt is about to be computed.
    Started {
        /// Prompt tokens found in the prefix cache.
        cached: u32,
    },
    /// Generated text. May be empty (an incomplete character, or text held back because it might
    /// be the start of a stop text); then its text comes with a later piece.
    Piece {
        /// Text that is certain by now.
        text: String,
        /// The token that was generated.
        token: Token,
        /// Its log probability and the alternatives', when wanted.
        logprob: Option<TokenLogprob>,
    },
    /// The job ended by itself.
    Done(Done),
    /// The job could not be finished.
    Failed(JobError),
}

/// How a job ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Done {
    /// Text that was still held back.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Generated tokens, the end-of-generation token included, as the model counts.
    pub tokens: u32,
    /// Prompt tokens that came from the prefix cache.
    pub cached: u32,
    /// The stop text that was found.
    pub stop: Option<String>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// The model ended it, a stop text was found, or the grammar is complete.
    Stop,
    /// `tokens_max` or the context is used up.
    Length,
}

/// Log probabilities (natural logarithm) under the model's own distribution, before any sampling
/// parameter but after nothing else, as vLLM's `raw_logprobs` does.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Of the generated token.
    pub logprob: f32,
    /// The most likely tokens with theirs, best first.
    pub top: Vec<(Token, f32)>,
}

/// Why a job could not be finished.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JobError {
    /// The queue is full: retrying later helps.
    #[error("the engine's queue is full ({waiting} waiting); retry later")]
    QueueFull {
        /// Jobs waiting.
        waiting: u32,
    },
    /// The deadline passed before its turn came.
    #[error("the deadline passed while the request waited for its turn in the engine")]
    DeadlinePassed,
    /// The grammar does not parse: the caller's mistake.
    #[error("the output format cannot be turned into a grammar: {0}")]
    BadGrammar(String),
    /// The engine shuts down.
    #[error("the engine is shutting down; retry on another replica")]
    Draining,
    /// llama.cpp failed to compute.
    #[error("the engine failed to compute: {0}")]
    Compute(String),
}
