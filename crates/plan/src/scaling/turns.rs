//! Who gives way where there is no room for all: Models that go to nothing anyway (`zero: cold`) take turns
//! on a Fleet that is full, or on one machine.
//!
//! Contract: nobody gives way before it served for [`STAY`], or for [`STAY_IDLE`] where nobody uses it, one gives
//! way at a time and to the one that waits longest, and it comes back when that one has a place, or turns out not
//! to fit there. Who has a place and does not come up there gives it back when its time is over, and gets no other's
//! for a while. A place that is free, or comes free by itself, is nobody's turn.

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
    /// Where it has a place and does not serve: how long it may take to come up.
    pub comes: Option<Span>,
    /// Whether somebody waits for it.
    pub is_asked: bool,
    /// Whether somebody uses it at the moment, or may: then it is not asked for its place so soon.
    pub is_busy: bool,
    /// Whether none of its copies has a place.
    pub is_unplaced: bool,
    /// Whether there may be a place for one all the same: then nobody else goes for it.
    pub has_room: bool,
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
    /// It has a place, and until when it may take to serve there.
    Comes(Time),
    /// Since when it waits for a place, and whether there may be one.
    Waits(Time, bool),
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
        let state = match (look.serves, look.comes, before) {
            (Some(since), ..) => State::Serves(look.is_busy, since),
            // Another start does not begin its time anew.
            (None, Some(_), Some(State::Comes(until))) => State::Comes(until),
            (None, Some(patience), _) => State::Comes(now + patience),
            (None, None, _) if !look.is_asked || !look.is_unplaced => {
                self.all.remove(name);
                return None;
            }
            (None, None, Some(State::Waits(since, _))) => State::Waits(since, look.has_room),
            (None, None, _) => State::Waits(now, look.has_room),
        };
        let fleet = look.fleet.map(str::to_owned);
        let to = self.to(now, name, fleet.as_ref(), &state);
        if to.is_some() && matches!(state, State::Comes(_)) {
            self.hopeless.insert(name.to_owned(), now + HOPELESS);
        }
        let state = to.clone().map_or(state, |to| State::GaveWay(to, now));
        self.all.insert(name.to_owned(), Turn { fleet, state });
        to
    }

    /// Forgets all but those.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.all.retain(|name, _| keep(name));
        self.hopeless.retain(|name, _| keep(name));
    }

    /// Forgets that one.
    pub fn forget(&mut self, name: &str) {
        self.all.remove(name);
        self.hopeless.remove(name);
    }

    fn gave(&self, name: &str) -> Option<(String, Time)> {
        match &self.all.get(name)?.state {
            State::GaveWay(to, at) => Some((to.clone(), *at)),
            State::Serves(..) | State::Comes(_) | State::Waits(..) => None,
        }
    }

    /// Whether the one that it was given to still needs the place, and may yet come to use it.
    fn is_due(&mut self, now: Time, to: &str, at: Time) -> bool {
        if !self.all.get(to).is_some_and(|turn| matches!(turn.state, State::Waits(..))) {
            return false;
        }
        let is_unused = now.since(at) >= UNUSED_MAX;
        if is_unused {
            self.hopeless.insert(to.to_owned(), now + HOPELESS);
        }
        !is_unused
    }

    /// To whom one has to give way, if it has to.
    fn to(&self, now: Time, name: &str, fleet: Option<&String>, state: &State) -> Option<String> {
        let own = state.order(now)?;
        let patience = match state {
            State::Serves(is_busy, since) => {
                let (stay, patience) =
                    if *is_busy { (STAY, PATIENCE) } else { (STAY_IDLE, Span::ZERO) };
                (now.since(*since) >= stay).then_some(patience)?
            }
            State::Comes(_) | State::Waits(..) | State::GaveWay(..) => Span::ZERO,
        };
        let there = || self.all.iter().filter(move |(_, turn)| turn.fleet.as_ref() == fleet);
        if there().any(|(_, turn)| matches!(turn.state, State::GaveWay(..))) {
            return None;
        }
        let is_first = there().all(|(other, turn)| {
            let order = turn.state.order(now);
            order.is_none_or(|order| (order, other.as_str()) >= (own, name)) || other == name
        });
        let waiting = there().filter_map(|(other, turn)| match &turn.state {
            State::Waits(began, false) if now.since(*began) >= patience => Some((*began, other)),
            _ => None,
        });
        let helped = |name: &str| self.hopeless.get(name).is_none_or(|until| now >= *until);
        let first = waiting.filter(|(_, other)| helped(other)).min();
        first.filter(|_| is_first).map(|(_, other)| other.clone())
    }
}

