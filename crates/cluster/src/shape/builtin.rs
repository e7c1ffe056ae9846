//! The types of the kinds that every cluster has, read from `builtin.txt`.
//!
//! A line is a type: its name, then its fields. `s n b u` are a string, a number, a boolean and any
//! scalar, `q` an amount of a resource, `t` a moment to the millionth of a second; `*` is anything whose maps merge and `?` anything replaced as one; `{T}` is a map of `T`;
//! `[T]` a list replaced as one, `[T set]` a set and `[T a,b]` a list whose entries are told apart by
//! their fields `a` and `b`; `!` before any of it makes it one; `~x` is the default of a key field.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::{DEDUCED, Kind, Merge, Node, NodeId, Types, WHOLE};

const TEXT: &str = include_str!("builtin.txt");

/// The types of all kinds that are in the text.
static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let mut types = Types::new();
    let mut reader = Reader { lines: lines(), known: BTreeMap::new(), types: &mut types };
    let names: Vec<&str> = reader.lines.keys().copied().collect();
    for name in names {
        reader.named(name);
    }
    let known = reader.known;
    (Arc::new(types), known)
});

type Shared = (Arc<Types>, BTreeMap<&'static str, NodeId>);

/// The types of all kinds that every cluster has, and the node of one. Unknown names are deduced.
pub(crate) fn shared(name: &str) -> (Arc<Types>, NodeId) {
    let (types, known) = &*SHARED;
    (Arc::clone(types), known.get(name).copied().unwrap_or(DEDUCED))
}

/// Reads the types that `name` is made of into `types`, and returns its node.
///
/// Unknown names are deduced.
pub(crate) fn builtin(types: &mut Types, name: &str) -> NodeId {
    Reader { lines: lines(), known: BTreeMap::new(), types }.named(name)
}

fn lines() -> BTreeMap<&'static str, (bool, &'static str)> {
    TEXT.lines().filter_map(line).collect()
}

/// A type's name, whether it is replaced as one, and its fields.
fn line(text: &'static str) -> Option<(&'static str, (bool, &'static str))> {
    let (name, fields) = text.split_once(": ")?;
    let bare = name.strip_prefix('!');
    Some((bare.unwrap_or(name), (bare.is_some(), fields)))
}

struct Reader<'a> {
    lines: BTreeMap<&'static str, (bool, &'static str)>,
    known: BTreeMap<&'static str, NodeId>,
    types: &'a mut Types,
}

impl Reader<'_> {
    fn named(&mut self, name: &str) -> NodeId {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let Some((name, (whole, text))) = self.lines.get_key_value(name).map(|(k, v)| (*k, *v))
        else {
            return DEDUCED;
        };
        let id = self.types.add(Node::of(Kind::Map));
        self.known.insert(name, id);
        let mut node = Node::of(Kind::Map);
        node.whole = whole;
        for field in fields(text) {
            let Some((name, form)) = field.split_once('=') else { continue };
            let (form, default) = form.split_once('~').map_or((form, None), |(f, d)| (f, Some(d)));
            let mut of = self.form(form);
            if let Some(default) = default {
                let mut with = self.types.node(of).clone();
                with.default = Some(Value::from(default));
                of = self.types.add(with);
            }
            if name == "..." {
                node.rest = Some(of);
            } else {
                node.fields.insert(name.into(), of);
            }
        }
        self.types.set(id, node);
        id
    }

    fn form(&mut self, text: &str) -> NodeId {
        if let Some(inner) = text.strip_prefix('!') {
            let of = self.form(inner);
            let mut node = self.types.node(of).clone();
            node.whole = true;
            return self.types.add(node);
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let mut node = Node::of(Kind::Map);
            node.rest = Some(self.form(inner));
            return self.types.add(node);
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let (item, merge) = inner.rsplit_once(' ').unwrap_or((inner, ""));
            let mut node = Node::of(Kind::List);
            node.item = self.form(item);
            node.merge = match merge {
                "" => Merge::Whole,
                "set" => Merge::Set,
                keys => Merge::Keys(keys.split(',').map(Into::into).collect()),
            };
            return self.types.add(node);
        }
        let kind = match text {
            "*" => return DEDUCED,
            "?" | "u" => return WHOLE,
            "s" => Kind::Text,
            "n" => Kind::Number,
            "b" => Kind::Bool,
            "q" => Kind::Quantity,
            "t" => Kind::Moment,
            name => return self.named(name),
        };
        self.types.add(Node::of(kind))
    }
}

/// Fields are parted by spaces, but those within brackets.
fn fields(text: &'static str) -> impl Iterator<Item = &'static str> {
    let mut depth = 0_usize;
    text.split(move |letter: char| {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ' ' && depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(types: &Types, from: NodeId, path: &str) -> Node {
        let step = |id: NodeId, name: &str| {
            let node = types.node(id);
            if name == "[]" { node.item } else { types.field(node, name) }
        };
        types.node(path.split('.').fold(from, step)).clone()
    }

    #[test]
    fn lists_have_their_keys() {
        let mut types = Types::new();
        let root = builtin(&mut types, "Deployment");
        let keys = |path: &str| at(&types, root, path).merge;
        let of = |names: &[&str]| Merge::Keys(names.iter().map(|name| (*name).into()).collect());
        let pod = "spec.template.spec";
        assert_eq!(keys(&format!("{pod}.containers")), of(&["name"]));
        assert_eq!(keys(&format!("{pod}.containers.[].ports")), of(&["containerPort", "protocol"]));
        assert_eq!(keys(&format!("{pod}.containers.[].command")), Merge::Whole);
        assert_eq!(keys("metadata.finalizers"), Merge::Set);
        assert_eq!(keys("status.conditions"), of(&["type"]));
        assert!(at(&types, root, "spec.selector").whole);
        assert!(at(&types, root, &format!("{pod}.nodeSelector")).whole);
        let ports = at(&types, root, &format!("{pod}.containers.[].ports"));
        assert_eq!(types.key_default(&ports, "protocol"), Some(&Value::from("TCP")));
    }

    #[test]
    fn types_may_contain_themselves() {
        let mut types = Types::new();
        let root = builtin(&mut types, "CustomResourceDefinition");
        let schema = "spec.versions.[].schema.openAPIV3Schema";
        let deep = at(&types, root, &format!("{schema}.properties.a.properties.b.type"));
        assert_eq!(deep.kind, Kind::Text);
    }
}
