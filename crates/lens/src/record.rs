//! One request, when it is over: who asked, what for, how it ended, where its time went. No word of
//! the prompt or the answer, and no key.

use std::fmt::Display;

use pilotage_core::traffic::{self, Name};
use pilotage_core::{Band, Span, Tokens, Why};
use serde::{Deserialize, Serialize, Serializer};

use crate::itl::{Itl, Stall};
use crate::ran::Ran;
use crate::timeline::{Phases, millis};
use crate::trace::Reasons;

/// How a request ended.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// Answered to the end; the answer may be an error of the request's own, see the status.
    #[default]
    Ok,
    /// The client went away.
    ClientCancel,
    /// It was wrong: malformed, too large, without a key, for an unknown model.
    BadRequest,
    /// Its tenant's quota was used up.
    Quota,
    /// Its tenant's budget was spent.
    Budget,
    /// Too much was waiting.
    QueueFull,
    /// It waited longer than it wanted to.
    Deadline,
    /// Every attempt failed before the first byte.
    UpstreamError,
    /// A replica failed in the middle of the answer.
    UpstreamInterrupted,
    /// Nothing came for too long.
    Timeout,
    /// The gateway was stopping.
    Draining,
}

impl Termination {
    /// Every way to end.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::ClientCancel,
        Self::BadRequest,
        Self::Quota,
        Self::Budget,
        Self::QueueFull,
        Self::Deadline,
        Self::UpstreamError,
        Self::UpstreamInterrupted,
        Self::Timeout,
        Self::Draining,
    ];

    /// The name used in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientCancel => "client_cancel",
            Self::BadRequest => "bad_request",
            Self::Quota => "quota",
            Self::Budget => "budget",
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamInterrupted => "upstream_interrupted",
            Self::Timeout => "timeout",
            Self::Draining => "draining",
        }
    }
}

/// What was wrong with an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct AttemptFault {
    /// In a word of the metric `pilotage_upstream_faults`.
    pub what: &'static str,
    /// The HTTP status that the replica answered with, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// One request that is over: the line of the access log, and what metrics, traces, ledger and console are
