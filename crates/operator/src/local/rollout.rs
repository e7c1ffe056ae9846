//! Which processes are started and which are let go, so that in the end exactly those run that are
//! wanted. Pure: it is told what happens, and says what to do.
//!
//! A process that is wanted otherwise is replaced: the new one is started beside the old one, which
//! serves until the new one is ready. Where there is no room for both the old one goes first.
//! Processes are replaced one at a time, so that a mistake meets one of them and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};

/// Processes that are replaced at once.
pub(super) const REPLACED_MAX: usize = 1;

/// What runs and what is wanted, each by name in the plan. `W` is everything that a process is
/// started with: where two differ, one replaces the other.
#[derive(Debug)]
pub(super) struct Rollout<W> {
    wanted: BTreeMap<String, W>,
    running: Vec<Instance<W>>,
    /// Names whose process is being replaced, until the new one serves.
    replaced: BTreeSet<String>,
}

/// One process, from its start until it is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Instance<W> {
    /// Its own name: that in the plan, with a number behind it where that one is taken.
    pub(super) label: String,
    /// Its name in the plan.
    pub(super) name: String,
    /// What it was started with.
    pub(super) what: W,
    phase: Phase,
}

impl<W> Instance<W> {
    /// Whether it gets no new requests and is about to end.
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// It takes no requests yet, or is being started again.
    Starting,
    /// It takes requests.
    Ready,
    /// It gets no new ones and is about to end.
    Leaving,
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Start the process with this label.
    Start(String),
    /// Send it nothing more, and end it once nothing is in flight there.
    Retire(String),
    /// End it: nothing was ever sent there, or not since it died.
    End(String),
}

impl<W: Clone + PartialEq> Rollout<W> {
    pub(super) const fn new() -> Self {
        Self { wanted: BTreeMap::new(), running: Vec::new(), replaced: BTreeSet::new() }
    }

    /// What shall run from now on.
    pub(super) fn want(&mut self, wanted: BTreeMap<String, W>) {
        self.wanted = wanted;
    }

    /// It takes requests; false when it is about to end, and nobody need know.
    pub(super) fn ready(&mut self, label: &str) -> bool {
        self.turn(label, Phase::Ready)
    }

    /// It died and is being started again.
    pub(super) fn down(&mut self, label: &str) {
        self.turn(label, Phase::Starting);
    }

    /// It has ended for good.
    pub(super) fn gone(&mut self, label: &str) {
        self.running.retain(|instance| instance.label != label);
    }

    /// The process of that label.
    pub(super) fn get(&self, label: &str) -> Option<&Instance<W>> {
        self.running.iter().find(|instance| instance.label == label)
    }

    /// Whether it is about to end.
    pub(super) fn is_leaving(&self, label: &str) -> bool {
        self.get(label).is_some_and(|instance| instance.phase == Phase::Leaving)
    }

    /// What has to be done now. `room` says whether the new one can run beside the old one, and `free`
    /// whether it can beside a process of another name.
    pub(super) fn next(
        &mut self,
        room: impl Fn(&Instance<W>, &W) -> bool,
        free: impl Fn(&Instance<W>, &W) -> bool,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        self.let_go(|rollout, instance| !rollout.wanted.contains_key(&instance.name), &mut actions);
        // Where the right one serves, and where the wrong one does not, the wrong one is of no use.
        self.let_go(
            |rollout, instance| {
                rollout.is_wrong(instance)
                    && (instance.phase == Phase::Starting || rollout.is_served(&instance.name))
            },
            &mut actions,
        );
        let mut replaced = std::mem::take(&mut self.replaced);
        replaced.retain(|name| self.wanted.contains_key(name) && !self.is_served(name));
        self.replaced = replaced;
        let names: Vec<String> = self.wanted.keys().cloned().collect();
        for name in names {
            self.bring(&name, (&room, &free), &mut actions);
        }
        actions
    }

    fn turn(&mut self, label: &str, phase: Phase) -> bool {
        let mut found = self.running.iter_mut().filter(|instance| instance.label == label);
        match found.next() {
            Some(instance) if instance.phase != Phase::Leaving => {
                instance.phase = phase;
                true
            }
            _ => false,
        }
    }

