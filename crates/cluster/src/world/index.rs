//! Objects by their labels, and selectors by a label that they ask for: so that a pod finds who selects it,
//! and who selects finds its pods, without looking at all there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::store::Key;

/// A namespace, a label and its value; an empty label is everybody's.
type Pair = (String, String, String);

/// Keys by labels.
#[derive(Debug, Default)]
pub(super) struct Index {
    by: BTreeMap<Pair, BTreeSet<Key>>,
}

impl Index {
    /// Puts an object under all its labels.
    pub(super) fn add(&mut self, namespace: &str, labels: Option<&Value>, key: &Key) {
        let all = pairs(namespace, labels).into_iter().chain([everybody(namespace)]);
        all.for_each(|pair| _ = self.by.entry(pair).or_default().insert(key.clone()));
    }

    /// Puts a selector under the one of its labels that the fewest others are under.
    pub(super) fn add_selector(&mut self, namespace: &str, wanted: Option<&Value>, key: &Key) {
        let Some(wanted) = wanted else { return };
        let all = pairs(namespace, Some(wanted)).into_iter();
        let rarest = all.min_by_key(|pair| self.by.get(pair).map(BTreeSet::len));
        let rarest = rarest.unwrap_or_else(|| everybody(namespace));
        self.by.entry(rarest).or_default().insert(key.clone());
    }

    /// Takes an object or a selector out.
    pub(super) fn take(&mut self, namespace: &str, labels: Option<&Value>, key: &Key) {
        for pair in pairs(namespace, labels).into_iter().chain([everybody(namespace)]) {
            if let Some(keys) = self.by.get_mut(&pair) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by.remove(&pair);
                }
            }
        }
    }

    /// Selectors that may be of an object with these labels.
    pub(super) fn of_any(&self, namespace: &str, labels: Option<&Value>) -> Vec<Key> {
        let all = pairs(namespace, labels).into_iter().chain([everybody(namespace)]);
        all.filter_map(|pair| self.by.get(&pair)).flatten().cloned().collect()
    }

    /// Objects that a selector may be of: those under its rarest label.
    pub(super) fn of_selector(&self, namespace: &str, wanted: Option<&Value>) -> Vec<Key> {
        let all = pairs(namespace, wanted).into_iter().map(|pair| self.by.get(&pair));
        let rarest = all.min_by_key(|keys| keys.map(BTreeSet::len));
        let found = rarest.unwrap_or_else(|| self.by.get(&everybody(namespace)));
        found.into_iter().flatten().cloned().collect()
    }
}

fn everybody(namespace: &str) -> Pair {
    (namespace.to_owned(), String::new(), String::new())
}

fn pairs(namespace: &str, labels: Option<&Value>) -> Vec<Pair> {
    let all = labels.and_then(Value::as_object).into_iter().flatten();
    let pair = |(name, value): (&String, &Value)| {
        (namespace.to_owned(), name.clone(), value.as_str().unwrap_or_default().to_owned())
    };
    all.map(pair).collect()
}
