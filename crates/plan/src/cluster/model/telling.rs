//! What is told of a Model: its status, and people when something of it turns.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Come, Look, PULL_SECONDS, STATUS_EVERY_MS, serves};
use crate::api::Resource;
use crate::cluster::action::{About, Action};
use crate::cluster::adapters;
use crate::cluster::conditions::{self, Copies, News, Said};
use crate::cluster::kinds::Sort;
use crate::cluster::mind::{Made, status_subject};
use crate::cluster::observed::{Ended, Live};
use crate::cluster::trouble::{Pod, Trouble, refused_pods};
use crate::cluster::world::Held;
use crate::render::kubernetes::{self, Rendered};

impl Look<'_> {
    /// What is told of the Model, as conditions and as a whole; and when to look again.
    pub(super) fn status(
        &mut self,
        held: &Held,
        come: &Come,
        live: &BTreeMap<Made, Live>,
        foreign: Option<String>,
    ) -> (Vec<Said>, Value, Option<u64>) {
        let generation = held.seen.identity.generation;
        let mut status = json!({ "observedGeneration": generation });
        let mut copies = self.copies(live);
        let mut said = Vec::new();
        let mut next = None;
        match come {
            Come::Elsewhere => {
                let message = "it counts; nothing is run for it".to_owned();
                said.push(Said::new("Accepted", true, "Accepted", message));
                let message = "it runs elsewhere, and gateways ask its endpoints".to_owned();
                said.push(Said::new("Ready", true, "Elsewhere", message));
                said.push(Said::new("Progressing", false, "Stable", String::new()));
                said.push(conditions::degraded(None));
            }
            Come::Refused(refusal) => {
                kept(&held.status, &mut status);
                self.not_accepted(refusal.reason.name(), &refusal.message, copies, &mut said);
            }
            Come::Unrendered(message) => {
                kept(&held.status, &mut status);
                self.not_accepted("RenderFailed", message, copies, &mut said);
            }
            Come::Objects(rendered, notes, reason) => {
                let notes = rendered.notes.iter().chain(notes).cloned().collect::<Vec<_>>();
                let message =
                    if notes.is_empty() { "it counts".to_owned() } else { notes.join("; ") };
                said.push(Said::new("Accepted", true, reason, message));
                if live.keys().all(|(sort, _)| !sort.is_workload()) {
                    copies.wanted = rendered_copies(rendered);
                    copies.is_seen = false;
                }
                let (trouble, at_ms) = self.trouble(rendered, copies, live, foreign);
                next = at_ms;
                said.extend(conditions::of_copies(copies, trouble.as_ref()));
                said.extend(self.adapters(held));
                if let Some(next) = self.versions.as_ref().and_then(|all| all.status.next.as_ref())
                {
                    conditions::of_update(next, &mut said);
                }
                let first = rendered.objects.first().map(kubernetes::Object::value);
                let name = first
                    .map(|object| object["metadata"]["labels"]["app.kubernetes.io/name"].clone());
                status["runtime"] = name.unwrap_or_default();
                status["selector"] = format!(
                    "app.kubernetes.io/component=engine,{}={},pilotage.dev/role=serves",
                    crate::cluster::MODEL,
                    self.at.name
                )
                .into();
            }
        }
        status["replicas"] = copies.there.into();
        status["readyReplicas"] = copies.ready.into();
        status["updatedReplicas"] = copies.updated.into();
        if let Some(versions) = &self.versions {
            status["update"] = serde_json::to_value(&versions.status).unwrap_or_default();
            next = versions.look_ms.into_iter().chain(next).min();
        }
        status["conditions"] = conditions::written(self.now_ms, generation, &said, &held.status);
        (said, status, next)
    }

    /// Copies there are. Pods are known better from themselves: their Deployment has let go of those that move and
    /// serve all the same, and counts the ones in their place a moment later.
    fn copies(&self, live: &BTreeMap<Made, Live>) -> Copies {
        let mut copies = copies(live);
        let place = (self.at.namespace.clone(), self.at.name.clone());
        let pods = || self.world.pods.get(&place).into_iter().flatten().map(|(_, pod)| pod);
        let count = |is: fn(&Pod) -> bool| {
            u32::try_from(pods().filter(|pod| is(pod)).count()).unwrap_or(u32::MAX)
        };
        let ready = count(|pod| pod.is_ready && pod.of.serves && !pod.of.is_deleted);
        copies.ready = copies.ready.max(ready.min(copies.wanted));
        copies.moving = copies.moving.saturating_add(count(|pod| pod.is_moving));
        if copies.moving > 0 {
            copies.ready = copies.ready.min(copies.wanted);
        }
        copies
    }

    /// How far adapters are. Until copies have said so, what was told last is told again.
    fn adapters(&self, held: &Held) -> Option<Said> {
        let Some(Resource::Model(model)) = self.world.accepted(self.at).map(AsRef::as_ref) else {
            return None;
        };
        let place = (self.at.namespace.clone(), self.at.name.clone());
        adapters::said(model, self.world.adapters.get(&place).map(Vec::as_slice), &held.status)
    }

    fn not_accepted(&self, reason: &str, message: &str, copies: Copies, said: &mut Vec<Said>) {
        said.push(Said::new("Accepted", false, reason, message.to_owned()));
        let ready = copies.ready;
        if ready > 0 {
            let message = format!("{ready} copies of a former spec go on");
            said.push(Said::new("Ready", true, "Serving", message));
        } else {
            said.push(Said::new("Ready", false, reason, message.to_owned()));
        }
        said.push(Said::new("Progressing", false, reason, String::new()));
        said.push(Said::new("Degraded", true, reason, message.to_owned()));
    }

    /// What is wrong, if that is told now; and when to look again.
    fn trouble(
        &mut self,
        rendered: &Rendered,
        copies: Copies,
        live: &BTreeMap<Made, Live>,
        foreign: Option<String>,
    ) -> (Option<(Trouble, String)>, Option<u64>) {
        let mut all = self.mind.troubles(self.now_ms);
        if let Some(what) = foreign {
            all.entry(Trouble::Conflict).or_insert(what);
        }
        let all_well = all.is_empty() && copies.is_seen && copies.ready >= copies.wanted;
        for live in live.values() {
            if let Some(message) = &live.progress.failure {
                all.entry(refused_pods(message))
                    .or_insert_with(|| format!("pods cannot be made: {message}"));
            }
            if let Some(Ended::Badly(message)) = &live.ended {
                all.entry(Trouble::WeightsFailed)
                    .or_insert_with(|| format!("weights were not fetched: {message}"));
            }
        }
        let place = (self.at.namespace.clone(), self.at.name.clone());
        // What ended is left there, and says nothing when others have come in its place.
        let are_missing = copies.ready < copies.wanted;
        for (_, pod) in self.world.pods.get(&place).into_iter().flatten() {
            let sign = pod.sign.as_ref().filter(|_| are_missing || !pod.is_over);
            if let Some((trouble, what)) = sign {
                all.entry(*trouble).or_insert_with(|| what.clone());
            }
        }
        let late = self.late(rendered.start_seconds, copies, live);
        if late.is_none() {
            let minutes = rendered.start_seconds.saturating_add(PULL_SECONDS) / 60;
            let what = format!("copies did not become ready within {minutes} minutes");
            all.entry(Trouble::NotReadyInTime).or_insert(what);
        }
        let (told, next) = self.mind.signs.look(self.now_ms, all, all_well);
        let late = late.filter(|at_ms| *at_ms > self.now_ms);
        (told, next.into_iter().chain(late).min())
    }

    /// When copies are late, from then on none; a moment that is over where nothing is awaited.
    fn late(
        &mut self,
        start_seconds: u32,
        copies: Copies,
        live: &BTreeMap<Made, Live>,
    ) -> Option<u64> {
        if live.values().any(|live| live.progress.is_late) {
            return None;
        }
        if copies.wanted == 0 || copies.ready >= copies.wanted {
            self.mind.late_since_ms = None;
            return Some(0);
        }
        let since = *self.mind.late_since_ms.get_or_insert(self.now_ms);
        let patience_ms = u64::from(start_seconds.saturating_add(PULL_SECONDS)) * 1000;
        Some(since + patience_ms).filter(|at_ms| *at_ms > self.now_ms)
    }

    /// Writes the status where it says something new; when to look again.
    pub(super) fn tell(
        &mut self,
        held: &Held,
        about: &About,
        said: &[Said],
        status: Value,
        actions: &mut Vec<Action>,
    ) -> Option<u64> {
        let news = conditions::news(&held.status, &status);
        if news == News::None {
            return None;
        }
        if let Err(at_ms) = self.mind.may_try(self.now_ms, &status_subject()) {
            return Some(at_ms);
        }
        let due_ms = self.mind.told_ms.map_or(0, |told| told + STATUS_EVERY_MS);
        if news == News::Detail && due_ms > self.now_ms {
            return Some(due_ms);
        }
        self.mind.told_ms = Some(self.now_ms);
        actions.push(Action::Status { about: about.clone(), status });
        actions.extend(conditions::notes(about, &held.status, said));
        None
    }
}

