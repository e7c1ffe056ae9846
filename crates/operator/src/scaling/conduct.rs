//! The loop: asks gateways, decides, and has what was decided done, for as long as this process leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Client;
use pilotage_core::scale::{Report, Stage, TrialProgress, TrialReport};
use pilotage_core::{Span, Time};
use pilotage_plan::api::status::ModelScaling;
use pilotage_plan::scaling::{Regulator, Verdict};
use pilotage_plan::update::{NEXT, Progress, Trial};
use pilotage_shell::clock::Clock;
use pilotage_shell::{date, tasks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::reach::{Ask, Asleep, ReachError};
use super::view::{GatewayView, Known, ModelView, View};
use super::write::{Told, Writer};

/// How often gateways are asked.
pub const POLL: Duration = Duration::from_millis(2500);

/// Gateways that are asked at once.
const ASKED_AT_ONCE: usize = 16;

/// Engines that are on their way to sleep or from there; others wait for the next round.
const RESTING_MAX: usize = 64;

/// How long an engine that did not fall asleep is left alone.
const SLEEP_AGAIN: Span = Span::from_secs(60);

/// How often an engine is asked to wake up before its pod makes room for a new one: requests wait for it.
const WAKES_MAX: u32 = 3;

/// The reason where nobody says what comes.
const BLIND: &str = "SignalsMissing";

/// Conducts the scaling of a cluster.
pub struct Conduct<K, A> {
    known: Arc<K>,
    ask: Arc<A>,
    writer: Writer,
    board: Board,
    clock: Clock,
}

impl<K, A> std::fmt::Debug for Conduct<K, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conduct").field("board", &self.board).finish_non_exhaustive()
    }
}

/// What is remembered while this process leads.
struct Course {
    regulator: Regulator,
    models: BTreeMap<String, Kept>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    /// Gateways that did not answer last.
    silent: BTreeSet<String>,
}

/// What is remembered of a Model.
struct Kept {
    uid: String,
    /// What its status says.
    said: Option<ModelScaling>,
    /// Pods that sleep, or are on their way from there.
    resting: BTreeMap<String, (Stage, Time)>,
    /// How often pods did not wake up that were to.
    wakeless: BTreeMap<String, u32>,
    /// When to decide again.
    due: Time,
    /// When pods may be put to sleep again, after one was not.
    sleeps: Time,
    /// What could not be done, so that it is told once.
    failure: Option<String>,
}

/// An engine did as it was told, or did not.
struct Done {
    model: String,
    pod: String,
    asleep: Asleep,
    result: Result<(), ReachError>,
}

/// What is said of a version of a Model; canaries of Routes are other Models, and nothing of an update.
fn of_version(told: TrialReport) -> Option<(String, Trial)> {
    let model = told.model.strip_suffix(NEXT)?.to_owned();
    let progress = match told.progress {
        TrialProgress::Going => Progress::Going,
        TrialProgress::TooFew => Progress::TooFew,
        TrialProgress::Worse => Progress::Worse,
        TrialProgress::Done => Progress::Done,
    };
    let TrialReport { step, percent, why, .. } = told;
    Some((model, Trial { revision: told.revision?, progress, step, percent, why }))
}

