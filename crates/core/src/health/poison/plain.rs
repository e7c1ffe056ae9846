//! The guard's account without any index: every question goes over everything there is. A property
//! holds the one that is used to the same answers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is known, as lists.
#[derive(Debug)]
struct Plain {
    config: PoisonConfig,
    suspects: BTreeMap<u64, Suspect>,
    flights: BTreeMap<(ReplicaId, RequestId), u64>,
    watched: BTreeSet<(ReplicaId, RequestId)>,
    broken: Vec<(Time, ReplicaId, u64)>,
    pending: BTreeMap<u64, (u32, Time)>,
}

impl Plain {
    fn deaths(&self, now: Time, body: u64) -> u32 {
        let known = self.suspects.get(&body).map_or(0, |suspect| suspect.deaths);
        let pending = self.pending.get(&body).filter(|(_, last)| now.since(*last) < GRACE);
        known + pending.map_or(0, |(count, _)| *count)
    }

    fn sent(&mut self, now: Time, replica: ReplicaId, request: RequestId, body: u64) {
        let before = self.flights.insert((replica, request), body);
        if self.deaths(now, body) >= self.config.watch_from {
            self.watched.insert((replica, request));
        }
        if let Some(suspect) = self.suspects.get_mut(&body).filter(|_| before.is_none()) {
            suspect.running += 1;
            suspect.trial = None;
        }
    }

    fn answered(&mut self, replica: ReplicaId, request: RequestId) {
        let Some(body) = self.flights.remove(&(replica, request)) else { return };
        self.watched.remove(&(replica, request));
        self.pending.remove(&body);
        if self.suspects.remove(&body).is_some() {
            let flights = &self.flights;
            self.watched.retain(|flight| flights.get(flight) != Some(&body));
        }
    }

    fn ended(&mut self, now: Time, replica: ReplicaId, request: RequestId, broke: bool) {
        let Some(body) = self.flights.remove(&(replica, request)) else { return };
        self.watched.remove(&(replica, request));
        if let Some(suspect) = self.suspects.get_mut(&body) {
            suspect.running = suspect.running.saturating_sub(1);
        }
        self.forget(now);
        if broke {
            self.broken.push((now, replica, body));
            let pending = self.pending.entry(body).or_insert((0, now));
            *pending = (pending.0 + 1, now);
        }
    }

    fn died(&mut self, now: Time, replica: ReplicaId) {
        self.forget(now);
        let there: Vec<_> = self.flights.keys().filter(|(at, _)| *at == replica).copied().collect();
        let mut bodies: BTreeSet<u64> =
            there.iter().filter_map(|flight| self.flights.remove(flight)).collect();
        self.watched.retain(|(at, _)| *at != replica);
        let its = self.broken.extract_if(.., |(_, at, _)| *at == replica);
        for (.., body) in its {
            unpend(&mut self.pending, body);
            bodies.insert(body);
        }
        let most = bodies.iter().map(|body| self.deaths(now, *body)).max().unwrap_or(0);
        let last: Vec<u64> =
            bodies.iter().copied().filter(|body| self.deaths(now, *body) == most).collect();
        for body in bodies {
            self.blame(now, body, last == [body]);
        }
    }

    fn blame(&mut self, now: Time, body: u64, is_sole: bool) {
        if !self.suspects.contains_key(&body) && self.suspects.len() >= self.config.bodies_max {
            let oldest = self.suspects.iter().min_by_key(|(_, suspect)| suspect.last);
            let oldest = oldest.map(|(body, _)| *body).unwrap();
            self.suspects.remove(&oldest);
        }
        let copies = self.flights.iter().filter(|(_, other)| **other == body);
        let copies: Vec<_> = copies.map(|(flight, _)| *flight).collect();
        let fresh = Suspect { deaths: 0, sole: 0, last: now, running: 0, trial: None };
        let suspect = self.suspects.entry(body).or_insert(fresh);
        suspect.deaths += 1;
        suspect.sole += u32::from(is_sole && suspect.sole < self.config.trial_from);
        suspect.last = now;
        suspect.running = u32::try_from(copies.len()).unwrap();
        if suspect.deaths >= self.config.watch_from {
            self.watched.extend(copies);
        }
    }

    fn forget(&mut self, now: Time) {
        self.suspects.retain(|_, suspect| now.since(suspect.last) < self.config.remember);
        for (.., body) in self.broken.extract_if(.., |(at, ..)| now.since(*at) > GRACE) {
            unpend(&mut self.pending, body);
        }
    }
}

/// What happens: to which replica and request, with which body, how much later than what was before.
type Step = (u8, u32, u64, u64, u64);

/// Plays it to both. No trial comes about, as no replica is ever left alone for long enough.
fn check(steps: &[Step]) {
    let config = PoisonConfig {
        bodies_max: 4,
        calm: Span::from_secs(1_000_000),
        remember: Span::from_secs(20),
        ..PoisonConfig::default()
    };
    let mut plain = Plain {
        config,
        suspects: BTreeMap::new(),
        flights: BTreeMap::new(),
        watched: BTreeSet::new(),
        broken: Vec::new(),
        pending: BTreeMap::new(),
    };
    let mut poison = Poison::new(config);
    let mut now = Time::from_millis(1);
    for (what, replica, request, body, ms) in steps {
        now = now + Span::from_millis(*ms);
        let (replica, request) = (ReplicaId(*replica), RequestId(*request));
        match what {
            0..=3 => {
                plain.sent(now, replica, request, *body);
                poison.sent(now, replica, request, *body);
            }
            4 => {
                plain.answered(replica, request);
                poison.answered(replica, request);
            }
            5 | 6 => {
                let kind = if *what == 5 { FailureKind::Broken } else { FailureKind::Timeout };
                plain.ended(now, replica, request, *what == 5);
                poison.ended(now, replica, request, Some(kind));
            }
            _ => {
                plain.died(now, replica);
                poison.died(now, replica, |_| true);
            }
        }
        let said = |all: &BTreeMap<u64, Suspect>| -> Vec<(u64, u32, u32, u32, Time)> {
            let one = |(body, one): (&u64, &Suspect)| {
                (*body, one.deaths, one.sole, one.running, one.last)
            };
            all.iter().map(one).collect()
        };
        assert_eq!(said(&poison.suspects), said(&plain.suspects), "{what} {replica:?}");
        assert_eq!((&poison.watched, &poison.flights), (&plain.watched, &plain.flights));
        let by_body: BTreeSet<_> =
            plain.flights.iter().map(|((at, id), body)| (*body, *at, *id)).collect();
        let by_last: BTreeSet<_> =
            plain.suspects.iter().map(|(body, one)| (one.last, *body)).collect();
        assert_eq!((&poison.by_body, &poison.by_last), (&by_body, &by_last));
    }
}

proptest! {
    #[test]
    fn what_is_indexed_says_the_same(
        steps in prop::collection::vec((0u8..9, 0u32..4, 0u64..12, 0u64..7, 0u64..1500), 0..120),
    ) {
        check(&steps);
    }
}
