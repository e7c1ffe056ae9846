//! A kind's objects, read: kept in step with the store by its log.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Cluster;
use crate::store::Key;

/// The objects of a kind.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    all: BTreeMap<Key, Value>,
    /// Objects by the id of who controls them.
    owned: BTreeMap<String, BTreeSet<Key>>,
    revision: u64,
}

impl Mirror {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.all.values()
    }

    pub(super) fn owned(&self, uid: &str) -> impl Iterator<Item = &Value> {
        let keys = self.owned.get(uid).into_iter().flatten();
        keys.filter_map(|key| self.all.get(key))
    }

    /// Takes over what changed.
    pub(super) fn look(&mut self, cluster: &Cluster, group: &str, plural: &str) {
        let Some(table) = cluster.table(group, plural) else {
            *self = Self::default();
            return;
        };
        match table.since(self.revision).filter(|_| self.revision > 0) {
            Some(changes) => {
                for change in changes {
                    self.forget(&change.key);
                    if !change.gone {
                        self.keep(change.key.clone(), change.new.value());
                    }
                }
            }
            None => {
                self.all.clear();
                self.owned.clear();
                for (key, object) in table.iter(None) {
                    self.keep(key.clone(), object.value());
                }
            }
        }
        self.revision = cluster.revision();
    }

    fn keep(&mut self, key: Key, value: Value) {
        for uid in owners(&value) {
            self.owned.entry(uid).or_default().insert(key.clone());
        }
        self.all.insert(key, value);
    }

    fn forget(&mut self, key: &Key) {
        let Some(old) = self.all.remove(key) else { return };
        for uid in owners(&old) {
            if let Some(known) = self.owned.get_mut(&uid) {
                known.remove(key);
                if known.is_empty() {
                    self.owned.remove(&uid);
                }
            }
        }
    }
}

fn owners(value: &Value) -> Vec<String> {
    let all = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let controllers = all.into_iter().flatten().filter(|owner| owner["controller"] == true);
    controllers.filter_map(|owner| Some(owner.get("uid")?.as_str()?.to_owned())).collect()
}
