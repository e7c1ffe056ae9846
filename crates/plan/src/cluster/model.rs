//! What is to be done about one Model: its objects, its key, what is told of it.
//!
//! Contract: a Model that is refused, or cannot be rendered, keeps what runs. What replaces a workload is
//! ready before that goes.

mod telling;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::action::{About, Action, Apply, Note, Plan, Why};
use super::admit::Refusal;
use super::difference::differences;
use super::kept::{self, PODS};
use super::kinds::Sort;
use super::mind::{KEY_EVERY_MS, Made, Mind, digest, key_subject};
use super::observed::{Ended, FILLED, Live, RENDERED};
use super::versions::{self, Versions};
use super::world::{Held, Ref, Verdict, World};
use crate::api::{Model, Resource, ScaleBy};
use crate::render::kubernetes::{self, Cluster, RenderError, Rendered, adapters_name};

/// How long changes of numbers and words in a status are gathered.
const STATUS_EVERY_MS: u64 = 1_000;

/// What a start may take beside the program's own: pulling its image.
pub(crate) const PULL_SECONDS: u32 = 1800;

/// What is to be done about a Model.
pub(super) fn plan(world: &mut World, now_ms: u64, at: &Ref) -> Plan {
    let mut mind = world.minds.remove(at).unwrap_or_default();
    let plan = Look { world, now_ms, at, mind: &mut mind, versions: None }.plan();
    let Some(plan) = plan else { return Plan::default() };
    world.minds.insert(at.clone(), mind);
    plan
}

/// A look at one Model.
struct Look<'a> {
    world: &'a World,
    now_ms: u64,
    at: &'a Ref,
    mind: &'a mut Mind,
    /// Its versions, where it has several.
    versions: Option<Versions>,
}

