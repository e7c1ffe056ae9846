//! The ground that copies stand on: nodes and pods as they were last seen, and what is to be done when nodes go.
//!
//! What was begun is in the cluster: a released pod has its label and its node's time, a workload the number of
//! groups that stand in for others. What is kept beside that may be forgotten.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Place, Ref, Watched, World, is_older, text};
use crate::api::{API_VERSION, Kind, Resource};
use crate::cluster::action::{Action, Note, Plan, Target};
use crate::cluster::kinds::Sort;
use crate::cluster::mind::Mind;
use crate::cluster::observed::Live;
use crate::cluster::trouble::Failure;
use crate::nodes::{
    Deletion, ModelKey, ModelSeen, Moves, NOTICE, Node, PodSeen, Release, Surge, Told, Verdict,
    health, moves,
};
use crate::render::kubernetes::{HELD, HELD_MOVING};

/// Things told of nodes and pods in one go: where all nodes are cordoned there are thousands of them.
const REPORTS_MAX: usize = 20;

/// How long the next ones wait.
const REPORTS_EVERY_MS: u64 = 1_000;

/// How long a pod is left alone that could not be moved; twice as long after each further time.
const RETRY_MS: u64 = 1_000;

/// How long at most.
const RETRY_MS_MAX: u64 = 60_000;

/// Seconds that a copy takes to come up where none was seen doing it.
const START_SECONDS: u32 = 600;

/// Seconds that a pod has to end where it does not say: Kubernetes' own.
const DRAIN_SECONDS: u32 = 30;

/// What is known of nodes, and of pods on them.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Ground {
    nodes: BTreeMap<String, Standing<Node>>,
    /// Nodes that say something.
    unwell: BTreeSet<String>,
    pods: BTreeMap<Place, Standing<PodSeen>>,
    /// Groups that stand in for others.
    surged: BTreeMap<ModelKey, u32>,
    told: BTreeSet<Word>,
    refusals: BTreeMap<Place, Refusal>,
    /// Whether nodes may not be seen.
    is_blind: bool,
    is_changed: bool,
    is_busy: bool,
    due_ms: Option<u64>,
    now_s: u64,
}

#[derive(Debug)]
struct Standing<T> {
    uid: String,
    version: String,
    seen: T,
}

/// A pod that could not be moved.
#[derive(Debug)]
struct Refusal {
    /// How often in a row.
    count: u32,
    /// Until when it is left alone.
    retry_ms: u64,
    /// The Model that it is of.
    model: Option<Ref>,
}

/// What was told: of which kind of object, which one, and the word for it.
type Word = (&'static str, Place, &'static str);

impl Ground {
    fn node(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        let [name, uid, version] =
            ["name", "uid", "resourceVersion"].map(|field| text(&metadata[field]));
        let old = self.nodes.get(&name).filter(|old| old.uid == uid);
        if old.is_some_and(|old| is_older(&version, &old.version)) {
            return;
        }
        let before = old.map(|old| &old.seen);
        let seen = Node::read(self.now_s, object, before).trimmed();
        self.is_changed |= before != Some(&seen);
        let is_short = seen.devices.iter().any(|one| one.allocatable < one.capacity);
        if is_short || health(self.now_s, &seen).verdict != Verdict::Fine {
            self.unwell.insert(name.clone());
        } else {
            self.unwell.remove(&name);
        }
        self.nodes.insert(name, Standing { uid, version, seen });
    }

    pub(super) fn pod(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        let [namespace, name] = ["namespace", "name"].map(|field| text(&metadata[field]));
        let [uid, version] = ["uid", "resourceVersion"].map(|field| text(&metadata[field]));
        let at = (namespace, name);
        let old = self.pods.get(&at).filter(|old| old.uid == uid);
        if old.is_some_and(|old| is_older(&version, &old.version)) {
            return;
        }
        let before = old.map(|old| &old.seen);
        let seen = PodSeen::read(self.now_s, object, before);
        self.is_changed |= before != seen.as_ref();
        match seen {
            Some(seen) => drop(self.pods.insert(at, Standing { uid, version, seen })),
            None => drop(self.pods.remove(&at)),
        }
    }

