//! A cluster as it was last seen, and which resources have to be looked at because of what changed.
//!
//! Contract: no I/O and no clock. The same world at the same time gives the same plans, and one in which
//! all is as it is to be gives none: nothing is written at rest.

mod agenda;
mod ground;
mod keyring;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::action::{About, Action, Apply, Keys, Plan};
use super::admit::{Identity, Refusal, Seen, admit};
use super::kinds::Sort;
use super::mind::Mind;
use super::observed::Live;
use super::pod::PodOf;
use super::trouble::{Failure, Pod};
use super::{model, others};
use crate::adapters::Told;
use crate::api::{Kind, Resource};
use crate::render::kubernetes::{Cluster, Installed};
use crate::update::Trial;
use agenda::Agenda;
use ground::Ground;
pub use running::Running;

/// What is watched.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Watched {
    /// Resources of a kind.
    Resources(Kind),
    /// Objects of a kind that were made of Models.
    Made(Sort),
    /// Pods of Models.
    Pods,
    /// Nodes.
    Nodes,
}

/// A resource by its names.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ref {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A namespace and a name.
pub type Place = (String, String);

/// What is known of a resource.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) seen: Seen,
    pub(super) version: String,
    pub(super) status: Value,
    pub(super) verdict: Verdict,
}

/// Whether a resource counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nobody has decided yet.
    Open,
    /// It does.
    Accepted,
    /// It does not, and why.
    Refused(Refusal),
}

/// A cluster as it was last seen.
#[derive(Debug)]
pub struct World {
    pub(super) setting: Cluster,
    pub(super) resources: BTreeMap<Ref, Held>,
    /// Fleets that count, which all Models look at.
    pub(super) fleets: Vec<Resource>,
    accepted: BTreeMap<Ref, Arc<Resource>>,
    /// Models that count, by their names.
    named: BTreeMap<String, Ref>,
    /// Routes that name a Model, by its name.
    routes: BTreeMap<String, Vec<Ref>>,
    pub(super) made: BTreeMap<Place, BTreeMap<(Sort, String), Live>>,
    pub(super) pods: BTreeMap<Place, BTreeMap<String, Pod>>,
    /// The Model that each of those is kept under: its label may be another one tomorrow.
    homes: BTreeMap<(Watched, Place), String>,
    pub(super) minds: BTreeMap<Ref, Mind>,
    keys: Keys,
    /// What the Secret of all keys holds; nothing is written before that is known.
    collected: Option<Keys>,
    is_collecting: bool,
    unsettled: bool,
    agenda: Agenda,
    /// Namespaces that are being deleted, in which nothing can be made.
    ending: BTreeSet<String>,
    /// What gateways say of next versions of Models.
    trials: BTreeMap<Place, Vec<Trial>>,
    /// What copies of Models say of their adapters.
    pub(super) adapters: BTreeMap<Place, Vec<Option<Told>>>,
    pub(super) ground: Ground,
    /// Counts changes.
    revision: u64,
}

impl World {
    /// Nothing is known of it but what it is rendered for.
    pub fn new(setting: Cluster) -> Self {
        Self {
            setting,
            resources: BTreeMap::new(),
            fleets: Vec::new(),
            accepted: BTreeMap::new(),
            named: BTreeMap::new(),
            routes: BTreeMap::new(),
            made: BTreeMap::new(),
            pods: BTreeMap::new(),
            homes: BTreeMap::new(),
            minds: BTreeMap::new(),
            keys: Keys::default(),
            collected: None,
            is_collecting: false,
            unsettled: false,
            agenda: Agenda::default(),
            ending: BTreeSet::new(),
            trials: BTreeMap::new(),
            adapters: BTreeMap::new(),
            ground: Ground::default(),
            revision: 0,
        }
    }

    /// The cluster that is rendered for.
    pub const fn setting(&self) -> &Cluster {
        &self.setting
    }

    /// Counts changes of what is known, but for nodes, which tell of themselves all the time.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Resources that wait to be looked at.
    pub fn waiting(&self) -> usize {
        self.agenda.len()
    }

    /// What kinds the cluster has, and its release.
    pub fn offers(&mut self, minor: u32, has: Installed) {
        if self.setting.minor != minor || self.setting.has != has {
            self.setting.minor = minor;
            self.setting.has = has;
            self.all_models();
        }
    }

    /// An object is there, as of its version.
    pub fn observe(&mut self, watched: Watched, object: &Value) {
        self.revision += u64::from(watched != Watched::Nodes);
        match watched {
            Watched::Resources(kind) => self.resource(kind, object),
            Watched::Made(sort) => self.object(sort, object),
            Watched::Pods => self.pod(object),
            Watched::Nodes => self.node(object),
        }
    }