/// made from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Record {
    /// When it ended, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The request's id.
    pub request_id: Name,
    /// The trace it belongs to, written as 32 hexadecimal digits.
    #[serde(serialize_with = "hex_trace")]
    pub trace_id: u128,
    /// The client's span, written as 16 hexadecimal digits.
    #[serde(serialize_with = "hex_parent", skip_serializing_if = "Option::is_none")]
    pub parent_span: Option<u64>,
    /// The gateway's span for it, written as 16 hexadecimal digits.
    #[serde(serialize_with = "hex_span")]
    pub span_id: u64,
    /// Whether its trace is recorded: its client's wish, or drawn by the gateway.
    #[serde(skip_serializing_if = "is_not")]
    pub sampled: bool,
    /// Why its trace is kept; no reason where it is not.
    #[serde(skip)]
    pub kept: Reasons,
    /// Whose it was.
    pub tenant: Option<Name>,
    /// The tenant below those above it, divided by `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_path: Option<Name>,
    /// The path, one of the API's own.
    pub path: &'static str,
    /// The route that it took; none when it never got that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Name>,
    /// The lane that served it; none when it never got that far.
    pub lane: Option<Name>,
    /// What the lane's weights are, such as their digest; with the version on trial behind a `#`.
    #[serde(rename = "model_version", skip_serializing_if = "Option::is_none")]
    pub version: Option<Name>,
    /// The LoRA adapter that it asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Name>,
    /// The server that its replica is, such as `vllm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<&'static str>,
    /// The version of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<Name>,
    /// The class of its replica's hardware, such as `h100-sxm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Name>,
    /// How urgent it was.
    pub band: Band,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// The HTTP status.
    pub status: u16,
    /// How it ended.
    pub termination: Termination,
    /// Attempts made.
    pub attempts: u32,
    /// Times it was stopped for somebody else.
    pub stops: u32,
    /// Whether its answer is one that another request had asked for already. It may be on this one's account all
    /// the same, if that one left: see [`Self::ran`].
    #[serde(skip_serializing_if = "is_not")]
    pub merged: bool,
    /// Whether it is a copy, whose answer nobody sees.
    #[serde(skip_serializing_if = "is_not")]
    pub mirror: bool,
    /// Whether its answer was one that had been kept, `hit` or `miss`; none where none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// Times its answer broke off and went on elsewhere.
    pub resumed: u32,
    /// Whether the engine said something that had to be put right, such as an end twice.
    #[serde(skip_serializing_if = "is_not")]
    pub corrupted: bool,
    /// The replicas of the attempts before the last one, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_replicas: Vec<Name>,
    /// What was wrong with each of these; none where it was stopped for somebody else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_faults: Vec<Option<AttemptFault>>,
    /// What was wrong with the last attempt, where anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<AttemptFault>,
    /// Requests that waited for their turn in its lane when it got in line.
    #[serde(skip_serializing_if = "is_zero")]
    pub queue_depth: u32,
    /// The replica of the last attempt.
    pub replica: Option<Name>,
    /// Host and port of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Name>,
    /// Whether the connection to it was open already; none where it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<bool>,
    /// The region of that, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Why that one.
    #[serde(serialize_with = "text")]
    pub why: Option<Why>,
    /// Why that model.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub route_why: Option<traffic::Why>,
    /// Token counts, the engine's own where it told them.
    #[serde(flatten)]
    pub tokens: Tokens,
    /// Generated tokens that were thoughts, part of the output.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning: u32,
    /// Whether the engine itself told the tokens; otherwise they are counted by events, or estimated.
    pub counted: bool,
    /// What its tenant was charged, in millionths of the currency's unit.
    #[serde(rename = "charged_micros")]
    pub charged: u64,
    /// What it took of engines, where its phases do not tell: nothing at all where its answer is on another one's
    /// account.
    #[serde(skip)]
    pub ran: Option<Box<Ran>>,
    /// Where the time went.
    #[serde(flatten)]
    pub phases: Phases,
    /// All of it.
    #[serde(rename = "t_total_ms", with = "millis")]
    pub total: Span,
    /// Time to the first token, of a stream.
    #[serde(rename = "ttft_ms", with = "millis::optional")]
    pub ttft: Option<Span>,
    /// Mean time between tokens, of a stream.
    #[serde(rename = "tpot_ms", with = "millis::optional")]
    pub tpot: Option<Span>,
    /// The gaps between tokens, of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl: Option<Itl>,
    /// When its first stalls were.
    #[serde(skip)]
    pub stalls: Vec<Stall>,
}

/// The span of one attempt of a request, from 1, below the request's own: the same for whoever asks. The mix is
/// the finalizer of splitmix64 (Steele, Lea and Flood 2014), so that neighbours are far apart.
pub const fn attempt_span(span_id: u64, attempt: u32) -> u64 {
    let mut mixed = span_id.wrapping_add((attempt as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // Zero is no span.
    if mixed == 0 { 1 } else { mixed }
}

impl Record {
    /// Whether it ended as its client wished: an answer, though it may be an error of the request's own.
    pub const fn is_answered(&self) -> bool {
        matches!(self.termination, Termination::Ok) && self.status < 400
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_not(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn hex_trace<S: Serializer>(id: &u128, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{id:032x}"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn hex_span<S: Serializer>(id: &u64, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{id:016x}"))
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn hex_parent<S: Serializer>(id: &Option<u64>, out: S) -> Result<S::Ok, S::Error> {
    hex_span(&id.unwrap_or_default(), out)
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn text<T: Display, S: Serializer>(value: &Option<T>, out: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => out.collect_str(value),
        None => out.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_serialised_form() {
        for termination in Termination::ALL {
            let json = serde_json::to_string(&termination).unwrap();
            assert_eq!(json, format!("\"{}\"", termination.name()));
        }
    }
}
