//! Who gives way where there is no room for all: Models that go to nothing anyway (`zero: cold`) take turns
//! on a Fleet that is full, or on one machine.
//!
//! Contract: nobody gives way before it served for [`STAY`], or for [`STAY_IDLE`] where nobody uses it, one gives
//! way at a time and to the one that waits longest, and it comes back when that one has a place, or turns out not
//! to fit there. A place that is free, or comes free by itself, is nobody's turn.

use std::collections::BTreeMap;

use pilotage_core::{Span, Time};

/// How long whoever has a place keeps it at least: a turn costs an end and a start.
const STAY: Span = Span::from_secs(300);

/// The same of one that nobody uses at the moment: those who come in turn to two of them wait for a start each time.
const STAY_IDLE: Span = Span::from_secs(30);

/// How long one waits for a place before those are asked for theirs that somebody uses: nodes may be on their way.
const PATIENCE: Span = Span::from_secs(60);

/// How long a place that was given up may stay unused; then it was of no use.
const UNUSED_MAX: Span = Span::from_secs(300);

/// How long nobody gives way to one to which that was of no use.
const HOPELESS: Span = Span::from_secs(3600);

/// A Model, as far as turns are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The Fleet that it is on; those without one are on one together.
    pub fleet: Option<&'a str>,
    /// Since when it serves, if it does.
    pub serves: Option<Time>,
    /// Whether somebody waits for it.
    pub is_asked: bool,
    /// Whether somebody uses it at the moment, or may: then it is not asked for its place so soon.
    pub is_busy: bool,
    /// Whether there is no room for any of its copies.
    pub is_unplaced: bool,
}

/// Whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    all: BTreeMap<String, Turn>,
    /// Until when nobody gives way to them.
    hopeless: BTreeMap<String, Time>,
}

#[derive(Clone, Debug)]
struct Turn {
    fleet: Option<String>,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Whether somebody uses it, and since when it serves.
    Serves(bool, Time),
    /// Since when it waits for a place.
    Waits(Time),
    /// To whom, and when.
    GaveWay(String, Time),
}

impl Turns {
    /// To whom a Model gives its place now, or gave it; none where it may have copies.
    pub fn gives_way(&mut self, now: Time, name: &str, look: &Look<'_>) -> Option<String> {
        if let Some((to, at)) = self.gave(name) {
            if self.is_due(now, &to, at) {
                return Some(to);
            }
            self.all.remove(name);
        }
        let before = self.all.get(name).map(|turn| turn.state.clone());
        let state = match (look.serves, look.is_asked && look.is_unplaced, before) {
            (Some(since), ..) => State::Serves(look.is_busy, since),
            (None, true, Some(State::Waits(since))) => State::Waits(since),
            (None, true, _) => State::Waits(now),
            (None, false, _) => {
                self.all.remove(name);
                return None;
            }
        };
        let fleet = look.fleet.map(str::to_owned);
        let to = match &state {
            State::Serves(is_busy, since) => self.to(now, (name, *is_busy), fleet.as_ref(), *since),
            State::Waits(_) | State::GaveWay(..) => None,
        };
        let state = to.clone().map_or(state, |to| State::GaveWay(to, now));
        self.all.insert(name.to_owned(), Turn { fleet, state });
        to
    }