    /// An object is no more.
    pub fn gone(&mut self, watched: Watched, object: &Value) {
        let (namespace, name) = place(object);
        self.remove(watched, &namespace, &name);
    }

    /// A watch has begun anew, and these are all there are.
    pub fn listed(&mut self, watched: Watched, there: &BTreeSet<Place>) {
        let lost: Vec<Place> = match watched {
            Watched::Resources(kind) => {
                let all = self.resources.keys().filter(|one| one.kind == kind);
                all.map(|one| (one.namespace.clone(), one.name.clone()))
                    .filter(|place| !there.contains(place))
                    .collect()
            }
            Watched::Made(_) | Watched::Pods => {
                let first = (watched, Place::default());
                let all = self.homes.range(first..).take_while(|((of, _), _)| *of == watched);
                let lost = all.filter(|((_, place), _)| !there.contains(place));
                lost.map(|((_, place), _)| place.clone()).collect()
            }
            Watched::Nodes => {
                let nodes = self.ground.nodes_beside(there).into_iter();
                nodes.map(|name| (String::new(), name)).collect()
            }
        };
        for (namespace, name) in lost {
            self.remove(watched, &namespace, &name);
        }
    }

    fn remove(&mut self, watched: Watched, namespace: &str, name: &str) {
        self.revision += u64::from(watched != Watched::Nodes);
        let place = (namespace.to_owned(), name.to_owned());
        match watched {
            Watched::Resources(kind) => {
                let at = Ref { kind, namespace: place.0, name: place.1 };
                self.resources.remove(&at);
                self.forget(&at);
                self.unsettled = true;
                if self.resources.keys().all(|one| one.namespace != at.namespace) {
                    self.ending.remove(&at.namespace);
                }
            }
            Watched::Nodes => self.ground.no_node(name),
            Watched::Made(_) | Watched::Pods => {
                if watched == Watched::Pods {
                    self.ground.no_pod(&place);
                }
                if let Some(model) = self.homes.remove(&(watched, place.clone())) {
                    self.leave(watched, place, model);
                }
            }
        }
    }

    /// An object, or a pod, is one of that Model's.
    fn arrive(&mut self, watched: Watched, place: Place, model: &str) {
        let before = self.homes.insert((watched, place.clone()), model.to_owned());
        if let Some(before) = before.filter(|before| before != model) {
            self.leave(watched, place, before);
        }
    }

    /// An object, or a pod, is one of that Model's no more.
    fn leave(&mut self, watched: Watched, (namespace, name): Place, model: String) {
        let place = (namespace, model);
        match watched {
            Watched::Made(sort) => {
                let Some(objects) = self.made.get_mut(&place) else { return };
                objects.remove(&(sort, name));
                if objects.is_empty() {
                    self.made.remove(&place);
                }
            }
            Watched::Pods => {
                let Some(pods) = self.pods.get_mut(&place) else { return };
                pods.remove(&name);
                if pods.is_empty() {
                    self.pods.remove(&place);
                }
            }
            Watched::Resources(_) | Watched::Nodes => return,
        }
        self.touch(place);
    }

    fn forget(&mut self, at: &Ref) {
        self.minds.remove(at);
        self.agenda.forget(at);
        let place = (at.namespace.clone(), at.name.clone());
        self.trials.remove(&place);
        self.adapters.remove(&place);
        if at.kind == Kind::Model && self.keys.0.remove(&keyring::entry(at)).is_some() {
            self.is_collecting = true;
        }
    }

    fn resource(&mut self, kind: Kind, object: &Value) {
        let (namespace, name) = place(object);
        let at = Ref { kind, namespace, name };
        let version = text(&object["metadata"]["resourceVersion"]);
        let status = object["status"].clone();
        let seen = match self.resources.get_mut(&at) {
            Some(held) if is_older(&version, &held.version) => return,
            // Its status alone is another.
            Some(held) if held.seen.identity.is_version_of(object) => {
                held.version = version;
                if held.status == status {
                    return;
                }
                let turned =
                    others::is_true(&held.status, "Ready") != others::is_true(&status, "Ready");
                held.status = status;
                if turned {
                    self.readiness_changed(&at.name);
                }
                self.agenda.insert(at);
                return;
            }
            Some(_) | None => Seen::read(kind, object),
        };
        let before = self.resources.get(&at).map(|held| &held.seen.identity.uid);
        if before != Some(&seen.identity.uid) {
            self.forget(&at);
            // Nothing is made in a namespace that is being deleted: this is another one of its name.
            self.ending.remove(&at.namespace);
        }
        self.resources.insert(at.clone(), Held { seen, version, status, verdict: Verdict::Open });
        self.agenda.insert(at);
        self.unsettled = true;
    }

