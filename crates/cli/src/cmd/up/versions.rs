//! Versions of the Models that run here: what is seen of them, what follows from it by the rules of `plan`,
//! and what of that survives a restart, in `versions.json` of the data directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_core::scale::TrialProgress;
use pilotage_gateway::Judged;
use pilotage_operator::local::{Placed, START_TIMEOUT, State, taken_kib};
use pilotage_plan::api::Model;
use pilotage_plan::api::status::{NextStatus, UpdatePhase};
use pilotage_plan::update::{self, AllKept, Kept, OnMachine, Progress, SeenHere, Trial, revision};
use pilotage_plan::{Plan, Timestamp, World, timestamp};
use pilotage_shell::clock::Clock;
use pilotage_shell::files;
use serde_json::{Value, json};

use super::prepare::Material;
use super::scaling::is_of;
use crate::cmd::front::prepared::Prepared;
use crate::exit::Wrong;
use crate::installation::Installation;

/// Most bytes of the file: thousands of Models.
const BYTES_MAX: u64 = 16 << 20;

/// The versions of all Models, and what they are made of.
pub(super) struct Versions {
    material: Material,
    kept: AllKept,
    written: AllKept,
    path: PathBuf,
    shown: Arc<Mutex<AllKept>>,
    clock: Clock,
}

/// What there is to be seen.
pub(super) struct View<'a> {
    /// What all processes do, by their own names.
    pub(super) states: &'a BTreeMap<String, State>,
    /// Those that are wanted.
    pub(super) processes: &'a [Placed],
    /// What the gateway thinks of what is on trial.
    pub(super) judged: Vec<Judged>,
    /// How many copies of a Model are to run, where the load says that.
    pub(super) runs: &'a dyn Fn(&Model) -> Option<u32>,
    /// Whether another process that takes so many kibibytes has room, with the weights at that path.
    pub(super) memory: fn(u64, &Path) -> bool,
}

/// What was made of the manifests for versions that do not serve by now: they are to be read again.
#[derive(Debug)]
pub(super) struct Outdated;

/// What was kept by the one that ran here before.
pub(super) fn kept(installation: &Installation, clock: Clock) -> AllKept {
    let path = path(installation);
    let text = match files::read_bounded(&path, BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return AllKept::new(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "what serves is not known: new versions are not tried out");
            return AllKept::new();
        }
    };
    let mut kept: AllKept = serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "what serves is not known: new versions are not tried out");
        put_aside(installation);
        AllKept::new()
    });
    if let Some(now) = now(clock) {
        kept.values_mut().for_each(|one| one.resumed(&now));
    }
    kept
}

/// What was kept stays beside it as `versions.json.bad`, where not all of it goes on.
pub(super) fn put_aside(installation: &Installation) {
    let path = path(installation);
    let aside = path.with_extension("json.bad");
    let text = match files::read_bounded(&path, BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        text => text,
    };
    match text.and_then(|text| files::write_secret(&aside, &text)) {
        Ok(()) => tracing::warn!(path = %aside.display(), "what was kept of versions is there"),
        Err(error) => {
            tracing::warn!(%error, path = %aside.display(), "what was kept of versions cannot be put aside");
        }
    }
}

/// Versions that can begin, of which nothing is written yet.
pub(super) struct Begun {
    versions: Versions,
    kept: AllKept,
    prepared: Prepared,
}

impl Begun {
    /// They do begin.
    pub(super) fn take(self) -> (Versions, Prepared) {
        let Self { mut versions, kept, prepared } = self;
        versions.take(kept);
        (versions, prepared)
    }
}

impl Versions {
    /// With the plan to begin with: what was kept goes on.
    pub(super) fn begin(
        (material, kept): (Material, AllKept),
        installation: &Installation,
        clock: Clock,
    ) -> anyhow::Result<Begun> {
        let path = path(installation);
        let shown = Arc::default();
        let this = Self { material, written: kept.clone(), kept, path, shown, clock };
        let nothing = View {
            states: &BTreeMap::new(),
            processes: &[],
            judged: Vec::new(),
            runs: &|_| None,
            memory: |_, _| true,
        };
        let (kept, plan) = this.turn(&this.material, &nothing, BTreeMap::new())?;
        let prepared = this.material.prepared(plan);
        let missing = || anyhow::anyhow!("weights of a version that serves were not prepared");
        let prepared = prepared.ok_or_else(missing)?;
        Ok(Begun { versions: this, kept, prepared })
    }

    /// What is kept now, for whoever reads the manifests again.
    pub(super) fn kept(&self) -> AllKept {
        self.kept.clone()
    }