/// What a Model comes to.
enum Come {
    /// Objects, and what is to be said of them.
    Objects(Box<Rendered>, Vec<String>, &'static str),
    /// It runs elsewhere.
    Elsewhere,
    /// It does not count.
    Refused(Refusal),
    /// It cannot be rendered.
    Unrendered(String),
}

impl<'a> Look<'a> {
    fn plan(mut self) -> Option<Plan> {
        let held = self.world.resources.get(self.at)?;
        let identity = &held.seen.identity;
        if identity.is_deleted || held.verdict == Verdict::Open {
            return None;
        }
        self.mind.recall(self.now_ms, &held.status);
        self.mind.about(identity.generation);
        let about = self.at.about(&identity.uid);
        let come = self.come(held, &identity.uid);
        let mut actions = Vec::new();
        let mut next: Option<u64> = None;
        let mut soonest = |at_ms: Option<u64>| {
            next = match (next, at_ms) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        let empty = BTreeMap::new();
        let place = (self.at.namespace.clone(), self.at.name.clone());
        let live = self.world.made.get(&place).unwrap_or(&empty);
        let mut foreign = None;
        match &come {
            Come::Objects(rendered, ..) => {
                let (may, at_ms) = self.key(&about, rendered, &mut actions);
                soonest(at_ms);
                if may {
                    let wanted = wanted(rendered, live);
                    soonest(self.objects(&about, &wanted, live, &mut actions, &mut foreign));
                    soonest(self.orphans(&about.uid, &wanted, live, &mut actions));
                }
            }
            Come::Elsewhere => {
                soonest(self.orphans(&about.uid, &BTreeMap::new(), live, &mut actions));
            }
            Come::Refused(_) | Come::Unrendered(_) => {}
        }
        let (said, status, at_ms) = self.status(held, &come, live, foreign);
        soonest(at_ms);
        soonest(self.tell(held, &about, &said, status, &mut actions));
        Some(Plan { actions, next_wakeup_ms: next })
    }

    /// What the Model comes to.
    fn come(&mut self, held: &Held, uid: &str) -> Come {
        if let Verdict::Refused(refusal) = &held.verdict {
            return Come::Refused(refusal.clone());
        }
        let Some(Resource::Model(model)) = self.world.accepted(self.at).map(AsRef::as_ref) else {
            return Come::Elsewhere;
        };
        if model.spec.source.is_none() {
            return Come::Elsewhere;
        }
        let mut cluster = Cluster {
            namespace: self.at.namespace.clone(),
            owners: BTreeMap::from([(self.at.name.clone(), uid.to_owned())]),
            surged: self.world.ground.surged_of(self.at),
            ..self.world.setting.clone()
        };
        self.versions = self.versions(held, model, &cluster);
        if let Some(versions) = &self.versions {
            cluster.versions.insert(self.at.name.clone(), versions.rendered.clone());
        }
        let fleet = kubernetes::fleet_of(model, &self.world.fleets);
        let rendered = kubernetes::model(model, fleet, &cluster);
        match rendered {
            Ok(rendered) => with_notes(model, &cluster, self.world.ground.is_blind(), rendered),
            // Who would scale it is not there: Pilotage does.
            Err(error @ RenderError::Absent { .. }) if scaled_by(model) != ScaleBy::Pilotage => {
                let own = scaled_by_us(model);
                match kubernetes::model(&own, fleet, &cluster) {
                    Ok(mut rendered) => {
                        rendered.notes.push(format!("{error}; Pilotage scales it meanwhile"));
                        let reason = match scaled_by(model) {
                            ScaleBy::Keda if !cluster.has.keda => "KedaAbsent",
                            _ => "LwsAbsent",
                        };
                        Come::Objects(Box::new(rendered), Vec::new(), reason)
                    }
                    Err(error) => Come::Unrendered(format!("{}: {error}", error.field())),
                }
            }
            Err(error) => Come::Unrendered(format!("{}: {error}", error.field())),
        }
    }

    /// The Model's versions, where it has several.
    fn versions(&self, held: &Held, model: &Model, cluster: &Cluster) -> Option<Versions> {
        let place = (self.at.namespace.clone(), self.at.name.clone());
        let empty = BTreeMap::new();
        versions::versions(&versions::Look {
            world: self.world,
            now_ms: self.now_ms,
            at: self.at,
            model,
            cluster,
            there: &held.status,
            live: self.world.made.get(&place).unwrap_or(&empty),
        })
    }

    /// Sees to the Model's key; whether pods would find it, and when to look again.
    fn key(
        &self,
        about: &About,
        rendered: &Rendered,
        actions: &mut Vec<Action>,
    ) -> (bool, Option<u64>) {
        let (Some(wanted), Some(first)) = (rendered.secrets.first(), rendered.objects.first())
        else {
            return (true, None);
        };
        let is_known = self.world.has_key(self.at);
        let due_ms = self.mind.key_due_ms();
        if is_known && due_ms > self.now_ms {
            return (true, Some(due_ms));
        }
        if let Err(at_ms) = self.mind.may_try(self.now_ms, &key_subject()) {
            return (is_known, Some(at_ms));
        }
        let mut metadata = first.value()["metadata"].clone();
        metadata["name"] = wanted.name.as_str().into();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata,
        });
        actions.push(Action::Key { about: about.clone(), secret });
        // When it is read again, should it be the one that is known.
        (is_known, is_known.then_some(self.now_ms + KEY_EVERY_MS))
    }

    /// Applies what is other than it is to be; when to look again.
    fn objects(
        &mut self,
        about: &About,
        wanted: &BTreeMap<Made, Value>,
        live: &BTreeMap<Made, Live>,
        actions: &mut Vec<Action>,
        foreign: &mut Option<String>,
    ) -> Option<u64> {
        let mut next: Option<u64> = None;
        self.mind.keep(|made| wanted.contains_key(made) || live.contains_key(made));
        let mut all: Vec<(&Made, &Value)> = wanted.iter().collect();
        all.sort_by_key(|((sort, name), _)| (*sort, name.as_str()));
        for (made, object) in all {
            if let Err(at_ms) = self.mind.may_try(self.now_ms, made) {
                next = Some(next.map_or(at_ms, |next| next.min(at_ms)));
                continue;
            }
            // Two that scale the same would fight: the other one goes first, and what it made with it.
            if made.0.scales() && live.keys().any(|other| other.0.scales() && other != made) {
                continue;
            }
            let why = match live.get(made) {
                None => Ok(Some((Why::Absent, Vec::new()))),
                // It goes, and what comes of it is heard of.
                Some(live) if live.is_deleted => Ok(None),
                Some(live) if live.owner.as_deref() != Some(&about.uid) && !live.is_orphan() => {
                    *foreign = Some(format!(
                        "the {} `{}` belongs to something else",
                        made.0.row().kind,
                        made.1
                    ));
                    Ok(None)
                }
                Some(live) => self.changed(made, live, object),
            };
            match why {
                Ok(None) => {}
                Err(at_ms) => next = Some(next.map_or(at_ms, |next| next.min(at_ms))),
                Ok(Some((Why::Changed, _))) if made.0 == Sort::Job => {
                    // What a Job does cannot be changed: it is made anew.
                    actions.extend(live.get(made).map(|live| delete(self.at, made, live)));
                }
                Ok(Some((why, differences))) => {
                    if why == Why::Drifted {
                        self.tell_repair(about, made, &differences, actions);
                    }
                    let object = object.clone();
                    actions.push(Action::Apply(Apply { sort: made.0, object, why, differences }));
                }
            }
        }
        next
    }

