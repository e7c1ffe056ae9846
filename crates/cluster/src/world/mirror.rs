//! A kind's objects, read: kept in step with the store by its log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::Cluster;
use crate::store::{Change, Key};

/// Where something changed, and what was there before.
pub(super) type Changed = Vec<(Key, Option<Arc<Value>>)>;

/// The objects of a kind.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    all: BTreeMap<Key, Arc<Value>>,
    /// Objects by the id of who controls them.
    owned: BTreeMap<String, BTreeSet<Key>>,
    revision: u64,
}

impl Mirror {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.all.iter()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.all.get(key)
    }

    pub(super) fn owned(&self, uid: &str) -> impl Iterator<Item = &Arc<Value>> {
        let keys = self.owned.get(uid).into_iter().flatten();
        keys.filter_map(|key| self.all.get(key))
    }

    /// Takes over what changed, and says where.
    pub(super) fn look(&mut self, cluster: &Cluster, group: &str, plural: &str) -> Changed {
        let mut changed = Changed::new();
        let Some(table) = cluster.table(group, plural) else {
            let gone = std::mem::take(self).all;
            return gone.into_iter().map(|(key, old)| (key, Some(old))).collect();
        };
        match table.since(self.revision).filter(|_| self.revision > 0) {
            Some(changes) => {
                // What came between is of no interest.
                let last: BTreeMap<&Key, &Arc<Change>> =
                    changes.map(|change| (&change.key, change)).collect();
                for (key, change) in last {
                    let old = self.forget(key);
                    if !change.gone {
                        self.keep(key.clone(), change.new.shared());
                    }
                    changed.push((key.clone(), old));
                }
            }
            None => {
                self.owned.clear();
                let mut before = std::mem::take(&mut self.all);
                for (key, object) in table.iter(None) {
                    changed.push((key.clone(), before.remove(key)));
                    self.keep(key.clone(), object.shared());
                }
                changed.extend(before.into_iter().map(|(key, old)| (key, Some(old))));
            }
        }
        self.revision = cluster.revision();
        changed
    }

    fn keep(&mut self, key: Key, value: Arc<Value>) {
        for uid in owners(&value) {
            self.owned.entry(uid).or_default().insert(key.clone());
        }
        self.all.insert(key, value);
    }

    fn forget(&mut self, key: &Key) -> Option<Arc<Value>> {
        let old = self.all.remove(key)?;
        for uid in owners(&old) {
            if let Some(known) = self.owned.get_mut(&uid) {
                known.remove(key);
                if known.is_empty() {
                    self.owned.remove(&uid);
                }
            }
        }
        Some(old)
    }
}

fn owners(value: &Value) -> Vec<String> {
    let all = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let controllers = all.into_iter().flatten().filter(|owner| owner["controller"] == true);
    controllers.filter_map(|owner| Some(owner.get("uid")?.as_str()?.to_owned())).collect()
}