    /// Whether anything changes without anybody asking for it.
    pub(super) fn is_busy(&self) -> bool {
        self.kept.values().any(|kept| kept.next().is_some())
    }

    /// Looks again: what is to be kept, and another plan where one follows.
    pub(super) fn look(
        &self,
        view: &View<'_>,
        devices: BTreeMap<String, Vec<String>>,
    ) -> anyhow::Result<(AllKept, Option<Prepared>)> {
        let (kept, plan) = self.turn(&self.material, view, devices)?;
        if shape(&kept) == shape(&self.kept) {
            return Ok((kept, None));
        }
        let prepared = self.material.prepared(plan);
        let missing = || anyhow::anyhow!("weights of a version are not prepared; SIGHUP does that");
        prepared.map(|prepared| (kept, Some(prepared))).ok_or_else(missing)
    }

    /// What other manifests come to, to be taken over by [`Self::replace`] or not at all.
    pub(super) fn plan(
        &self,
        material: &Material,
        view: &View<'_>,
        devices: BTreeMap<String, Vec<String>>,
    ) -> anyhow::Result<Result<(AllKept, Prepared), Outdated>> {
        let (kept, plan) = self.turn(material, view, devices)?;
        Ok(material.prepared(plan).map(|prepared| (kept, prepared)).ok_or(Outdated))
    }

    /// Other manifests hold.
    pub(super) fn replace(&mut self, material: Material, kept: AllKept) {
        self.material = material;
        self.take(kept);
    }

    /// This is what is kept, and it is carried out.
    pub(super) fn take(&mut self, kept: AllKept) {
        let before = std::mem::replace(&mut self.kept, kept);
        for (name, now) in &self.kept {
            tell(name, before.get(name), now);
        }
        let differs = shape(&before) != shape(&self.kept);
        self.shown.lock().clone_from(&self.kept);
        if differs {
            self.save();
        }
    }

    /// Writes what shall survive a restart, where it differs from what is written.
    pub(super) fn save(&mut self) {
        if self.kept == self.written {
            return;
        }
        let text = serde_json::to_vec_pretty(&self.kept).unwrap_or_default();
        match files::write_secret(&self.path, &text) {
            Ok(()) => self.written.clone_from(&self.kept),
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "versions cannot be kept");
            }
        }
    }

    /// What the status tells: of each Model which version serves, and how far the next one is.
    pub(super) fn status(&self) -> impl Fn() -> Value + Send + Sync + use<> {
        let shown = Arc::clone(&self.shown);
        move || {
            let shown = shown.lock();
            let one = |(name, kept): (&String, &Kept)| {
                let (serving, next) = (&kept.update.serving, &kept.update.next);
                (name.clone(), json!({"serving": serving, "next": next}))
            };
            Value::Object(shown.iter().map(one).collect())
        }
    }

    fn turn(
        &self,
        material: &Material,
        view: &View<'_>,
        devices: BTreeMap<String, Vec<String>>,
    ) -> anyhow::Result<(AllKept, Plan)> {
        let now = now(self.clock).ok_or_else(|| anyhow::anyhow!("the clock is out of range"))?;
        let trials = trials(&view.judged);
        let world = World { devices, ..material.asked.world.clone() };
        let machine = OnMachine { resources: &material.asked.resources, world: &world };
        let seen = |model: &Model| self.seen((model, material), view, &trials);
        let turned = machine.turn(&now, &self.kept, seen);
        turned.map_err(|error| Wrong::new(error.to_string()).into())
    }

    fn seen<'v>(
        &self,
        (model, material): (&Model, &Material),
        view: &'v View<'_>,
        trials: &'v BTreeMap<String, Vec<Trial>>,
    ) -> SeenHere<'v> {
        let (name, wanted) = (model.name(), revision(&model.spec));
        let begins = format!("{name}+{wanted}-");
        let own = || view.states.iter().filter(|(label, _)| label.starts_with(&begins));
        let ready = own().filter(|(_, state)| state.phase == "ready").count();
        let planned = view.processes.iter().find(|placed| placed.spec.name.starts_with(&begins));
        let said = planned.and_then(|placed| placed.spec.readiness.start_seconds);
        let said = said.or(model.spec.start_seconds);
        let usual = u32::try_from(START_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
        let trials = trials.get(name).map(Vec::as_slice).unwrap_or_default();
        SeenHere {
            replicas: (view.runs)(model).unwrap_or_else(|| model.spec.processes_min()),
            next_ready: u32::try_from(ready).unwrap_or(u32::MAX),
            trouble: own().find_map(|(_, state)| state.last_exit.as_deref()),
            patience_seconds: said.unwrap_or(usual),
            trials,
            has_room: self.has_room((model, material), view, &wanted),
        }
    }

    /// Whether one copy more has room in memory, where a next version is to begin beside the others.
    fn has_room(
        &self,
        (model, material): (&Model, &Material),
        view: &View<'_>,
        wanted: &str,
    ) -> bool {
        let Some(kept) = self.kept.get(model.name()) else { return true };
        let is_known = |next: &NextStatus| next.revision == wanted;
        let surge = model.spec.updates.as_ref().is_none_or(|updates| updates.surge > 0);
        let begins = kept.update.serving.as_deref() != Some(wanted)
            && !kept.update.next.as_ref().is_some_and(is_known);
        if !begins || !surge {
            return true;
        }
        let mut own = view.processes.iter().filter(|placed| placed.spec.lane == model.name());
        if own.clone().any(|placed| !placed.spec.devices.is_empty()) {
            // They are in the memory of accelerators, which are counted.
            return true;
        }
        let path = model.spec.source.as_ref().and_then(|source| material.path(source));
        let Some(path) = path else { return true };
        let pid = own.find_map(|placed| {
            let of = |(label, _): &(&String, &State)| is_of(label, &placed.spec.name);
            view.states.iter().filter(of).find_map(|(_, state)| state.pid)
        });
        pid.is_none_or(|pid| (view.memory)(taken_kib(pid).unwrap_or(0), path))
    }
}

