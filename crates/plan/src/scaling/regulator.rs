//! Decides for every Model of a cluster how many copies it has and which of them sleep, from what
//! gateways say and which pods there are.
//!
//! Gateways say what comes, waits and runs. Which copies there are is known better from their pods: a
//! gateway sees only those that answer.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::scale::{
    Decision, Held, Names, Policy, PolicyError, Pool, REPLICAS_MAX, ReplicaSeen, Report, Scaler,
    Seen, Signals, Stage, Term, Why,
};
use pilotage_core::{ReplicaId, Span, Time};

use super::policy::{copies, policy};
use super::turns::{Look, Turns};
use crate::api::{FleetSpec, ModelSpec, ScaleBy, Scaling, Zero};
use crate::cluster::PULL_SECONDS;
use crate::launch::start_seconds;
use crate::update::NEXT;

/// For how long somebody is taken to wait who did when a gateway said so last.
const PRESSED: Span = Span::from_secs(15);

/// A Model as it is on the cluster.
#[derive(Clone, Debug)]
pub struct Sight<'a> {
    /// What it says.
    pub spec: &'a ModelSpec,
    /// The Fleet that it runs on, where it is known.
    pub fleet: Option<&'a FleetSpec>,
    /// Who writes that number at the moment: where another one is to, it may not be there yet, or no more.
    pub by: ScaleBy,
    /// What was decided last, by whomever.
    pub said: Option<Said>,
    /// Copies that its workload is told to have; none where there is no workload that can be scaled.
    pub replicas: Option<u32>,
    /// Its pods that take requests, or are to.
    pub pods: Vec<PodSeen>,
}

/// What was decided, as it was written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Said {
    /// Copies, those asleep among them.
    pub wanted: u32,
    /// Those asleep.
    pub asleep: u32,
    /// Since when so many are wanted.
    pub since: Time,
}

/// A pod that takes requests, or is to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// What it does.
    pub stage: Stage,
    /// Since when.
    pub since: Time,
    /// How long it took from being made until it was ready, once it was.
    pub took: Option<Span>,
    /// Whether no node has room for it.
    pub is_unplaced: bool,
}

/// What there is to be of a Model.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Copies, those asleep among them.
    pub wanted: u32,
    /// Copies that take requests.
    pub awake: u32,
    /// What the workload's scale has to be told; none where it says so already, or others tell it.
    pub scale: Option<u32>,
    /// Pods to put to sleep now.
    pub sleep: Vec<String>,
    /// Pods to wake now.
    pub wake: Vec<String>,
    /// What decided it, as one word for programs.
    pub reason: &'static str,
    /// The same as a sentence with its numbers.
    pub message: String,
    /// When to decide again, if nothing happens before.
    pub again: Time,
}

/// The autoscalers of all Models of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Regulator {
    models: BTreeMap<String, One>,
    /// What each gateway there is said last, and when that was read.
    gateways: BTreeMap<u64, Option<(Time, Report)>>,
    /// Who has a place where there is none for all.
    turns: Turns,
}

#[derive(Clone, Debug)]
struct One {
    scaler: Scaler,
    /// Since when copies are missing that the workload is told to have, the longest first.
    missing: Vec<Time>,
    /// How long it took until each pod was ready first: one that was not for a moment is no new one.
    took: BTreeMap<String, Span>,
}

impl Regulator {
    /// Which gateways there are. What was said by others is forgotten; of one that said nothing yet,
    /// nothing is known, which is not the same as nothing to do.
    pub fn know(&mut self, gateways: &BTreeSet<u64>) {
        self.gateways.retain(|id, _| gateways.contains(id));
        for id in gateways {
            self.gateways.entry(*id).or_default();
        }
    }

    /// A gateway says what it sees. One that is not known is not heard.
    pub fn hear(&mut self, now: Time, gateway: u64, report: Report) {
        if let Some(said) = self.gateways.get_mut(&gateway) {
            *said = Some((now, report));
        }
    }

