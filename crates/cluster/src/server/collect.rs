//! What a cluster's own controllers do with what was deleted: dependents go after their owners,
//! contents with their namespaces, and objects with their definitions.

use std::sync::Arc;

use serde_json::{Value, json};

use super::amend::finished;
use super::delete::{FOREGROUND, ORPHAN, Policy};
use super::{Cluster, Place};
use crate::api::kinds::Resource;
use crate::store::{Key, Object};

/// Objects looked at in one go: chains of owners are finite, but long ones wait for the next call.
const LOOKS_MAX: usize = 1_000_000;

/// How an object's owner stands.
enum Owner {
    Lives,
    Gone,
    /// It goes when its dependents do.
    Waits,
}

impl Cluster {
    /// Looks at everything whose owners, contents or finalizers changed.
    pub fn collect(&mut self, now_ms: u64) {
        for _ in 0..LOOKS_MAX {
            let Some(place) = self.doubtful.pop_first() else { return };
            self.look(now_ms, &place);
        }
    }

    fn at(&self, (id, key): &Place) -> Option<(Arc<Resource>, Arc<Object>)> {
        let object = self.tables.get(*id)?.get(key)?;
        Some((Arc::clone(self.kinds.get(*id)?), Arc::clone(object)))
    }

    fn look(&mut self, now_ms: u64, place: &Place) {
        let Some((resource, object)) = self.at(place) else { return };
        if object.deleting {
            match &*resource.kind {
                "Namespace" if resource.group.is_empty() => self.empty_namespace(now_ms, &object),
                "CustomResourceDefinition" => self.empty_definition(now_ms, place),
                _ => {}
            }
            let value = object.value();
            if finalizer(&value, FOREGROUND) {
                self.end_dependents(now_ms, place, &object);
            }
            if finalizer(&value, ORPHAN) {
                self.release_dependents(now_ms, place, &object);
            }
        }
        if let Some((_, object)) = self.at(place)
            && !object.owners.is_empty()
        {
            self.look_at_owners(now_ms, place, &object);
        }
    }

    /// Deletes an object that lost its last owner, and takes out those that it lost.
    fn look_at_owners(&mut self, now_ms: u64, place: &Place, object: &Object) {
        let mut value = object.value();
        let Some(all) = value.pointer("/metadata/ownerReferences").and_then(Value::as_array) else {
            return;
        };
        let states: Vec<Owner> = all.iter().map(|owner| self.owner(owner, object)).collect();
        let lives = states.iter().any(|state| matches!(state, Owner::Lives));
        let waits = states.iter().any(|state| matches!(state, Owner::Waits));
        if lives {
            let mut keep = states.iter().map(|state| matches!(state, Owner::Lives));
            if states.iter().all(|state| matches!(state, Owner::Lives)) {
                return;
            }
            if let Some(Value::Array(all)) = value.pointer_mut("/metadata/ownerReferences") {
                all.retain(|_| keep.next().unwrap_or(true));
            }
            self.store(now_ms, place.0, place.1.clone(), value);
            return;
        }
        if object.deleting {
            return;
        }
        let has_dependents = self.dependents.contains_key(&object.uid);
        let policy = if finalizer(&value, ORPHAN) {
            Policy::Orphan
        } else if (waits && has_dependents) || finalizer(&value, FOREGROUND) {
            Policy::Foreground
        } else {
            Policy::Background
        };
        self.end(now_ms, place, Some(policy), None);
    }

    fn owner(&self, reference: &Value, of: &Object) -> Owner {
        let uid = reference.get("uid").and_then(Value::as_str).unwrap_or_default();
        let Some((_, owner)) = self.by_uid.get(uid).and_then(|place| self.at(place)) else {
            return Owner::Gone;
        };
        // An owner is in the namespace of its dependents, or in none.
        if !owner.namespace.is_empty() && owner.namespace != of.namespace {
            return Owner::Gone;
        }
        if owner.deleting && finalizer(&owner.value(), FOREGROUND) {
            return Owner::Waits;
        }
        Owner::Lives
    }

    fn dependents_of(&self, object: &Object) -> Vec<Place> {
        self.dependents.get(&object.uid).into_iter().flatten().cloned().collect()
    }

    /// Of an object that goes after its dependents: lets them go, and it when none is in its way.
    fn end_dependents(&mut self, now_ms: u64, place: &Place, object: &Object) {
        let all = self.dependents_of(object);
        let blocks = |dependent: &Place| {
            let Some((_, dependent)) = self.at(dependent) else { return false };
            let value = dependent.value();
            let owners = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.into_iter().flatten().any(|owner| {
                owner.get("uid").and_then(Value::as_str) == Some(&*object.uid)
                    && owner.get("blockOwnerDeletion") == Some(&Value::Bool(true))
            })
        };
        if all.iter().any(blocks) {
            let waiting = all
                .into_iter()
                .filter(|place| self.at(place).is_some_and(|(_, dependent)| !dependent.deleting));
            let waiting: Vec<Place> = waiting.collect();
            self.doubtful.extend(waiting);
        } else {
            self.drop_finalizer(now_ms, place, FOREGROUND);
        }
    }

