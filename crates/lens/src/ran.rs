//! What a request took of engines, attempt by attempt: how long each had it, and how much of a KV cache.
//! What its answer was made of is its own use; what came to nothing is nobody's.

use pilotage_core::traffic::Name;
use pilotage_core::{Span, Time, Tokens};

/// The attempts of one request, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    now: Option<Run>,
    done: Vec<Run>,
}

/// Where an attempt runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct At {
    /// The replica.
    pub replica: Name,
    /// The Model that it serves.
    pub lane: Option<Name>,
    /// What its weights are.
    pub version: Option<Name>,
    /// The class of its hardware.
    pub hardware: Option<Name>,
}

/// One attempt.
#[derive(Clone, Debug)]
struct Run {
    at: At,
    from: Time,
    /// When it brought a token that was not there before.
    first: Option<Time>,
    until: Time,
    /// Tokens of the answer that were there when it began, and when it ended.
    before: u32,
    after: u32,
    /// Time in which its client took nothing.
    blocked: Span,
    /// Whether it came to nothing.
    lost: bool,
}

/// What it came to, where that is more than the phases of a record tell: several attempts, one that failed, or an
/// answer that others share.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ran {
    /// KV token-milliseconds of what the answer was made of.
    pub used_token_ms: u64,
    /// The same of what came to nothing: attempts that failed, were stopped or outrun, and prompts that were
    /// computed again to go on.
    pub lost_token_ms: u64,
    /// When replicas had it.
    pub pieces: Vec<Piece>,
}

/// Time at one replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Piece {
    /// Which, of which Model, on what.
    pub at: At,
    /// Of [`Ran::lost_token_ms`], what was there.
    pub lost_token_ms: u64,
    /// How long before the record it began.
    pub from_ago: Span,
    /// How long before the record it ended.
    pub until_ago: Span,
}

/// What is known of a request in the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Its tokens; where engines told none, those of its prompt as estimated.
    pub tokens: Tokens,
    /// Whether the answer was a stream. One in one piece shows nothing of when its tokens came: they are taken to
    /// have come all the time.
    pub stream: bool,
}

impl Runs {
    /// A replica gets the request, of whose answer so many tokens are there.
    pub fn begin(&mut self, now: Time, at: At, before: u32) {
        self.end(now, before, true);
        self.now = Some(Run {
            at,
            from: now,
            first: None,
            until: now,
            before,
            after: before,
            blocked: Span::ZERO,
            lost: false,
        });
    }

    /// A token comes.
    pub const fn first(&mut self, now: Time) {
        if let Some(run) = &mut self.now
            && run.first.is_none()
        {
            run.first = Some(now);
        }
    }

    /// The replica has it no more, and the answer has so many tokens.
    pub fn end(&mut self, now: Time, after: u32, lost: bool) {
        if let Some(run) = self.now.take() {
            let brought = after > run.before;
            self.done.push(Run { until: now, after, lost: lost && !brought, ..run });
        }
    }

    /// A second attempt was made beside it, which came to nothing.
    pub fn beside(&mut self, (from, until): (Time, Time), at: At) {
        self.done.push(Run {
            at,
            from,
            first: None,
            until,
            before: 0,
            after: 0,
            blocked: Span::ZERO,
            lost: true,
        });
    }

    /// A second attempt, made since then beside it, goes on in its place.
    pub fn outrun(&mut self, now: Time, (from, first): (Time, Option<Time>), at: At) {
        self.end(now, 0, true);
        self.begin(from, at, 0);
        if let Some(first) = first {
            self.first(first);
        }
    }

    /// It is over; whether all of it came to nothing. What there was in the middle of the last attempt in which its
    /// client took nothing, its context did not grow.
    pub fn finish(&mut self, until: Time, (after, blocked): (u32, Span), lost: bool) {
        if let Some(run) = &mut self.now {
            run.blocked = blocked;
        }
        self.end(until, after, lost);
    }

    /// Whether the phases of a record tell all of it: there was one attempt at most, and that answered.
    pub fn is_plain(&self) -> bool {
        match (&self.now, &self.done[..]) {
            (None, []) => true,
            (None, [run]) | (Some(run), []) => !run.lost && run.before == 0,
            _ => false,
        }
    }

    /// What it came to, for a record that is made now.
    pub fn ran(&self, now: Time, known: Known) -> Ran {
        let (mut used, mut lost) = (0, 0);
        for run in self.done.iter().chain(&self.now) {
            let (of_answer, of_nothing) = run.tokens_nanos(known);
            used += of_answer;
            lost += of_nothing;
        }
        let piece = |run: &Run| {
            let lost_token_ms = to_ms(run.tokens_nanos(known).1);
            let until_ago = now.since(run.until);
            let from_ago = now.since(run.from).saturating_sub(run.blocked).max(until_ago);
            Piece { at: run.at.clone(), lost_token_ms, from_ago, until_ago }
        };
        let pieces = self.done.iter().chain(&self.now).map(piece).collect();
        Ran { used_token_ms: to_ms(used), lost_token_ms: to_ms(lost), pieces }
    }
}