    /// Why an object that is there is applied, if it is.
    fn changed(
        &self,
        made: &Made,
        live: &Live,
        object: &Value,
    ) -> Result<Option<(Why, Vec<super::Difference>)>, u64> {
        let is = live.content();
        let all = differences(&is, object);
        let is_said =
            live.rendered.as_deref() == object["metadata"]["annotations"][RENDERED].as_str();
        if !is_said && !self.mind.has_written(made, object) {
            return Ok(Some((Why::Changed, all)));
        }
        let repairs = self.mind.may_repair(self.now_ms, made, object, &all)?;
        Ok(repairs.then_some((Why::Drifted, all)))
    }

    fn tell_repair(
        &mut self,
        about: &About,
        made: &Made,
        all: &[super::Difference],
        actions: &mut Vec<Action>,
    ) {
        let Some(first) = all.first() else { return };
        if self.mind.tells_repair(self.now_ms, made, &first.path) {
            let message = format!(
                "{} of the {} `{}` was changed by somebody and is again as the Model wants it; change the Model instead",
                first.path,
                made.0.row().kind,
                made.1
            );
            let note = Note { is_warning: true, reason: "Repaired".to_owned(), message };
            actions.push(Action::Tell { about: about.clone(), note });
        }
    }

    /// Whether pods, of whatever stage, need that object. Gateways find them by a Service: what they have begun would
    /// be cut off without it. They mount the list of adapters, and without it none would start again. When the
    /// last one is gone the Model is looked at again.
    fn pods_need(&self, (sort, name): &Made, live: &Live) -> bool {
        let place = (self.at.namespace.clone(), self.at.name.clone());
        let mut pods = self.world.pods.get(&place).into_iter().flatten().map(|(_, pod)| &pod.of);
        match sort {
            Sort::Service => pods.any(|pod| pod.revision == live.revision),
            Sort::ConfigMap if *name == adapters_name(&self.at.name) => {
                pods.any(|pod| pod.adapters_port.is_some())
            }
            _ => false,
        }
    }

    /// Deletes what is not wanted any longer: workloads once what replaces them is ready, Services and lists of
    /// adapters once their pods are gone.
    fn orphans(
        &self,
        uid: &str,
        wanted: &BTreeMap<Made, Value>,
        all: &BTreeMap<Made, Live>,
        actions: &mut Vec<Action>,
    ) -> Option<u64> {
        let replaced =
            wanted.iter().filter(|((sort, _), object)| sort.is_workload() && serves(object));
        let mut replaced = replaced.map(|(made, _)| all.get(made));
        let is_ready = replaced.all(|live| {
            live.is_some_and(|live| {
                live.progress.is_seen && live.progress.ready >= live.progress.wanted
            })
        });
        let mut next = None;
        for (made, live) in all {
            let ours = live.owner.as_deref() == Some(uid) && !live.is_deleted;
            let stays = made.0.is_workload() && self.is_needed(live, all).unwrap_or(!is_ready);
            if !ours || wanted.contains_key(made) || stays || self.pods_need(made, live) {
                continue;
            }
            match self.mind.may_try(self.now_ms, made) {
                Err(at_ms) => next = Some(at_ms),
                Ok(()) => actions.push(delete(self.at, made, live)),
            }
        }
        next
    }

    /// Whether gateways send requests to copies of a version that is not wanted, as they read it in the status;
    /// none where that does not say so, and what is wanted has to be ready first. A version that gets nothing
    /// any more goes at once, since others may need its place: where the one that serves is up, or it was
    /// taken back.
    fn is_needed(&self, one: &Live, all: &BTreeMap<Made, Live>) -> Option<bool> {
        self.versions.as_ref()?;
        let revision = one.revision.as_deref()?;
        let told = &self.world.resources.get(self.at)?.status["update"];
        let (serving, next) = (told["serving"].as_str()?, &told["next"]);
        let is_next = next["revision"] == revision;
        let is_taken_back = is_next && next["phase"] == "RolledBack";
        if serving == revision || (is_next && !is_taken_back) {
            return Some(true);
        }
        let is_up = all
            .values()
            .any(|other| other.revision.as_deref() == Some(serving) && other.progress.ready > 0);
        (is_up || is_taken_back).then_some(false)
    }
}

