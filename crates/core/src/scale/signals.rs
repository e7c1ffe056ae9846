//! What gateways saw of a model, each part with when it was seen, and how the sights of several become
//! one.
//!
//! What a gateway did not say is none, never zero. A sum to which one of them added nothing is not
//! whole: it may ask for more replicas, and never for fewer.

use std::collections::BTreeMap;
use std::ops::{Add, Mul};

use serde::{Deserialize, Serialize};

use crate::{Band, ReplicaId, Span, Time};

/// Most gateways whose signals are added up; reports of more are left out, and nothing is whole then.
pub const GATEWAYS_MAX: usize = 256;

/// How many bands there are.
const BANDS: usize = Band::ALL.len();

/// Something that was seen, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen<T> {
    /// When; of a sum, when its oldest part was.
    pub at: Time,
    /// Whether everybody who could have seen a part of it said so.
    pub whole: bool,
    /// What.
    pub value: T,
}

impl<T> Seen<T> {
    /// All of it was seen.
    pub const fn new(at: Time, value: T) -> Self {
        Self { at, whole: true, value }
    }

    /// It, unless it is older than that.
    pub fn fresh(&self, now: Time, age_max: Span) -> Option<&T> {
        (now.since(self.at) <= age_max).then_some(&self.value)
    }
}

/// Requests and their tokens: a number of them, or so many in a second.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Requests.
    pub requests: f64,
    /// Tokens of their prompts that have to be computed, without those found in caches.
    pub prompt: f64,
    /// Tokens of their answers, as far as they can be foreseen.
    pub answer: f64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            prompt: self.prompt + other.prompt,
            answer: self.answer + other.answer,
        }
    }
}

impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            requests: self.requests * times,
            prompt: self.prompt * times,
            answer: self.answer * times,
        }
    }
}

/// What waits for its turn in a band.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waiting {
    /// All of it.
    pub work: Work,
    /// How long the oldest has waited.
    pub oldest: Span,
}

/// What runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Requests.
    pub requests: f64,
    /// KV tokens that they hold.
    pub tokens: f64,
}

/// Answers of a band in the last while, and those that missed its goals.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Misses {
    /// Answers that began.
    pub answers: f64,
    /// Those that began too late.
    pub late: f64,
    /// Those that came too slowly.
    pub slow: f64,
}

/// How fast one replica is, as was measured, and what it has room for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Speed {
    /// Seconds for each token of a prompt.
    pub token_seconds: f64,
    /// Seconds for a decode step, whatever is in it.
    pub step_seconds: f64,
    /// Seconds more for each sequence in it.
    pub sequence_seconds: f64,
    /// Sequences that it computes at once.
    pub sequences_max: u32,
    /// Tokens that its KV cache holds; none where that does not limit it.
    pub kv_tokens: Option<u64>,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// It was asked for and serves nothing yet.
    Starting,
    /// It serves.
    Ready,
    /// Its weights lie in the host's memory, and it serves nothing.
    Asleep,
    /// It wakes up.
    Waking,
    /// It gets no new work and ends what it has.
    Draining,
}

/// One replica, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplicaSeen {
    /// What it does.
    pub stage: Stage,
    /// Since when.
    pub since: Time,
    /// The part of its KV cache that is used, and when it said so.
    pub kv_used: Option<Seen<f64>>,
    /// Requests that run there.
    pub running: Option<u32>,
    /// Requests in its own queue.
    pub waiting: Option<u32>,
}

impl ReplicaSeen {
    /// One that does this since then, of which nothing else is known.
    pub const fn new(stage: Stage, since: Time) -> Self {
        Self { stage, since, kv_used: None, running: None, waiting: None }
    }
}

/// What was seen of a model. Bands are in the order of [`Band::ALL`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// What came in each second of the last while.
    pub arrivals: Option<Seen<[Work; BANDS]>>,
    /// What waits.
    pub waiting: Option<Seen<[Waiting; BANDS]>>,
    /// What runs.
    pub running: Option<Seen<Running>>,
    /// Goals missed in the last while.
    pub misses: Option<Seen<[Misses; BANDS]>>,
    /// How fast replicas are.
    pub speed: Option<Seen<Speed>>,
    /// All replicas.
    pub replicas: Option<Seen<BTreeMap<ReplicaId, ReplicaSeen>>>,
    /// How long the last start of a replica took.
    pub start: Option<Seen<Span>>,
    /// How long the last one took to wake up.
    pub wake: Option<Seen<Span>>,
}

impl Signals {
    /// What two saw together. Requests of different gateways add up; replicas and their speed are the
    /// same ones, and who saw them last is right.
    pub fn merge(self, other: Self) -> Self {
        Self {
            arrivals: add(self.arrivals, other.arrivals, |a, b| both(a, b, Work::add)),
            waiting: add(self.waiting, other.waiting, |a, b| both(a, b, Waiting::merge)),
            running: add(self.running, other.running, Running::merge),
            misses: add(self.misses, other.misses, |a, b| both(a, b, Misses::merge)),
            speed: newest(self.speed, other.speed),
            replicas: replicas(self.replicas, other.replicas),
            start: newest(self.start, other.start),
            wake: newest(self.wake, other.wake),
        }
    }

    /// Marks what is a sum as a part of it.
    fn partial(mut self) -> Self {
        self.arrivals.as_mut().into_iter().for_each(|seen| seen.whole = false);
        self.waiting.as_mut().into_iter().for_each(|seen| seen.whole = false);
        self.running.as_mut().into_iter().for_each(|seen| seen.whole = false);
        self.misses.as_mut().into_iter().for_each(|seen| seen.whole = false);
        self
    }
}