impl<K: Known, A: Ask + 'static> Conduct<K, A> {
    /// `instance` is the name of this pod.
    pub fn new(
        client: Client,
        instance: Option<String>,
        known: Arc<K>,
        ask: Arc<A>,
        board: Board,
    ) -> Self {
        let writer = Writer::new(client, instance);
        Self { known, ask, writer, board, clock: Clock::start() }
    }

    /// Conducts until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut course = None;
        loop {
            let view = self.known.view().await;
            self.board.post(&view);
            if self.known.leads() {
                let course = course.get_or_insert_with(Course::new);
                self.round(course, &view).await;
            } else {
                // Another leader may decide otherwise: what was seen does not count any more.
                course = None;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }

    async fn round(&self, course: &mut Course, view: &View) {
        self.hear(course, &view.gateways).await;
        while let Ok(done) = course.done.1.try_recv() {
            self.rested(course, view, done).await;
        }
        let names: BTreeSet<&str> = view.models.iter().map(|model| model.name.as_str()).collect();
        course.models.retain(|name, _| names.contains(name.as_str()));
        course.regulator.retain(|name| names.contains(name));
        for model in view.models.iter() {
            self.model(course, model).await;
        }
    }

    /// Asks all gateways. One that is silent has said nothing, and what it said before grows old.
    async fn hear(&self, course: &mut Course, gateways: &[GatewayView]) {
        let ids: BTreeSet<u64> = gateways.iter().map(|gateway| id(&gateway.uid)).collect();
        course.regulator.know(&ids);
        // Owned, so that futures of any lifetime need not be proven to be sendable.
        let asked: Vec<GatewayView> = gateways.to_vec();
        let asking = asked.into_iter().map(|gateway| self.report_of(gateway));
        let mut answers = futures_util::stream::iter(asking).buffer_unordered(ASKED_AT_ONCE);
        let mut silent = BTreeSet::new();
        let mut trials: BTreeMap<String, Vec<Trial>> = BTreeMap::new();
        while let Some((gateway, answer)) = answers.next().await {
            match answer {
                Ok(mut report) => {
                    for trial in std::mem::take(&mut report.trials) {
                        if let Some((model, trial)) = of_version(trial) {
                            trials.entry(model).or_default().push(trial);
                        }
                    }
                    course.regulator.hear(self.now(), id(&gateway.uid), report);
                }
                Err(error) => {
                    if !course.silent.contains(&gateway.uid) {
                        tracing::warn!(gateway = gateway.url, %error, "a gateway does not say what it sees");
                    }
                    silent.insert(gateway.uid.clone());
                }
            }
        }
        drop(answers);
        course.silent = silent;
        self.known.heard(trials);
    }

    async fn report_of(&self, gateway: GatewayView) -> (GatewayView, Result<Report, ReachError>) {
        let answer = self.ask.report(&gateway.url).await;
        (gateway, answer)
    }

    /// Decides about a Model, if it is time, and does it.
    async fn model(&self, course: &mut Course, model: &ModelView) {
        let now = self.now();
        let kept = course.kept(now, model);
        if now < kept.due && !course.regulator.is_pressed(now, &model.name) {
            return;
        }
        let Some(kept) = course.models.get_mut(&model.name) else { return };
        let unix_ms = self.clock.unix_ms();
        let sight = model.sight(now, unix_ms, |pod| kept.resting.get(pod).copied());
        match course.regulator.decide(now, &model.name, &sight) {
            Ok(Some(verdict)) => {
                kept.due = verdict.again;
                self.carry_out(kept, model, &verdict, &course.done.0).await;
            }
            Ok(None) => self.let_go(kept, model).await,
            Err(error) => {
                self.fail(kept, model, ("PolicyInvalid", "Scale"), error.to_string()).await;
            }
        }
    }

    /// A Model whose copies do not follow the load, any more or yet.
    async fn let_go(&self, kept: &mut Kept, model: &ModelView) {
        if kept.said.is_none() {
            return;
        }
        match self.writer.status(model, None).await {
            Ok(()) => kept.said = None,
            Err(error) => {
                self.fail(kept, model, ("StatusRefused", "Report"), error.to_string()).await;
            }
        }
    }

    /// First it is said, then done: who is told that a pod sleeps sends it nothing more.
    async fn carry_out(
        &self,
        kept: &mut Kept,
        model: &ModelView,
        verdict: &Verdict,
        done: &mpsc::Sender<Done>,
    ) {
        let now = self.now();
        let wake: Vec<&String> = verdict.wake.iter().filter(|pod| kept.wakes(pod)).collect();
        for pod in &wake {
            kept.resting.insert((*pod).clone(), (Stage::Waking, now));
        }
        let sleep = if now < kept.sleeps { &[] } else { verdict.sleep.as_slice() };
        for pod in sleep {
            kept.resting.insert(pod.clone(), (Stage::Asleep, now));
        }
        if !self.say(kept, model, verdict).await {
            // Nobody is put to sleep of whom nobody knows.
            sleep.iter().for_each(|pod| _ = kept.resting.remove(pod));
            return;
        }
        if let (Some(replicas), Some(workload)) = (verdict.scale, &model.workload) {
            match self.writer.scale(&model.namespace, workload, replicas).await {
                Ok(()) => {
                    kept.failure = None;
                    tracing::info!(
                        model = model.name,
                        replicas,
                        why = verdict.message,
                        "told a workload its number of copies"
                    );
                }
                Err(error) => {
                    let what = ("ScaleRefused", "Scale");
                    self.fail(kept, model, what, error.to_string()).await;
                }
            }
        }
        let wake = wake.into_iter().map(|pod| (pod, Asleep::Wake));
        for (pod, asleep) in wake.chain(sleep.iter().map(|pod| (pod, Asleep::Sleep))) {
            self.rest(model, pod, asleep, done).await;
        }
    }

    /// Writes the status where something of it is new, and tells of it; whether it says what is wanted.
    async fn say(&self, kept: &mut Kept, model: &ModelView, verdict: &Verdict) -> bool {
        let before = kept.said.as_ref();
        let asleep: Vec<String> = kept.resting.keys().cloned().collect();
        let is_blind = |reason: &str| reason == BLIND;
        let is_same = before.is_some_and(|said| {
            said.wanted == verdict.wanted
                && said.asleep == asleep
                && is_blind(&said.reason) == is_blind(verdict.reason)
        });
        if is_same {
            return true;
        }
        let since = before.filter(|said| said.wanted == verdict.wanted);
        let since = since.map(|said| said.since.clone());
        let said = ModelScaling {
            wanted: verdict.wanted,
            asleep,
            reason: verdict.reason.to_owned(),
            message: verdict.message.clone(),
            since: since.unwrap_or_else(|| date::utc(self.clock.unix_ms() / 1000)),
        };
        if let Err(error) = self.writer.status(model, Some(&said)).await {
            self.fail(kept, model, ("StatusRefused", "Report"), error.to_string()).await;
            return false;
        }
        let told = kept.said.as_ref().and_then(|before| news(before, &said));
        kept.said = Some(said);
        if let Some(told) = told {
            self.writer.tell(model, told).await;
        }
        true
    }

    /// Tells an engine to sleep or to wake up, beside everything else.
    async fn rest(&self, model: &ModelView, pod: &str, asleep: Asleep, done: &mpsc::Sender<Done>) {
        let url = model.pods.iter().find(|one| one.name == pod).and_then(|one| one.url.clone());
        let key = self.writer.key(model).await;
        let (ask, done) = (Arc::clone(&self.ask), done.clone());
        let (model, pod) = (model.name.clone(), pod.to_owned());
        let work = async move {
            let result = match (url, key) {
                (Some(url), Ok(key)) => ask.rest(&url, key.as_ref(), asleep).await,
                (None, _) => Err(ReachError::Nowhere),
                (_, Err(error)) => Err(ReachError::Key(error.to_string())),
            };
            let _ = done.send(Done { model, pod, asleep, result }).await;
        };
        drop(tasks::spawn("rest", work));
    }

    async fn rested(&self, course: &mut Course, view: &View, done: Done) {
        let now = self.now();
        let Some(kept) = course.models.get_mut(&done.model) else { return };
        let Some(model) = view.models.iter().find(|model| model.name == done.model) else { return };
        kept.due = now;
        match (done.result, done.asleep) {
            (Ok(()), Asleep::Wake) => {
                kept.resting.remove(&done.pod);
                kept.wakeless.remove(&done.pod);
            }
            (Ok(()), Asleep::Sleep) => {}
            (Err(error), Asleep::Wake) => {
                // It stays known as one that takes nothing.
                kept.resting.insert(done.pod.clone(), (Stage::Asleep, now));
                self.wakeless(kept, model, &done.pod, &error).await;
            }
            (Err(error), Asleep::Sleep) => {
                kept.resting.remove(&done.pod);
                kept.sleeps = now + SLEEP_AGAIN;
                let note = format!("{} did not fall asleep: {error}; it stays awake", done.pod);
                self.fail(kept, model, ("SleepFailed", "Sleep"), note).await;
            }
        }
    }

    /// A pod did not wake up: it is tried again, and makes room for a new one when that is of no use. Nothing is
    /// known of one that was not asked.
    async fn wakeless(&self, kept: &mut Kept, model: &ModelView, pod: &str, error: &ReachError) {
        let times = kept.wakeless.entry(pod.to_owned()).or_default();
        *times += u32::from(!matches!(error, ReachError::Key(_)));
        // Another reason for each: events that share one are told as the first of them.
        let (why, again) = if *times < WAKES_MAX {
            (("WakeFailed", "Wake"), "it is tried again".to_owned())
        } else {
            *times = 0;
            let again = match self.writer.end(model, pod).await {
                Ok(()) => "it makes room for a new one".to_owned(),
                Err(error) => format!("it cannot be replaced either: {error}"),
            };
            (("WakeGivenUp", "Replace"), again)
        };
        let note = format!("{pod} did not wake up: {error}; {again}");
        self.fail(kept, model, why, note).await;
    }

    /// Tells once that something cannot be done. It is tried again.
    async fn fail(
        &self,
        kept: &mut Kept,
        model: &ModelView,
        (reason, action): (&'static str, &'static str),
        note: String,
    ) {
        if kept.failure.as_ref() == Some(&note) {
            return;
        }
        tracing::warn!(model = model.name, reason, error = note, "scaling is hindered");
        kept.failure = Some(note.clone());
        self.writer.tell(model, Told { reason, action, note, is_warning: true }).await;
    }
}

