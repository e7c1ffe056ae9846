//! Which resources wait to be looked at, which are busy, and when others are due.
//!
//! Contract: whoever waits has its turn before another one has its second, so that nobody who changes all the
//! time keeps others from theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Ref;

/// What is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    waiting: BTreeSet<Ref>,
    busy: BTreeSet<Ref>,
    due: BTreeMap<Ref, u64>,
    /// The same by time.
    by_time: BTreeSet<(u64, Ref)>,
    /// The one that was looked at last.
    last: Option<Ref>,
}

impl Agenda {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn insert(&mut self, at: Ref) {
        self.waiting.insert(at);
    }

    pub(super) fn extend(&mut self, all: impl IntoIterator<Item = Ref>) {
        self.waiting.extend(all);
    }

    /// It is no more, and nothing is to be looked at.
    pub(super) fn forget(&mut self, at: &Ref) {
        self.waiting.remove(at);
        self.wake(at, None);
    }

    /// When a resource is to be looked at though nothing changes.
    pub(super) fn wake(&mut self, at: &Ref, at_ms: Option<u64>) {
        let before = match at_ms {
            Some(at_ms) => {
                self.by_time.insert((at_ms, at.clone()));
                self.due.insert(at.clone(), at_ms)
            }
            None => self.due.remove(at),
        };
        if let Some(before) = before.filter(|before| Some(*before) != at_ms) {
            self.by_time.remove(&(before, at.clone()));
        }
    }

    /// When the first is due though nothing changes.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// The next one that is not busy, if one is due.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Ref> {
        while self.next_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            let Some((_, at)) = self.by_time.pop_first() else { break };
            self.due.remove(&at);
            self.waiting.insert(at);
        }
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.waiting.range((after, Bound::Unbounded));
        let is_free = |at: &&Ref| !self.busy.contains(*at);
        let next = later.chain(&self.waiting).find(is_free).cloned()?;
        self.waiting.remove(&next);
        self.last = Some(next.clone());
        Some(next)
    }

    /// Something is done about it, until it is said that this is over.
    pub(super) fn begin(&mut self, at: &Ref) {
        self.busy.insert(at.clone());
    }

    /// What was done about it is over.
    pub(super) fn finished(&mut self, at: &Ref) {
        self.busy.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;

    fn model(name: &str) -> Ref {
        Ref { kind: Kind::Model, namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn whoever_waits_has_a_turn() {
        let mut agenda = Agenda::default();
        agenda.extend(["a", "b", "c"].map(model));
        let mut seen = Vec::new();
        for _ in 0..6 {
            let at = agenda.next(0).unwrap();
            seen.push(at.name.clone());
            // Two of them change all the time.
            if at.name != "c" {
                agenda.insert(at);
            }
        }
        assert_eq!(seen, ["a", "b", "c", "a", "b", "a"]);
        agenda.begin(&model("a"));
        agenda.insert(model("a"));
        assert_eq!(agenda.next(0), Some(model("b")));
        assert_eq!(agenda.next(0), None);
        agenda.finished(&model("a"));
        assert_eq!(agenda.next(0), Some(model("a")));
    }

    #[test]
    fn what_is_due_comes_at_its_time() {
        let mut agenda = Agenda::default();
        agenda.wake(&model("a"), Some(20));
        agenda.wake(&model("b"), Some(10));
        agenda.wake(&model("b"), Some(30));
        agenda.wake(&model("c"), Some(5));
        agenda.wake(&model("c"), Some(5));
        agenda.wake(&model("c"), None);
        assert_eq!((agenda.next_ms(), agenda.next(19)), (Some(20), None));
        assert_eq!(agenda.next(20), Some(model("a")));
        assert_eq!((agenda.next_ms(), agenda.next(29)), (Some(30), None));
        agenda.forget(&model("b"));
        assert_eq!((agenda.next_ms(), agenda.next(99)), (None, None));
    }
}
