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
    /// It got in line: its model is chosen, its place in quotas reserved. The first time counts: where another
    /// model takes over, it waits in line there as it did before.
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

/// What a request that was at a replica waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Away {
    /// It stood aside for somebody else: another turn.
    Turn,
    /// Its attempt failed: one that gets as far.
    Retry,
}

/// Marks of one request.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    begun: Time,
    marks: [Option<Time>; Mark::COUNT],
    first_dispatch: Option<Time>,
    blocked: Span,
    /// What it waits for, and since when, after it was at a replica.
    away: Option<(Time, Away)>,
    /// Time in line again before its first token: of the time since the first dispatch.
    lined_again: Span,
    /// Time in line, and time lost to attempts, in the middle of its answer.
    amid: Amid,
    /// What of `amid` a generation that it joined had behind it by then.
    amid_before: Amid,
}

/// Time in the middle of an answer in which it did not go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Amid {
    waited: Span,
    lost: Span,
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
    /// Waiting for its turn, and again each time that it stood aside for somebody else.
    #[serde(rename = "t_queue_ms", with = "millis")]
    pub queue: Span,
    /// Attempts that failed or were stopped, and what it took to get as far again.
    #[serde(rename = "t_retry_ms", with = "millis")]
    pub retry: Span,
    /// From the last dispatch until the replica began to answer: connecting, sending, its queue.
    #[serde(rename = "t_connect_ms", with = "millis")]
    pub connect: Span,
    /// From then to the first token.
    #[serde(rename = "t_prefill_ms", with = "millis")]
    pub prefill: Span,
    /// From the first to the last token, without the time in which the answer did not go on or its client took
    /// nothing.
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
        Self {
            begun: now,
            marks: [None; Mark::COUNT],
            first_dispatch: None,
            blocked: Span::ZERO,
            away: None,
            lined_again: Span::ZERO,
            amid: Amid { waited: Span::ZERO, lost: Span::ZERO },
            amid_before: Amid { waited: Span::ZERO, lost: Span::ZERO },
        }
    }

    /// Sets a mark; setting one again moves it, but for the place in line.
    pub fn set(&mut self, now: Time, mark: Mark) {
        if mark == Mark::Lined && self.marks[mark as usize].is_some() {
            return;
        }
        if mark == Mark::Dispatched {
            self.first_dispatch.get_or_insert(now);
            self.end_wait(now);
            // What a failed attempt brought does not count.
            self.forget_attempt();
        }
        self.marks[mark as usize] = Some(now);
    }

    /// The client took nothing for so long, though there was something for it.
    pub fn blocked(&mut self, span: Span) {
        self.blocked = self.blocked + span;
    }

    /// It left its replica, and waits for that.
    pub fn leave(&mut self, now: Time, away: Away) {
        self.end_wait(now);
        // One that failed may have been the last one: its time is its own unless another follows.
        if away == Away::Turn && self.marks[Mark::FirstToken as usize].is_none() {
            self.forget_attempt();
        }
        self.away = Some((now, away));
    }

    /// In the middle of its answer its turn came: a replica is asked to go on, and computes it again up to there.
    pub fn asked_again(&mut self, now: Time) {
        self.leave(now, Away::Retry);
    }

    /// A token that it had not had.
    pub fn went_on(&mut self, now: Time) {
        self.end_wait(now);
    }

    /// It went on with another attempt, which was made at the same time and was watched by itself.
    pub fn outrun(&mut self, by: &Self) {
        for mark in [Mark::Dispatched, Mark::Answered, Mark::FirstToken] {
            if let Some(at) = by.marks[mark as usize] {
                self.set(at, mark);
            }
        }
    }

    /// It gets the answer of a generation: what happened to that up to its first token happened to it.
    pub fn joined(&mut self, now: Time, generation: &Self) {
        self.first_dispatch = generation.first_dispatch;
        self.lined_again = generation.lined_again;
        for mark in [Mark::Dispatched, Mark::Answered] {
            self.marks[mark as usize] = generation.marks[mark as usize];
        }
        let mut until_now = *generation;
        until_now.end_wait(now);
        self.amid_before = until_now.amid;
    }

    /// It has followed that generation until now.
    pub fn followed(&mut self, generation: &Self) {
        let Amid { waited, lost } = self.amid_before;
        self.amid = Amid {
            waited: generation.amid.waited.saturating_sub(waited),
            lost: generation.amid.lost.saturating_sub(lost),
        };
        let from = self.marks[Mark::FirstToken as usize].unwrap_or(self.begun);
        self.away = generation.away.map(|(since, away)| (since.max(from), away));
    }

    /// The wait that it is in is over.
    fn end_wait(&mut self, now: Time) {
        let Some((since, away)) = self.away.take() else { return };
        let (span, amid) = (now.since(since), self.marks[Mark::FirstToken as usize].is_some());
        let of = match (away, amid) {
            (Away::Turn, false) => &mut self.lined_again,
            (Away::Turn, true) => &mut self.amid.waited,
            (Away::Retry, true) => &mut self.amid.lost,
            // All of the time between dispatches is, but for that in line.
            (Away::Retry, false) => return,
        };
        *of = *of + span;
    }

    fn forget_attempt(&mut self) {
        for mark in [Mark::Dispatched, Mark::Answered, Mark::FirstToken, Mark::LastToken] {
            self.marks[mark as usize] = None;
        }
    }

    /// When it began.
    pub const fn begun(&self) -> Time {
        self.begun
    }

    /// From the begin to the first token.
    pub fn ttft(&self) -> Option<Span> {
        self.marks[Mark::FirstToken as usize].map(|first| first.since(self.begun))
    }

    /// When it was sent to its replica.
    pub const fn dispatched(&self) -> Option<Time> {
        self.marks[Mark::Dispatched as usize]
    }

    /// When the first token came.
    pub const fn first_token(&self) -> Option<Time> {
        self.marks[Mark::FirstToken as usize]
    }

    /// When the last token came.
    pub const fn last_token(&self) -> Option<Time> {
        self.marks[Mark::LastToken as usize]
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
        match self.away {
            Some((_, Away::Turn)) => return Phase::Queue,
            Some((_, Away::Retry)) => return Phase::Retry,
            None => {}
        }
        let [before @ .., _last_token] = self.ends();
        let reached = before.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        Phase::AFTER[reached]
    }

    /// The phases of a request that ended now.
    pub fn phases(&self, end: Time) -> Phases {
        let end = end.max(self.begun);
        let [auth, read, route, queue, retry, connect, prefill, decode, other] = self.spans(end);
        let mut over = *self;
        over.end_wait(end);
        let lined_again = over.lined_again.min(retry);
        let waited = over.amid.waited.min(decode);
        let decode = decode.saturating_sub(waited);
        let lost = over.amid.lost.min(decode);
        let decode = decode.saturating_sub(lost);
        // The client is waited for while tokens come, and after the last of them.
        let while_decoding = self.blocked.min(decode);
        let after = self.blocked.saturating_sub(while_decoding).min(other);
        Phases {
            auth,
            read,
            route,
            queue: queue + lined_again + waited,
            retry: retry.saturating_sub(lined_again) + lost,
            connect,
            prefill,
            decode: decode.saturating_sub(while_decoding),
            client_blocked: while_decoding + after,
            other: other.saturating_sub(after),
        }
    }

    /// Time between marks, up to the end. What came after a failure without another attempt is time of retries.
    fn spans(&self, end: Time) -> [Span; Mark::COUNT + 2] {
        const RETRY: usize = 4;
        let begun = self.marks[Mark::FirstToken as usize].is_some();
        let failed = self.away.filter(|(_, away)| *away == Away::Retry && !begun);
        let until = failed.map_or(end, |(since, _)| since.clamp(self.begun, end));
        let mut spans = self.spans_until(until);
        spans[RETRY] = spans[RETRY] + end.since(until);
        spans
    }

    fn spans_until(&self, end: Time) -> [Span; Mark::COUNT + 2] {
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
        spans
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
            // Who waits to go on has not had its last token.
            at(Mark::LastToken).filter(|_| self.away.is_none()),
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
mod tests;