    pub(super) fn no_node(&mut self, name: &str) {
        self.unwell.remove(name);
        self.is_changed |= self.nodes.remove(name).is_some();
    }

    pub(super) fn no_pod(&mut self, at: &Place) {
        self.is_changed |= self.pods.remove(at).is_some();
    }

    /// The nodes that are known and not among these.
    pub(super) fn nodes_beside(&self, there: &BTreeSet<Place>) -> Vec<String> {
        let away = |name: &&String| !there.contains(&(String::new(), (*name).clone()));
        self.nodes.keys().filter(away).cloned().collect()
    }

    /// A workload has groups that stand in for others, whoever asked for them.
    pub(super) fn found_surged(&mut self, (namespace, name): &Place, live: &Live) {
        let key = ModelKey {
            namespace: namespace.clone(),
            name: name.clone(),
            revision: live.revision.clone(),
        };
        if let Entry::Vacant(unknown) = self.surged.entry(key) {
            unknown.insert(live.progress.surged);
            self.is_changed = true;
        }
    }

    /// Groups of a Model that stand in for others, by its versions.
    pub(in crate::cluster) fn surged_of(
        &self,
        at: &Ref,
    ) -> BTreeMap<(String, Option<String>), u32> {
        let first =
            ModelKey { namespace: at.namespace.clone(), name: at.name.clone(), revision: None };
        let own = self.surged.range(first..);
        let own = own.take_while(|(key, _)| key.namespace == at.namespace && key.name == at.name);
        own.map(|(key, groups)| ((key.name.clone(), key.revision.clone()), *groups)).collect()
    }

    /// Whether nodes may not be seen.
    pub(in crate::cluster) const fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The Models with copies that something urges away, or that are on their way; all of their pods, and the nodes
    /// that say something.
    fn concerned(&self) -> (Vec<Node>, Vec<PodSeen>, BTreeSet<ModelKey>) {
        let mut nodes: BTreeSet<&str> = self.unwell.iter().map(String::as_str).collect();
        let mut models: BTreeSet<&ModelKey> = self.surged.keys().collect();
        for Standing { seen, .. } in self.pods.values() {
            let node = seen.node.as_deref();
            let is_unhealthy = seen.unhealthy_since.is_some();
            if is_unhealthy {
                nodes.extend(node);
            }
            let is_urged = node.is_some_and(|node| self.unwell.contains(node));
            if is_urged || is_unhealthy || seen.is_released() {
                models.insert(&seen.model);
            }
        }
        let pods = self.pods.values().map(|pod| &pod.seen);
        let pods = pods.filter(|pod| models.contains(&pod.model)).cloned().collect();
        let nodes = nodes.iter().filter_map(|name| self.nodes.get(*name));
        let nodes = nodes.map(|node| node.seen.clone()).collect();
        (nodes, pods, models.into_iter().cloned().collect())
    }

    /// A pod, unless it is left alone for now.
    fn target(&mut self, now_ms: u64, namespace: &str, name: &str) -> Option<Target> {
        let at = (namespace.to_owned(), name.to_owned());
        let retry_ms = self.refusals.get(&at).map_or(0, |refusal| refusal.retry_ms);
        if retry_ms > now_ms {
            self.due(retry_ms);
            return None;
        }
        self.of_pod(&at)
    }

    fn of_pod(&self, at: &Place) -> Option<Target> {
        let pod = self.pods.get(at)?;
        Some(Target {
            kind: "Pod",
            namespace: at.0.clone(),
            name: at.1.clone(),
            uid: pod.uid.clone(),
            model: Some(pod.seen.model.name.clone()),
        })
    }