    fn object(&mut self, sort: Sort, object: &Value) {
        let (namespace, name) = place(object);
        let Some(model) = label(object) else { return };
        let live = Live::read(sort, object);
        let place = (namespace, model);
        if live.progress.surged > 0 {
            self.ground.found_surged(&place, &live);
        }
        let objects = self.made.entry(place.clone()).or_default();
        let matters = match objects.get(&(sort, name.clone())) {
            Some(old) if old.uid == live.uid && is_older(&live.version, &old.version) => return,
            Some(old) => old.matters(&live),
            None => true,
        };
        objects.insert((sort, name.clone()), live);
        self.arrive(Watched::Made(sort), (place.0.clone(), name), &place.1);
        if matters {
            self.touch(place);
        }
    }

    fn pod(&mut self, object: &Value) {
        self.ground.pod(object);
        let (namespace, name) = place(object);
        let Some(model) = label(object) else { return };
        self.arrive(Watched::Pods, (namespace.clone(), name.clone()), &model);
        let place = (namespace, model);
        let pod = Pod { of: PodOf::read(&name, object), ..Pod::read(object) };
        let old = self.pods.entry(place.clone()).or_default().insert(name, pod.clone());
        // What only others look at is no reason to look at the Model again.
        let matters = |pod: &Pod| (pod.is_ready, pod.is_moving, pod.sign.clone());
        if old.is_none_or(|old| matters(&old) != matters(&pod)) {
            self.touch(place);
        }
    }

    fn touch(&mut self, (namespace, name): Place) {
        let at = Ref { kind: Kind::Model, namespace, name };
        if self.resources.contains_key(&at) {
            self.agenda.insert(at);
        }
    }

    fn all_models(&mut self) {
        let all = self.resources.keys().filter(|at| at.kind == Kind::Model);
        self.agenda.extend(all.cloned());
    }

    /// Decides anew which resources count.
    fn settle(&mut self) {
        self.unsettled = false;
        let admission = admit(self.resources.values().map(|held| &held.seen));
        let mut verdicts: BTreeMap<Ref, Verdict> = BTreeMap::new();
        let mut accepted = BTreeMap::new();
        let mut fleets = Vec::new();
        for (resource, identity) in admission.resources.into_iter().zip(&admission.identities) {
            let at = identity.place_of();
            verdicts.insert(at.clone(), Verdict::Accepted);
            if let Resource::Fleet(_) = resource {
                fleets.push(resource);
            } else if let Resource::Model(_) | Resource::Route(_) = resource {
                accepted.insert(at, Arc::new(resource));
            }
        }
        let refused = admission.refused.into_iter();
        verdicts
            .extend(refused.map(|one| (one.identity.place_of(), Verdict::Refused(one.refusal))));
        for (at, held) in &mut self.resources {
            let verdict = verdicts.remove(at).unwrap_or(Verdict::Open);
            if held.verdict != verdict {
                held.verdict = verdict;
                // Its Routes have it, or have it not.
                let routes = self.routes.get(&at.name).into_iter().flatten();
                self.agenda.extend(routes.filter(|_| at.kind == Kind::Model).cloned());
                self.agenda.insert(at.clone());
            }
        }
        if self.fleets != fleets {
            self.fleets = fleets;
            self.all_models();
        }
        self.accepted = accepted;
        self.index();
    }

    fn index(&mut self) {
        self.named.clear();
        self.routes.clear();
        for (at, resource) in &self.accepted {
            match resource.as_ref() {
                Resource::Model(_) => drop(self.named.insert(at.name.clone(), at.clone())),
                Resource::Route(route) => {
                    for name in others::models(route) {
                        self.routes.entry(name.to_owned()).or_default().push(at.clone());
                    }
                }
                Resource::Tenant(_) | Resource::Fleet(_) => {}
            }
        }
    }

    /// The next resource to look at, if one is due.
    pub fn next(&mut self, now_ms: u64) -> Option<Ref> {
        if self.unsettled {
            self.settle();
        }
        self.agenda.next(now_ms)
    }

    /// When something is due though nothing changes.
    pub fn wakeup_ms(&self) -> Option<u64> {
        self.agenda.next_ms()
    }

