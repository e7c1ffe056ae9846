//! What is known of one request: when it was meant to be sent, when it was, and what came back.
//!
//! All times are nanoseconds since the run began. Latencies count from the *intended* time: a server
//! that stands still for a second delays everybody who was due in it, whether or not the client got
//! round to sending.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a whole answer.
    Ok,
    /// With 429 or 503: the server protected itself.
    Rejected,
    /// No connection could be opened.
    Connect,
    /// The connection broke.
    Broken,
    /// With another status than success.
    Status,
    /// No end within the time limit.
    Timeout,
    /// With an error in the middle of the stream.
    StreamError,
    /// The stream ended without its last event.
    Truncated,
    /// Not at all: the run was over first.
    Unfinished,
    /// Never sent: too many waited for a connection.
    Overflow,
}

impl Outcome {
    /// Whether something went wrong. A rejection is an answer, and one that has not ended is no
    /// failure yet.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Rejected | Self::Unfinished)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was meant to be sent.
    pub intended: u64,
    /// When the pacer got to it.
    pub paced: u64,
    /// When it was handed to an open connection.
    pub sent: u64,
    /// When the first event with content came.
    pub first: Option<u64>,
    /// When the last event with content came.
    pub last: Option<u64>,
    /// When the answer was over.
    pub end: u64,
    /// Whose it was.
    pub tenant: u16,
    /// Which turn of its conversation, from zero.
    pub turn: u16,
    /// Whether it only warmed up.
    pub warm: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The status of the answer; zero where there is none.
    pub status: u16,
    /// Tokens of the prompt: the server's count, or else the number asked for.
    pub input_tokens: u32,
    /// Those of them that the server found in its cache, where it says so.
    pub cached_tokens: u32,
    /// Tokens of the answer: the server's count, or else events with content.
    pub output_tokens: u32,
    /// Whether the server said how many.
    pub counted: bool,
    /// Tokens that the answer might have had.
    pub output_asked: u32,
    /// Events with content.
    pub events: u32,
    /// Seconds between events with content, where there was room to keep them.
    pub gaps: Box<[f32]>,
}

impl Sample {
    /// Whether it counts and was answered.
    pub fn is_good(&self) -> bool {
        !self.warm && self.outcome == Outcome::Ok
    }

    /// From when it should have been sent to the first token, in seconds.
    pub fn ttft(&self) -> Option<f64> {
        self.first.map(|first| seconds(self.intended, first))
    }

    /// From when it was sent to the first token, in seconds.
    pub fn ttft_sent(&self) -> Option<f64> {
        self.first.map(|first| seconds(self.sent, first))
    }

    /// From when it should have been sent to the end, in seconds.
    pub fn e2e(&self) -> f64 {
        seconds(self.intended, self.end)
    }

    /// From when it was sent to the end, in seconds.
    pub fn e2e_sent(&self) -> f64 {
        seconds(self.sent, self.end)
    }

    /// Seconds for each token after the first.
    pub fn tpot(&self) -> Option<f64> {
        let after = self.output_tokens.checked_sub(1).filter(|after| *after > 0)?;
        Some(seconds(self.first?, self.last?) / f64::from(after))
    }

    /// How late the pacer was, in seconds.
    pub fn schedule_delay(&self) -> f64 {
        seconds(self.intended, self.paced)
    }

    /// How long it waited in the client for a connection, in seconds.
    pub fn client_queue(&self) -> f64 {
        seconds(self.paced, self.sent)
    }
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An answered request, times in milliseconds: due, first token, end; with ten tokens.
    pub(crate) fn answered(intended: u64, first: u64, end: u64) -> Sample {
        let ms = 1_000_000;
        Sample {
            intended: intended * ms,
            paced: intended * ms,
            sent: intended * ms,
            first: Some(first * ms),
            last: Some(end * ms),
            end: end * ms,
            tenant: 0,
            turn: 0,
            warm: false,
            outcome: Outcome::Ok,
            status: 200,
            input_tokens: 100,
            cached_tokens: 0,
            output_tokens: 10,
            counted: true,
            output_asked: 10,
            events: 10,
            gaps: Box::default(),
        }
    }

    #[test]
    fn latencies_count_from_when_sending_was_due() {
        let sample = Sample { paced: 2_000_000, sent: 1_000_000_000, ..answered(0, 1_010, 1_100) };
        assert_eq!(sample.ttft(), Some(1.01));
        assert_eq!(sample.ttft_sent(), Some(0.01));
        assert_eq!(sample.e2e(), 1.1);
        assert_eq!(sample.tpot(), Some(0.01));
        assert_eq!(sample.schedule_delay(), 0.002);
        assert_eq!(sample.client_queue(), 0.998);
    }

    #[test]
    fn one_token_has_no_time_between_tokens() {
        assert_eq!(Sample { output_tokens: 1, ..answered(0, 1, 2) }.tpot(), None);
        assert_eq!(Sample { first: None, ..answered(0, 1, 2) }.tpot(), None);
    }
}
