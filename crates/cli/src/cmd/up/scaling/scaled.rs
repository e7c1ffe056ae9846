//! One model whose copies follow the load. Pure but for what it logs: it is told what is to be seen,
//! and says what to do.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::scale::{Policy, ReplicaSeen, Scaler, Seen, Signals, Stage, Waiting};
use pilotage_core::{Band, ReplicaId, Span, Time};
use pilotage_operator::local::State;
use pilotage_plan::api;
use pilotage_plan::scaling::{Look, Turns, copies, of};

use super::{EVERY, Naps, START, Shown, Task};

/// For how long others wait for one that starts: beyond it, it may never come.
const PATIENCE: Span = Span::from_secs(180);

/// What there is beside the gateway's signals.
pub(super) struct View<'a> {
    /// What all processes do, by their own names.
    pub(super) states: &'a BTreeMap<String, State>,
    /// Those that sleep.
    pub(super) naps: &'a Naps,
    /// Kibibytes of memory that the process with that id and all it started take.
    pub(super) taken: &'a dyn Fn(u32) -> Option<u64>,
    /// What keeps one more from starting that takes so many kibibytes; none where nothing does.
    pub(super) hindrance: &'a dyn Fn(u64) -> Option<Hindrance>,
}

/// What keeps one more from starting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hindrance {
    /// Another model is on its way and has not taken its memory yet.
    Starting,
    /// There is no memory for it.
    NoMemory,
    /// Another model has its accelerators.
    Taken,
}

impl Hindrance {
    const fn why(self) -> &'static str {
        match self {
            Self::Starting => "another model is just starting",
            Self::NoMemory => "this machine has no memory for one more",
            Self::Taken => "another model has its accelerators",
        }
    }
}

/// A model.
pub(super) struct Scaled {
    said: api::Scaling,
    scaler: Scaler,
    /// Its processes in the plan, in the order in which they are started.
    names: Vec<String>,
    /// How many of them are to run: those that serve and those that sleep.
    run: u32,
    awake: u32,
    asleep: u32,
    /// How many there are.
    there: u32,
    why: String,
    since: Time,
    due: Time,
    /// Processes on their way, by their own names, and since when.
    coming: BTreeMap<String, Time>,
    /// Those that take requests, and since when.
    ready: BTreeMap<String, Time>,
    /// The accelerators that it may share with other models; none where it shares the machine's memory.
    place: Option<String>,
    /// How long a start may take.
    start: Span,
    /// Kibibytes of memory that its last process took.
    took_kib: u64,
    /// There was no room for its first copy when that was looked at last.
    lacks: bool,
    /// Processes that are started anew: they end first.
    replaced: BTreeSet<String>,
    /// The plan does not have it: everything stays as it is.
    frozen: bool,
    /// That there is no room was said.
    crowded: bool,
}

/// A process of a model, by its own name.
struct One<'a> {
    name: &'a str,
    stage: Stage,
    since: Time,
    pid: Option<u32>,
}

impl Scaled {
    /// With as many copies as there have to be, or as there are; one that sleeps is awake first. None
    /// where its policy makes no sense, which no plan's does.
    pub(super) fn new(
        now: Time,
        said: api::Scaling,
        (names, there): (Vec<String>, usize),
    ) -> Option<Self> {
        let scaler = Scaler::new(policy(&said, names.len()), Span::ZERO)
            .inspect_err(|error| tracing::error!(%error, "a model's copies do not follow the load"))
            .ok()?;
        let run = said.floor().max(count(there).min(said.max)).min(count(names.len()));
        Some(Self {
            said,
            scaler,
            names,
            run,
            awake: run,
            asleep: 0,
            there: 0,
            why: "it was just started".to_owned(),
            since: now,
            due: now,
            coming: BTreeMap::new(),
            ready: BTreeMap::new(),
            place: None,
            start: PATIENCE,
            took_kib: 0,
            lacks: false,
            replaced: BTreeSet::new(),
            frozen: false,
            crowded: false,
        })
    }