/// What goes on as it was while a Model is not carried out: its versions, and by what its copies are counted.
fn kept(there: &Value, status: &mut Value) {
    for name in ["runtime", "selector", "update"] {
        if let Some(value) = there.get(name) {
            status[name] = value.clone();
        }
    }
}

fn rendered_copies(rendered: &Rendered) -> u32 {
    let all = rendered.objects.iter().filter(|object| {
        Sort::of(object.kind()).is_some_and(Sort::is_workload) && serves(object.value())
    });
    let copies = all.map(|object| object.value()["spec"]["replicas"].as_u64().unwrap_or(1));
    u32::try_from(copies.sum::<u64>()).unwrap_or(u32::MAX)
}

fn copies(live: &BTreeMap<Made, Live>) -> Copies {
    let all = live.iter().filter(|((sort, _), live)| sort.is_workload() && !live.is_deleted);
    let mut sum = Copies { is_seen: true, ..Copies::default() };
    for (_, live) in all {
        let one = &live.progress;
        sum.is_seen &= one.is_seen;
        if one.serves {
            sum.wanted += one.wanted.saturating_sub(one.surged);
            sum.moving += one.surged;
            sum.there += one.there;
            sum.ready += one.ready;
            sum.updated += one.updated;
        }
    }
    sum
}