impl Course {
    fn new() -> Self {
        Self {
            regulator: Regulator::default(),
            models: BTreeMap::new(),
            done: mpsc::channel(RESTING_MAX),
            silent: BTreeSet::new(),
        }
    }

    /// What is remembered of a Model; of one that is new, what its status says.
    fn kept(&mut self, now: Time, model: &ModelView) -> &Kept {
        let is_same = self.models.get(&model.name).is_some_and(|kept| kept.uid == model.uid);
        if !is_same {
            self.regulator.retain(|name| name != model.name);
            let asleep = model.said.iter().flat_map(|said| &said.asleep);
            let kept = Kept {
                uid: model.uid.clone(),
                said: model.said.clone(),
                resting: asleep.map(|pod| (pod.clone(), (Stage::Asleep, now))).collect(),
                wakeless: BTreeMap::new(),
                due: now,
                sleeps: now,
                failure: None,
            };
            self.models.insert(model.name.clone(), kept);
        }
        let kept = self.models.entry(model.name.clone());
        let kept = kept.or_insert_with(|| Kept::new(model.uid.clone()));
        let is_there = |pod: &String| model.pods.iter().any(|one| one.name == *pod);
        kept.resting.retain(|pod, _| is_there(pod));
        kept.wakeless.retain(|pod, _| is_there(pod));
        kept
    }
}

