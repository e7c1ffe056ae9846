//! Walks through values with their types: which fields they set, what differs between two, what
//! they are together, and what is left without some fields.
//!
//! The rules are those of structured-merge-diff, the library behind server-side apply.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::{Set, Step};
use crate::shape::{Form, Kind, Merge, Node, NodeId, Types};

/// What differs between two values. No field is in two of the sets.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) removed: Set,
    pub(crate) modified: Set,
    pub(crate) added: Set,
}

/// The step to an entry of a list that merges.
pub(crate) fn entry(types: &Types, list: &Node, item: &Value) -> Result<Step, String> {
    match &list.merge {
        Merge::Keys(keys) => {
            let Some(fields) = item.as_object() else {
                return Err("an entry of a list with keys must be an object".into());
            };
            let named = keys.iter().filter_map(|key| {
                let value = fields.get(&**key).or_else(|| types.key_default(list, key));
                value.map(|value| (&**key, value))
            });
            let named: BTreeMap<&str, &Value> = named.collect();
            if named.is_empty() {
                return Err(format!("an entry lacks its key {}", keys.join(", ")));
            }
            let text = serde_json::to_string(&named).map_err(|error| error.to_string())?;
            Ok(Step::Key(text.into()))
        }
        _ if item.is_object() || item.is_array() || item.is_null() => {
            Err("an entry of a set must be a scalar".into())
        }
        _ => Ok(Step::Value(item.to_string().into())),
    }
}

/// The fields that a value sets.
pub(crate) fn fields(types: &Types, at: NodeId, value: &Value) -> Set {
    let mut set = Set::default();
    collect(types, at, value, (&mut Vec::new(), &mut set));
    set
}

fn collect(types: &Types, at: NodeId, value: &Value, into: (&mut Vec<Step>, &mut Set)) {
    let (path, set) = into;
    match (types.form(at, value), value) {
        (Form::Map(node), Value::Object(fields)) => {
            for (name, field) in fields {
                path.push(Step::Field(name.as_str().into()));
                collect(types, types.field(node, name), field, (&mut *path, &mut *set));
                let empty = field.is_null() || field.as_object().is_some_and(Map::is_empty);
                if empty || !(node.kind == Kind::Map && node.fields.contains_key(name.as_str())) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Form::List(node), Value::Array(items)) => {
            for item in items {
                let Ok(step) = entry(types, node, item) else { continue };
                path.push(step);
                collect(types, node.item, item, (&mut *path, &mut *set));
                set.insert(path);
                path.pop();
            }
        }
        (Form::Leaf, _) => set.insert(path),
        _ => {}
    }
}

/// What differs between `old` and `new`.
pub(crate) fn compare(types: &Types, at: NodeId, old: &Value, new: &Value) -> Difference {
    let mut walk = Compare { types, path: Vec::new(), found: Difference::default() };
    walk.both(at, Some(old), Some(new));
    walk.found
}

struct Compare<'a> {
    types: &'a Types,
    path: Vec<Step>,
    found: Difference,
}

impl Compare<'_> {
    fn both(&mut self, at: NodeId, old: Option<&Value>, new: Option<&Value>) {
        if let (Some(old), Some(new)) = (old, new)
            && old == new
        {
            return;
        }
        let leaf = match form(self.types, at, old, new) {
            Form::Map(node) => {
                let none = Map::new();
                let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
                let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
                if !(old.is_empty() && new.is_empty()) {
                    self.maps(node, old, new);
                }
                old.is_empty() && new.is_empty()
            }
            Form::List(node) => {
                let of = |value: Option<&Value>| {
                    value.and_then(Value::as_array).map(Vec::len).unwrap_or_default()
                };
                let empty = of(old) == 0 && of(new) == 0;
                if !empty {
                    self.lists(node, old, new);
                }
                empty
            }
            Form::Leaf => true,
        };
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ if leaf => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn maps(&mut self, node: &Node, old: &Map<String, Value>, new: &Map<String, Value>) {
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        for name in names {
            self.path.push(Step::Field(name.as_str().into()));
            self.both(self.types.field(node, name), old.get(name), new.get(name));
            self.path.pop();
        }
    }

    fn lists(&mut self, node: &Node, old: Option<&Value>, new: Option<&Value>) {
        let (old, new) = (self.grouped(node, old), self.grouped(node, new));
        let steps: BTreeSet<&Step> = old.keys().chain(new.keys()).collect();
        let none = Vec::new();
        for step in steps {
            let (were, are) = (old.get(step).unwrap_or(&none), new.get(step).unwrap_or(&none));
            self.path.push(step.clone());
            match (were.as_slice(), are.as_slice()) {
                ([] | [_], [] | [_]) => {
                    self.both(node.item, were.first().copied(), are.first().copied());
                }
                ([], _) | ([_], _) => self.found.added.insert(&self.path),
                (_, []) | (_, [_]) => self.found.removed.insert(&self.path),
                _ if were != are => self.found.modified.insert(&self.path),
                _ => {}
            }
            self.path.pop();
        }
    }

    fn grouped<'v>(&self, node: &Node, list: Option<&'v Value>) -> BTreeMap<Step, Vec<&'v Value>> {
        let mut groups: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
        for item in list.and_then(Value::as_array).into_iter().flatten() {
            if let Ok(step) = entry(self.types, node, item) {
                groups.entry(step).or_default().push(item);
            }
        }
        groups
    }
}

