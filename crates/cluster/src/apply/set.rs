//! Sets of fields: which manager owns what of an object, in memory and as `FieldsV1`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::shape::{Kind, NodeId, Types};

/// A step into a value. Keys and values are JSON, with the names of keys in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(Box<str>),
    Key(Box<str>),
    Value(Box<str>),
    Index(Box<str>),
}

impl Step {
    fn written(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(key) => format!("k:{key}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (form, rest) = (text.get(..2)?, text.get(2..)?);
        match form {
            "f:" => Some(Self::Field(rest.into())),
            "k:" => {
                let fields: BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::Key(serde_json::to_string(&fields).ok()?.into()))
            }
            "v:" => {
                let value: Value = serde_json::from_str(rest).ok()?;
                Some(Self::Value(value.to_string().into()))
            }
            "i:" => Some(Self::Index(rest.into())),
            _ => None,
        }
    }

    /// As paths show it: `.name`, `[key="value"]`, `[="value"]`.
    fn shown(&self, into: &mut String) {
        match self {
            Self::Field(name) => {
                let _ = write!(into, ".{name}");
            }
            Self::Key(key) => {
                let fields: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let _ = write!(into, "[{}]", fields.join(","));
            }
            Self::Value(value) => {
                let _ = write!(into, "[={value}]");
            }
            Self::Index(at) => {
                let _ = write!(into, "[{at}]");
            }
        }
    }
}

/// A set of fields of an object. Holds no step below which nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(BTreeMap<Step, Slot>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slot {
    member: bool,
    below: Set,
}

impl Slot {
    fn is_empty(&self) -> bool {
        !self.member && self.below.0.is_empty()
    }
}

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a path in; the empty one is no field.
    pub(crate) fn insert(&mut self, path: &[Step]) {
        let Some((first, rest)) = path.split_first() else { return };
        let slot = self.0.entry(first.clone()).or_default();
        if rest.is_empty() { slot.member = true } else { slot.below.insert(rest) }
    }

    /// The fields of a dotted path, for sets that are written down in code.
    pub(crate) fn of(paths: &[&str]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let steps: Vec<Step> = path.split('.').map(|name| Step::Field(name.into())).collect();
            set.insert(&steps);
        }
        set
    }

    pub(crate) fn has(&self, step: &Step) -> bool {
        self.0.get(step).is_some_and(|slot| slot.member)
    }

    /// What is below a step.
    pub(crate) fn below(&self, step: &Step) -> Option<&Self> {
        self.0.get(step).map(|slot| &slot.below).filter(|below| !below.is_empty())
    }

    pub(crate) fn union(&mut self, other: &Self) {
        for (step, theirs) in &other.0 {
            let slot = self.0.entry(step.clone()).or_default();
            slot.member |= theirs.member;
            slot.below.union(&theirs.below);
        }
    }

    /// Without the members of `other`; what is below them stays.
    pub(crate) fn difference(&mut self, other: &Self) {
        for (step, theirs) in &other.0 {
            if let Some(slot) = self.0.get_mut(step) {
                slot.member &= !theirs.member;
                slot.below.difference(&theirs.below);
                if slot.is_empty() {
                    self.0.remove(step);
                }
            }
        }
    }

    /// Without the members of `other` and all below them.
    pub(crate) fn exclude(&mut self, other: &Self) {
        for (step, theirs) in &other.0 {
            if theirs.member {
                self.0.remove(step);
            } else if let Some(slot) = self.0.get_mut(step) {
                slot.below.exclude(&theirs.below);
                if slot.is_empty() {
                    self.0.remove(step);
                }
            }
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(step, ours)| {
            let theirs = other.0.get(step)?;
            let slot = Slot {
                member: ours.member && theirs.member,
                below: ours.below.intersection(&theirs.below),
            };
            (!slot.is_empty()).then(|| (step.clone(), slot))
        });
        Self(both.collect())
    }

    /// With every declared field that something is below of as a member, so that it goes when all
    /// of it does.
    pub(crate) fn with_parents(&self, types: &Types, at: NodeId) -> Self {
        let node = types.node(at);
        let slots = self.0.iter().map(|(step, slot)| {
            let (named, inside) = match step {
                Step::Field(name) => {
                    let named = node.kind == Kind::Map && node.fields.contains_key(name);
                    (named, types.field(node, name))
                }
                _ => (false, node.item),
            };
            let parent = named && !slot.below.is_empty();
            let below = slot.below.with_parents(types, inside);
            (step.clone(), Slot { member: slot.member || parent, below })
        });
        Self(slots.collect())
    }

    /// Every member, as paths show them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.collect(&mut String::new(), &mut all);
        all
    }

    fn collect(&self, path: &mut String, all: &mut Vec<String>) {
        for (step, slot) in &self.0 {
            let length = path.len();
            step.shown(path);
            if slot.member {
                all.push(path.clone());
            }
            slot.below.collect(path, all);
            path.truncate(length);
        }
    }

    /// As `FieldsV1`.
    pub(crate) fn write(&self) -> Value {
        let slots = self.0.iter().map(|(step, slot)| {
            let mut below = slot.below.write();
            if slot.member
                && !slot.below.is_empty()
                && let Value::Object(fields) = &mut below
            {
                fields.insert(".".into(), Value::Object(Map::new()));
                fields.sort_keys();
            }
            (step.written(), below)
        });
        Value::Object(slots.collect())
    }

    /// Reads `FieldsV1`. None where it is something else.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (name, below) in value.as_object()? {
            if name == "." {
                continue;
            }
            let fields = below.as_object()?;
            let member = fields.is_empty() || fields.contains_key(".");
            set.0.insert(Step::read(name)?, Slot { member, below: Self::read(below)? });
        }
        Some(set)
    }
}