impl Waiting {
    fn merge(self, other: Self) -> Self {
        Self { work: self.work + other.work, oldest: self.oldest.max(other.oldest) }
    }
}

impl Running {
    fn merge(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, tokens: self.tokens + other.tokens }
    }
}

impl Misses {
    fn merge(self, other: Self) -> Self {
        Self {
            answers: self.answers + other.answers,
            late: self.late + other.late,
            slow: self.slow + other.slow,
        }
    }
}

fn both<T: Copy>(a: [T; BANDS], b: [T; BANDS], merge: impl Fn(T, T) -> T) -> [T; BANDS] {
    std::array::from_fn(|at| merge(a[at], b[at]))
}

fn add<T>(a: Option<Seen<T>>, b: Option<Seen<T>>, sum: impl Fn(T, T) -> T) -> Option<Seen<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Seen {
            at: a.at.min(b.at),
            whole: a.whole && b.whole,
            value: sum(a.value, b.value),
        }),
        (one, other) => one.or(other).map(|seen| Seen { whole: false, ..seen }),
    }
}

fn newest<T>(a: Option<Seen<T>>, b: Option<Seen<T>>) -> Option<Seen<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.at > a.at { b } else { a }),
        (one, other) => one.or(other),
    }
}

type Replicas = Option<Seen<BTreeMap<ReplicaId, ReplicaSeen>>>;

/// The list that was seen last, with the newest word of each on its cache.
fn replicas(a: Replicas, b: Replicas) -> Replicas {
    let (mut last, other) = match (a, b) {
        (Some(a), Some(b)) if b.at > a.at => (b, a),
        (Some(a), Some(b)) => (a, b),
        (one, other) => return one.or(other),
    };
    for (id, seen) in &mut last.value {
        let before = other.value.get(id).and_then(|one| one.kv_used);
        seen.kv_used = newest(seen.kv_used, before);
    }
    Some(last)
}

/// What each gateway said last.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    parts: BTreeMap<u64, Signals>,
    /// Whether one had to be left out.
    over: bool,
}

impl Pool {
    /// A gateway says what it sees; what it said before counts no more.
    pub fn report(&mut self, gateway: u64, signals: Signals) {
        if self.parts.len() >= GATEWAYS_MAX && !self.parts.contains_key(&gateway) {
            self.over = true;
            return;
        }
        // One that counted wrongly spoils its own part and not the sum.
        self.parts.insert(gateway, signals.sound());
    }

    /// A gateway is known to be gone. One that only fell silent is not: what it said last grows stale,
    /// and with it the sum.
    pub fn forget(&mut self, gateway: u64) {
        self.parts.remove(&gateway);
        self.over = false;
    }

    /// What all of them see together.
    pub fn merged(&self) -> Signals {
        let merged = self.parts.values().cloned().reduce(Signals::merge).unwrap_or_default();
        if self.over { merged.partial() } else { merged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(at: u64, requests: f64) -> Signals {
        let mut bands = [Work::default(); BANDS];
        bands[1] = Work { requests, prompt: requests * 100.0, answer: requests * 10.0 };
        let arrivals = Some(Seen::new(Time::from_millis(at), bands));
        Signals { arrivals, ..Signals::default() }
    }

    #[test]
    fn gateways_add_up() {
        let mut pool = Pool::default();
        pool.report(1, arriving(2000, 3.0));
        pool.report(2, arriving(1000, 4.0));
        let sum = pool.merged().arrivals.unwrap();
        assert_eq!((sum.value[1].requests, sum.value[1].prompt), (7.0, 700.0));
        assert_eq!((sum.at, sum.whole), (Time::from_millis(1000), true), "as old as its oldest");
        // One that says nothing of arrivals has not said that there are none.
        pool.report(3, Signals::default());
        let sum = pool.merged().arrivals.unwrap();
        assert_eq!((sum.value[1].requests, sum.whole), (7.0, false));
        pool.forget(3);
        assert!(pool.merged().arrivals.unwrap().whole);
        assert_eq!(pool.merged().waiting, None, "absent is not zero");
    }

    #[test]
    fn replicas_are_the_same_ones() {
        let seen = |at: u64, stage: Stage, used: Option<(u64, f64)>| {
            let kv_used = used.map(|(at, part)| Seen::new(Time::from_millis(at), part));
            let one = ReplicaSeen { kv_used, ..ReplicaSeen::new(stage, Time::ZERO) };
            let all = BTreeMap::from([(ReplicaId(1), one)]);
            let replicas = Some(Seen::new(Time::from_millis(at), all));
            Signals { replicas, ..Signals::default() }
        };
        let new = seen(5, Stage::Draining, Some((1, 0.2)));
        let old = seen(4, Stage::Ready, Some((3, 0.7)));
        for merged in [new.clone().merge(old.clone()), old.merge(new)] {
            let one = merged.replicas.unwrap().value[&ReplicaId(1)];
            assert_eq!((one.stage, one.kv_used.unwrap().value), (Stage::Draining, 0.7));
        }
    }

    #[test]
    fn too_many_gateways_leave_nothing_whole() {
        let mut pool = Pool::default();
        (0..=GATEWAYS_MAX as u64).for_each(|gateway| pool.report(gateway, arriving(1, 1.0)));
        assert!(!pool.merged().arrivals.unwrap().whole);
    }
}