    /// Forgets all but those.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.all.retain(|name, _| keep(name));
        self.hopeless.retain(|name, _| keep(name));
    }

    fn gave(&self, name: &str) -> Option<(String, Time)> {
        match &self.all.get(name)?.state {
            State::GaveWay(to, at) => Some((to.clone(), *at)),
            State::Serves(..) | State::Waits(_) => None,
        }
    }

    /// Whether the one that it was given to still needs the place, and may yet come to use it.
    fn is_due(&mut self, now: Time, to: &str, at: Time) -> bool {
        if !self.all.get(to).is_some_and(|turn| matches!(turn.state, State::Waits(_))) {
            return false;
        }
        let is_unused = now.since(at) >= UNUSED_MAX;
        if is_unused {
            self.hopeless.insert(to.to_owned(), now + HOPELESS);
        }
        !is_unused
    }

    /// To whom one that serves since then has to give way, if it has to.
    fn to(
        &self,
        now: Time,
        (name, is_busy): (&str, bool),
        fleet: Option<&String>,
        since: Time,
    ) -> Option<String> {
        let (stay, patience) = if is_busy { (STAY, PATIENCE) } else { (STAY_IDLE, Span::ZERO) };
        let there = || self.all.iter().filter(move |(_, turn)| turn.fleet.as_ref() == fleet);
        if now.since(since) < stay
            || there().any(|(_, turn)| matches!(turn.state, State::GaveWay(..)))
        {
            return None;
        }
        // Who is used by nobody goes first, and of those alike who serves longest.
        let is_first = there().all(|(other, turn)| match &turn.state {
            State::Serves(other_busy, began) => {
                (*other_busy, *began, other.as_str()) >= (is_busy, since, name) || other == name
            }
            State::Waits(_) | State::GaveWay(..) => true,
        });
        let waiting = there().filter_map(|(other, turn)| match &turn.state {
            State::Waits(began) if now.since(*began) >= patience => Some((*began, other)),
            _ => None,
        });
        let helped = |name: &str| self.hopeless.get(name).is_none_or(|until| now >= *until);
        let first = waiting.filter(|(_, other)| helped(other)).min();
        first.filter(|_| is_first).map(|(_, other)| other.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Span = Span::from_secs(30);

    /// So many places, and Models that are always asked for.
    struct Stand {
        now: Time,
        turns: Turns,
        room: usize,
        /// Since when each is on a place.
        placed: BTreeMap<String, Time>,
        served: BTreeMap<String, u64>,
        moves: u32,
        /// One that fits nowhere.
        large: Option<&'static str>,
    }

    impl Stand {
        fn new(room: usize) -> Self {
            Self {
                now: Time::from_millis(1_000_000),
                turns: Turns::default(),
                room,
                placed: BTreeMap::new(),
                served: BTreeMap::new(),
                moves: 0,
                large: None,
            }
        }

        fn run(&mut self, names: &[&'static str], seconds: u64) {
            for _ in 0..seconds / 5 {
                self.now = self.now + Span::from_secs(5);
                for name in names {
                    self.step(name);
                }
            }
        }

        fn step(&mut self, name: &'static str) {
            let since = self.placed.get(name).map(|at| *at + START);
            let serves = since.filter(|at| *at <= self.now);
            *self.served.entry(name.to_owned()).or_default() += u64::from(serves.is_some()) * 5;
            let is_unplaced = !self.placed.contains_key(name);
            let (fleet, is_asked, is_busy) = (None, serves.is_none(), true);
            let look = Look { fleet, serves, is_asked, is_busy, is_unplaced };
            if self.turns.gives_way(self.now, name, &look).is_some() {
                self.placed.remove(name);
            } else if is_unplaced && self.placed.len() < self.room && self.large != Some(name) {
                self.placed.insert(name.to_owned(), self.now);
                self.moves += 1;
            }
        }
    }

    #[test]
    fn two_for_one_place_take_turns() {
        let mut stand = Stand::new(1);
        stand.run(&["a", "b"], 4 * 3600);
        let (a, b) = (stand.served["a"], stand.served["b"]);
        assert!(a.abs_diff(b) <= 600 && a + b > 4 * 3600 * 8 / 10, "{a} {b}");
        assert!(u64::from(stand.moves) <= 4 * 3600 / 300, "{} turns", stand.moves);
    }

    #[test]
    fn three_for_two_places_are_served_alike() {
        let mut stand = Stand::new(2);
        stand.run(&["a", "b", "c"], 8 * 3600);
        let most = stand.served.values().max().unwrap();
        let least = stand.served.values().min().unwrap();
        assert!(most - least < most / 5, "{:?}", stand.served);
    }

    #[test]
    fn where_there_is_room_nobody_goes() {
        let mut stand = Stand::new(2);
        stand.run(&["a", "b"], 4 * 3600);
        assert_eq!(stand.moves, 2);
    }

    #[test]
    fn one_that_fits_nowhere_costs_others_little() {
        let mut stand = Stand::new(1);
        stand.large = Some("b");
        stand.run(&["a", "b"], 8 * 3600);
        assert!(stand.served["a"] > 8 * 3600 * 8 / 10, "{:?}", stand.served);
    }

    /// One that nobody uses goes at once, before one that somebody does, and not as soon as it came.
    #[test]
    fn one_that_nobody_uses_gives_way_at_once() {
        let check = |busy: [bool; 2], served: u64, expect: [bool; 2]| {
            let mut turns = Turns::default();
            let now = Time::from_millis(10_000_000);
            let idle = Look {
                fleet: None,
                serves: None,
                is_asked: true,
                is_busy: true,
                is_unplaced: true,
            };
            let mut gave = [false; 2];
            // Twice: who serves is known only then.
            for _ in 0..2 {
                assert_eq!(turns.gives_way(now, "c", &idle), None);
                for (at, name) in ["a", "b"].into_iter().enumerate() {
                    let since = now - Span::from_secs(served - at as u64);
                    let look = Look {
                        serves: Some(since),
                        is_asked: false,
                        is_busy: busy[at],
                        is_unplaced: false,
                        ..idle
                    };
                    gave[at] |= turns.gives_way(now, name, &look).is_some();
                }
            }
            assert_eq!(gave, expect, "{busy:?} {served}");
        };
        check([true, true], 200, [false, false]);
        check([true, false], 200, [false, true]);
        check([false, true], 200, [true, false]);
        check([true, false], 20, [false, false]);
    }

    #[test]
    fn other_fleets_are_no_matter() {
        let mut turns = Turns::default();
        let now = Time::from_millis(10_000_000);
        let waits = Look {
            fleet: Some("x"),
            serves: None,
            is_asked: true,
            is_busy: true,
            is_unplaced: true,
        };
        assert_eq!(turns.gives_way(now, "b", &waits), None);
        let later = now + Span::from_secs(600);
        assert_eq!(turns.gives_way(later, "b", &waits), None);
        let serves = |fleet| Look {
            fleet,
            serves: Some(Time::ZERO),
            is_asked: false,
            is_busy: true,
            is_unplaced: false,
        };
        assert_eq!(turns.gives_way(later, "a", &serves(Some("y"))), None);
        assert_eq!(turns.gives_way(later, "a", &serves(Some("x"))), Some("b".to_owned()));
    }
}