/// Who changes the number of a Model's copies.
fn scaled_by(model: &Model) -> ScaleBy {
    model.spec.scaling.map_or(ScaleBy::Pilotage, |scaling| scaling.by)
}

fn scaled_by_us(model: &Model) -> Model {
    let mut own = model.clone();
    if let Some(scaling) = &mut own.spec.scaling {
        scaling.by = ScaleBy::Pilotage;
    }
    own
}

fn with_notes(model: &Model, cluster: &Cluster, is_blind: bool, rendered: Rendered) -> Come {
    let mut notes = Vec::new();
    let mut reason = "Accepted";
    if rendered.objects.iter().any(|object| object.kind() == "StatefulSet") {
        reason = "LwsAbsent";
        notes.push(
            "LeaderWorkerSet is not installed: copies over several nodes are pairs of StatefulSets"
                .to_owned(),
        );
    }
    if !cluster.has.monitors {
        notes.push("no PodMonitor: Prometheus' operator is not installed".to_owned());
    }
    if is_blind {
        notes.push("nodes may not be seen: copies do not move before their nodes go".to_owned());
    }
    let own = format!("{}: ", model.name());
    let mut rendered = rendered;
    for note in &mut rendered.notes {
        if let Some(rest) = note.strip_prefix(&own) {
            *note = rest.to_owned();
        }
    }
    Come::Objects(Box::new(rendered), notes, reason)
}

/// The objects that there are to be, each with the digest of what was rendered.
fn wanted(rendered: &Rendered, live: &BTreeMap<Made, Live>) -> BTreeMap<Made, Value> {
    let mut all = BTreeMap::new();
    for object in &rendered.objects {
        let Some(sort) = Sort::of(object.kind()) else { continue };
        let made = (sort, object.name().to_owned());
        let object = stamped(sort, object.value(), live.get(&made));
        all.insert(made, object);
    }
    filled(&mut all, live);
    all
}

fn stamped(sort: Sort, object: &Value, live: Option<&Live>) -> Value {
    let mut object = object.clone();
    kept::keep(sort, &mut object, live);
    let print = format!("{:016x}", digest(&object.to_string()));
    object["metadata"]["annotations"][RENDERED] = print.into();
    object
}

/// A Job that filled its claim is written down there, and is needed no more: it goes after an hour, and
/// is not to come again.
fn filled(all: &mut BTreeMap<Made, Value>, live: &BTreeMap<Made, Live>) {
    let job = all.iter().find(|((sort, _), _)| *sort == Sort::Job);
    let Some((job, print)) =
        job.map(|(made, object)| (made.clone(), object["metadata"]["annotations"][PODS].clone()))
    else {
        return;
    };
    let Some(claim) = all.keys().find(|(sort, _)| *sort == Sort::Claim).cloned() else { return };
    let ended = live.get(&job).filter(|live| live.pods.as_deref() == print.as_str());
    let is_done = ended.is_some_and(|live| live.ended == Some(Ended::Well));
    let there = live.get(&claim).map(Live::content).unwrap_or_default();
    let noted = &there["metadata"]["annotations"][FILLED];
    if is_done || *noted == print {
        if let Some(claim) = all.get_mut(&claim) {
            claim["metadata"]["annotations"][FILLED] = print;
        }
        if !live.contains_key(&job) {
            all.remove(&job);
        }
    } else if let (Some(noted), Some(claim)) = (noted.as_str(), all.get_mut(&claim)) {
        // What it holds meanwhile.
        claim["metadata"]["annotations"][FILLED] = noted.into();
    }
}

fn delete(at: &Ref, (sort, name): &Made, live: &Live) -> Action {
    Action::Delete {
        sort: *sort,
        namespace: at.namespace.clone(),
        name: name.clone(),
        uid: live.uid.clone(),
    }
}

/// Whether pods of a workload take requests.
fn serves(object: &Value) -> bool {
    object["spec"]["template"]["metadata"]["labels"]["pilotage.dev/role"] != "works"
}
