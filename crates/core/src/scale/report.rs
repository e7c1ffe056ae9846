//! What a gateway tells of all its models: [`Signals`] as a document.
//!
//! The clocks of two processes have nothing in common, so that it says how old things are instead of
//! when they were seen; whoever reads it counts back from his own now. What is older than the
//! reader's clock is left out where it could take replicas away: it would look fresh. Absent stays
//! absent. Replicas go by their names, which all gateways share, and by ids only once read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::signals::{Misses, ReplicaSeen, Running, Seen, Signals, Speed, Stage, Waiting, Work};
use crate::traffic::canary::{Evidence, Judgement, Verdict};
use crate::{Band, ReplicaId, Span, Time};

/// How many bands there are.
const BANDS: usize = Band::ALL.len();

/// What one gateway tells.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which gateway: a name that no other one has, and another one after each start.
    pub gateway: String,
    /// What it saw of each model.
    pub models: BTreeMap<String, ModelReport>,
    /// What it thinks of models on trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<TrialReport>,
}

/// What one gateway thinks of a model on trial.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// Its lane.
    pub model: String,
    /// Which version of it, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How far it is.
    pub progress: TrialProgress,
    /// Its step, from 0; behind the last when it is promoted.
    pub step: u32,
    /// Its part of the requests, in percent.
    pub percent: f64,
    /// Why, in words.
    pub why: String,
}

/// How far a trial is in the eyes of a gateway.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TrialProgress {
    /// It goes on.
    #[default]
    Going,
    /// Too few requests have come to say anything.
    TooFew,
    /// It is worse.
    Worse,
    /// It went through all steps.
    Done,
}

impl TrialProgress {
    /// What a judgement comes to.
    pub const fn of(judgement: &Judgement) -> Self {
        match (judgement.verdict, &judgement.evidence) {
            (Verdict::Promote, _) => Self::Done,
            (Verdict::Rollback, _) | (_, Evidence::Worse(_)) => Self::Worse,
            (_, Evidence::TooFew { .. }) => Self::TooFew,
            _ => Self::Going,
        }
    }
}

/// What one gateway saw of a model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelReport {
    /// What came in each second of the last while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Aged<Bands<Work>>>,
    /// What waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Aged<Bands<WaitingReport>>>,
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Aged<Running>>,
    /// Goals missed in the last while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<Aged<Bands<Misses>>>,
    /// How fast replicas are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Aged<Speed>>,
    /// All replicas, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Aged<BTreeMap<String, ReplicaReport>>>,
    /// Milliseconds that the last start of a replica took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<Aged<u64>>,
    /// Milliseconds that the last one took to wake up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_ms: Option<Aged<u64>>,
}

/// Something, and how long ago it was seen.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Aged<T> {
    /// Milliseconds.
    pub age_ms: u64,
    /// Whether it is all there is of it. What does not say so is not.
    #[serde(default)]
    pub whole: bool,
    /// What.
    pub value: T,
}

/// Something for each band.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bands<T> {
    /// Of [`Band::Realtime`].
    pub realtime: T,
    /// Of [`Band::Standard`].
    pub standard: T,
    /// Of [`Band::Bulk`].
    pub bulk: T,
    /// Of [`Band::Batch`].
    pub batch: T,
}

/// What waits for its turn in a band.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingReport {
    /// All of it.
    pub work: Work,
    /// Milliseconds that the oldest has waited.
    pub oldest_ms: u64,
}

/// One replica.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaReport {
    /// What it does.
    pub stage: Stage,
    /// For how many milliseconds.
    pub for_ms: u64,
    /// The part of its KV cache that is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_used: Option<Aged<f64>>,
    /// Requests that run there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Requests in its own queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
}

/// Ids for the names of a model's replicas: the same one for the same name, whoever said it. An id is
/// not used again.
#[derive(Clone, Debug, Default)]
pub struct Names {
    ids: BTreeMap<String, ReplicaId>,
    next: u32,
}

impl Names {
    /// The id of that name.
    pub fn id(&mut self, name: &str) -> ReplicaId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = ReplicaId(self.next);
        self.next = self.next.wrapping_add(1);
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// The name of that id.
    pub fn name(&self, id: ReplicaId) -> Option<&str> {
        self.ids.iter().find(|(_, known)| **known == id).map(|(name, _)| &**name)
    }

    /// Forgets all names but those.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.ids.retain(|name, _| keep(name));
    }
}