    fn due(&mut self, at_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(at_ms, |already| already.min(at_ms)));
    }

    /// What of this is new, a few at a time.
    fn reports(&mut self, now_ms: u64, all: Vec<Told>) -> Vec<Action> {
        let word = |told: &Told| -> Word {
            (told.kind, (told.namespace.clone(), told.name.clone()), told.reason)
        };
        let still: BTreeSet<Word> = all.iter().map(word).collect();
        self.told.retain(|word| still.contains(word));
        let new: Vec<Told> =
            all.into_iter().filter(|one| !self.told.contains(&word(one))).collect();
        if new.len() > REPORTS_MAX {
            self.due(now_ms + REPORTS_EVERY_MS);
        }
        let mut actions = Vec::new();
        for told in new.into_iter().take(REPORTS_MAX) {
            let word = word(&told);
            let of = match told.kind {
                "Node" => self.nodes.get(&told.name).map(|node| Target {
                    kind: "Node",
                    namespace: String::new(),
                    name: told.name.clone(),
                    uid: node.uid.clone(),
                    model: None,
                }),
                _ => self.of_pod(&word.1),
            };
            self.told.insert(word);
            let note = Note {
                is_warning: told.kind == "Node",
                reason: told.reason.to_owned(),
                message: told.message,
            };
            actions.extend(of.map(|of| Action::Report { of, note }));
        }
        actions
    }
}

impl World {
    /// It is that time: some things say that they are so, and not since when.
    pub fn heard_at(&mut self, now_ms: u64) {
        self.ground.now_s = now_ms / 1000;
    }

    /// Whether nodes may be seen. Where they may not, copies do not move before their nodes go.
    pub fn sees_nodes(&mut self, sees: bool) {
        if self.ground.is_blind == sees {
            self.ground.is_blind = !sees;
            self.all_models();
        }
    }

    /// What moves is to be decided anew.
    pub fn look_at_ground(&mut self) {
        self.ground.is_changed = true;
    }

    /// When [`World::plan_moves`] has something to say though nothing changes.
    pub const fn moves_due_ms(&self) -> Option<u64> {
        match (self.ground.is_busy, self.ground.is_changed) {
            (true, _) => None,
            (false, true) => Some(0),
            (false, false) => self.ground.due_ms,
        }
    }

    /// What is to be done about copies whose nodes go. Nothing more is planned until [`World::moves_done`], unless
    /// that is nothing. To be asked before Models are planned, which take over what stands in for what moves.
    pub fn plan_moves(&mut self, now_ms: u64) -> Plan {
        if self.unsettled {
            self.settle();
        }
        let is_due = self.ground.is_changed || self.ground.due_ms.is_some_and(|at| at <= now_ms);
        if self.ground.is_busy || !is_due {
            return Plan::default();
        }
        (self.ground.is_changed, self.ground.now_s) = (false, now_ms / 1000);
        let (nodes, pods, models) = self.ground.concerned();
        let seen = models.into_iter().filter_map(|key| {
            let seen = self.model_seen(&key)?;
            Some((key, seen))
        });
        let seen: BTreeMap<ModelKey, ModelSeen> = seen.collect();
        let all = moves(now_ms / 1000, &nodes, &pods, &seen);
        self.ground.due_ms = all.next_wakeup.map(|at_s| at_s * 1000);
        self.surge(&all.surge);
        self.forget_refusals(&all);
        let mut actions: Vec<Action> =
            all.release.iter().filter_map(|one| self.release(now_ms, one)).collect();
        let ends = all.delete.iter().filter_map(|Deletion { namespace, pod, grace_seconds }| {
            let pod = self.ground.target(now_ms, namespace, pod)?;
            Some(Action::End { pod, grace_seconds: *grace_seconds })
        });
        actions.extend(ends);
        actions.extend(self.ground.reports(now_ms, all.told));
        self.ground.is_busy = !actions.is_empty();
        Plan { actions, next_wakeup_ms: self.ground.due_ms }
    }