    fn let_go(&mut self, who: impl Fn(&Self, &Instance<W>) -> bool, actions: &mut Vec<Action>) {
        let leaves: Vec<usize> = (0..self.running.len())
            .filter(|at| self.running[*at].phase != Phase::Leaving && who(self, &self.running[*at]))
            .collect();
        for at in leaves {
            self.leave(at, actions);
        }
    }

    fn leave(&mut self, at: usize, actions: &mut Vec<Action>) {
        let instance = &mut self.running[at];
        let label = instance.label.clone();
        actions.push(match instance.phase {
            Phase::Ready => Action::Retire(label),
            Phase::Starting | Phase::Leaving => Action::End(label),
        });
        instance.phase = Phase::Leaving;
    }

    /// Starts what is wanted under that name, or makes room for it, if it is its turn.
    fn bring(
        &mut self,
        name: &str,
        (room, free): (&impl Fn(&Instance<W>, &W) -> bool, &impl Fn(&Instance<W>, &W) -> bool),
        actions: &mut Vec<Action>,
    ) {
        let Some(what) = self.wanted.get(name).cloned() else { return };
        let own = |instance: &&Instance<W>| instance.name == name;
        if self.running.iter().filter(own).any(|instance| self.is_right(instance)) {
            return;
        }
        let others_let = self.running.iter().filter(|one| !own(one)).all(|one| free(one, &what));
        match self.running.iter().filter(own).find(|instance| instance.phase == Phase::Ready) {
            None if others_let && self.running.iter().filter(own).all(|old| room(old, &what)) => {}
            // Somebody is on the way out, and starts this when gone.
            None => return,
            Some(_) if self.others_replaced(name) >= REPLACED_MAX => return,
            Some(old) => {
                let (label, room) = (old.label.clone(), room(old, &what));
                self.replaced.insert(name.to_owned());
                if !room {
                    let at = self.running.iter().position(|instance| instance.label == label);
                    return at.map_or((), |at| self.leave(at, actions));
                }
            }
        }
        let label = self.label(name);
        actions.push(Action::Start(label.clone()));
        self.running.push(Instance { label, name: name.to_owned(), what, phase: Phase::Starting });
    }

    /// How many others are being replaced.
    fn others_replaced(&self, name: &str) -> usize {
        self.replaced.iter().filter(|other| *other != name).count()
    }

    fn is_right(&self, instance: &Instance<W>) -> bool {
        instance.phase != Phase::Leaving
            && self.wanted.get(&instance.name).is_some_and(|what| *what == instance.what)
    }

    fn is_wrong(&self, instance: &Instance<W>) -> bool {
        instance.phase != Phase::Leaving && !self.is_right(instance)
    }

    /// Whether what is wanted under that name takes requests.
    fn is_served(&self, name: &str) -> bool {
        self.running.iter().any(|instance| {
            instance.name == name && instance.phase == Phase::Ready && self.is_right(instance)
        })
    }