/// `live` with what `config` says over it.
pub(crate) fn merge(
    types: &Types,
    at: NodeId,
    live: &Value,
    config: &Value,
) -> Result<Value, String> {
    match (form(types, at, Some(live), Some(config)), live, config) {
        (Form::Map(node), Value::Object(live), Value::Object(config)) => {
            let mut out = live.clone();
            for (name, theirs) in config {
                let merged = match live.get(name) {
                    Some(ours) => merge(types, types.field(node, name), ours, theirs)
                        .map_err(|what| format!(".{name}{what}"))?,
                    None => theirs.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Ok(Value::Object(out))
        }
        (Form::List(node), Value::Array(live), Value::Array(config)) => {
            lists(types, node, live, config).map(Value::Array)
        }
        _ => Ok(config.clone()),
    }
}

/// The entries of both lists: those that both have in the order of `config`, the others near the
/// neighbours that they have in `live`.
fn lists(
    types: &Types,
    node: &Node,
    live: &[Value],
    config: &[Value],
) -> Result<Vec<Value>, String> {
    let steps = |list: &[Value]| {
        let steps = list.iter().map(|item| entry(types, node, item));
        steps.collect::<Result<Vec<Step>, String>>().map_err(|what| format!(": {what}"))
    };
    let (ours, theirs) = (steps(live)?, steps(config)?);
    let wanted: BTreeSet<&Step> = theirs.iter().collect();
    if wanted.len() < theirs.len() {
        return Err(": duplicate entries for a key".into());
    }
    let mut known: BTreeMap<&Step, Option<&Value>> = BTreeMap::new();
    for (step, item) in ours.iter().zip(live) {
        // Of entries that are there twice, none is merged with.
        known.entry(step).and_modify(|seen| *seen = None).or_insert(Some(item));
    }
    let merged = |at: usize| match known.get(&theirs[at]).copied().flatten() {
        Some(ours) => merge(types, node.item, ours, &config[at]),
        None => Ok(config[at].clone()),
    };
    let mut shared = theirs.iter().filter(|step| known.contains_key(step));
    let mut next = shared.next();
    let mut done: BTreeSet<&Step> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut left, mut right) = (0, 0);
    while left < ours.len() || right < theirs.len() {
        if let Some(step) = ours.get(left) {
            let same = theirs.get(right) == Some(step);
            let waits = right < theirs.len() && next.is_some_and(|next| next != step);
            if !wanted.contains(step) {
                out.push(live[left].clone());
                left += 1;
                continue;
            }
            if !same && waits {
                left += 1;
                continue;
            }
            if same || done.contains(step) {
                left += 1;
            }
        }
        if let Some(step) = theirs.get(right) {
            done.insert(step);
            out.push(merged(right)?);
            right += 1;
            if next == Some(step) {
                next = shared.next();
            }
        }
    }
    Ok(out)
}

/// The form that two values share; values of different forms differ as one.
fn form<'t>(types: &'t Types, at: NodeId, one: Option<&Value>, two: Option<&Value>) -> Form<'t> {
    let of = |value: Option<&Value>| value.map(|value| types.form(at, value));
    match (of(one), of(two)) {
        (Some(form), None) | (None, Some(form)) => form,
        (Some(Form::Map(_)), Some(form @ Form::Map(_)))
        | (Some(Form::List(_)), Some(form @ Form::List(_))) => form,
        _ => Form::Leaf,
    }
}

/// A value without some of its fields; none where nothing is left.
pub(crate) fn without(types: &Types, at: NodeId, value: &Value, gone: &Set) -> Option<Value> {
    match (types.form(at, value), value) {
        (Form::Map(node), Value::Object(fields)) => {
            let left = fields.iter().filter_map(|(name, field)| {
                let step = Step::Field(name.as_str().into());
                if gone.has(&step) {
                    return None;
                }
                let field = match gone.below(&step) {
                    Some(gone) => without(types, types.field(node, name), field, gone)?,
                    None => field.clone(),
                };
                Some((name.clone(), field))
            });
            let left: Map<String, Value> = left.collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        (Form::List(node), Value::Array(items)) => {
            let left = items.iter().filter_map(|item| {
                let Ok(step) = entry(types, node, item) else { return Some(item.clone()) };
                if gone.has(&step) {
                    return None;
                }
                match gone.below(&step) {
                    Some(gone) => without(types, node.item, item, gone),
                    None => Some(item.clone()),
                }
            });
            let left: Vec<Value> = left.collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        _ => Some(value.clone()),
    }
}
