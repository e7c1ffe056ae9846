//! What an object of a kind looks like: which fields it has, of what type, and which of them merge
//! entry by entry and which are replaced as one. Apply, strategic merge, pruning and validation all
//! read it, so that they cannot disagree.
//!
//! Contract: immutable once built. A graph in an arena, since some types contain themselves.

mod builtin;
mod custom;

use std::collections::BTreeMap;

use serde_json::Value;

pub(crate) use builtin::{builtin, shared};
pub(crate) use custom::{Checks, custom};

/// A node of a [`Types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// Whatever a client sends: maps merge, everything else is replaced.
pub(crate) const DEDUCED: NodeId = NodeId(0);
/// Whatever a client sends, replaced as one.
pub(crate) const WHOLE: NodeId = NodeId(1);

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything; its maps merge.
    Deduced,
    /// Anything, replaced as one.
    Whole,
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A whole number or a string.
    IntOrText,
    /// A boolean.
    Bool,
    /// An amount of a resource.
    Quantity,
    /// A moment, to the millionth of a second.
    Moment,
    /// An object.
    Map,
    /// An array.
    List,
}

/// How two lists become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The second replaces the first.
    #[default]
    Whole,
    /// A set of scalars.
    Set,
    /// Entries are told apart by these fields.
    Keys(Vec<Box<str>>),
}

/// The type of a value, and how it merges.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Of a map: named fields.
    pub(crate) fields: BTreeMap<Box<str>, NodeId>,
    /// Of a map: what other names hold, where others are welcome.
    pub(crate) rest: Option<NodeId>,
    /// Of a map: replaced as one.
    pub(crate) whole: bool,
    /// Of a map: fields that nobody declared are kept.
    pub(crate) keeps_unknown: bool,
    /// Of a map: it is an object of its own, with `apiVersion`, `kind` and `metadata`.
    pub(crate) embedded: bool,
    /// Of a list: its entries.
    pub(crate) item: NodeId,
    /// Of a list.
    pub(crate) merge: Merge,
    /// What the field holds when nobody says.
    pub(crate) default: Option<Value>,
    /// Whether null is a value.
    pub(crate) nullable: bool,
    /// What else must hold.
    pub(crate) checks: Option<Box<Checks>>,
}

impl Node {
    pub(crate) fn of(kind: Kind) -> Self {
        Self {
            kind,
            fields: BTreeMap::new(),
            rest: None,
            whole: false,
            keeps_unknown: false,
            embedded: false,
            item: DEDUCED,
            merge: Merge::Whole,
            default: None,
            nullable: false,
            checks: None,
        }
    }
}

/// The types that the objects of a kind are made of.
#[derive(Debug)]
pub(crate) struct Types {
    nodes: Vec<Node>,
}

/// How a value is walked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// As one.
    Leaf,
    /// Field by field; none for maps that nobody declared.
    Map(&'a Node),
    /// Entry by entry.
    List(&'a Node),
}

impl Types {
    pub(crate) fn new() -> Self {
        let mut deduced = Node::of(Kind::Deduced);
        deduced.rest = Some(DEDUCED);
        Self { nodes: vec![deduced, Node::of(Kind::Whole)] }
    }

    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    pub(crate) fn set(&mut self, id: NodeId, node: Node) {
        if let Some(place) = self.nodes.get_mut(id.0 as usize) {
            *place = node;
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// How `value` is walked, if it has this type.
    pub(crate) fn form(&self, id: NodeId, value: &Value) -> Form<'_> {
        let node = self.node(id);
        match node.kind {
            Kind::Map if !node.whole => Form::Map(node),
            Kind::Deduced if value.is_object() => Form::Map(node),
            Kind::List if node.merge != Merge::Whole => Form::List(node),
            _ => Form::Leaf,
        }
    }

    /// The type of a field of a map.
    pub(crate) fn field(&self, map: &Node, name: &str) -> NodeId {
        map.fields.get(name).copied().or(map.rest).unwrap_or(DEDUCED)
    }

    /// What the key field `name` of a list's entries is when it is left out.
    pub(crate) fn key_default(&self, list: &Node, name: &str) -> Option<&Value> {
        let entry = self.node(list.item);
        entry.fields.get(name).and_then(|field| self.node(*field).default.as_ref())
    }
}