fn path(installation: &Installation) -> PathBuf {
    installation.folder().join("versions.json")
}

fn now(clock: Clock) -> Option<Timestamp> {
    timestamp::text(clock.unix_ms() / 1000).parse().ok()
}

/// What decides what runs and who gets what, without how it goes meanwhile.
fn shape(kept: &AllKept) -> AllKept {
    let mut kept = kept.clone();
    for next in kept.values_mut().filter_map(|one| one.update.next.as_mut()) {
        (next.percent, next.message, next.unready_since) = (0, String::new(), None);
    }
    kept
}

/// What the gateway says of versions, by Model; canaries of Routes are other Models.
fn trials(judged: &[Judged]) -> BTreeMap<String, Vec<Trial>> {
    let mut trials: BTreeMap<String, Vec<Trial>> = BTreeMap::new();
    for one in judged {
        let Some(model) = one.lane.strip_suffix(update::NEXT) else { continue };
        let Some(revision) = one.revision.clone() else { continue };
        let progress = match TrialProgress::of(&one.judgement) {
            TrialProgress::Going => Progress::Going,
            TrialProgress::TooFew => Progress::TooFew,
            TrialProgress::Worse => Progress::Worse,
            TrialProgress::Done => Progress::Done,
        };
        let step = u32::try_from(one.step).unwrap_or(u32::MAX);
        let (percent, why) = (one.percent, one.judgement.to_string());
        let trial = Trial { revision, progress, step, percent, why };
        trials.entry(model.to_owned()).or_default().push(trial);
    }
    trials
}

/// Says what happened to a Model's versions, once.
fn tell(model: &str, before: Option<&Kept>, now: &Kept) {
    let phase = |kept: &Kept| {
        let next = kept.update.next.as_ref();
        next.map(|next| (next.revision.clone(), next.phase))
    };
    let Some(before) = before else { return };
    match &now.update.next {
        Some(next) if phase(before) != phase(now) => {
            let warns = next.phase == UpdatePhase::RolledBack || now.crowded.is_some();
            tell_next(model, next, warns);
        }
        Some(_) => {}
        None if before.update.next.is_some() => {
            let serving = now.update.serving.as_deref().unwrap_or_default();
            tracing::info!(model, revision = serving, "this version serves alone");
        }
        None => {}
    }
}

fn tell_next(model: &str, next: &NextStatus, warns: bool) {
    let NextStatus { revision, phase, message: why, .. } = next;
    if warns {
        tracing::warn!(model, revision, ?phase, why, "a new version");
    } else {
        tracing::info!(model, revision, ?phase, why, "a new version");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::at(Some(folder.path().to_owned())).unwrap();
        put_aside(&installation);
        let aside = folder.path().join("versions.json.bad");
        assert!(!aside.exists(), "there was nothing");
        for (text, is_bad) in [(&b"{}"[..], false), (b"{\"m\": ", true)] {
            files::write(&path(&installation), text).unwrap();
            assert_eq!(kept(&installation, Clock::start()), AllKept::new());
            assert_eq!(std::fs::read(&aside).ok(), is_bad.then(|| text.to_owned()));
        }
    }
}