    /// A label that nothing else has; there is always one among as many as run and one more.
    fn label(&self, name: &str) -> String {
        let numbered = (2..).map(|number: u32| format!("{name}.{number}"));
        let mut labels = std::iter::once(name.to_owned()).chain(numbered);
        labels.find(|label| self.get(label).is_none()).unwrap_or_else(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(what: &[(&str, u32)]) -> BTreeMap<String, u32> {
        what.iter().map(|(name, what)| ((*name).to_owned(), *what)).collect()
    }

    /// Plays lines such as `want a=1`, `ready a`, `down a`, `gone a`, and what follows from each:
    /// `+` a start, `~` a retirement, `-` an end.
    fn check(room: bool, script: &[(&str, &str)]) {
        let mut rollout = Rollout::new();
        for (line, expect) in script {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            match verb {
                "want" => {
                    let pairs = rest.split_whitespace().map(|pair| pair.split_once('=').unwrap());
                    let pairs: Vec<_> = pairs.map(|(n, w)| (n, w.parse().unwrap())).collect();
                    rollout.want(wanted(&pairs));
                }
                "ready" => drop(rollout.ready(rest)),
                "down" => rollout.down(rest),
                _ => rollout.gone(rest),
            }
            let shown =
                rollout.next(|_, _| room, |_, _| true).into_iter().map(|action| match action {
                    Action::Start(label) => format!("+{label}"),
                    Action::Retire(label) => format!("~{label}"),
                    Action::End(label) => format!("-{label}"),
                });
            assert_eq!(shown.collect::<Vec<_>>().join(" "), *expect, "after `{line}`");
        }
    }

    #[test]
    fn everything_is_started_at_once_and_nothing_twice() {
        check(true, &[("want a=1 b=1", "+a +b"), ("ready a", ""), ("want a=1 b=1", "")]);
    }

    #[test]
    fn what_is_not_wanted_leaves() {
        check(
            true,
            &[("want a=1 b=1", "+a +b"), ("ready a", ""), ("want", "~a -b"), ("gone a", "")],
        );
    }

    #[test]
    fn the_old_one_serves_until_the_new_one_does() {
        check(
            true,
            &[
                ("want a=1", "+a"),
                ("ready a", ""),
                ("want a=2", "+a.2"),
                ("down a.2", ""),
                ("ready a.2", "~a"),
                ("gone a", ""),
                ("want a=3", "+a"),
            ],
        );
    }

    #[test]
    fn without_room_the_old_one_goes_first() {
        check(
            false,
            &[
                ("want a=1", "+a"),
                ("ready a", ""),
                ("want a=2", "~a"),
                ("gone a", "+a"),
                ("ready a", ""),
            ],
        );
    }

    #[test]
    fn one_is_replaced_at_a_time() {
        let start = [("want a=1 b=1", "+a +b"), ("ready a", ""), ("ready b", "")];
        let with_room = [
            ("want a=2 b=2 c=1", "+a.2 +c"),
            ("ready c", ""),
            ("ready a.2", "~a +b.2"),
            ("gone a", ""),
            ("ready b.2", "~b"),
        ];
        check(true, &[&start[..], &with_room].concat());
        let without =
            [("want a=2 b=2", "~a"), ("gone a", "+a"), ("ready a", "~b"), ("gone b", "+b")];
        check(false, &[&start[..], &without].concat());
    }

    #[test]
    fn a_change_of_mind_ends_what_never_served() {
        let start = [("want a=1", "+a"), ("ready a", ""), ("want a=2", "+a.2")];
        check(true, &[&start[..], &[("want a=1", "-a.2")]].concat());
        check(true, &[&start[..], &[("want a=3", "-a.2 +a.3"), ("ready a.3", "~a")]].concat());
        check(true, &[("want a=1", "+a"), ("want a=2", "-a +a.2")]);
        check(false, &[("want a=1", "+a"), ("want a=2", "-a"), ("gone a", "+a")]);
    }

    proptest! {
        /// Whatever is wanted in between: in the end exactly that runs, and no name that was served
        /// and stays wanted was without somebody who serves, as long as there is room.
        #[test]
        fn in_the_end_what_is_wanted_runs(
            wishes in proptest::collection::vec(
                proptest::collection::btree_map("[ab]", 0_u32..3, 0..3), 1..6,
            ),
            patience in proptest::collection::vec(0_usize..4, 6),
            room: bool,
        ) {
            let mut rollout = Rollout::new();
            let mut open: Vec<Action> = Vec::new();
            let mut steps: Vec<(BTreeMap<String, u32>, usize)> =
                wishes.iter().cloned().zip(patience).collect();
            steps.push((wishes.last().unwrap().clone(), 100));
            for (wish, patience) in steps {
                rollout.want(wish.clone());
                open.extend(rollout.next(|_, _| room, |_, _| true));
                for _ in 0..patience {
                    if open.is_empty() {
                        break;
                    }
                    let serves = |rollout: &Rollout<u32>, name: &str| rollout.running.iter()
                        .any(|one| one.name == name && one.phase == Phase::Ready);
                    let served: Vec<String> =
                        wish.keys().filter(|name| serves(&rollout, name)).cloned().collect();
                    match open.remove(0) {
                        Action::Start(label) => drop(rollout.ready(&label)),
                        Action::Retire(label) | Action::End(label) => rollout.gone(&label),
                    }
                    open.extend(rollout.next(|_, _| room, |_, _| true));
                    for name in served.iter().filter(|_| room) {
                        prop_assert!(serves(&rollout, name), "{name} is not served");
                    }
                }
            }
            let mut end: Vec<(String, u32)> =
                rollout.running.iter().map(|one| (one.name.clone(), one.what)).collect();
            end.sort();
            let last: Vec<(String, u32)> = wishes.last().unwrap().clone().into_iter().collect();
            prop_assert_eq!(end, last);
        }
    }
}