    /// Whether somebody waits for that Model, as far as was said not long ago: then it is worth deciding at
    /// once.
    pub fn is_pressed(&self, now: Time, name: &str) -> bool {
        let said = self.gateways.values().flatten();
        let said = said.filter(|(at, _)| now.since(*at) <= PRESSED);
        let next = format!("{name}{NEXT}");
        let lanes =
            said.flat_map(|(_, report)| [report.models.get(name), report.models.get(&next)]);
        let waiting = lanes.flatten().filter_map(|lane| lane.waiting);
        waiting.map(|seen| seen.value).any(|bands| {
            let bands = [bands.realtime, bands.standard, bands.bulk, bands.batch];
            bands.iter().any(|band| band.work.requests > 0.0)
        })
    }

    /// Forgets all Models but those.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.models.retain(|name, _| keep(name));
        self.turns.retain(keep);
    }

    /// What there is to be of a Model now; none where its copies do not follow the load, or nobody knows
    /// what there is.
    ///
    /// # Errors
    /// What makes no sense in its policy.
    pub fn decide(
        &mut self,
        now: Time,
        name: &str,
        sight: &Sight<'_>,
    ) -> Result<Option<Verdict>, PolicyError> {
        let (Some(scaling), Some(policy)) = (sight.spec.scaling, policy(sight.spec, sight.fleet))
        else {
            self.models.remove(name);
            self.turns.forget(name);
            return Ok(None);
        };
        let merged = self.merged(name);
        let one = match self.models.get_mut(name) {
            Some(one) => one,
            None => {
                let one = One::new(policy.clone(), now, sight)?;
                self.models.entry(name.to_owned()).or_insert(one)
            }
        };
        if *one.scaler.policy() != policy {
            one.scaler.set_policy(policy, Span::ZERO)?;
        }
        let pods = one.settled(now, sight);
        let took = one.took(sight).map(|took| Seen::new(now, took));
        one.scaler.observe(now, signals(now, merged, took, &pods));
        let decision = one.scaler.decide(now);
        let Some(decision) = decision else { return Ok(None) };
        let verdict = verdict(scaling, &decision, sight, &pods);
        let to = look(sight, &decision).and_then(|look| self.turns.gives_way(now, name, &look));
        Ok(Some(match to {
            Some(to) => without(verdict, sight, &to),
            None => verdict,
        }))
    }

    /// What all gateways see of a Model.
    fn merged(&self, name: &str) -> Signals {
        let mut pool = Pool::default();
        let mut names = Names::default();
        for (id, said) in &self.gateways {
            let seen = said.as_ref().and_then(|(at, report)| {
                let own = report.models.get(name)?.clone().into_signals(*at, &mut names);
                // Requests for a version on trial are the Model's, too.
                let next = report.models.get(&format!("{name}{NEXT}")).cloned();
                Some(match next {
                    Some(next) => own.merge(next.into_signals(*at, &mut names)),
                    None => own,
                })
            });
            // One that does not know the Model has not said that nobody asks for it.
            pool.report(*id, seen.unwrap_or_default());
        }
        pool.merged()
    }
}

impl One {
    /// Goes on where another one ended, as far as that was written down.
    fn new(policy: Policy, now: Time, sight: &Sight<'_>) -> Result<Self, PolicyError> {
        let mut scaler = Scaler::new(policy, Span::ZERO)?;
        let mut missing = Vec::new();
        if let Some(Said { wanted, asleep, since }) = sight.said {
            scaler.resume(wanted.saturating_sub(asleep), asleep);
            let there = sight.pods.iter().filter(|pod| pod.stage != Stage::Draining).count();
            let told = sight.replicas.unwrap_or(0).min(REPLICAS_MAX) as usize;
            missing = vec![since.min(now); told.saturating_sub(there)];
        }
        Ok(Self { scaler, missing, took: BTreeMap::new() })
    }