    /// A pod gets the other label, what is known of its node's time, and its Model as an owner: nothing else would
    /// end it when that goes.
    fn release(&mut self, now_ms: u64, release: &Release) -> Option<Action> {
        let pod = self.ground.target(now_ms, &release.namespace, &release.pod)?;
        let name = pod.model.clone()?;
        let at = Ref { kind: Kind::Model, namespace: pod.namespace.clone(), name };
        let uid = self.resources.get(&at)?.seen.identity.uid.clone();
        let mut metadata = json!({
            "uid": pod.uid,
            "labels": { HELD: HELD_MOVING },
            "ownerReferences": [{
                "apiVersion": API_VERSION, "kind": at.kind.name(), "name": at.name, "uid": uid,
            }],
        });
        if let Some(notice) = release.notice {
            metadata["annotations"] = json!({ NOTICE: notice.written() });
        }
        Some(Action::Release { pod, patch: json!({ "metadata": metadata }) })
    }

    /// What is not to be done is refused by nobody.
    fn forget_refusals(&mut self, all: &Moves) {
        let mut over = std::mem::take(&mut self.ground.refusals);
        let released = all.release.iter().map(|one| (&one.namespace, &one.pod));
        let deleted = all.delete.iter().map(|one| (&one.namespace, &one.pod));
        for (namespace, pod) in released.chain(deleted) {
            let at = (namespace.clone(), pod.clone());
            if let Some(still) = over.remove(&at) {
                self.ground.refusals.insert(at, still);
            }
        }
        over.into_values().filter_map(|refusal| refusal.model).for_each(|at| self.relieve(at));
    }

    /// A Model's copies can be moved.
    fn relieve(&mut self, model: Ref) {
        if self.minds.get_mut(&model).is_some_and(Mind::moved) {
            self.look_at(model);
        }
    }

    /// Takes over how many groups stand in for others.
    fn surge(&mut self, wanted: &[Surge]) {
        let wanted = wanted.iter().map(|one| (one.model.clone(), one.groups));
        let wanted: BTreeMap<ModelKey, u32> = wanted.collect();
        let before = std::mem::replace(&mut self.ground.surged, wanted.clone());
        let all: BTreeSet<&ModelKey> = before.keys().chain(wanted.keys()).collect();
        for key in all.into_iter().filter(|key| before.get(key) != wanted.get(key)) {
            let (namespace, name) = (key.namespace.clone(), key.name.clone());
            self.look_at(Ref { kind: Kind::Model, namespace, name });
        }
    }

    /// What is known of a Model's copies of one version; none where nothing keeps any.
    fn model_seen(&self, key: &ModelKey) -> Option<ModelSeen> {
        let place = (key.namespace.clone(), key.name.clone());
        let at = Ref { kind: Kind::Model, namespace: place.0.clone(), name: place.1.clone() };
        let identity = &self.resources.get(&at)?.seen.identity;
        let own = self.made.get(&place)?.iter().filter(|((sort, _), live)| {
            sort.is_workload()
                && live.progress.serves
                && !live.is_deleted
                && live.revision == key.revision
                && live.owner.as_deref() == Some(&identity.uid)
        });
        let own: Vec<(Sort, &Live)> = own.map(|((sort, _), live)| (*sort, live)).collect();
        if identity.is_deleted || own.is_empty() {
            return None;
        }
        let spec = match self.accepted(&at).map(AsRef::as_ref) {
            Some(Resource::Model(model)) => Some(&model.spec),
            _ => None,
        };
        let updates = spec.and_then(|spec| spec.updates.clone()).unwrap_or_default();
        // Of groups whose number follows the load somebody else writes it: none stands in for another.
        let is_scaled = spec.is_some_and(|spec| spec.scaling.is_some()) && key.revision.is_none();
        let follows = is_scaled && own.iter().any(|(sort, _)| *sort == Sort::LeaderWorkerSet);
        let (surge, unavailable) = if follows {
            (0, updates.unavailable.max(1))
        } else {
            (updates.surge, updates.unavailable)
        };
        let surged: u32 = own.iter().map(|(_, live)| live.progress.surged).sum();
        let wanted: u32 = own.iter().map(|(_, live)| live.progress.wanted).sum();
        Some(ModelSeen {
            replicas: wanted.saturating_sub(surged),
            surge,
            unavailable,
            start_seconds: self.start_seconds(&place),
            drain_seconds: own.first().map_or(DRAIN_SECONDS, |(_, live)| drain_seconds(live)),
            surged,
        })
    }

