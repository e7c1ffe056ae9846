//! Who manages which fields: `metadata.managedFields`, read and written.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::set::Set;

/// Managers that updated, of one object, that are told apart.
const UPDATERS_MAX: usize = 10;
/// Who has what the oldest of more updaters had.
const ANCIENT: &str = "ancient-changes";

/// A manager: a name, and how it writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) name: Box<str>,
    /// By applying, not by updates.
    pub(crate) applies: bool,
    /// Of updaters: through which version.
    pub(crate) api_version: Box<str>,
    pub(crate) subresource: Box<str>,
}

impl Who {
    pub(crate) fn applier(name: &str, subresource: &str) -> Self {
        let (name, subresource) = (name.into(), subresource.into());
        Self { name, applies: true, api_version: "".into(), subresource }
    }

    pub(crate) fn updater(name: &str, api_version: &str, subresource: &str) -> Self {
        let (name, subresource) = (name.into(), subresource.into());
        Self { name, applies: false, api_version: api_version.into(), subresource }
    }
}

#[derive(Clone, Debug)]
struct Owned {
    api_version: Box<str>,
    time: Option<String>,
    set: Set,
}

/// A field that another manager has with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// As messages tell it.
    pub(crate) manager: String,
    pub(crate) path: String,
}

/// The managers of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managers {
    all: BTreeMap<Who, Owned>,
    /// What the time is, as objects hold it.
    now: String,
}

impl Managers {
    /// Reads those of an object; of what cannot be read, none.
    pub(crate) fn read(object: &Value, now: &str) -> Self {
        let none = Self { all: BTreeMap::new(), now: now.to_owned() };
        let Some(entries) = object.pointer("/metadata/managedFields").and_then(Value::as_array)
        else {
            return none;
        };
        match entries.iter().map(entry).collect() {
            Some(all) => Self { all, now: now.to_owned() },
            None => none,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn set(&self, who: &Who) -> Option<&Set> {
        self.all.get(who).map(|owned| &owned.set)
    }

    /// What anybody has.
    pub(crate) fn all(&self) -> Set {
        let mut all = Set::default();
        self.all.values().for_each(|owned| all.union(&owned.set));
        all
    }

    pub(crate) fn put(&mut self, who: &Who, set: Set, api_version: &str) {
        let time = self.all.get(who).and_then(|owned| owned.time.clone());
        self.all.insert(who.clone(), Owned { api_version: api_version.into(), time, set });
    }

    /// Says that `who` wrote now.
    pub(crate) fn touch(&mut self, who: &Who) {
        if let Some(owned) = self.all.get_mut(who) {
            owned.time = Some(self.now.clone());
        }
    }

    /// Takes fields from everybody but `but`.
    pub(crate) fn lose(&mut self, changed: &Set, removed: &Set, but: Option<&Who>) {
        for (_, owned) in self.all.iter_mut().filter(|(who, _)| Some(*who) != but) {
            owned.set.difference(changed);
            owned.set.difference(removed);
        }
        self.all.retain(|_, owned| !owned.set.is_empty());
    }

    /// Takes fields from `who`.
    pub(crate) fn strip(&mut self, who: &Who, fields: &Set) {
        if let Some(owned) = self.all.get_mut(who) {
            owned.set.difference(fields);
            if owned.set.is_empty() {
                self.all.remove(who);
            }
        }
    }

    /// Gives fields to `who`, now.
    pub(crate) fn gain(&mut self, who: &Who, fields: &Set, api_version: &str) {
        if fields.is_empty() {
            return;
        }
        let fresh = || Owned { api_version: api_version.into(), time: None, set: Set::default() };
        let owned = self.all.entry(who.clone()).or_insert_with(fresh);
        owned.set.union(fields);
        owned.time = Some(self.now.clone());
        self.cap();
    }

    /// Who else has fields of `changed`.
    pub(crate) fn conflicts(&self, changed: &Set, who: &Who) -> Vec<Conflict> {
        let others = self.all.iter().filter(|(other, _)| *other != who);
        let conflicts = others.flat_map(|(other, owned)| {
            let manager = shown(other, owned);
            let paths = owned.set.intersection(changed).paths();
            paths.into_iter().map(move |path| Conflict { manager: manager.clone(), path })
        });
        conflicts.collect()
    }

    /// As `metadata.managedFields`, in the order that servers give.
    pub(crate) fn write(&self) -> Vec<Value> {
        let mut all: Vec<(&Who, &Owned)> = self.all.iter().collect();
        all.sort_by_key(|(who, owned)| {
            (!who.applies, owned.time.clone(), &who.name, &owned.api_version, &who.subresource)
        });
        let entries = all.into_iter().map(|(who, owned)| {
            let mut entry = json!({
                "manager": who.name,
                "operation": if who.applies { "Apply" } else { "Update" },
                "apiVersion": owned.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": owned.set.write(),
            });
            if let Some(time) = &owned.time {
                entry["time"] = time.as_str().into();
            }
            if !who.subresource.is_empty() {
                entry["subresource"] = who.subresource.as_ref().into();
            }
            entry
        });
        entries.collect()
    }

    /// The oldest updaters become one when they are too many.
    fn cap(&mut self) {
        while self.all.keys().filter(|who| !who.applies).count() > UPDATERS_MAX {
            let named = |who: &Who| !who.applies && &*who.name != ANCIENT;
            let named = self.all.iter().filter(|(who, _)| named(who));
            let oldest = named.min_by_key(|(_, owned)| &owned.time).map(|(who, _)| who.clone());
            let Some(who) = oldest else { return };
            let Some(owned) = self.all.remove(&who) else { return };
            let heir = self.all.entry(Who::updater(ANCIENT, &owned.api_version, ""));
            let heir = heir.or_insert_with(|| Owned { set: Set::default(), ..owned.clone() });
            heir.set.union(&owned.set);
            heir.time = owned.time;
        }
    }
}

fn entry(entry: &Value) -> Option<(Who, Owned)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let applies = match text("operation") {
        "Apply" => true,
        "Update" => false,
        _ => return None,
    };
    let api_version = text("apiVersion");
    if api_version.is_empty() || text("fieldsType") != "FieldsV1" {
        return None;
    }
    let who = Who {
        name: text("manager").into(),
        applies,
        api_version: if applies { "".into() } else { api_version.into() },
        subresource: text("subresource").into(),
    };
    let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
    let set = match entry.get("fieldsV1") {
        Some(fields) => Set::read(fields)?,
        None => Set::default(),
    };
    Some((who, Owned { api_version: api_version.into(), time, set }))
}

/// As messages about conflicts name a manager.
fn shown(who: &Who, owned: &Owned) -> String {
    let mut shown = format!("{:?}", who.name);
    if !who.subresource.is_empty() {
        shown.push_str(&format!(" with subresource {:?}", who.subresource));
    }
    if !who.applies {
        shown.push_str(&format!(" using {}", owned.api_version));
        // The time is told to the second, as objects hold it.
        if let Some(time) = &owned.time {
            shown.push_str(&format!(" at {time}"));
        }
    }
    shown
}