impl Run {
    /// KV tokens times nanoseconds, of its part of the answer and of what came to nothing: the integral of the context
    /// over the time at the replica. See [`crate::usage::Row::of`].
    fn tokens_nanos(&self, Known { tokens, stream }: Known) -> (u128, u128) {
        let begin = u128::from(tokens.input) + u128::from(self.before);
        let end = u128::from(tokens.input) + u128::from(self.after.max(self.before));
        let nanos = |from: Time, until: Time| u128::from(until.since(from).as_nanos());
        if self.lost {
            return (0, begin * nanos(self.from, self.until));
        }
        if !stream {
            return ((begin + end) * nanos(self.from, self.until) / 2, 0);
        }
        let first = self.first.unwrap_or(self.until).min(self.until);
        let still = begin * nanos(self.from, first);
        let grew = nanos(first, self.until).saturating_sub(u128::from(self.blocked.as_nanos()));
        let growing = (begin + end) * grew / 2;
        // What an undisturbed answer would not have taken.
        if self.before > 0 { (growing, still) } else { (still + growing, 0) }
    }
}

pub(crate) fn to_ms(nanos: u128) -> u64 {
    u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: Known =
        Known { tokens: Tokens { input: 100, cached: 0, output: 20 }, stream: true };

    fn at(replica: &str) -> At {
        At { replica: replica.into(), ..At::default() }
    }

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn pieces(ran: &Ran) -> Vec<(&str, u64, u64)> {
        let all = ran.pieces.iter();
        all.map(|one| {
            (one.at.replica.as_str(), one.from_ago.as_millis(), one.until_ago.as_millis())
        })
        .collect()
    }

    #[test]
    fn what_came_to_nothing_is_apart() {
        let (one, other) = (|| at("one"), || at("other"));
        let mut runs = Runs::default();
        runs.begin(ms(0), one(), 0);
        assert!(runs.is_plain());
        runs.first(ms(10));
        runs.finish(ms(30), (20, Span::from_millis(5)), false);
        assert!(runs.is_plain());
        // 100 tokens for 10 ms, then 110 in the mean for 15.
        let ran = runs.ran(ms(32), KNOWN);
        assert_eq!((ran.used_token_ms, ran.lost_token_ms), (1000 + 1650, 0));
        assert_eq!(pieces(&ran), [("one", 27, 2)]);
        // Failed, then broken off after 5 tokens, then on with the rest.
        let mut runs = Runs::default();
        runs.begin(ms(0), one(), 0);
        runs.end(ms(10), 0, true);
        runs.begin(ms(20), other(), 0);
        runs.first(ms(25));
        runs.end(ms(45), 5, true);
        runs.begin(ms(50), one(), 5);
        runs.first(ms(60));
        runs.finish(ms(80), (20, Span::ZERO), false);
        assert!(!runs.is_plain());
        let ran = runs.ran(ms(80), KNOWN);
        let used = 100 * 5 + 205 * 20 / 2 + 225 * 20 / 2;
        assert_eq!((ran.used_token_ms, ran.lost_token_ms), (used, 100 * 10 + 105 * 10));
        assert_eq!(pieces(&ran), [("one", 80, 70), ("other", 60, 35), ("one", 30, 0)]);
        let lost: Vec<u64> = ran.pieces.iter().map(|one| one.lost_token_ms).collect();
        assert_eq!(lost, [100 * 10, 0, 105 * 10]);
    }

    #[test]
    fn of_two_at_once_one_is_lost() {
        let (one, other) = (|| at("one"), || at("other"));
        let mut runs = Runs::default();
        runs.begin(ms(0), one(), 0);
        runs.outrun(ms(30), (ms(20), Some(ms(29))), other());
        runs.finish(ms(39), (20, Span::ZERO), false);
        let ran = runs.ran(ms(39), KNOWN);
        assert_eq!((ran.used_token_ms, ran.lost_token_ms), (100 * 9 + 110 * 10, 100 * 30));
        assert_eq!(pieces(&ran), [("one", 39, 9), ("other", 19, 0)]);
        let mut runs = Runs::default();
        runs.begin(ms(0), one(), 0);
        runs.beside((ms(20), ms(30)), other());
        runs.first(ms(30));
        runs.finish(ms(40), (20, Span::ZERO), false);
        let ran = runs.ran(ms(40), KNOWN);
        assert_eq!((ran.used_token_ms, ran.lost_token_ms), (100 * 30 + 110 * 10, 100 * 10));
    }

    proptest! {
        /// Wherever a stream is stopped and goes on without a pause and without computing anything again, it takes
        /// what it would have taken; and what is lost besides is what was computed again.
        #[test]
        fn a_stream_that_is_cut_takes_what_it_would_have_taken(
            mut cuts in prop::collection::btree_set(1u32..20, 0..6),
            again in 0u64..30,
        ) {
            let mut runs = Runs::default();
            // A token each 10 ms from 0 on.
            let (mut now, mut before, mut lost) = (0, 0, 0);
            cuts.insert(20);
            for cut in cuts {
                runs.begin(ms(now), at("one"), before);
                if before > 0 {
                    lost += u64::from(100 + before) * again;
                    now += again;
                }
                runs.first(ms(now));
                now += u64::from(cut - before) * 10;
                runs.end(ms(now), cut, true);
                before = cut;
            }
            let ran = runs.ran(ms(now), KNOWN);
            prop_assert_eq!((ran.used_token_ms, ran.lost_token_ms), (110 * 200, lost));
        }
    }
}
