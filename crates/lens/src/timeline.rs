//! Where a request's time went: marks set as it goes along, and phases computed from them that sum
//! up to the total exactly, whatever marks are missing or out of order.

use pilotage_core::{Span, Time};
use serde::{Deserialize, Serialize};

/// A point on a request's way, in their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Who asks is known.
    Known,
    /// Its body was read and understood.
    Read,
    /// It got in line: its model is chosen, its place in quotas reserved. Set again for another model.
    Lined,
    /// Its turn came: a replica was chosen. Set again on a retry.
    Dispatched,
    /// The replica began to answer.
    Answered,
    /// The first token came.
    FirstToken,
    /// The last token came.
    LastToken,
}

impl Mark {
    /// How many there are.
    const COUNT: usize = 7;
}

/// Marks of one request.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    begun: Time,
    marks: [Option<Time>; Mark::COUNT],
    first_dispatch: Option<Time>,
    blocked: Span,
}

/// How long each phase took. Their sum is the total.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Phases {
    /// Finding out who asks.
    #[serde(rename = "t_auth_ms", with = "millis")]
    pub auth: Span,
    /// Reading the body, and understanding it.
    #[serde(rename = "t_read_ms", with = "millis")]
    pub read: Span,
    /// Choosing its model, looking for a kept answer, reserving its place in quotas.
    #[serde(rename = "t_route_ms", with = "millis")]
    pub route: Span,
    /// Waiting for its turn.
    #[serde(rename = "t_queue_ms", with = "millis")]
    pub queue: Span,
    /// Attempts that failed, up to the last dispatch.
    #[serde(rename = "t_retry_ms", with = "millis")]
    pub retry: Span,
    /// From the last dispatch until the replica began to answer: connecting, sending, its queue.
    #[serde(rename = "t_connect_ms", with = "millis")]
    pub connect: Span,
    /// From then to the first token.
    #[serde(rename = "t_prefill_ms", with = "millis")]
    pub prefill: Span,
    /// From the first to the last token, without the time in which the client took nothing.
    #[serde(rename = "t_decode_ms", with = "millis")]
    pub decode: Span,
    /// The answer waited for its client to take more of it.
    #[serde(rename = "t_client_blocked_ms", with = "millis")]
    pub client_blocked: Span,
    /// The rest: from the last token to the end.
    #[serde(rename = "t_other_ms", with = "millis")]
    pub other: Span,
}

impl Timeline {
    /// A request that began now.
    pub const fn new(now: Time) -> Self {
        Self { begun: now, marks: [None; Mark::COUNT], first_dispatch: None, blocked: Span::ZERO }
    }

    /// Sets a mark; setting one again moves it.
    pub fn set(&mut self, now: Time, mark: Mark) {
        if mark == Mark::Dispatched {
            self.first_dispatch.get_or_insert(now);
            // What a failed attempt brought does not count.
            for later in [Mark::Answered, Mark::FirstToken, Mark::LastToken] {
                self.marks[later as usize] = None;
            }
        }
        self.marks[mark as usize] = Some(now);
    }

    /// The client took nothing for so long, though there was something for it.
    pub fn blocked(&mut self, span: Span) {
        self.blocked = self.blocked + span;
    }

    /// When it began.
    pub const fn begun(&self) -> Time {
        self.begun
    }

    /// From the begin to the first token.
    pub fn ttft(&self) -> Option<Span> {
        self.marks[Mark::FirstToken as usize].map(|first| first.since(self.begun))
    }

    /// The mean time between tokens, for an answer of that many.
    pub fn tpot(&self, tokens: u32) -> Option<Span> {
        let first = self.marks[Mark::FirstToken as usize]?;
        let last = self.marks[Mark::LastToken as usize]?;
        let gaps = u64::from(tokens.checked_sub(1).filter(|gaps| *gaps > 0)?);
        Some(Span::from_nanos(last.since(first).as_nanos() / gaps))
    }

    /// The phase that it is in, as long as it is not over: whichever token was the last, more may come.
    pub fn phase(&self) -> Phase {
        let [before @ .., _last_token] = self.ends();
        let reached = before.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        Phase::AFTER[reached]
    }

