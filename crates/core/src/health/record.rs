//! What is known of one replica: its breaker, heartbeat, health checks and pace, and the requests
//! that run there.

use std::collections::BTreeMap;

use super::breaker::{Breaker, BreakerConfig, State};
use super::heartbeat::{Heartbeat, Load};
use super::outlier::{OutlierConfig, Pace, Peer, Pool};
use super::probe::Probes;
use super::verdict::{Reason, Verdict};
use super::{BoardConfig, Signal};
use crate::retry::spread;
use crate::{FailureKind, RequestId, Span, Time};

/// Requests on one replica that are watched; more run unwatched.
const FLIGHTS_MAX: usize = 65_536;

/// How long a replica without room is left alone at most though it says that it has room before.
const BEYOND_SAID_MAX: Span = Span::from_secs(1);

/// A request that runs there.
#[derive(Clone, Copy, Debug)]
struct Flight {
    sent: Time,
    prefill: u64,
    silent: u64,
    patience: Option<Span>,
    began: Option<Time>,
    epoch: u32,
}

/// One replica.
#[derive(Debug)]
pub(super) struct Record {
    up: bool,
    /// When it came up or back.
    came: Time,
    breaker: Breaker,
    heart: Heartbeat,
    probes: Probes,
    pace: Pace,
    flights: BTreeMap<RequestId, Flight>,
    busy_until: Time,
    busy_in_a_row: u32,
    /// When it said so last.
    busy_since: Time,
    /// When it has room again, as it said.
    told_until: Time,
    /// It is tried before its time, with one request, since then.
    hurried: Option<Time>,
    /// Times as slow as its peers.
    pub(super) slow: Option<f64>,
    pub(super) verdict: Verdict,
    pub(super) weight: f64,
}

impl Record {
    pub(super) fn new(now: Time, seed: u64) -> Self {
        Self {
            up: false,
            came: now,
            breaker: Breaker::new(now, seed),
            heart: Heartbeat::default(),
            probes: Probes::default(),
            pace: Pace::default(),
            flights: BTreeMap::new(),
            busy_until: Time::ZERO,
            busy_in_a_row: 0,
            busy_since: Time::ZERO,
            told_until: Time::ZERO,
            hurried: None,
            slow: None,
            verdict: Verdict::Down,
            weight: 0.0,
        }
    }