    /// Seconds that the newest copy took to come up.
    fn start_seconds(&self, place: &Place) -> u32 {
        let pods = self.pods.get(place).into_iter().flatten().map(|(_, pod)| &pod.of);
        let up = pods.filter(|pod| pod.serves).filter_map(|pod| {
            let took = pod.ready_s?.saturating_sub(pod.made_s);
            Some((pod.made_s, u32::try_from(took).unwrap_or(u32::MAX)))
        });
        up.max().map_or(START_SECONDS, |(_, took)| took)
    }

    /// A pod was released or told to end; what it is then, where it is still that one.
    pub fn moved(&mut self, action: &Action, left: Option<&Value>) {
        let (Action::Release { pod, .. } | Action::End { pod, .. }) = action else { return };
        let at = (pod.namespace.clone(), pod.name.clone());
        self.ground.refusals.remove(&at);
        match left.filter(|left| left["metadata"]["uid"] == pod.uid.as_str()) {
            Some(left) => self.observe(Watched::Pods, left),
            // Its watch tells, or has told, what there is in its place.
            None => self.ground.no_pod(&at),
        }
        if let Some(model) = pod.model_ref() {
            self.relieve(model);
        }
    }

    /// A pod could not be moved. Where chance is needed, `chance` is a number below 1000.
    pub fn not_moved(&mut self, now_ms: u64, action: &Action, failure: &Failure, chance: u32) {
        let (Action::Release { pod, .. } | Action::End { pod, .. }) = action else { return };
        let at = (pod.namespace.clone(), pod.name.clone());
        let count = self.ground.refusals.get(&at).map_or(0, |refusal| refusal.count) + 1;
        let wait_ms = RETRY_MS.saturating_mul(1 << (count - 1).min(16)).min(RETRY_MS_MAX);
        let retry_ms = now_ms + wait_ms * (1000 + u64::from(chance.min(999))) / 1000;
        let model = pod.model_ref().filter(|at| self.resources.contains_key(at));
        self.ground.refusals.insert(at, Refusal { count, retry_ms, model: model.clone() });
        self.ground.due(retry_ms);
        if let Some(model) = model {
            let mind = self.minds.entry(model.clone()).or_default();
            mind.refused(now_ms, action, failure, chance);
            self.look_at(model);
        }
    }

    /// All that was planned about moves was done, or tried.
    pub fn moves_done(&mut self) {
        self.ground.is_busy = false;
    }

    pub(super) fn node(&mut self, object: &Value) {
        self.ground.node(object);
    }
}

impl Target {
    /// The Model that it is of.
    fn model_ref(&self) -> Option<Ref> {
        let name = self.model.clone()?;
        Some(Ref { kind: Kind::Model, namespace: self.namespace.clone(), name })
    }
}

/// Seconds that pods of a workload have to finish what they have begun.
fn drain_seconds(live: &Live) -> u32 {
    let content = live.content();
    let spec = &content["spec"];
    let template = match &spec["leaderWorkerTemplate"] {
        Value::Null => &spec["template"],
        group => &group["leaderTemplate"],
    };
    let seconds = template["spec"]["terminationGracePeriodSeconds"].as_u64();
    seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(DRAIN_SECONDS)
}