    /// Another manifest says how many there are.
    pub(super) fn set(&mut self, said: api::Scaling, names: Vec<String>) {
        if let Err(error) = self.scaler.set_policy(policy(&said, names.len()), Span::ZERO) {
            return tracing::error!(%error, "a model's copies do not follow the load");
        }
        self.run = self.run.clamp(said.floor(), said.max).min(count(names.len()));
        (self.said, self.names, self.frozen) = (said, names, false);
    }

    /// Where its processes run, and how long a start may take there.
    pub(super) fn settle(&mut self, place: Option<String>, start: Span) {
        (self.place, self.start) = (place, start);
    }

    /// Whether one is on its way that may yet come.
    pub(super) fn is_coming(&self, now: Time) -> bool {
        self.coming.values().any(|since| now.since(*since) <= PATIENCE)
    }

    pub(super) const fn freeze(&mut self) {
        self.frozen = true;
    }

    pub(super) const fn is_frozen(&self) -> bool {
        self.frozen
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        now >= self.due
    }

    /// How many are to run.
    pub(super) const fn runs(&self) -> u32 {
        self.run
    }

    /// Whether the process of that name in the plan is to run.
    pub(super) fn wants(&self, name: &str) -> bool {
        let first = self.names.iter().take(self.run as usize);
        !self.replaced.contains(name) && first.into_iter().any(|one| one == name)
    }

    pub(super) fn shown(&self, now: Time) -> Shown {
        let Self { awake, asleep, there, since, .. } = *self;
        let since = since.min(now).as_nanos();
        Shown { awake, asleep, now: there, why: self.why.clone(), since }
    }

    /// It takes requests; how long it took.
    pub(super) fn ready(&mut self, now: Time, name: &str) -> Option<Span> {
        self.coming.remove(name).map(|since| now.since(since))
    }

    pub(super) fn replace(&mut self, name: &str) {
        let own = self.names.iter().find(|own| is_of(name, own));
        self.replaced.extend(own.cloned());
    }

    /// It is gone; whether it is to be started again.
    pub(super) fn gone(&mut self, name: &str) -> bool {
        self.coming.remove(name);
        let own = self.names.iter().find(|own| is_of(name, own));
        own.is_some_and(|own| self.replaced.remove(own))
    }

    /// Decides anew.
    pub(super) fn decide(
        &mut self,
        now: Time,
        model: &str,
        signals: Signals,
        view: &View<'_>,
        turns: &mut Turns,
    ) -> Vec<Task> {
        self.due = now + EVERY;
        if self.frozen {
            return Vec::new();
        }
        let mut there = self.there(now, view);
        self.there = count(there.len());
        let is_busy = is_busy(&signals);
        self.scaler.observe(now, with(signals, &there));
        let Some(decision) = self.scaler.decide(now) else { return Vec::new() };
        self.due = self.due.min(decision.again);
        let (wanted, asleep) = copies(&self.said, &decision);
        let wanted = wanted.min(count(self.names.len()));
        let run = wanted.saturating_add(asleep).min(count(self.names.len()));
        self.weigh(run, &there, view);
        let look = self.said.takes_turns().then(|| Look {
            fleet: self.place.as_deref(),
            serves: there.iter().filter(|one| one.stage == Stage::Ready).map(|one| one.since).min(),
            comes: (!there.is_empty()).then_some(self.start),
            is_asked: decision.why.waiting > 0.0,
            is_busy,
            is_unplaced: there.is_empty() && run > 0,
            has_room: !self.lacks,
        });
        let why = decision.why.to_string();
        let run = match look.and_then(|look| turns.gives_way(now, model, &look)) {
            Some(to) => {
                let why = format!("it gave its place to `{to}`, which waited for one: {why}");
                self.tell(now, model, (0, 0), &why);
                0
            }
            None => {
                self.tell(now, model, (wanted, asleep), &why);
                self.with_room(now, model, run, &there, view)
            }
        };
        let mut tasks = Vec::new();
        if run == 0 {
            // What the next one will take.
            let taken = there.iter().filter_map(|one| (view.taken)(one.pid?)).max();
            self.took_kib = taken.unwrap_or(self.took_kib);
        }
        if run != self.run {
            self.run = run;
            tasks.push(Task::Set);
        }
        // Those that end sleep no more.
        there.retain(|one| self.names.iter().any(|own| self.wants(own) && is_of(one.name, own)));
        tasks.extend(naps(wanted, &there, self.said.zero));
        tasks
    }