    /// The phases of a request that ended now.
    pub fn phases(&self, end: Time) -> Phases {
        let end = end.max(self.begun);
        let mut at = self.begun;
        // Each phase ends at its mark, or takes no time when the request never got there; what is
        // left belongs to the phase that it was in when it ended.
        let ends = self.ends();
        let reached = ends.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut spans = [Span::ZERO; Mark::COUNT + 2];
        for (phase, mark) in ends.into_iter().enumerate() {
            if let Some(mark) = mark {
                let until = mark.clamp(at, end);
                spans[phase] = until.since(at);
                at = until;
            }
        }
        spans[reached] = spans[reached] + end.since(at);
        let [auth, read, route, queue, retry, connect, prefill, decode, other] = spans;
        // The client is waited for while tokens come, and after the last of them.
        let while_decoding = self.blocked.min(decode);
        let after = self.blocked.saturating_sub(while_decoding).min(other);
        Phases {
            auth,
            read,
            route,
            queue,
            retry,
            connect,
            prefill,
            decode: decode.saturating_sub(while_decoding),
            client_blocked: while_decoding + after,
            other: other.saturating_sub(after),
        }
    }

    /// When the phases ended, in their order; the last one ends with the request.
    fn ends(&self) -> [Option<Time>; Mark::COUNT + 1] {
        let at = |mark: Mark| self.marks[mark as usize];
        [
            at(Mark::Known),
            at(Mark::Read),
            at(Mark::Lined),
            self.first_dispatch,
            at(Mark::Dispatched),
            at(Mark::Answered),
            at(Mark::FirstToken),
            at(Mark::LastToken),
        ]
    }
}

/// One of the phases.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// See [`Phases::auth`].
    Auth,
    /// See [`Phases::read`].
    Read,
    /// See [`Phases::route`].
    Route,
    /// See [`Phases::queue`].
    Queue,
    /// See [`Phases::retry`].
    Retry,
    /// See [`Phases::connect`].
    Connect,
    /// See [`Phases::prefill`].
    Prefill,
    /// See [`Phases::decode`].
    Decode,
    /// See [`Phases::client_blocked`].
    ClientBlocked,
    /// See [`Phases::other`].
    Other,
}

impl Phase {
    /// All of them, in the order of time.
    pub const ALL: [Self; 10] = [
        Self::Auth,
        Self::Read,
        Self::Route,
        Self::Queue,
        Self::Retry,
        Self::Connect,
        Self::Prefill,
        Self::Decode,
        Self::ClientBlocked,
        Self::Other,
    ];

    /// The phase that follows so many ends.
    const AFTER: [Self; Mark::COUNT + 1] = [
        Self::Auth,
        Self::Read,
        Self::Route,
        Self::Queue,
        Self::Retry,
        Self::Connect,
        Self::Prefill,
        Self::Decode,
    ];

    /// The name used in records, metrics and traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Read => "read",
            Self::Route => "route",
            Self::Queue => "queue",
            Self::Retry => "retry",
            Self::Connect => "connect",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::ClientBlocked => "client_blocked",
            Self::Other => "other",
        }
    }
}

impl Phases {
    /// How long one of them took.
    pub const fn of(&self, phase: Phase) -> Span {
        match phase {
            Phase::Auth => self.auth,
            Phase::Read => self.read,
            Phase::Route => self.route,
            Phase::Queue => self.queue,
            Phase::Retry => self.retry,
            Phase::Connect => self.connect,
            Phase::Prefill => self.prefill,
            Phase::Decode => self.decode,
            Phase::ClientBlocked => self.client_blocked,
            Phase::Other => self.other,
        }
    }

    /// All phases together.
    pub fn total(&self) -> Span {
        Phase::ALL.into_iter().fold(Span::ZERO, |sum, phase| sum + self.of(phase))
    }
}

/// Spans as milliseconds with three decimals.
pub(crate) mod millis {
    use pilotage_core::Span;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(span: &Span, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64((span.as_nanos() / 1000) as f64 / 1000.0)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        let ms = f64::deserialize(from)?;
        Ok(Span::from_nanos((ms * 1e6).round().max(0.0) as u64))
    }

    /// The same where there may be none.
    pub(crate) mod optional {
        use pilotage_core::Span;
        use serde::Serializer;

