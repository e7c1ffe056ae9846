//! What requests hold: how long they are, whose they are, what they begin with and how many turns
//! they go on for. Everything comes from a seed, so that the same command asks the same questions.

pub mod length;
pub mod plan;
pub mod text;

pub use length::{Length, LengthError};
pub use plan::{Item, Load, Opening, Plan, Spec, WarmUp};

/// Tenants that one run has at most.
pub const TENANTS_MAX: usize = 64;

/// Turns that a conversation has at most.
pub const TURNS_MAX: u32 = 100;

/// Beginnings that prompts share at most.
pub const GROUPS_MAX: u32 = 100_000;

/// What requests are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Tokens of a prompt, of each turn where there are several.
    pub input: Length,
    /// Tokens that an answer may have.
    pub output: Length,
    /// Beginnings that prompts share, before their own tokens.
    pub prefix: Option<Prefix>,
    /// Turns of a conversation.
    pub turns: u32,
    /// Seconds between an answer and the next turn.
    pub think_seconds: f64,
    /// Whose requests they are, and how many of all each has.
    pub tenants: Vec<Tenant>,
}

/// Beginnings that prompts share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix {
    /// How many there are.
    pub groups: u32,
    /// How long each is, in tokens.
    pub tokens: u32,
}

/// Somebody who sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// What reports call it.
    pub name: String,
    /// Its part of all requests, against the other weights.
    pub weight: f64,
}