    /// Of an object that leaves its dependents alone: makes them nobody's.
    fn release_dependents(&mut self, now_ms: u64, place: &Place, object: &Object) {
        for dependent in self.dependents_of(object) {
            let Some((_, found)) = self.at(&dependent) else { continue };
            let mut value = found.value();
            if let Some(Value::Array(all)) = value.pointer_mut("/metadata/ownerReferences") {
                all.retain(|owner| owner.get("uid").and_then(Value::as_str) != Some(&*object.uid));
            }
            self.store(now_ms, dependent.0, dependent.1, value);
        }
        self.drop_finalizer(now_ms, place, ORPHAN);
    }

    fn drop_finalizer(&mut self, now_ms: u64, place: &Place, name: &str) {
        let Some((_, object)) = self.at(place) else { return };
        let mut value = object.value();
        if let Some(Value::Array(all)) = value.pointer_mut("/metadata/finalizers") {
            all.retain(|one| one != name);
        }
        let stored = self.store(now_ms, place.0, place.1.clone(), value);
        if finished(&stored) {
            self.remove(place.0, &place.1);
        }
    }

    /// Deletes what is in a namespace, and the namespace when nothing is.
    fn empty_namespace(&mut self, now_ms: u64, namespace: &Object) {
        let ids: Vec<_> =
            self.kinds.iter().filter(|(_, one)| one.namespaced).map(|(id, _)| id).collect();
        let mut left = false;
        for id in ids {
            let Some(table) = self.tables.get(id) else { continue };
            let within = table.iter(Some(&namespace.name));
            let within: Vec<Key> = within.map(|(key, _)| key.clone()).collect();
            for key in within {
                let place = (id, key);
                let going = self.at(&place).is_some_and(|(_, object)| object.deleting);
                let gone = !going && self.end(now_ms, &place, Some(Policy::Background), None).1;
                left |= !gone;
            }
        }
        let key = Key::of("", &namespace.name);
        let found = self.kinds.find("", "namespaces").map(|(id, _)| id);
        let Some(id) = found.filter(|_| !left) else { return };
        let Some((_, object)) = self.at(&(id, key.clone())) else { return };
        let mut value = object.value();
        value["spec"]["finalizers"] = json!([]);
        let stored = self.store(now_ms, id, key.clone(), value);
        if finished(&stored) {
            self.remove(id, &key);
        }
    }

    /// Notes that something left a namespace or a kind that is being deleted.
    pub(super) fn emptied(&mut self, object: &Object, resource: &Resource) {
        let mut holders = Vec::new();
        if resource.namespaced {
            holders.push(("", "namespaces", object.namespace.to_string()));
        }
        if resource.custom {
            let name = format!("{}.{}", resource.plural, resource.group);
            holders.push(("apiextensions.k8s.io", "customresourcedefinitions", name));
        }
        for (group, plural, name) in holders {
            let Some((id, _)) = self.kinds.find(group, plural) else { continue };
            let place = (id, Key::of("", &name));
            if self.at(&place).is_some_and(|(_, holder)| holder.deleting) {
                self.doubtful.insert(place);
            }
        }
    }

    /// Deletes the objects of a definition, and the definition when there are none.
    fn empty_definition(&mut self, now_ms: u64, place: &Place) {
        let Some((_, definition)) = self.at(place) else { return };
        let value = definition.value();
        let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let found = self.kinds.find(text("/spec/group"), text("/spec/names/plural"));
        let id = found.map(|(id, _)| id);
        let all: Vec<Key> = id
            .and_then(|id| self.tables.get(id))
            .map(|table| table.iter(None).map(|(key, _)| key.clone()).collect())
            .unwrap_or_default();
        let mut left = false;
        for (id, key) in id.into_iter().flat_map(|id| all.iter().map(move |key| (id, key.clone())))
        {
            let place = (id, key);
            let going = self.at(&place).is_some_and(|(_, object)| object.deleting);
            left |= going || !self.end(now_ms, &place, Some(Policy::Background), None).1;
        }
        let others = value.pointer("/metadata/finalizers").and_then(Value::as_array);
        let kept = others.is_some_and(|all| !all.is_empty());
        if !left && !kept {
            self.remove(place.0, &place.1);
        }
    }
}

fn finalizer(value: &Value, name: &str) -> bool {
    let all = value.pointer("/metadata/finalizers").and_then(Value::as_array);
    all.is_some_and(|all| all.iter().any(|one| one == name))
}
