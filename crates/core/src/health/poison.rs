//! Requests that kill replicas: one must not take a fleet down, and nobody else must pay for it.
//!
//! Blame is shared: when a replica dies, each request that ran there gets one part of so many, and one
//! that ends well is cleared of all. A request is not tried a third time after two
//! replicas were lost under it ([`Trail`]); the same body sent again within minutes runs one copy at a time, and is
//! refused once deaths under it add up. An outage that kills replicas under everybody
//! blames everybody alike: what counts is more than the others.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Serialize;

use crate::{FailureKind, ReplicaId, RequestId, Span, Time};

/// When a body is held to kill replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoisonConfig {
    /// Replicas lost under one request after which it is not tried again.
    pub replicas_max: usize,
    /// Blame that refuses: two deaths with nobody else there.
    pub blame_max: f64,
    /// Deaths that refuse, where others have at most half as many.
    pub deaths_max: u32,
    /// How long a death counts.
    pub remember: Span,
    /// Bodies that are remembered.
    pub bodies_max: usize,
}

impl Default for PoisonConfig {
    fn default() -> Self {
        Self {
            replicas_max: 2,
            blame_max: 2.0,
            deaths_max: 3,
            remember: Span::from_secs(300),
            bodies_max: 1024,
        }
    }
}

/// Connections break a moment before a death is known: requests that ended so long before belong
/// to it.
const GRACE: Span = Span::from_secs(2);

/// Requests that are watched at once; more run unwatched.
const FLIGHTS_MAX: usize = 65_536;

/// Replicas that were lost under one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trail(Vec<ReplicaId>);

impl Trail {
    /// An attempt failed. Only what a request may have caused counts: a replica that could not be
    /// reached saw nothing of it, and one that is slow or full is not dead.
    pub fn note(&mut self, replica: ReplicaId, kind: FailureKind) {
        let lost = matches!(kind, FailureKind::Broken | FailureKind::Server);
        if lost && !self.0.contains(&replica) {
            self.0.push(replica);
        }
    }

    /// Whether it may be tried once more.
    pub fn may_go_on(&self, config: &PoisonConfig) -> bool {
        self.0.len() < config.replicas_max
    }

    /// The replicas that were lost.
    pub fn lost(&self) -> &[ReplicaId] {
        &self.0
    }
}

/// What is said of a body that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "ruling")]
pub enum Ruling {
    /// Nothing is known against it.
    Free,
    /// Replicas died under it: it runs, and no other copy meanwhile. It is not tried again.
    Alone {
        /// How many died.
        deaths: u32,
    },
    /// Replicas died under it, and a copy runs: it waits for that one's end, or comes back later.
    Wait {
        /// When to come back.
        retry_after: Span,
    },
    /// It is held to kill replicas.
    Refuse {
        /// How many died under it.
        deaths: u32,
        /// When it is forgotten.
        retry_after: Span,
    },
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("nothing is known against the request"),
            Self::Alone { deaths } => {
                write!(f, "{deaths} replicas died while they answered this request; it runs alone")
            }
            Self::Wait { .. } => f.write_str(
                "replicas died while they answered this request, and a copy of it is running",
            ),
            Self::Refuse { deaths, retry_after } => write!(
                f,
                "{deaths} replicas died while they answered this request; it is refused for {} s, \
                 change it to have it answered",
                retry_after.as_nanos().div_ceil(1_000_000_000)
            ),
        }
    }
}

/// When a copy of a suspect may be sent again: about the time of a short answer.
const COME_BACK: Span = Span::from_secs(5);

/// A body under which replicas died.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    blame: f64,
    deaths: u32,
    last: Time,
    running: u32,
}

/// Bodies under which replicas died, by a hash of their bytes.
#[derive(Debug)]
pub struct Poison {
    config: PoisonConfig,
    suspects: BTreeMap<u64, Suspect>,
    flights: BTreeMap<(ReplicaId, RequestId), u64>,
    /// Ends that may belong to a death that is not known yet.
    broken: VecDeque<(Time, ReplicaId, u64)>,
}

impl Poison {
    /// Nobody is suspected.
    pub const fn new(config: PoisonConfig) -> Self {
        Self {
            config,
            suspects: BTreeMap::new(),
            flights: BTreeMap::new(),
            broken: VecDeque::new(),
        }
    }

    /// Whether a request with this body may run.
    pub fn rule(&self, now: Time, body: u64) -> Ruling {
        let fresh = |suspect: &&Suspect| now.since(suspect.last) < self.config.remember;
        let Some(suspect) = self.suspects.get(&body).filter(fresh) else { return Ruling::Free };
        let deaths = suspect.deaths;
        if self.is_poison(now, body, suspect) {
            let past = now.since(suspect.last).as_nanos();
            let left = self.config.remember.as_nanos().saturating_sub(past);
            return Ruling::Refuse { deaths, retry_after: Span::from_nanos(left) };
        }
        if suspect.running > 0 {
            return Ruling::Wait { retry_after: COME_BACK };
        }
        Ruling::Alone { deaths }
    }