impl Kept {
    const fn new(uid: String) -> Self {
        let (due, sleeps) = (Time::ZERO, Time::ZERO);
        Self {
            uid,
            said: None,
            resting: BTreeMap::new(),
            wakeless: BTreeMap::new(),
            due,
            sleeps,
            failure: None,
        }
    }

    /// Whether that pod is to be woken: not while it is.
    fn wakes(&self, pod: &str) -> bool {
        self.resting.get(pod).is_some_and(|(stage, _)| *stage == Stage::Asleep)
    }
}

/// What an event tells of the step from one to the other.
fn news(before: &ModelScaling, now: &ModelScaling) -> Option<Told> {
    let step = format!("from {} to {} copies: {}", before.wanted, now.wanted, now.message);
    let told = |reason, note, is_warning| Some(Told { reason, action: "Scale", note, is_warning });
    match (now.wanted.cmp(&before.wanted), now.asleep.len().cmp(&before.asleep.len())) {
        (std::cmp::Ordering::Greater, _) => told("ScaledUp", step, false),
        (std::cmp::Ordering::Less, _) => told("ScaledDown", step, false),
        (_, std::cmp::Ordering::Greater) => {
            told("PutToSleep", format!("nobody asks: {}", now.message), false)
        }
        (_, std::cmp::Ordering::Less) => told("Woken", now.message.clone(), false),
        _ if now.reason == BLIND => told(BLIND, now.message.clone(), true),
        _ if before.reason == BLIND => {
            told("SignalsBack", "gateways say again what comes".to_owned(), false)
        }
        _ => None,
    }
}

/// A number for a gateway (FNV-1a).
fn id(uid: &str) -> u64 {
    uid.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
