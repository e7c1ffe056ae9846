//! One request, when it is over: who asked, what for, how it ended, where its time went. No word of
//! the prompt or the answer, and no key.

use pilotage_core::{Band, Span, Tokens};
use serde::{Deserialize, Serialize};

use crate::timeline::{Phases, millis};

/// How a request ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// Answered to the end; the answer may be an error of the request's own, see the status.
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

/// One line of the access log.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The request's id.
    pub request_id: String,
    /// The trace it belongs to, written as 32 hexadecimal digits.
    #[serde(serialize_with = "hex")]
    pub trace_id: u128,
    /// Whose it was.
    pub tenant: Option<String>,
    /// The path, one of the API's own.
    pub path: &'static str,
    /// The lane that served it; none when it never got that far.
    pub lane: Option<String>,
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
    /// Whether its answer is one that another request had asked for already.
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
    pub earlier_replicas: Vec<String>,
    /// The replica of the last attempt.
    pub replica: Option<String>,
    /// Why that one.
    pub why: Option<String>,
    /// Token counts, the engine's own.
    #[serde(flatten)]
    pub tokens: Tokens,
    /// Where the time went.
    #[serde(flatten)]
    pub phases: Phases,
    /// All of it.
    #[serde(rename = "t_total_ms", serialize_with = "millis")]
    pub total: Span,
    /// Time to the first token.
    #[serde(rename = "ttft_ms", serialize_with = "optional")]
    pub ttft: Option<Span>,
    /// Mean time between tokens.
    #[serde(rename = "tpot_ms", serialize_with = "optional")]
    pub tpot: Option<Span>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_not(flag: &bool) -> bool {
    !*flag
}

fn hex<S: serde::Serializer>(id: &u128, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{id:032x}"))
}

fn optional<S: serde::Serializer>(span: &Option<Span>, out: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => millis(span, out),
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
