//! How much work one replica does at the goal, and how many replicas a load needs: a queueing model of
//! engines that compute so many sequences at once.
//!
//! Of a request with `p` seconds of prompt and `o` tokens of answer, on a replica with `n` sequences at
//! once and steps of `s + n·t`, a token takes `s + n·(t + p/o)` when the steps of prompts fall between
//! those of answers, and the replica ends a request every `p + o·(s/n + t)` seconds. How many at once
//! there may be follows from the goal for each token, from the KV cache and from the engine's own limit.
//!
//! All places of all replicas are one queue, because the gateway holds it: how many are needed so that
//! few wait longer than the goal is Erlang's formula.

use serde::Serialize;

use super::signals::{Speed, Work};
use crate::Span;

/// Most places that are reckoned one by one; of more, only the part that is busy counts.
const PLACES_MAX: u32 = 1 << 16;

/// The least that a request is taken to take, in seconds: nothing takes no time.
const SECONDS_MIN: f64 = 1e-9;

/// What keeps a replica from computing more at once.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The engine's own limit.
    Sequences,
    /// Its KV cache.
    Kv,
    /// The goal for each token.
    Tpot,
}

/// What one replica does at the goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Service {
    /// Sequences at once.
    pub places: u32,
    /// What allows no more.
    pub limit: Limit,
    /// Seconds that a prompt takes.
    pub prompt_seconds: f64,
    /// Seconds of a replica that a request takes.
    pub seconds: f64,
    /// Seconds of a replica that each token of a prompt takes, and each of an answer.
    #[serde(skip)]
    pub(super) token_seconds: (f64, f64),
}

impl Service {
    /// What a replica of that speed does with requests like these, none where no request is known.
    pub fn of(speed: &Speed, work: Work, tpot: Option<Span>) -> Option<Self> {
        if work.requests <= 0.0 {
            return None;
        }
        let prompt = work.prompt / work.requests * speed.token_seconds;
        let answer = (work.answer / work.requests).max(1.0);
        let each = speed.sequence_seconds + prompt / answer;
        let whole = |places: f64| if places >= 1.0 { places.min(1e6) as u32 } else { 1 };
        let mut bound = (speed.sequences_max.max(1), Limit::Sequences);
        if let Some(tokens) = speed.kv_tokens {
            let held = work.prompt / work.requests + answer / 2.0;
            bound = bound.min((whole(tokens as f64 / held.max(1.0)), Limit::Kv));
        }
        if let Some(goal) = tpot.filter(|_| each > 0.0) {
            let places = (goal.as_secs_f64() - speed.step_seconds) / each;
            bound = bound.min((whole(places), Limit::Tpot));
        }
        let (places, limit) = bound;
        let step = speed.step_seconds / f64::from(places) + speed.sequence_seconds;
        let seconds = (prompt + answer * step).max(SECONDS_MIN);
        let token_seconds = (speed.token_seconds, step);
        let service = Self { places, limit, prompt_seconds: prompt, seconds, token_seconds };
        seconds.is_finite().then_some(service)
    }

    /// Seconds of a replica that such work takes, by its tokens: a long prompt is more than a short one.
    pub(super) fn takes(&self, work: Work) -> f64 {
        let (prompt, answer) = self.token_seconds;
        let seconds = work.prompt * prompt + work.answer.max(work.requests) * answer;
        seconds.max(work.requests * SECONDS_MIN)
    }

    /// Requests a second that it ends when it is never idle.
    pub fn rate(&self) -> f64 {
        1.0 / self.seconds
    }
}

/// What a fleet has to come up to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Target {
    /// The part of what replicas can do that is asked of them at most.
    pub(super) utilisation: f64,
    /// How long a request may wait for a place; none where that does not matter.
    pub(super) wait: Option<f64>,
    /// The part of requests that may wait longer.
    pub(super) miss: f64,
}

/// The fewest replicas for so many replicas' work, at most `most`.
pub(super) fn replicas_for(load: f64, service: &Service, target: Target, most: u32) -> u32 {
    if load <= 0.0 {
        return 0;
    }
    let least = (load / target.utilisation).ceil().max(1.0);
    let least = if least < f64::from(most) { least as u32 } else { return most };
    let Some(wait) = target.wait else { return least };
    let stays = service.seconds * f64::from(service.places);
    let mut line = Line::new(load * f64::from(service.places));
    for replicas in least..most {
        let places = replicas.saturating_mul(service.places);
        if places > PLACES_MAX || line.waits_longer(places, wait / stays) <= target.miss {
            return replicas;
        }
    }
    most
}