    /// It came up: what was before says nothing of it, but requests sent before may still run.
    pub(super) fn raise(&mut self, now: Time, seed: u64) {
        if self.up {
            return;
        }
        let flights = std::mem::take(&mut self.flights);
        let verdict = self.verdict;
        *self = Self { up: true, flights, verdict, ..Self::new(now, seed) };
        // Their ends say nothing of what runs now.
        self.flights.values_mut().for_each(|flight| flight.epoch = u32::MAX);
        if !self.flights.is_empty() {
            self.heart.restart(now);
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it is ejected by its breaker.
    pub(super) const fn is_out(&self) -> bool {
        self.up && matches!(self.breaker.state(), State::Open { .. })
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        !self.up && self.flights.is_empty()
    }

    /// Whether time alone may change what is said of it.
    pub(super) fn is_watched(&self) -> bool {
        !self.flights.is_empty() || !matches!(self.verdict, Verdict::Healthy | Verdict::Down)
    }

    #[cfg(test)]
    pub(super) fn requests(&self) -> usize {
        self.flights.len()
    }

    /// Takes in what happened; whether that may change a verdict.
    pub(super) fn note(
        &mut self,
        now: Time,
        signal: Signal,
        config: &BoardConfig,
        pool: &mut Pool,
    ) -> bool {
        match signal {
            Signal::Up => false,
            Signal::Down => std::mem::take(&mut self.up),
            Signal::Sent { id, prefill, silent, patience } => {
                let flight = Flight { sent: now, prefill, silent, patience, began: None, epoch: 0 };
                self.send(now, id, flight);
                false
            }
            Signal::FirstToken { id } => self.begin(now, id, config, pool),
            Signal::Token => {
                self.heart.beat(now);
                self.live(now)
            }
            Signal::Answered { id, output } => self.answered(now, id, output, config),
            Signal::Failed { id, kind, retry_after } => {
                self.failed(now, id, (kind, retry_after), config)
            }
            Signal::Stopped { id } => {
                let flight = self.flights.remove(&id);
                if flight.is_some_and(|flight| self.breaker.counts(flight.epoch)) {
                    self.breaker.ended();
                }
                false
            }
            Signal::Probe(probe) => {
                self.probes.add(probe, &config.probe);
                true
            }
            Signal::Counter(counted) => self.heart.count(counted) && self.live(now),
        }
    }

    fn send(&mut self, now: Time, id: RequestId, flight: Flight) {
        if self.flights.len() >= FLIGHTS_MAX {
            return;
        }
        let before = u32::try_from(self.flights.len()).unwrap_or(u32::MAX);
        self.heart.sent(now, before);
        // An id that is used again takes the place of its first use.
        let replaced = self.flights.remove(&id);
        if replaced.is_some_and(|flight| self.breaker.counts(flight.epoch)) {
            self.breaker.ended();
        }
        let epoch = self.breaker.sent();
        self.flights.insert(id, Flight { epoch, ..flight });
    }

    /// Something came from it. One that hung is given a trial.
    fn live(&mut self, now: Time) -> bool {
        self.probes.live(now);
        let hung = matches!(self.breaker.state(), State::Open { reason: Reason::Hung { .. }, .. });
        if hung {
            self.breaker.revive();
        }
        hung
    }

    fn begin(&mut self, now: Time, id: RequestId, config: &BoardConfig, pool: &mut Pool) -> bool {
        let revived = self.live(now);
        let Some(flight) = self.flights.get_mut(&id).filter(|flight| flight.began.is_none()) else {
            return revived;
        };
        flight.began = Some(now);
        let Flight { sent, prefill, .. } = *flight;
        self.heart.first_token(now, now.since(sent), prefill);
        if let Some(ratio) = pool.add(prefill, now.since(sent)) {
            self.pace.add(now, ratio);
        }
        // A trial is good once its answer begins: the rest of it may take minutes.
        self.has_room() | self.good_trial(now, id, config) || revived
    }

    /// It took a request; whether that was in doubt.
    fn has_room(&mut self) -> bool {
        self.busy_in_a_row = 0;
        self.told_until = Time::ZERO;
        let in_doubt = self.hurried.take().is_some();
        if in_doubt {
            self.busy_until = Time::ZERO;
        }
        in_doubt
    }

    /// Counts a good end or beginning, where a trial runs; whether anything changed.
    fn good_trial(&mut self, now: Time, id: RequestId, config: &BoardConfig) -> bool {
        let Some(flight) = self.flights.get_mut(&id) else { return false };
        if !self.breaker.counts(flight.epoch) || self.breaker.state() == State::Closed {
            return false;
        }
        // Sent while all counted, it shows that this one works.
        self.breaker.revive();
        if self.breaker.succeeded(now, &config.breaker) {
            self.came = now;
        }
        flight.epoch = match self.breaker.state() {
            State::Closed => self.breaker.epoch(),
            // It was one good trial, and is not another one when it ends.
            State::Open { .. } | State::HalfOpen { .. } => u32::MAX,
        };
        true
    }

    fn answered(&mut self, now: Time, id: RequestId, output: u64, config: &BoardConfig) -> bool {
        let changed = self.live(now) | self.good_trial(now, id, config) | self.has_room();
        let Some(flight) = self.flights.remove(&id) else { return changed };
        let begun = flight.began.unwrap_or(flight.sent);
        let tokens = if flight.began.is_some() { output.saturating_sub(1) } else { output };
        self.heart.ended(now, now.since(begun), tokens);
        if self.breaker.counts(flight.epoch) && self.breaker.state() == State::Closed {
            self.breaker.succeeded(now, &config.breaker);
        }
        changed
    }

    fn failed(
        &mut self,
        now: Time,
        id: RequestId,
        (kind, retry_after): (FailureKind, Option<Span>),
        config: &BoardConfig,
    ) -> bool {
        let flight = self.flights.remove(&id);
        let counts = flight.is_some_and(|flight| self.breaker.counts(flight.epoch));
        if kind == FailureKind::Overloaded {
            self.overloaded(now, id, retry_after, config);
            if counts {
                self.breaker.ended();
            }
            return true;
        }
        if counts {
            self.breaker.failed(now, kind, &config.breaker);
        }
        counts
    }

    /// It said that it has no room: it works. It is left alone for as long as it says, or for twice
    /// as long as the last time. Who says again and again that it has room at once is not asked as often.
    fn overloaded(&mut self, now: Time, id: RequestId, said: Option<Span>, config: &BoardConfig) {
        if self.hurried.take().is_some() {
            // It was asked before the time that it said: what it says now counts.
            self.busy_until = now;
        }
        if self.busy_until <= now {
            self.busy_in_a_row = self.busy_in_a_row.saturating_add(1);
        }
        let times = self.busy_in_a_row.saturating_sub(1).min(32);
        let doubled = config.busy.as_nanos().saturating_mul(1 << times);
        let least = doubled.min(BEYOND_SAID_MAX.as_nanos());
        let span = said.map_or(doubled, |said| said.as_nanos().max(least));
        let span = span.min(config.busy_max.as_nanos());
        let until = now + spread(Span::from_nanos(span), id.0);
        self.busy_until = self.busy_until.max(until);
        if said.is_some() {
            self.told_until = until;
        }
        self.busy_since = now;
    }

    /// How long it said that it has no room.
    pub(super) fn told_left(&self, now: Time) -> Option<Span> {
        (self.told_until > now).then(|| self.told_until.since(now))
    }

    /// Whether it was left alone for long enough where no other takes work.
    pub(super) fn may_hurry(&self, now: Time, config: &BoardConfig) -> bool {
        self.busy_since + config.busy_alone_max <= now
    }

    /// It is tried with one request, until its time comes.
    pub(super) const fn hurry(&mut self, now: Time) {
        self.hurried = Some(now);
    }

    fn load(&self) -> Load {
        let waiting = self.flights.values().filter(|flight| flight.began.is_none());
        let prefill = waiting.fold(0, |sum: u64, flight| sum.saturating_add(flight.prefill));
        let silent = self.flights.values().map(|flight| flight.silent).max().unwrap_or(0);
        let whole = self.flights.values().filter(|flight| flight.silent > 0);
        let patience = whole.filter_map(|flight| flight.patience).min();
        let requests = u32::try_from(self.flights.len()).unwrap_or(u32::MAX);
        Load { requests, prefill, silent, patience, unwell: self.probes.is_bad() }
    }

    /// Lets time pass; whether it turned out to hang.
    pub(super) fn advance(&mut self, now: Time, config: &BoardConfig) -> bool {
        self.breaker.advance(now, &config.breaker);
        let Some((quiet, limit)) = self.heart.hung(now, &self.load(), &config.heartbeat) else {
            return false;
        };
        self.heart.restart(now);
        // What runs on one that takes no new work can hang as well.
        if self.up {
            self.eject(now, Reason::Hung { quiet, limit }, &config.breaker);
        }
        true
    }

    /// Leaves it alone for a while.
    pub(super) fn eject(&mut self, now: Time, reason: Reason, config: &BreakerConfig) {
        if !self.is_out() {
            self.breaker.trip(now, reason, config);
            self.pace.clear();
            self.slow = None;
        }
    }

    /// How it compares.
    pub(super) fn peer(&self, now: Time, config: &OutlierConfig) -> Peer {
        let (attempts, failures) = self.breaker.attempts();
        Peer { attempts, failures, pace: self.pace.median(now, config) }
    }

    /// What its own record says.
    pub(super) fn judge(&mut self, now: Time, config: &BoardConfig) -> Verdict {
        if !self.up {
            return Verdict::Down;
        }
        if self.busy_until <= now {
            self.hurried = None;
        }
        let probes = self.probes.judge(now, !self.flights.is_empty(), &config.probe);
        match (self.breaker.state(), probes, self.slow) {
            (State::Open { reason, until }, ..) => Verdict::Ejected { reason, until: Some(until) },
            (_, Some(reason), _) => Verdict::Ejected { reason, until: None },
            _ if self.hurried.is_some() => {
                let last = FailureKind::Overloaded;
                Verdict::Trial { reason: Reason::Failures { count: self.busy_in_a_row, last } }
            }
            _ if self.busy_until > now => Verdict::Busy { until: self.busy_until },
            (State::HalfOpen { reason, .. }, ..) => Verdict::Trial { reason },
            (State::Closed, _, Some(ratio)) => Verdict::Slow { ratio },
            _ if self.warmth(now, config) < 1.0 => Verdict::Warming,
            (State::Closed, ..) => Verdict::Healthy,
        }
    }

    fn warmth(&self, now: Time, config: &BoardConfig) -> f64 {
        config.warm_up.weight(now.since(self.came))
    }

    /// Its part by its verdict.
    pub(super) fn weigh(&self, now: Time, config: &BoardConfig) -> f64 {
        match self.verdict {
            // One on trial is held back by the number of its trials; with less weight it would
            // get none where others are idle, and never come back.
            Verdict::Healthy | Verdict::Panic { .. } | Verdict::Trial { .. } => 1.0,
            Verdict::Warming => self.warmth(now, config),
            Verdict::Slow { ratio } => (1.0 / ratio.max(1.0)).min(self.warmth(now, config)),
            Verdict::Busy { .. } | Verdict::Ejected { .. } | Verdict::Down => 0.0,
        }
    }

    /// Whether a request may go there now.
    pub(super) fn takes(&self, config: &BreakerConfig) -> bool {
        match (self.verdict, self.hurried) {
            // What ran there when it said that it has no room is not the one that tries.
            (Verdict::Trial { .. }, Some(since)) => {
                self.flights.values().all(|flight| flight.sent < since)
            }
            (Verdict::Trial { .. }, None) => self.breaker.allows(config),
            _ => self.verdict.is_open(),
        }
    }
}