    /// What is to be done about a resource. It is busy until [`World::finished`], unless that is nothing.
    pub fn plan(&mut self, now_ms: u64, at: &Ref) -> Plan {
        let plan = match at.kind {
            _ if self.ending.contains(&at.namespace) => Plan::default(),
            Kind::Model => model::plan(self, now_ms, at),
            Kind::Route | Kind::Tenant | Kind::Fleet => others::plan(self, now_ms, at),
        };
        self.agenda.wake(at, plan.next_wakeup_ms);
        if !plan.is_empty() {
            self.agenda.begin(at);
        }
        plan
    }

    /// A namespace is being deleted, as the API server says that refuses to make something in it. Nothing is
    /// planned for what is in it any more. Whether that is new.
    pub fn ends(&mut self, namespace: &str) -> bool {
        self.revision += 1;
        self.ending.insert(namespace.to_owned())
    }

    /// All that was planned for a resource was done, or tried.
    pub fn finished(&mut self, at: &Ref) {
        self.agenda.finished(at);
    }

    /// An object was applied, and this is what it is now.
    pub fn applied(&mut self, now_ms: u64, at: &Ref, apply: &Apply, object: &Value) {
        self.observe(Watched::Made(apply.sort), object);
        if self.resources.contains_key(at) {
            let mind = self.minds.entry(at.clone()).or_default();
            mind.applied(now_ms, apply, object);
        }
    }

    /// A call failed. Where chance is needed, `chance` is a number below 1000.
    pub fn refused(
        &mut self,
        now_ms: u64,
        at: &Ref,
        action: &Action,
        failure: &Failure,
        chance: u32,
    ) {
        if self.resources.contains_key(at) {
            let mind = self.minds.entry(at.clone()).or_default();
            mind.refused(now_ms, action, failure, chance);
            self.agenda.insert(at.clone());
        }
    }

    /// What was planned for a resource was not tried to its end.
    pub fn again(&mut self, at: &Ref) {
        if self.resources.contains_key(at) {
            self.agenda.insert(at.clone());
        }
    }

    /// An object of a Model was deleted; what is left of it, where it goes only later.
    pub fn deleted(&mut self, at: &Ref, sort: Sort, name: &str, left: Option<&Value>) {
        match left.filter(|left| left["metadata"]["deletionTimestamp"].is_string()) {
            Some(left) => self.observe(Watched::Made(sort), left),
            None => self.remove(Watched::Made(sort), &at.namespace, name),
        }
    }

    /// A Model that counts.
    pub(super) fn accepted(&self, at: &Ref) -> Option<&Arc<Resource>> {
        self.accepted.get(at)
    }

    /// The Model of that name that counts.
    pub(super) fn model_named(&self, name: &str) -> Option<&Held> {
        self.resources.get(self.named.get(name)?)
    }

    /// What gateways say of a Model's next version.
    pub(super) fn trials(&self, place: &Place) -> &[Trial] {
        self.trials.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn set_trials(&mut self, place: Place, trials: Vec<Trial>) {
        self.revision += 1;
        self.trials.insert(place, trials);
    }

    /// A resource is to be looked at, if it is there.
    pub(super) fn look_at(&mut self, at: Ref) {
        if self.resources.contains_key(&at) {
            self.agenda.insert(at);
        }
    }

    /// The Routes that count and name a Model.
    pub(super) fn routes_of(&self, model: &str) -> impl Iterator<Item = &Resource> {
        let all = self.routes.get(model).into_iter().flatten();
        all.filter_map(|at| self.accepted.get(at)).map(AsRef::as_ref)
    }

    /// Routes look at their Models.
    fn readiness_changed(&mut self, model: &str) {
        self.agenda.extend(self.routes.get(model).into_iter().flatten().cloned());
    }
}

impl Identity {
    fn place_of(&self) -> Ref {
        Ref { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Whether an object says what this one does: its generation counts changes of that.
    fn is_version_of(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        metadata["uid"] == self.uid.as_str()
            && metadata["generation"].as_u64() == Some(self.generation)
            && metadata["deletionTimestamp"].is_string() == self.is_deleted
    }
}

impl Ref {
    /// The resource, with its UID.
    pub fn about(&self, uid: &str) -> About {
        About {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: uid.to_owned(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn place(object: &Value) -> Place {
    let metadata = &object["metadata"];
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

/// The Model that an object says it is of.
fn label(object: &Value) -> Option<String> {
    let label = &object["metadata"]["labels"][super::MODEL];
    label.as_str().map(str::to_owned)
}

/// Versions count up. What is no number is not compared.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}