/// The largest load that so many replicas bear, found by halving.
pub(super) fn load_of(replicas: u32, service: &Service, target: Target) -> f64 {
    let (mut low, mut high) = (0.0, f64::from(replicas) * target.utilisation);
    for _ in 0..24 {
        let middle = (low + high) / 2.0;
        if replicas_for(middle, service, target, replicas.saturating_add(1)) <= replicas {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Erlang's formulas, place after place.
struct Line {
    /// Work offered, in places.
    offered: f64,
    places: u32,
    /// The part that finds all of them taken, were there no queue.
    blocked: f64,
}

impl Line {
    const fn new(offered: f64) -> Self {
        Self { offered, places: 0, blocked: 1.0 }
    }

    /// The part of requests that wait longer than so many mean stays, with so many places; places only
    /// grow from call to call.
    fn waits_longer(&mut self, places: u32, stays: f64) -> f64 {
        for place in self.places + 1..=places {
            let taken = self.offered * self.blocked;
            self.blocked = taken / (f64::from(place) + taken);
        }
        self.places = places;
        let spare = f64::from(places) - self.offered;
        if spare <= 0.0 {
            return 1.0;
        }
        let idle = spare / f64::from(places);
        let waits = self.blocked / (idle + (1.0 - idle) * self.blocked);
        waits * (-spare * stays).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEED: Speed = Speed {
        token_seconds: 0.000_2,
        step_seconds: 0.015,
        sequence_seconds: 0.001,
        sequences_max: 32,
        kv_tokens: Some(65_536),
    };

    fn work(prompt: f64, answer: f64) -> Work {
        Work { requests: 1.0, prompt, answer }
    }

    #[test]
    fn what_limits_a_replica() {
        let check = |work: Work, tpot: Option<u64>, expect: (u32, Limit)| {
            let service = Service::of(&SPEED, work, tpot.map(Span::from_millis)).unwrap();
            assert_eq!((service.places, service.limit), expect);
        };
        check(work(100.0, 100.0), None, (32, Limit::Sequences));
        // 16,384 and half of 1,000 tokens each: three fit.
        check(work(16_384.0, 1000.0), None, (3, Limit::Kv));
        // 15 ms, and for each sequence 1 ms and a hundredth of its prompt's 100 ms: 17 are 49 ms.
        check(work(500.0, 100.0), Some(50), (17, Limit::Tpot));
        // A goal that nobody can meet leaves one.
        check(work(500.0, 100.0), Some(10), (1, Limit::Tpot));
        assert_eq!(Service::of(&SPEED, Work::default(), None), None);
    }

    #[test]
    fn tokens_come_as_the_steps_say() {
        // Ten sequences: steps of 25 ms, 40 of them for four tokens a second… by hand.
        let speed = Speed { sequences_max: 10, ..SPEED };
        let service = Service::of(&speed, work(500.0, 100.0), None).unwrap();
        // 0.1 s of prompt and 100 · (1.5 + 1) ms.
        assert!((service.seconds - 0.35).abs() < 1e-12);
        // By Little's law ten of them stay 3.5 s, of which the answer is 100 tokens of 15 + 10 · 2 ms.
        assert!((service.seconds * 10.0 - 100.0 * 0.035).abs() < 1e-9);
    }

    #[test]
    fn work_is_counted_in_tokens() {
        let service = Service::of(&SPEED, work(500.0, 100.0), None).unwrap();
        let check = |work: Work, expect: f64| {
            let takes = service.takes(work);
            assert!((takes - expect).abs() < 1e-9, "{takes}");
        };
        check(work(500.0, 100.0), service.seconds);
        // Forty times the prompt: 20,000 tokens of 0.2 ms, and the same answer.
        check(work(20_000.0, 100.0), service.seconds + 19_500.0 * 0.000_2);
        check(work(500.0, 0.0), 0.1 + service.token_seconds.1);
        check(Work::default(), 0.0);
    }

    #[test]
    fn erlang_by_the_tables() {
        // Values of Erlang C: two Erlangs on three servers, ten on twelve.
        let check = |offered: f64, places: u32, expect: f64| {
            let waits = Line::new(offered).waits_longer(places, 0.0);
            assert!((waits - expect).abs() < 5e-4, "{waits}");
        };
        check(2.0, 3, 0.4444);
        check(10.0, 12, 0.4494);
        check(1.0, 1, 1.0);
    }

    #[test]
    fn more_load_never_needs_fewer() {
        let service = Service::of(&SPEED, work(500.0, 100.0), None).unwrap();
        let target = Target { utilisation: 0.85, wait: Some(1.0), miss: 0.05 };
        let mut before = 0;
        for step in 0..2000 {
            let load = f64::from(step) * 0.01;
            let need = replicas_for(load, &service, target, 64);
            assert!(need >= before && f64::from(need) >= load, "{load}");
            before = need;
        }
        for replicas in 1..20 {
            let load = load_of(replicas, &service, target);
            assert_eq!(replicas_for(load, &service, target, 64), replicas);
            assert_eq!(replicas_for(load * 1.001, &service, target, 64), replicas + 1);
        }
    }
}
