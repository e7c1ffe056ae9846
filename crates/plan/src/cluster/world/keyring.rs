//! The keys of Models, and the Secret with all of them that gateways read.

use super::{Ref, World};
use crate::api::Kind;
use crate::cluster::action::{About, Action, Keys};

impl World {
    /// Whether the Secret of all keys may be another than it is to be.
    pub const fn is_collecting(&self) -> bool {
        self.is_collecting
    }

    /// A Model's key is known.
    pub fn key(&mut self, now_ms: u64, about: &About, key: String) {
        let at =
            Ref { kind: about.kind, namespace: about.namespace.clone(), name: about.name.clone() };
        if !self.resources.contains_key(&at) {
            return;
        }
        self.minds.entry(at.clone()).or_default().key_read(now_ms);
        let old = self.keys.0.insert(entry(&at), key);
        if old != self.keys.0.get(&entry(&at)).cloned() {
            self.is_collecting = true;
            self.agenda.insert(at);
        }
    }

    /// Whether a Model's key is known.
    pub(in crate::cluster) fn has_key(&self, at: &Ref) -> bool {
        self.keys.0.contains_key(&entry(at))
    }

    /// What the Secret of all keys holds.
    pub fn collected(&mut self, keys: Keys) {
        self.collected = Some(keys);
        self.is_collecting = true;
    }

    /// The Secret of all keys could not be written.
    pub const fn keys_refused(&mut self) {
        self.is_collecting = true;
    }

    /// The Secret of all keys, where it is another. Keys that were not read yet stay in it as long as
    /// their Models are there.
    pub fn plan_keys(&mut self) -> Option<Action> {
        if !self.is_collecting || self.unsettled {
            return None;
        }
        let there = self.collected.as_ref()?;
        let models = self.resources.keys().filter(|at| at.kind == Kind::Model);
        let mut keys = Keys::default();
        for at in models {
            let entry = entry(at);
            if let Some(key) = self.keys.0.get(&entry).or_else(|| there.0.get(&entry)) {
                keys.0.insert(entry, key.clone());
            }
        }
        self.is_collecting = false;
        let namespace = self.setting.system.clone();
        (keys != *there).then_some(Action::Keys { namespace, keys })
    }
}

/// The entry of a Model's key.
pub(super) fn entry(at: &Ref) -> String {
    format!("{}.{}", at.namespace, at.name)
}