impl State {
    /// Who goes first: who does not come up in time, then who is used by nobody, and of those alike who is there
    /// for longest. None for those that have no place to give, or may yet come.
    fn order(&self, now: Time) -> Option<(bool, bool, Time)> {
        match self {
            Self::Serves(is_busy, since) => Some((true, *is_busy, *since)),
            Self::Comes(until) if now >= *until => Some((false, false, *until)),
            Self::Comes(_) | Self::Waits(..) | Self::GaveWay(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Span = Span::from_secs(30);

    /// One that somebody asks for, and that has no place.
    const WAITS: Look<'static> = Look {
        fleet: None,
        serves: None,
        comes: None,
        is_asked: true,
        is_busy: false,
        is_unplaced: true,
        has_room: false,
    };

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
        /// One that gets a place and never serves.
        broken: Option<&'static str>,
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
                broken: None,
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
            let serves = since.filter(|at| *at <= self.now && self.broken != Some(name));
            let comes = self.placed.get(name).map(|_| UNUSED_MAX);
            *self.served.entry(name.to_owned()).or_default() += u64::from(serves.is_some()) * 5;
            let is_unplaced = !self.placed.contains_key(name);
            let (fleet, is_asked, is_busy) = (None, serves.is_none(), true);
            let has_room = self.placed.len() < self.room && self.large != Some(name);
            let look = Look { fleet, serves, comes, is_asked, is_busy, is_unplaced, has_room };
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

    /// Whether it comes first or later: who works serves nearly all the time.
    #[test]
    fn one_that_never_comes_up_costs_others_little() {
        for names in [["a", "b"], ["b", "a"]] {
            let mut stand = Stand::new(1);
            stand.broken = Some("b");
            stand.run(&names, 8 * 3600);
            assert!(stand.served["a"] > 8 * 3600 * 8 / 10, "{:?}", stand.served);
            assert!(stand.moves > 4, "it is tried again: {}", stand.moves);
        }
    }

    /// Nobody who serves goes for what one that is stuck holds.
    #[test]
    fn one_that_does_not_come_up_goes_before_one_that_serves() {
        let mut turns = Turns::default();
        let now = Time::from_millis(10_000_000);
        let waits = WAITS;
        let serves =
            Look { serves: Some(Time::ZERO), is_asked: false, is_unplaced: false, ..waits };
        let comes = Look { comes: Some(UNUSED_MAX), is_unplaced: false, ..waits };
        let at = |seconds: u64| now + Span::from_secs(seconds);
        assert_eq!(turns.gives_way(now, "z", &comes), None);
        assert_eq!(turns.gives_way(at(300), "z", &comes), None, "nobody waits");
        assert_eq!(turns.gives_way(at(300), "c", &waits), None);
        assert_eq!(turns.gives_way(at(300), "a", &serves), None);
        assert_eq!(turns.gives_way(at(300), "z", &comes), Some("c".to_owned()));
        turns.forget("c");
        assert_eq!(turns.gives_way(at(301), "z", &waits), None, "it was for one that is gone");
        assert_eq!(turns.gives_way(at(301), "a", &serves), None, "it gets no other's place");
    }

    /// One that nobody uses goes at once, before one that somebody does, and not as soon as it came.
    #[test]
    fn one_that_nobody_uses_gives_way_at_once() {
        let check = |busy: [bool; 2], served: u64, expect: [bool; 2]| {
            let mut turns = Turns::default();
            let now = Time::from_millis(10_000_000);
            let idle = Look { is_busy: true, ..WAITS };
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

    /// Nobody goes for one that may have found a place; who went for it stays away until it is there.
    #[test]
    fn a_place_that_is_free_is_nobodys_turn() {
        let mut turns = Turns::default();
        let now = Time::from_millis(10_000_000);
        let waits = Look { has_room: true, ..WAITS };
        let serves =
            Look { serves: Some(Time::ZERO), is_asked: false, is_unplaced: false, ..waits };
        for (at, name) in ["b", "y"].into_iter().enumerate() {
            assert_eq!(turns.gives_way(now, name, &waits), None);
            assert_eq!(turns.gives_way(now, "c", &serves), None, "{at}");
        }
        assert_eq!(turns.gives_way(now, "b", &Look { has_room: false, ..waits }), None);
        assert_eq!(turns.gives_way(now, "c", &serves), Some("b".to_owned()));
        assert_eq!(turns.gives_way(now, "b", &waits), None);
        let asked = Look { serves: None, ..waits };
        assert_eq!(turns.gives_way(now, "c", &asked), Some("b".to_owned()), "it is not there yet");
        let comes = Look { comes: Some(UNUSED_MAX), is_unplaced: false, ..waits };
        assert_eq!(turns.gives_way(now, "b", &comes), None);
        assert_eq!(turns.gives_way(now, "c", &asked), None);
    }

    #[test]
    fn other_fleets_are_no_matter() {
        let mut turns = Turns::default();
        let now = Time::from_millis(10_000_000);
        let waits = Look {
            fleet: Some("x"),
            serves: None,
            comes: None,
            is_asked: true,
            is_busy: true,
            is_unplaced: true,
            has_room: false,
        };
        assert_eq!(turns.gives_way(now, "b", &waits), None);
        let later = now + Span::from_secs(600);
        assert_eq!(turns.gives_way(later, "b", &waits), None);
        let serves = |fleet| Look {
            fleet,
            serves: Some(Time::ZERO),
            comes: None,
            is_asked: false,
            is_busy: true,
            is_unplaced: false,
            has_room: false,
        };
        assert_eq!(turns.gives_way(later, "a", &serves(Some("y"))), None);
        assert_eq!(turns.gives_way(later, "a", &serves(Some("x"))), Some("b".to_owned()));
    }
}