    /// The pods that count: as many as the workload is told to have. Those that stand in while versions
    /// change are not copies more, and those that are not there yet are on their way, each since it is missing:
    /// one that never comes does not become new by a step of others.
    fn settled(&mut self, now: Time, sight: &Sight<'_>) -> Vec<PodSeen> {
        let mut pods: Vec<PodSeen> =
            sight.pods.iter().filter(|pod| pod.stage != Stage::Draining).cloned().collect();
        pods.sort_by(|a, b| (place(a.stage), &a.name).cmp(&(place(b.stage), &b.name)));
        let Some(count) = sight.replicas else { return pods };
        let count = count.min(REPLICAS_MAX) as usize;
        pods.truncate(count);
        self.missing.resize(count - pods.len(), now);
        let missing = self.missing.iter().enumerate().map(|(at, since)| {
            let name = format!(" {at}");
            PodSeen { name, stage: Stage::Starting, since: *since, took: None, is_unplaced: false }
        });
        pods.extend(missing);
        pods
    }

    /// How long a start takes: what it took most of those that there are, or less.
    fn took(&mut self, sight: &Sight<'_>) -> Option<Span> {
        self.took.retain(|name, _| sight.pods.iter().any(|pod| pod.name == *name));
        for (pod, took) in sight.pods.iter().filter_map(|pod| Some((pod, pod.took?))) {
            self.took.entry(pod.name.clone()).or_insert(took);
        }
        let mut all: Vec<Span> = self.took.values().copied().collect();
        all.sort_unstable();
        all.get(all.len().saturating_sub(1) / 2).copied()
    }
}

const fn place(stage: Stage) -> u8 {
    match stage {
        Stage::Ready => 0,
        Stage::Waking => 1,
        Stage::Asleep => 2,
        Stage::Starting => 3,
        Stage::Draining => 4,
    }
}

/// What gateways see, with the copies that there are.
fn signals(now: Time, merged: Signals, took: Option<Seen<Span>>, pods: &[PodSeen]) -> Signals {
    let kv_used = merged.replicas.as_ref().and_then(|all| mean(all.value.values()));
    let seen = pods.iter().zip(0..).map(|(pod, at)| {
        let kv_used = kv_used.filter(|_| pod.stage == Stage::Ready);
        (ReplicaId(at), ReplicaSeen { kv_used, ..ReplicaSeen::new(pod.stage, pod.since) })
    });
    let replicas = Some(Seen::new(now, seen.collect()));
    Signals { replicas, start: merged.start.or(took), ..merged }
}

/// The mean part of caches that is used, as old as its oldest part.
fn mean<'a>(all: impl Iterator<Item = &'a ReplicaSeen>) -> Option<Seen<f64>> {
    let used = all.filter(|one| one.stage == Stage::Ready).filter_map(|one| one.kv_used);
    let fold = |sum: Option<(f64, Seen<f64>)>, one: Seen<f64>| match sum {
        None => Some((1.0, one)),
        Some((count, all)) => {
            let at = all.at.min(one.at);
            Some((count + 1.0, Seen { at, whole: true, value: all.value + one.value }))
        }
    };
    used.fold(None, fold).map(|(count, all)| Seen { value: all.value / count, ..all })
}

/// A Model whose copies may give way; none where some are to be there always.
fn look<'a>(sight: &Sight<'a>, decision: &Decision) -> Option<Look<'a>> {
    sight.spec.scaling.filter(Scaling::takes_turns)?;
    let there = || sight.pods.iter().filter(|pod| pod.stage != Stage::Draining);
    let serves = there().filter(|pod| pod.stage == Stage::Ready).map(|pod| pod.since).min();
    let comes = there().any(|pod| pod.stage == Stage::Starting && !pod.is_unplaced);
    let start =
        || sight.spec.start_seconds.map_or_else(|| start_seconds(sight.spec.size_bytes), u64::from);
    Some(Look {
        fleet: sight.spec.fleet.as_ref().map(|name| name.as_str()),
        serves,
        // The image is pulled before the program starts.
        comes: comes.then(|| Span::from_secs(start().saturating_add(PULL_SECONDS.into()))),
        is_asked: decision.why.waiting > 0.0,
        // Nodes may be on their way to who waits, and starts on others take long.
        is_busy: true,
        has_room: false,
        is_unplaced: there().next().is_some() && there().all(|pod| pod.is_unplaced),
    })
}