    /// A request with this body was sent there.
    pub fn sent(&mut self, replica: ReplicaId, request: RequestId, body: u64) {
        if self.flights.len() >= FLIGHTS_MAX {
            return;
        }
        let before = self.flights.insert((replica, request), body);
        if let Some(suspect) = self.suspects.get_mut(&body).filter(|_| before.is_none()) {
            suspect.running += 1;
        }
    }

    /// A request ended well, which clears its body.
    pub fn answered(&mut self, replica: ReplicaId, request: RequestId) {
        if let Some(body) = self.flights.remove(&(replica, request)) {
            self.suspects.remove(&body);
        }
    }

    /// A request ended otherwise.
    pub fn ended(
        &mut self,
        now: Time,
        replica: ReplicaId,
        request: RequestId,
        kind: Option<FailureKind>,
    ) {
        let Some(body) = self.flights.remove(&(replica, request)) else { return };
        if let Some(suspect) = self.suspects.get_mut(&body) {
            suspect.running = suspect.running.saturating_sub(1);
        }
        self.forget(now);
        if matches!(kind, Some(FailureKind::Broken | FailureKind::Server)) {
            if self.broken.len() >= FLIGHTS_MAX {
                self.broken.pop_front();
            }
            self.broken.push_back((now, replica, body));
        }
    }

    /// A replica died: its process ended, or it said that its engine is dead.
    pub fn died(&mut self, now: Time, replica: ReplicaId) {
        self.forget(now);
        let first = (replica, RequestId(0));
        let running = self.flights.range(first..=(replica, RequestId(u64::MAX)));
        let mut bodies: Vec<u64> = running.map(|(_, body)| *body).collect();
        self.broken.retain(|(_, at, body)| {
            let its = *at == replica;
            if its {
                bodies.push(*body);
            }
            !its
        });
        let part = 1.0 / bodies.len().max(1) as f64;
        bodies.sort_unstable();
        for same in bodies.chunk_by(|a, b| a == b) {
            if let Some(body) = same.first() {
                self.blame(now, *body, part * same.len() as f64);
            }
        }
    }

    /// How many suspects run on a replica: one that is tried again goes where there is none, so that
    /// not two of them are lost together, and blame falls on the right one.
    pub fn suspects_on(&self, replica: ReplicaId) -> usize {
        let there = (replica, RequestId(0))..=(replica, RequestId(u64::MAX));
        let bodies = self.flights.range(there).map(|(_, body)| body);
        bodies.filter(|body| self.suspects.contains_key(body)).count()
    }

    /// Bodies that are suspected, and how many requests are watched: for metrics.
    pub fn len(&self) -> (usize, usize) {
        (self.suspects.len(), self.flights.len())
    }