impl Report {
    /// What a gateway of that name tells now. `name` says how each model's replicas are called; those
    /// without a name are left out.
    pub fn of<'a, N: Fn(ReplicaId) -> Option<String>>(
        now: Time,
        gateway: impl Into<String>,
        models: impl IntoIterator<Item = (&'a str, Signals, N)>,
    ) -> Self {
        let models = models
            .into_iter()
            .map(|(model, signals, name)| (model.to_owned(), ModelReport::of(now, signals, name)));
        Self { gateway: gateway.into(), models: models.collect(), trials: Vec::new() }
    }

    /// A number for the gateway, as [`Pool::report`](super::Pool::report) wants one (FNV-1a).
    pub fn gateway_id(&self) -> u64 {
        self.gateway.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl ModelReport {
    /// What is told now of what was seen.
    pub fn of(now: Time, signals: Signals, name: impl Fn(ReplicaId) -> Option<String>) -> Self {
        let replicas = |all: BTreeMap<ReplicaId, ReplicaSeen>| {
            let named = all.into_iter().filter_map(|(id, seen)| Some((name(id)?, seen)));
            named.map(|(name, seen)| (name, ReplicaReport::of(now, seen))).collect()
        };
        Self {
            arrivals: aged(now, signals.arrivals, Bands::from),
            waiting: aged(now, signals.waiting, |bands| Bands::from(bands.map(Into::into))),
            running: aged(now, signals.running, |running| running),
            misses: aged(now, signals.misses, Bands::from),
            speed: aged(now, signals.speed, |speed| speed),
            replicas: aged(now, signals.replicas, replicas),
            start_ms: aged(now, signals.start, Span::as_millis),
            wake_ms: aged(now, signals.wake, Span::as_millis),
        }
    }

    /// What was seen, by the reader's clock.
    pub fn into_signals(self, now: Time, names: &mut Names) -> Signals {
        let replicas = |all: BTreeMap<String, ReplicaReport>| {
            let all = all.into_iter().map(|(name, one)| (names.id(&name), one.into_seen(now)));
            all.collect::<BTreeMap<_, _>>()
        };
        Signals {
            arrivals: seen(now, self.arrivals, <[Work; BANDS]>::from),
            waiting: seen(now, self.waiting, |bands| {
                <[WaitingReport; BANDS]>::from(bands).map(Into::into)
            }),
            running: seen(now, self.running, |running| running),
            misses: seen(now, self.misses, <[Misses; BANDS]>::from),
            speed: learnt(now, self.speed, |speed| speed),
            replicas: seen(now, self.replicas, replicas),
            start: learnt(now, self.start_ms, Span::from_millis),
            wake: learnt(now, self.wake_ms, Span::from_millis),
        }
    }
}

impl ReplicaReport {
    fn of(now: Time, seen: ReplicaSeen) -> Self {
        Self {
            stage: seen.stage,
            for_ms: now.since(seen.since).as_millis(),
            kv_used: aged(now, seen.kv_used, |part| part),
            running: seen.running,
            waiting: seen.waiting,
        }
    }

    fn into_seen(self, now: Time) -> ReplicaSeen {
        ReplicaSeen {
            stage: self.stage,
            since: now - Span::from_millis(self.for_ms),
            kv_used: seen(now, self.kv_used, |part| part),
            running: self.running,
            waiting: self.waiting,
        }
    }
}

fn aged<T, U>(now: Time, seen: Option<Seen<T>>, value: impl FnOnce(T) -> U) -> Option<Aged<U>> {
    seen.map(|seen| Aged {
        age_ms: now.since(seen.at).as_millis(),
        whole: seen.whole,
        value: value(seen.value),
    })
}

/// What was seen, unless that was before the clock began.
fn seen<T, U>(now: Time, aged: Option<Aged<T>>, value: impl FnOnce(T) -> U) -> Option<Seen<U>> {
    let aged = aged?;
    let age = Span::from_millis(aged.age_ms);
    let known = age <= now.since(Time::ZERO);
    known.then(|| Seen { at: now - age, whole: aged.whole, value: value(aged.value) })
}

/// The same of what holds until something else is seen.
fn learnt<T, U>(now: Time, aged: Option<Aged<T>>, value: impl FnOnce(T) -> U) -> Option<Seen<U>> {
    aged.map(|aged| Seen {
        at: now - Span::from_millis(aged.age_ms),
        whole: aged.whole,
        value: value(aged.value),
    })
}

impl<T> From<[T; BANDS]> for Bands<T> {
    fn from([realtime, standard, bulk, batch]: [T; BANDS]) -> Self {
        Self { realtime, standard, bulk, batch }
    }
}

impl<T> From<Bands<T>> for [T; BANDS] {
    fn from(bands: Bands<T>) -> Self {
        [bands.realtime, bands.standard, bands.bulk, bands.batch]
    }
}

impl From<Waiting> for WaitingReport {
    fn from(waiting: Waiting) -> Self {
        Self { work: waiting.work, oldest_ms: waiting.oldest.as_millis() }
    }
}

impl From<WaitingReport> for Waiting {
    fn from(waiting: WaitingReport) -> Self {
        Self { work: waiting.work, oldest: Span::from_millis(waiting.oldest_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything(at: Time) -> Signals {
        let work = Work { requests: 2.5, prompt: 300.0, answer: 40.0 };
        let waiting = Waiting { work, oldest: Span::from_millis(700) };
        let speed = Speed {
            token_seconds: 1e-4,
            step_seconds: 0.02,
            sequence_seconds: 1e-3,
            sequences_max: 8,
            kv_tokens: Some(4096),
        };
        let one = ReplicaSeen {
            kv_used: Some(Seen::new(at, 0.25)),
            running: Some(3),
            ..ReplicaSeen::new(Stage::Waking, at - Span::from_secs(1))
        };
        Signals {
            arrivals: Some(Seen::new(at, [work; BANDS])),
            waiting: Some(Seen { whole: false, ..Seen::new(at, [waiting; BANDS]) }),
            running: Some(Seen::new(at, Running { requests: 3.0, tokens: 900.0 })),
            misses: Some(Seen::new(at, [Misses { answers: 9.0, late: 2.0, slow: 1.0 }; BANDS])),
            speed: Some(Seen::new(at, speed)),
            replicas: Some(Seen::new(at, BTreeMap::from([(ReplicaId(0), one)]))),
            start: Some(Seen::new(at, Span::from_secs(30))),
            wake: Some(Seen::new(at, Span::from_secs(2))),
        }
    }

    fn told(now: Time, signals: Signals) -> Report {
        let name = |id: ReplicaId| Some(format!("m-{}", id.0));
        Report::of(now, "gateway-a", [("m", signals, name)])
    }

    #[test]
    fn what_is_told_is_what_was_seen_by_another_clock() {
        let (told_at, read_at) = (Time::from_millis(90_000), Time::from_millis(20_000));
        let report = told(told_at, everything(told_at - Span::from_secs(3)));
        let text = serde_json::to_string(&report).unwrap();
        let mut read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read, report);
        let model = read.models.remove("m").unwrap();
        let signals = model.into_signals(read_at, &mut Names::default());
        assert_eq!(signals, everything(read_at - Span::from_secs(3)));
    }

    #[test]
    fn absent_stays_absent() {
        let report = told(Time::ZERO, Signals::default());
        assert_eq!(serde_json::to_string(&report.models).unwrap(), r#"{"m":{}}"#);
        let model = report.models["m"].clone();
        let signals = model.into_signals(Time::from_millis(5), &mut Names::default());
        assert_eq!(signals, Signals::default());
        // Who says a sum without saying that it is all there is has not said so.
        let text = r#"{"running":{"ageMs":1,"value":{"requests":1.0,"tokens":2.0}}}"#;
        let model: ModelReport = serde_json::from_str(text).unwrap();
        let signals = model.into_signals(Time::from_millis(5), &mut Names::default());
        assert!(!signals.running.unwrap().whole);
    }

    #[test]
    fn what_is_older_than_the_readers_clock_does_not_look_fresh() {
        let at = Time::from_millis(1000);
        let report = told(at + Span::from_secs(60), everything(at));
        let model = report.models["m"].clone();
        let signals = model.into_signals(Time::from_millis(2000), &mut Names::default());
        assert_eq!((signals.arrivals, signals.waiting, signals.running), (None, None, None));
        assert_eq!((signals.misses, signals.replicas), (None, None));
        assert!(signals.speed.is_some() && signals.start.is_some(), "these hold on");
    }

    #[test]
    fn a_name_has_one_id() {
        let mut names = Names::default();
        let (one, other) = (names.id("m-0"), names.id("m-1"));
        assert_eq!((names.id("m-0"), names.name(other)), (one, Some("m-1")));
        names.retain(|name| name == "m-1");
        assert!(![one, other].contains(&names.id("m-0")), "an id is not used again");
        let report = |gateway: &str| Report { gateway: gateway.to_owned(), ..Report::default() };
        assert_ne!(report("a").gateway_id(), report("b").gateway_id());
    }
}