    /// Whether its first copy lacks room. While another one starts that is not known, and stays what it was.
    fn weigh(&mut self, run: u32, there: &[One<'_>], view: &View<'_>) {
        self.lacks = run > 0
            && there.is_empty()
            && match (view.hindrance)(self.took_kib) {
                Some(Hindrance::NoMemory | Hindrance::Taken) => true,
                Some(Hindrance::Starting) => self.lacks,
                None => false,
            };
    }

    /// Says what is wanted from now on, where that is something else.
    fn tell(&mut self, now: Time, model: &str, (awake, asleep): (u32, u32), why: &str) {
        if (awake, asleep) != (self.awake, self.asleep) {
            tracing::info!(
                model,
                awake,
                asleep,
                before = self.awake,
                why,
                "a model's copies follow its load"
            );
            (self.awake, self.asleep, self.since) = (awake, asleep, now);
        }
        why.clone_into(&mut self.why);
    }

    /// How many can run: more than there are only where the machine has memory for one more, and one
    /// after the other, as what is on its way has not taken its memory yet.
    fn with_room(
        &mut self,
        now: Time,
        model: &str,
        run: u32,
        there: &[One<'_>],
        view: &View<'_>,
    ) -> u32 {
        let is_there = count(there.len()).min(run);
        if run <= self.run.min(self.there) {
            self.crowded = false;
            return run;
        }
        let starts = |one: &One<'_>| one.stage == Stage::Starting;
        if there.iter().any(|one| starts(one) && now.since(one.since) <= PATIENCE) {
            return self.run.min(run);
        }
        let taken = there.iter().find_map(|one| (view.taken)(one.pid?));
        let Some(hindrance) = (view.hindrance)(taken.unwrap_or(self.took_kib)) else {
            self.crowded = false;
            return is_there.saturating_add(1).min(run);
        };
        self.why.push_str("; ");
        self.why.push_str(hindrance.why());
        // Who has accelerators starts as soon as nobody else has them.
        if hindrance == Hindrance::Taken {
            return is_there.saturating_add(1).min(run);
        }
        if !std::mem::replace(&mut self.crowded, true) {
            let hindrance = hindrance.why();
            tracing::warn!(model, hindrance, "another copy is wanted, and cannot be started");
        }
        is_there
    }

    /// The processes there are, but for those that end.
    fn there<'a>(&mut self, now: Time, view: &View<'a>) -> Vec<One<'a>> {
        let mut there = Vec::new();
        let (mut coming, mut ready) = (BTreeMap::new(), BTreeMap::new());
        for (name, state) in view.states {
            if !self.names.iter().any(|own| is_of(name, own)) {
                continue;
            }
            let (stage, since) = match (state.phase, view.naps.stage(name)) {
                ("retiring" | "stopped", _) => continue,
                ("ready", Some((stage, since))) => (stage, since),
                ("ready", None) => {
                    let since = self.ready.get(name).copied().unwrap_or(now);
                    ready.insert(name.clone(), since);
                    (Stage::Ready, since)
                }
                _ => {
                    let since = self.coming.get(name).copied().unwrap_or(now);
                    coming.insert(name.clone(), since);
                    (Stage::Starting, since)
                }
            };
            there.push(One { name, stage, since, pid: state.pid });
        }
        (self.coming, self.ready) = (coming, ready);
        there
    }
}

