//! Where a request's time went: marks set as it goes along, and phases computed from them that sum
//! up to the total exactly, whatever marks are missing or out of order.

use pilotage_core::{Span, Time};
use serde::{Serialize, Serializer};

/// A point on a request's way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Its body was read and understood.
    Read,
    /// Its turn came: a replica was chosen. Set again on a retry.
    Dispatched,
    /// The replica began to answer.
    Answered,
    /// The first token came.
    FirstToken,
    /// The last token came.
    LastToken,
}

/// Marks of one request.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    begun: Time,
    marks: [Option<Time>; 5],
    first_dispatch: Option<Time>,
}

/// How long each phase took. Their sum is the total.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Phases {
    /// Reading and checking the request, and finding its tenant.
    #[serde(rename = "t_read_ms", serialize_with = "millis")]
    pub read: Span,
    /// Waiting for its turn.
    #[serde(rename = "t_queue_ms", serialize_with = "millis")]
    pub queue: Span,
    /// Attempts that failed, up to the last dispatch.
    #[serde(rename = "t_retry_ms", serialize_with = "millis")]
    pub retry: Span,
    /// From the last dispatch until the replica began to answer: connecting, sending, its queue.
    #[serde(rename = "t_connect_ms", serialize_with = "millis")]
    pub connect: Span,
    /// From then to the first token.
    #[serde(rename = "t_prefill_ms", serialize_with = "millis")]
    pub prefill: Span,
    /// From the first to the last token.
    #[serde(rename = "t_decode_ms", serialize_with = "millis")]
    pub decode: Span,
    /// From the last token to the end, the client's reading included.
    #[serde(rename = "t_flush_ms", serialize_with = "millis")]
    pub flush: Span,
}

impl Timeline {
    /// A request that began now.
    pub const fn new(now: Time) -> Self {
        Self { begun: now, marks: [None; 5], first_dispatch: None }
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

    /// The phases of a request that ended now.
    pub fn phases(&self, end: Time) -> Phases {
        let end = end.max(self.begun);
        let mut at = self.begun;
        // Each phase ends at its mark, or takes no time when the request never got there; what is
        // left belongs to the phase that it was in when it ended.
        let ends = [
            self.marks[Mark::Read as usize],
            self.first_dispatch,
            self.marks[Mark::Dispatched as usize],
            self.marks[Mark::Answered as usize],
            self.marks[Mark::FirstToken as usize],
            self.marks[Mark::LastToken as usize],
        ];
        let reached = ends.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut spans = [Span::ZERO; 7];
        for (phase, mark) in ends.into_iter().enumerate() {
            if let Some(mark) = mark {
                let until = mark.clamp(at, end);
                spans[phase] = until.since(at);
                at = until;
            }
        }
        spans[reached] = spans[reached] + end.since(at);
        let [read, queue, retry, connect, prefill, decode, flush] = spans;
        Phases { read, queue, retry, connect, prefill, decode, flush }
    }
}

impl Phases {
    /// All phases together.
    pub fn total(&self) -> Span {
        let parts = [
            self.read,
            self.queue,
            self.retry,
            self.connect,
            self.prefill,
            self.decode,
            self.flush,
        ];
        parts.into_iter().fold(Span::ZERO, |sum, part| sum + part)
    }
}

/// Milliseconds with three decimals.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(crate) fn millis<S: Serializer>(span: &Span, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_f64((span.as_nanos() / 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARKS: [Mark; 5] =
        [Mark::Read, Mark::Dispatched, Mark::Answered, Mark::FirstToken, Mark::LastToken];

    fn timeline(marks: &[(u64, Mark)]) -> Timeline {
        let mut timeline = Timeline::new(Time::from_millis(100));
        for (ms, mark) in marks {
            timeline.set(Time::from_millis(*ms), *mark);
        }
        timeline
    }

    #[test]
    fn time_goes_to_the_phase_it_was_spent_in() {
        let check = |marks: &[(u64, Mark)], end: u64, expect: [u64; 7]| {
            let phases = timeline(marks).phases(Time::from_millis(end));
            let got = [
                phases.read,
                phases.queue,
                phases.retry,
                phases.connect,
                phases.prefill,
                phases.decode,
                phases.flush,
            ];
            assert_eq!(got.map(Span::as_millis), expect, "{marks:?}");
        };
        check(
            &[(101, MARKS[0]), (110, MARKS[1]), (112, MARKS[2]), (150, MARKS[3]), (250, MARKS[4])],
            251,
            [1, 9, 0, 2, 38, 100, 1],
        );
        check(&[], 105, [5, 0, 0, 0, 0, 0, 0]);
        check(&[(101, Mark::Read)], 131, [1, 30, 0, 0, 0, 0, 0]);
        // A retry: what the first attempt brought is gone, its time is the retry's.
        check(
            &[
                (101, Mark::Read),
                (105, Mark::Dispatched),
                (106, Mark::Answered),
                (120, Mark::Dispatched),
                (121, Mark::Answered),
                (130, Mark::FirstToken),
            ],
            140,
            [1, 4, 15, 1, 9, 10, 0],
        );
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
        fn phases_sum_up_to_the_total(marks in prop::collection::vec((0u64..400, 0usize..5), 0..12), end in 0u64..500) {
            let marks: Vec<(u64, Mark)> = marks.into_iter().map(|(ms, mark)| (ms, MARKS[mark])).collect();
            let end = Time::from_millis(end);
            let phases = timeline(&marks).phases(end);
            prop_assert_eq!(phases.total(), end.max(Time::from_millis(100)).since(Time::from_millis(100)));
        }
    }
}