/// The same where its place is another one's for now.
fn without(verdict: Verdict, sight: &Sight<'_>, to: &str) -> Verdict {
    let scale = match (sight.by, sight.replicas) {
        (ScaleBy::Keda, _) | (_, None | Some(0)) => None,
        (ScaleBy::Pilotage | ScaleBy::Hpa, Some(_)) => Some(0),
    };
    let message = format!("it gave its place to `{to}`, which waited for one: {}", verdict.message);
    Verdict { wanted: 0, awake: 0, scale, reason: "GaveWay", message, ..verdict }
}

fn verdict(scaling: Scaling, decision: &Decision, sight: &Sight<'_>, pods: &[PodSeen]) -> Verdict {
    let replicas = sight.replicas;
    let with = |stage: Stage| pods.iter().filter(move |pod| pod.stage == stage);
    let sleepers = u32::try_from(with(Stage::Asleep).count()).unwrap_or(u32::MAX);
    let (awake, asleep) = copies(&scaling, decision);
    // Only what nobody uses falls asleep: others may be in the middle of answers.
    let asleep = if awake == 0 { asleep } else { asleep.min(sleepers) };
    let wanted = awake.saturating_add(asleep);
    let up = pods.len() - with(Stage::Asleep).count();
    let (mut sleep, mut wake) = (Vec::new(), Vec::new());
    if scaling.zero == Zero::Warm {
        let more = (awake as usize).saturating_sub(up);
        wake = with(Stage::Asleep).take(more).map(|pod| pod.name.clone()).collect();
        // Those that are too many go first, so that it is known who stays.
        let rest = (asleep.saturating_sub(sleepers)) as usize;
        if awake == 0 && replicas == Some(wanted) {
            sleep = with(Stage::Ready).take(rest).map(|pod| pod.name.clone()).collect();
        }
    }
    let scale = match (sight.by, replicas) {
        (_, None) | (ScaleBy::Keda, _) => None,
        (ScaleBy::Pilotage, Some(now)) => (now != wanted).then_some(wanted),
        // It does neither go to nothing nor come from there.
        (ScaleBy::Hpa, Some(0)) => (wanted > 0).then_some(wanted),
        (ScaleBy::Hpa, Some(_)) => (wanted == 0).then_some(0),
    };
    let reason = reason(&decision.why, wanted);
    let message = decision.why.to_string();
    Verdict { wanted, awake, scale, sleep, wake, reason, message, again: decision.again }
}

/// What decided it, as conditions and events call it.
const fn reason(why: &Why, wanted: u32) -> &'static str {
    match why.held {
        Some(Held::Blind { .. }) => return "SignalsMissing",
        Some(Held::Most) => return "Limited",
        Some(Held::Down { .. } | Held::Up { .. } | Held::Starting { .. } | Held::Step) | None => {}
    }
    if wanted == 0 || why.awake == 0 {
        return "Idle";
    }
    match why.bound.0 {
        Term::Floor => "Minimum",
        Term::Load => "Load",
        Term::Forecast => "Forecast",
        Term::Backlog => "Backlog",
        Term::Kv => "KvPressure",
        Term::Misses => "GoalsMissed",
        Term::Held => "RequestsHeld",
        Term::Elsewhere => "RequestsElsewhere",
        Term::Recent => "RecentRequests",
        Term::Slow => "WaitingTooLong",
        Term::Stuck => "CopiesMissing",
    }
}