/// Whether anybody comes, waits or is answered.
pub(super) fn is_busy(signals: &Signals) -> bool {
    let comes = signals.arrivals.is_none_or(|seen| seen.value.iter().any(|it| it.requests > 0.0));
    let runs = signals.running.is_none_or(|seen| seen.value.requests > 0.0);
    let waits = |seen: Seen<[Waiting; Band::ALL.len()]>| {
        seen.value.iter().any(|band| band.work.requests > 0.0)
    };
    comes || runs || signals.waiting.is_none_or(waits)
}

/// What the gateway sees, and the processes that it does not.
fn with(mut signals: Signals, there: &[One<'_>]) -> Signals {
    if let Some(seen) = &mut signals.replicas {
        let hidden = there.iter().filter(|one| one.stage != Stage::Ready);
        // The gateway numbers replicas upwards.
        let ids = (0..=u32::MAX).rev().map(ReplicaId);
        seen.value.extend(
            ids.zip(hidden.filter(|one| one.stage != Stage::Draining))
                .map(|(id, one)| (id, ReplicaSeen::new(one.stage, one.since))),
        );
    }
    signals
}

/// Which are to sleep and which to wake up, so that so many are awake.
fn naps(awake: u32, there: &[One<'_>], zero: api::Zero) -> Vec<Task> {
    if zero != api::Zero::Warm {
        return Vec::new();
    }
    let of = |stage: Stage| there.iter().filter(move |one| one.stage == stage);
    let up = count(of(Stage::Ready).count());
    let soon = count(of(Stage::Starting).count() + of(Stage::Waking).count());
    let more = awake.saturating_sub(up.saturating_add(soon)) as usize;
    let less = up.saturating_sub(awake) as usize;
    let turning = of(Stage::Draining).chain(of(Stage::Asleep)).take(more);
    let woken = turning.map(|one| Task::Wake(one.name.to_owned()));
    let names: Vec<&str> = of(Stage::Ready).map(|one| one.name).collect();
    let tired = names.into_iter().rev().take(less).map(|name| Task::Sleep(name.to_owned()));
    woken.chain(tired).collect()
}

fn policy(said: &api::Scaling, room: usize) -> Policy {
    Policy { every: EVERY, start: START, ..of(said, count(room)) }
}

/// Whether a process of that name is the one of the plan: it may have a number behind.
pub(in super::super) fn is_of(name: &str, planned: &str) -> bool {
    let behind = name.strip_prefix(planned);
    behind.is_some_and(|behind| {
        let number = behind.strip_prefix('.');
        behind.is_empty() || number.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pilotage_core::scale::{Running, Work};
    use pilotage_shell::client::Client;
    use pilotage_shell::clock::Clock;

    use super::*;

    /// A model with as many processes as it may have, and what is there.
    struct Rig {
        model: Scaled,
        naps: Naps,
        name: String,
        states: BTreeMap<String, State>,
        turns: Turns,
        hindrance: Option<Hindrance>,
        /// For how many seconds has waited who waits.
        waits: u64,
    }

    impl Rig {
        fn new(scaling: &str) -> Self {
            let said: api::Scaling = serde_json::from_str(scaling).unwrap();
            let names = (0..said.max).map(|at| format!("m-{at}")).collect();
            Self {
                model: Scaled::new(Time::ZERO, said, (names, 0)).unwrap(),
                naps: Naps::new(Client::new().unwrap(), Clock::start()),
                name: "m".to_owned(),
                states: BTreeMap::new(),
                turns: Turns::default(),
                hindrance: None,
                waits: 120,
            }
        }

        fn phase(&mut self, name: &str, phase: &'static str) {
            let (log, last_exit) = (PathBuf::new(), None);
            let state = State { phase, pid: Some(1), starts: 1, last_exit, log };
            self.states.insert(name.to_owned(), state);
        }

        /// What is to be done at that second, when so many wait.
        fn at(&mut self, second: u64, waiting: f64) -> Vec<Task> {
            let now = Time::from_millis(second * 1000);
            let ready = self
                .states
                .iter()
                .filter(|(name, state)| state.phase == "ready" && self.naps.stage(name).is_none());
            let ids = (1..).map(ReplicaId).zip(ready);
            let replicas = ids.map(|(id, _)| (id, ReplicaSeen::new(Stage::Ready, Time::ZERO)));
            let mut bands = [Waiting::default(); 4];
            bands[1].work = Work { requests: waiting, prompt: 100.0, answer: 100.0 };
            bands[1].oldest = Span::from_secs(if waiting > 0.0 { self.waits } else { 0 });
            let signals = Signals {
                arrivals: Some(Seen::new(now, Default::default())),
                waiting: Some(Seen::new(now, bands)),
                running: Some(Seen::new(now, Running::default())),
                replicas: Some(Seen::new(now, replicas.collect())),
                ..Signals::default()
            };
            let hindered = self.hindrance;
            // One process takes five kibibytes.
            let (taken, hindrance) = (|_: u32| Some(5), |_: u64| hindered);
            let (states, naps) = (&self.states, &self.naps);
            let view = View { states, naps, taken: &taken, hindrance: &hindrance };
            self.model.decide(now, &self.name, signals, &view, &mut self.turns)
        }

        fn wants(&self) -> (bool, bool) {
            (self.model.wants("m-0"), self.model.wants("m-1"))
        }
    }

    #[tokio::test]
    async fn the_first_request_starts_it_and_idle_time_ends_it() {
        let mut rig = Rig::new(r#"{"min": 0, "max": 2, "zero": "cold", "idleSeconds": 5}"#);
        assert_eq!((rig.at(0, 0.0), rig.wants()), (vec![], (false, false)));
        assert_eq!((rig.at(60, 1.0), rig.wants()), (vec![Task::Set], (true, false)));
        rig.phase("m-0", "starting");
        assert_eq!((rig.at(61, 1.0), rig.wants()), (vec![], (true, false)), "it is on its way");
        rig.phase("m-0", "ready");
        assert_eq!(
            rig.model.ready(Time::from_millis(62_500), "m-0"),
            Some(Span::from_millis(1500)),
        );
        assert_eq!(rig.at(63, 0.0), vec![]);
        assert_eq!(rig.at(65, 0.0), vec![], "not idle for long enough");
        assert_eq!((rig.at(70, 0.0), rig.wants()), (vec![Task::Set], (false, false)));
    }

    #[tokio::test]
    async fn more_are_started_where_there_is_room() {
        let mut rig = Rig::new(r#"{"min": 1, "max": 2}"#);
        assert_eq!(rig.wants(), (true, false));
        rig.phase("m-0", "ready");
        rig.hindrance = Some(Hindrance::NoMemory);
        assert_eq!((rig.at(10, 9.0), rig.wants()), (vec![], (true, false)));
        let why = rig.model.shown(Time::ZERO).why;
        assert!(why.ends_with("this machine has no memory for one more"), "{why}");
        rig.hindrance = None;
        assert_eq!((rig.at(11, 9.0), rig.wants()), (vec![Task::Set], (true, true)));
        rig.model.freeze();
        assert_eq!((rig.at(9000, 0.0), rig.wants()), (vec![], (true, true)), "it is left over");
    }

    #[tokio::test]
    async fn one_that_never_comes_does_not_keep_others_from_it() {
        let mut rig = Rig::new(r#"{"min": 1, "max": 2}"#);
        rig.phase("m-0", "starting");
        assert_eq!((rig.at(10, 9.0), rig.wants()), (vec![], (true, false)));
        assert_eq!((rig.at(150, 9.0), rig.wants()), (vec![], (true, false)), "it may still come");
        assert_eq!((rig.at(200, 9.0), rig.wants()), (vec![Task::Set], (true, true)));
    }

    #[tokio::test]
    async fn the_last_one_sleeps_where_it_can() {
        let mut rig = Rig::new(r#"{"min": 0, "max": 2, "zero": "warm", "idleSeconds": 5}"#);
        assert_eq!(rig.wants(), (true, false), "it has to be awake to sleep");
        rig.phase("m-0", "ready");
        assert_eq!(rig.at(1, 0.0), vec![]);
        assert_eq!(rig.at(10, 0.0), vec![Task::Sleep("m-0".to_owned())]);
        assert_eq!(rig.wants(), (true, false));
        rig.naps.tire("m-0");
        assert_eq!(rig.at(11, 0.0), vec![], "it ends what it has");
        assert_eq!(rig.at(12, 1.0), vec![Task::Wake("m-0".to_owned())]);
    }

    /// Fewer would do than there have to be while there is work: those beyond do not sleep beside that.
    #[tokio::test]
    async fn those_that_have_to_be_there_are_not_counted_twice() {
        let mut rig = Rig::new(r#"{"min": 2, "max": 3, "zero": "warm", "idleSeconds": 7200}"#);
        rig.waits = 0;
        rig.phase("m-0", "ready");
        rig.phase("m-1", "ready");
        assert_eq!(rig.at(1, 1.0), vec![]);
        for second in (2..3600).step_by(10) {
            assert_eq!(rig.at(second, 0.0), vec![], "at {second}");
        }
        assert_eq!((rig.wants(), rig.model.wants("m-2")), ((true, true), false));
    }

    /// Two for one place: who is used by nobody ends for the one that somebody waits for, and comes back.
    #[tokio::test]
    async fn one_gives_its_place_to_one_that_somebody_waits_for() {
        let scaling = r#"{"min": 0, "max": 1, "zero": "cold", "idleSeconds": 7200}"#;
        let (mut one, mut other) = (Rig::new(scaling), Rig::new(scaling));
        let mut turns = Turns::default();
        let mut at = |one: &mut Rig, name: &str, second: u64, waiting: f64| {
            std::mem::swap(&mut one.turns, &mut turns);
            one.name = name.to_owned();
            let tasks = one.at(second, waiting);
            std::mem::swap(&mut one.turns, &mut turns);
            (tasks, one.wants().0)
        };
        assert_eq!(at(&mut one, "one", 1, 1.0), (vec![Task::Set], true));
        one.phase("m-0", "ready");
        assert!(at(&mut one, "one", 2, 0.0).1);
        // The other one has no room as long as this one is there.
        other.hindrance = Some(Hindrance::NoMemory);
        for second in 3..32 {
            assert_eq!(at(&mut other, "other", second, 1.0), (vec![], false));
            assert_eq!(at(&mut one, "one", second, 0.0), (vec![], true), "at {second}");
        }
        assert_eq!(at(&mut one, "one", 32, 0.0), (vec![Task::Set], false));
        let why = one.model.shown(Time::ZERO).why;
        assert!(why.starts_with("it gave its place to `other`"), "{why}");
        one.states.clear();
        other.hindrance = None;
        assert_eq!(at(&mut other, "other", 33, 1.0), (vec![Task::Set], true));
        other.phase("m-0", "starting");
        assert!(at(&mut other, "other", 34, 1.0).1);
        assert_eq!(at(&mut one, "one", 35, 1.0), (vec![Task::Set], true), "its turn is over");
    }

    /// One keeps its place, whatever the order, where the other one has room or has not found that it lacks it.
    #[tokio::test]
    async fn one_keeps_its_place_where_the_other_has_room() {
        let scaling = r#"{"min": 0, "max": 1, "zero": "cold", "idleSeconds": 7200}"#;
        let cases =
            [(None, true), (Some(Hindrance::Starting), true), (Some(Hindrance::Taken), false)];
        for (hindrance, keeps) in cases {
            for names in [["a", "b"], ["b", "a"]] {
                let (mut one, mut other) = (Rig::new(scaling), Rig::new(scaling));
                one.phase("m-0", "ready");
                other.hindrance = hindrance;
                let mut turns = Turns::default();
                for second in 1..=120 {
                    let mut pair = [(names[0], &mut one), (names[1], &mut other)];
                    pair.sort_by_key(|(name, _)| *name);
                    for (name, rig) in pair {
                        std::mem::swap(&mut rig.turns, &mut turns);
                        rig.name = name.to_owned();
                        let asks = name == names[1] || second == 1;
                        rig.at(second, f64::from(u8::from(asks)));
                        std::mem::swap(&mut rig.turns, &mut turns);
                    }
                }
                assert_eq!(one.wants().0, keeps, "{names:?} {hindrance:?}");
            }
        }
    }

    /// One that never comes up gives back what it has to one that waits, after the time that it has.
    #[tokio::test]
    async fn one_that_never_comes_up_gives_its_place_back() {
        let scaling = r#"{"min": 0, "max": 1, "zero": "cold", "idleSeconds": 7200}"#;
        let (mut broken, mut other) = (Rig::new(scaling), Rig::new(scaling));
        broken.model.settle(None, Span::from_secs(100));
        (broken.name, other.name) = ("broken".to_owned(), "other".to_owned());
        let mut turns = Turns::default();
        other.hindrance = Some(Hindrance::NoMemory);
        let mut gave = None;
        for second in 1..300 {
            for rig in [&mut broken, &mut other] {
                std::mem::swap(&mut rig.turns, &mut turns);
                rig.at(second, 1.0);
                std::mem::swap(&mut rig.turns, &mut turns);
            }
            if broken.wants().0 {
                broken.phase("m-0", if second % 2 == 0 { "starting" } else { "crash_loop" });
            } else if broken.model.shown(Time::ZERO).why.starts_with("it gave its place to `other`")
            {
                gave = gave.or(Some(second));
                broken.states.clear();
                other.hindrance = None;
            }
        }
        assert_eq!((gave, other.wants().0), (Some(102), true));
    }

    /// What the last process took is what the next one will.
    #[tokio::test]
    async fn one_that_ended_is_known_by_what_it_took() {
        let mut rig = Rig::new(r#"{"min": 0, "max": 1, "zero": "cold", "idleSeconds": 5}"#);
        assert_eq!((rig.at(1, 1.0), rig.model.took_kib), (vec![Task::Set], 0));
        rig.phase("m-0", "ready");
        assert_eq!((rig.at(2, 0.0), rig.model.took_kib), (vec![], 0));
        assert_eq!((rig.at(60, 0.0), rig.model.took_kib), (vec![Task::Set], 5));
        rig.states.clear();
        assert_eq!((rig.at(61, 0.0), rig.model.took_kib), (vec![], 5));
    }

    /// One that is replaced ends first, and is started again when it is gone.
    #[tokio::test]
    async fn one_that_does_not_wake_is_started_anew() {
        let mut rig = Rig::new(r#"{"min": 1, "max": 2}"#);
        rig.model.replace("m-0.2");
        assert_eq!(rig.wants(), (false, false));
        assert!(!rig.model.gone("other") && rig.model.gone("m-0.2"));
        assert_eq!(rig.wants(), (true, false));
    }

    #[test]
    fn processes_are_known_by_their_names() {
        let check = |name: &str, expect: bool| assert_eq!(is_of(name, "m-1"), expect, "{name}");
        check("m-1", true);
        check("m-1.2", true);
        check("m-1.12", true);
        check("m-12", false);
        check("m-1.x", false);
        check("m-0", false);
    }
}
