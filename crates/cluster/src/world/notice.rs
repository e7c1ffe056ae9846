//! What is to be looked at because of what changed: so that a step takes as long as what happened in it,
//! however much there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::pods::{BORNE, asleep, ended};
use super::{LOOKED_AT, World, text};
use crate::Cluster;
use crate::store::Key;

/// Pauses before what could not be made is tried again, in milliseconds.
const AGAIN_MS: u64 = 1000;

impl World {
    /// Takes over what changed in the cluster, and notes what that is about.
    pub(super) fn look(&mut self, cluster: &Cluster) {
        for (group, plural) in LOOKED_AT {
            let changed = self.kinds.entry(plural).or_default().look(cluster, group, plural);
            for (key, old) in changed {
                let new = self.get(plural, &key);
                self.note(plural, &key, (old.as_deref(), new.as_deref()));
            }
        }
    }

    pub(super) fn get(&self, plural: &str, key: &Key) -> Option<Arc<Value>> {
        self.kinds.get(plural)?.get(key).map(Arc::clone)
    }

    fn note(&mut self, plural: &'static str, key: &Key, change: (Option<&Value>, Option<&Value>)) {
        self.mark(plural, key.clone());
        let each = [change.0, change.1];
        for owner in each.into_iter().flatten().filter_map(owner) {
            self.mark(owner.0, owner.1);
        }
        match plural {
            "pods" => self.note_pod(key, change),
            "nodes" => {
                self.has_room = true;
                self.all_pods();
            }
            "services" => self.selects(plural, key, change, "/spec/selector"),
            "deployments" => each.into_iter().flatten().for_each(|one| self.note_scale(one)),
            "poddisruptionbudgets" | "replicasets" => {
                self.selects(plural, key, change, "/spec/selector/matchLabels");
            }
            _ => {}
        }
    }

    fn note_pod(&mut self, key: &Key, (old, new): (Option<&Value>, Option<&Value>)) {
        for (pod, comes) in [(old, false), (new, true)] {
            let Some(pod) = pod else { continue };
            let (namespace, labels) =
                (text(pod, "/metadata/namespace"), pod.pointer("/metadata/labels"));
            if comes {
                self.pods_by_label.add(namespace, labels, key);
            } else {
                self.pods_by_label.take(namespace, labels, key);
            }
            for plural in ["services", "poddisruptionbudgets", "replicasets"] {
                let known = self.selectors.get(plural);
                let all = known.map(|one| one.of_any(namespace, labels)).unwrap_or_default();
                all.into_iter().for_each(|key| self.mark(plural, key));
            }
            let node = text(pod, "/spec/nodeName");
            if !node.is_empty() && !ended(pod) {
                let used = self.used.entry(node.to_owned()).or_default();
                if comes { used.add(pod) } else { used.take(pod) }
            }
        }
        let takes = |pod: Option<&Value>| {
            pod.is_some_and(|pod| !text(pod, "/spec/nodeName").is_empty() && !ended(pod))
        };
        self.has_room |= takes(old) && !takes(new);
        if new.is_some_and(asleep) {
            self.unplaced.insert(key.clone());
        } else {
            self.unplaced.remove(key);
        }
        if let (Some(old), None) = (old, new) {
            let uid = text(old, "/metadata/uid");
            self.since.remove(uid);
            self.since.remove(&format!("{uid}{BORNE}"));
        }
    }

    /// How many pods there are to be is of interest to who counts those that there are.
    fn note_scale(&mut self, deployment: &Value) {
        let namespace = text(deployment, "/metadata/namespace");
        let labels = deployment.pointer("/spec/template/metadata/labels");
        let known = self.selectors.get("poddisruptionbudgets");
        let all = known.map(|one| one.of_any(namespace, labels)).unwrap_or_default();
        all.into_iter().for_each(|key| self.mark("poddisruptionbudgets", key));
    }

    fn selects(
        &mut self,
        plural: &'static str,
        key: &Key,
        (old, new): (Option<&Value>, Option<&Value>),
        at: &str,
    ) {
        let selectors = self.selectors.entry(plural).or_default();
        if let Some(old) = old {
            selectors.take(text(old, "/metadata/namespace"), old.pointer(at), key);
        }
        if let Some(new) = new {
            selectors.add_selector(text(new, "/metadata/namespace"), new.pointer(at), key);
        }
    }

    pub(super) fn all_pods(&mut self) {
        let all = self.kinds.get("pods").into_iter().flat_map(|pods| pods.iter());
        let all: BTreeSet<Key> = all.map(|(key, _)| key.clone()).collect();
        self.dirty.entry("pods").or_default().extend(all);
    }

    pub(super) fn mark(&mut self, plural: &'static str, key: Key) {
        self.dirty.entry(plural).or_default().insert(key);
    }

    /// What of a kind is to be looked at, as far as it is there.
    pub(super) fn take(&mut self, plural: &'static str) -> Vec<(Key, Arc<Value>)> {
        let all = self.dirty.remove(plural).unwrap_or_default().into_iter();
        let there = all.filter_map(|key| {
            let object = self.get(plural, &key)?;
            Some((key, object))
        });
        there.collect()
    }

    /// Notes that an object is to be looked at then, though nothing changes.
    pub(super) fn due(&mut self, at_ms: u64, plural: &'static str, key: &Key) {
        self.due.insert((at_ms, plural, key.clone()));
    }

    /// Notes that something could not be done about an object.
    pub(super) fn again(&mut self, now_ms: u64, plural: &'static str, key: &Key) {
        self.due(now_ms + AGAIN_MS, plural, key);
    }

    /// Marks what is due.
    pub(super) fn wake(&mut self, now_ms: u64) {
        while self.due.first().is_some_and(|(at_ms, ..)| *at_ms <= now_ms) {
            let Some((_, plural, key)) = self.due.pop_first() else { break };
            self.mark(plural, key);
        }
    }
}

/// What controls an object, where the world plays that.
fn owner(object: &Value) -> Option<(&'static str, Key)> {
    let all = object.pointer("/metadata/ownerReferences").and_then(Value::as_array)?;
    let owner = all.iter().find(|owner| owner["controller"] == true)?;
    let plural = match text(owner, "/kind") {
        "Deployment" => "deployments",
        "ReplicaSet" => "replicasets",
        "StatefulSet" => "statefulsets",
        "Job" => "jobs",
        "LeaderWorkerSet" => "leaderworkersets",
        _ => return None,
    };
    Some((plural, Key::of(text(object, "/metadata/namespace"), text(owner, "/name"))))
}