    /// Whether nobody is suspected and nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    fn blame(&mut self, now: Time, body: u64, part: f64) {
        let known = self.suspects.contains_key(&body);
        if !known && self.suspects.len() >= self.config.bodies_max.max(1) {
            let oldest = self.suspects.iter().min_by_key(|(_, suspect)| suspect.last);
            if let Some(oldest) = oldest.map(|(body, _)| *body) {
                self.suspects.remove(&oldest);
            }
        }
        let running = self.flights.values().filter(|other| **other == body).count();
        let fresh = Suspect { blame: 0.0, deaths: 0, last: now, running: 0 };
        let suspect = self.suspects.entry(body).or_insert(fresh);
        suspect.blame += part;
        suspect.deaths += 1;
        suspect.last = now;
        suspect.running = u32::try_from(running).unwrap_or(u32::MAX);
    }

    fn is_poison(&self, now: Time, body: u64, suspect: &Suspect) -> bool {
        if suspect.blame >= self.config.blame_max {
            return true;
        }
        if suspect.deaths < self.config.deaths_max {
            return false;
        }
        // In an outage everybody has seen as many deaths.
        let fresh = |other: &Suspect| now.since(other.last) < self.config.remember;
        let others = self.suspects.iter().filter(|(other, one)| **other != body && fresh(one));
        let mut deaths: Vec<u32> = others.map(|(_, other)| other.deaths).collect();
        deaths.sort_unstable();
        let median = deaths.get(deaths.len() / 2).copied().unwrap_or(0);
        suspect.deaths >= median.saturating_mul(2)
    }

    fn forget(&mut self, now: Time) {
        self.suspects.retain(|_, suspect| now.since(suspect.last) < self.config.remember);
        while self.broken.front().is_some_and(|(at, ..)| now.since(*at) > GRACE) {
            self.broken.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: u64 = 99;

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1000)
    }

    /// One death of a replica with these bodies.
    fn death(poison: &mut Poison, secs: u64, replica: u32, bodies: &[u64]) {
        for (body, id) in bodies.iter().zip(secs * 1000..) {
            poison.sent(ReplicaId(replica), RequestId(id), *body);
        }
        for id in (secs * 1000..).take(bodies.len()) {
            poison.ended(at(secs), ReplicaId(replica), RequestId(id), Some(FailureKind::Broken));
        }
        poison.died(at(secs + 1), ReplicaId(replica));
    }

    fn name(ruling: Ruling) -> &'static str {
        match ruling {
            Ruling::Free => "free",
            Ruling::Alone { .. } => "alone",
            Ruling::Wait { .. } => "wait",
            Ruling::Refuse { .. } => "refuse",
        }
    }

    #[test]
    fn a_request_is_not_tried_on_a_third_replica() {
        let config = PoisonConfig::default();
        let check = |failures: &[(u32, FailureKind)], expect: bool| {
            let mut trail = Trail::default();
            failures.iter().for_each(|(replica, kind)| trail.note(ReplicaId(*replica), *kind));
            assert_eq!(trail.may_go_on(&config), expect, "{failures:?}");
        };
        use FailureKind::{Broken, Connect, Overloaded, Server, Timeout};
        check(&[(1, Broken), (2, Server)], false);
        check(&[(1, Broken), (1, Broken)], true);
        check(&[(1, Connect), (2, Overloaded), (3, Timeout), (4, Broken)], true);
    }

    #[test]
    fn a_body_that_kills_alone_is_refused_after_two() {
        let mut poison = Poison::new(PoisonConfig::default());
        assert_eq!(poison.rule(at(0), BODY), Ruling::Free);
        death(&mut poison, 1, 1, &[BODY]);
        assert_eq!(poison.rule(at(2), BODY), Ruling::Alone { deaths: 1 });
        poison.sent(ReplicaId(2), RequestId(5), BODY);
        assert_eq!(name(poison.rule(at(3), BODY)), "wait");
        assert_eq!((poison.suspects_on(ReplicaId(2)), poison.suspects_on(ReplicaId(1))), (1, 0));
        poison.ended(at(4), ReplicaId(2), RequestId(5), None);
        assert_eq!(name(poison.rule(at(5), BODY)), "alone");
        death(&mut poison, 10, 2, &[BODY]);
        let ruling = poison.rule(at(11), BODY);
        assert_eq!(
            ruling.to_string(),
            "2 replicas died while they answered this request; it is refused for 300 s, change it \
             to have it answered"
        );
        assert_eq!(name(poison.rule(at(310), BODY)), "refuse");
        assert_eq!(name(poison.rule(at(311), BODY)), "free");
    }

    #[test]
    fn in_a_crowd_the_one_that_is_always_there_is_found() {
        let mut poison = Poison::new(PoisonConfig::default());
        for turn in 0..3 {
            let others = (0..20).map(|other| 1000 * turn + other);
            let bodies: Vec<u64> = others.chain([BODY]).collect();
            death(&mut poison, 10 * turn, turn as u32, &bodies);
        }
        assert_eq!(
            poison.rule(at(30), BODY),
            Ruling::Refuse { deaths: 3, retry_after: Span::from_secs(291) }
        );
        for other in [0, 1005, 2010] {
            assert_eq!(poison.rule(at(30), other), Ruling::Alone { deaths: 1 });
        }
        // One of the others is answered, and is as free as before.
        poison.sent(ReplicaId(9), RequestId(7), 1005);
        poison.answered(ReplicaId(9), RequestId(7));
        assert_eq!(poison.rule(at(30), 1005), Ruling::Free);
    }

    #[test]
    fn an_outage_blames_nobody() {
        let mut poison = Poison::new(PoisonConfig::default());
        let bodies: Vec<u64> = (0..20).collect();
        (0..8).for_each(|turn| death(&mut poison, 10 * turn, turn as u32, &bodies));
        for body in bodies {
            assert_eq!(poison.rule(at(80), body), Ruling::Alone { deaths: 8 });
        }
    }

    #[test]
    fn only_what_ran_there_is_blamed() {
        let mut poison = Poison::new(PoisonConfig::default());
        poison.sent(ReplicaId(1), RequestId(1), 11);
        poison.sent(ReplicaId(2), RequestId(2), 12);
        poison.sent(ReplicaId(1), RequestId(3), 13);
        poison.ended(at(0), ReplicaId(1), RequestId(3), Some(FailureKind::Broken));
        poison.sent(ReplicaId(1), RequestId(4), 14);
        poison.ended(at(9), ReplicaId(1), RequestId(4), Some(FailureKind::Timeout));
        poison.died(at(10), ReplicaId(1));
        assert_eq!(name(poison.rule(at(10), 11)), "wait");
        for body in [12, 13, 14] {
            assert_eq!(poison.rule(at(10), body), Ruling::Free, "{body}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let config = PoisonConfig { bodies_max: 10, ..PoisonConfig::default() };
        let mut poison = Poison::new(config);
        for turn in 0..100 {
            death(&mut poison, turn, 1, &[turn * 2, turn * 2 + 1]);
        }
        assert_eq!(poison.len(), (10, 0));
        assert_eq!(name(poison.rule(at(100), 198)), "alone");
        assert_eq!(name(poison.rule(at(100), 1)), "free");
    }
}