        #[expect(clippy::ref_option, reason = "serde's signature")]
        pub(crate) fn serialize<S: Serializer>(
            span: &Option<Span>,
            out: S,
        ) -> Result<S::Ok, S::Error> {
            match span {
                Some(span) => super::serialize(span, out),
                None => out.serialize_none(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARKS: [Mark; Mark::COUNT] = [
        Mark::Known,
        Mark::Read,
        Mark::Lined,
        Mark::Dispatched,
        Mark::Answered,
        Mark::FirstToken,
        Mark::LastToken,
    ];

    fn timeline(marks: &[(u64, Mark)]) -> Timeline {
        let mut timeline = Timeline::new(Time::from_millis(100));
        for (ms, mark) in marks {
            timeline.set(Time::from_millis(*ms), *mark);
        }
        timeline
    }

    #[test]
    fn time_goes_to_the_phase_it_was_spent_in() {
        let check = |marks: &[(u64, Mark)], blocked: u64, end: u64, expect: [u64; 10]| {
            let mut timeline = timeline(marks);
            timeline.blocked(Span::from_millis(blocked));
            let phases = timeline.phases(Time::from_millis(end));
            let got = Phase::ALL.map(|phase| phases.of(phase).as_millis());
            assert_eq!(got, expect, "{marks:?}");
        };
        let whole: Vec<(u64, Mark)> =
            [101, 103, 104, 110, 112, 150, 250].into_iter().zip(MARKS).collect();
        check(&whole, 0, 251, [1, 2, 1, 6, 0, 2, 38, 100, 0, 1]);
        // What the client did not take is no decoding, and no more than there was time.
        check(&whole, 30, 251, [1, 2, 1, 6, 0, 2, 38, 70, 30, 1]);
        check(&whole, 500, 251, [1, 2, 1, 6, 0, 2, 38, 0, 101, 0]);
        check(&[], 0, 105, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        check(&[(101, Mark::Known)], 0, 131, [1, 30, 0, 0, 0, 0, 0, 0, 0, 0]);
        check(&[(101, Mark::Lined)], 0, 131, [0, 0, 1, 30, 0, 0, 0, 0, 0, 0]);
        // A retry: what the first attempt brought is gone, its time is the retry's.
        check(
            &[
                (101, Mark::Lined),
                (105, Mark::Dispatched),
                (106, Mark::Answered),
                (120, Mark::Dispatched),
                (121, Mark::Answered),
                (130, Mark::FirstToken),
            ],
            0,
            140,
            [0, 0, 1, 4, 15, 1, 9, 10, 0, 0],
        );
    }

    #[test]
    fn a_request_is_in_the_phase_after_its_last_mark() {
        assert_eq!(timeline(&[]).phase(), Phase::Auth);
        assert_eq!(timeline(&[(101, Mark::Lined)]).phase(), Phase::Queue);
        assert_eq!(timeline(&[(101, Mark::Dispatched)]).phase(), Phase::Connect);
        assert_eq!(timeline(&[(101, Mark::FirstToken)]).phase(), Phase::Decode);
        assert_eq!(timeline(&[(101, Mark::LastToken)]).phase(), Phase::Auth);
    }

    #[test]
    fn tokens_set_the_pace() {
        let line = timeline(&[(150, Mark::FirstToken), (250, Mark::LastToken)]);
        assert_eq!(line.ttft().map(Span::as_millis), Some(50));
        assert_eq!(line.tpot(11).map(Span::as_millis), Some(10));
        assert_eq!(line.tpot(1), None);
        assert_eq!(timeline(&[]).ttft(), None);
    }

    proptest! {
        #[test]
        fn phases_sum_up_to_the_total(
            marks in prop::collection::vec((0u64..400, 0usize..MARKS.len()), 0..12),
            blocked in 0u64..500,
            end in 0u64..500,
        ) {
            let marks: Vec<(u64, Mark)> = marks.into_iter().map(|(ms, mark)| (ms, MARKS[mark])).collect();
            let end = Time::from_millis(end);
            let mut timeline = timeline(&marks);
            timeline.blocked(Span::from_millis(blocked));
            let phases = timeline.phases(end);
            prop_assert_eq!(phases.total(), end.max(Time::from_millis(100)).since(Time::from_millis(100)));
        }
    }
}
