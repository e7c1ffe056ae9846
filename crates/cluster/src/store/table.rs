//! The objects of one resource, and the log of what happened to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Object, Selection};

/// An object's place: `namespace/name`, or its name where there are no namespaces. Sorts as servers
/// list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Box<str>);

impl Key {
    pub(crate) fn of(namespace: &str, name: &str) -> Self {
        if namespace.is_empty() {
            Self(name.into())
        } else {
            Self(format!("{namespace}/{name}").into())
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn read(text: &str) -> Self {
        Self(text.into())
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Object>>,
    /// The object then; of one that went, as it was last, with the version of its end.
    pub(crate) new: Arc<Object>,
    pub(crate) gone: bool,
}

/// The objects of a resource.
#[derive(Debug, Default)]
pub(crate) struct Table {
    objects: BTreeMap<Key, Arc<Object>>,
    log: VecDeque<Arc<Change>>,
    /// Changes up to this one are forgotten.
    floor: u64,
}

impl Table {
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// All objects, or those of a namespace, in order.
    pub(crate) fn iter(
        &self,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let from = Key::read(&prefix);
        self.objects.range(from..).take_while(move |(key, _)| key.0.starts_with(&prefix))
    }

    /// Puts an object in its place. At most `events_max` changes are remembered.
    pub(crate) fn put(&mut self, key: Key, new: Arc<Object>, events_max: usize) {
        let old = self.objects.insert(key.clone(), Arc::clone(&new));
        self.note(Change { revision: new.revision, key, old, new, gone: false }, events_max);
    }

    /// Takes an object out; `last` is how watches see it go.
    pub(crate) fn remove(&mut self, key: &Key, last: Arc<Object>, events_max: usize) {
        let old = self.objects.remove(key);
        let revision = last.revision;
        self.note(Change { revision, key: key.clone(), old, new: last, gone: true }, events_max);
    }

    fn note(&mut self, change: Change, events_max: usize) {
        self.log.push_back(Arc::new(change));
        while self.log.len() > events_max {
            if let Some(forgotten) = self.log.pop_front() {
                self.floor = forgotten.revision;
            }
        }
    }

    /// Forgets all changes up to `revision`.
    pub(crate) fn compact(&mut self, revision: u64) {
        self.log.retain(|change| change.revision > revision);
        self.floor = self.floor.max(revision);
    }

    /// Changes after `revision`, oldest first; none where some of them are forgotten.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        if revision < self.floor {
            return None;
        }
        let from = self.log.partition_point(|change| change.revision <= revision);
        Some(self.log.range(from..))
    }

    /// The objects as they were at `revision`, after `from`; none where that is forgotten.
    pub(crate) fn at(
        &self,
        revision: u64,
        selection: &Selection,
        after: Option<&Key>,
    ) -> Option<Vec<Arc<Object>>> {
        let mut undone: BTreeMap<&Key, Option<&Arc<Object>>> = BTreeMap::new();
        for change in self.since(revision)? {
            undone.entry(&change.key).or_insert(change.old.as_ref());
        }
        let namespace = selection.namespace.as_deref();
        let now = self.iter(namespace).filter(|(key, _)| !undone.contains_key(key));
        let then = undone.iter().filter_map(|(key, object)| Some((*key, (*object)?)));
        let mut all: Vec<(&Key, &Arc<Object>)> = now.chain(then).collect();
        all.sort_by_key(|(key, _)| *key);
        let later = all.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let held = later.filter(|(_, object)| selection.holds(object));
        Some(held.map(|(_, object)| Arc::clone(object)).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::kinds::Kinds;

    fn put(table: &mut Table, revision: u64, name: &str) {
        let kinds = Kinds::builtin();
        let (_, pods) = kinds.find("", "pods").unwrap();
        let value = json!({"metadata": {"namespace": "n", "name": name}});
        let object = Arc::new(Object::of(pods, revision, &value));
        table.put(Key::of("n", name), object, 4);
    }

    #[test]
    fn the_past_can_be_listed_until_it_is_forgotten() {
        let mut table = Table::default();
        put(&mut table, 1, "b");
        put(&mut table, 2, "a");
        put(&mut table, 3, "b");
        let last = table.get(&Key::of("n", "a")).cloned().unwrap();
        table.remove(&Key::of("n", "a"), last, 4);
        let at = |table: &Table, revision| {
            let found = table.at(revision, &Selection::default(), None)?;
            Some(found.iter().map(|one| format!("{}@{}", one.name, one.revision)).collect())
        };
        let names = |all: &[&str]| Some(all.iter().map(|name| (*name).to_owned()).collect());
        let check = |table: &Table, revision, expect: Option<Vec<String>>| {
            assert_eq!(at(table, revision), expect, "at {revision}");
        };
        check(&table, 1, names(&["b@1"]));
        check(&table, 2, names(&["a@2", "b@1"]));
        table.compact(1);
        check(&table, 0, None);
        put(&mut table, 5, "c");
        put(&mut table, 6, "c");
        check(&table, 1, None);
        check(&table, 6, names(&["b@3", "c@6"]));
    }
}
