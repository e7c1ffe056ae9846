//! A YAML document as a tree that knows the line of every key and value, within limits that no
//! input can exceed.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::{DOCUMENTS_MAX, MANIFEST_BYTES_MAX, Problem};

/// Most levels of mappings and lists: twice what any kind has.
const DEPTH_MAX: usize = 16;

/// Most mappings, lists and values of one manifest, aliases replaced: one for each eight bytes of
/// the largest manifest, denser than anybody writes.
const NODES_MAX: usize = MANIFEST_BYTES_MAX / 8;

/// Most aliases in one manifest.
const ALIASES_MAX: usize = 1000;

/// A value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub line: u64,
    pub value: Tree,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub line: u64,
    pub node: Node,
}

/// Reads every document that is not empty.
pub(super) fn read(text: &str) -> Result<Vec<Node>, (u64, Problem)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: DOCUMENTS_MAX,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_aliases: ALIASES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| problem(&error))
}

fn problem(error: &serde_saphyr::Error) -> (u64, Problem) {
    use serde_saphyr::Error as E;
    let line = error.location().map_or(0, |location| location.line());
    let problem = match error {
        E::AliasError { error, .. } => return (line, problem(error).1),
        E::Budget { breach, .. } => {
            let limit = format!("{breach:?}").to_lowercase();
            let word = limit.split([' ', '(']).next().unwrap_or_default();
            Problem::TooComplex(format!("limit on {word}"))
        }
        E::AliasReplayLimitExceeded { .. }
        | E::AliasReplayCounterOverflow { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. } => {
            Problem::TooComplex("limit on aliases".to_owned())
        }
        E::DuplicateMappingKey { key, .. } => {
            Problem::Twice { key: key.as_deref().map(clean).unwrap_or_default() }
        }
        _ => Problem::Syntax(clean(&UserMessageFormatter.format_message(error))),
    };
    (line, problem)
}

/// Text of a manifest or about it, without characters that would upset a terminal or a log.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Node {
    /// The entries of a mapping.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Tree::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The text of a text value.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What is there, for a message.
    pub(super) fn describe(&self) -> String {
        /// Longest text a message repeats, in characters.
        const SHOWN_MAX: usize = 60;
        match &self.value {
            Tree::Null => "nothing".to_owned(),
            Tree::Bool(value) => format!("the truth value {value}"),
            Tree::Number(number) => format!("the number {number}"),
            Tree::Text(text) if text.chars().count() > SHOWN_MAX => "a long text".to_owned(),
            Tree::Text(text) => format!("`{}`", text.escape_debug()),
            Tree::List(_) => "a list".to_owned(),
            Tree::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The same value without its lines.
    pub(super) fn to_json(&self) -> Value {
        match &self.value {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => items.iter().map(Self::to_json).collect(),
            Tree::Map(entries) => {
                let pair = |entry: &Entry| (entry.key.clone(), entry.node.to_json());
                Value::Object(entries.iter().map(pair).collect::<Map<_, _>>())
            }
        }
    }

    /// A value that was written in no file.
    pub(super) fn from_json(value: Value) -> Self {
        let value = match value {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(value),
            Value::Number(number) => Tree::Number(number),
            Value::String(text) => Tree::Text(text),
            Value::Array(items) => Tree::List(items.into_iter().map(Self::from_json).collect()),
            Value::Object(map) => {
                let entry = |(key, value)| Entry { key, line: 0, node: Self::from_json(value) };
                Tree::Map(map.into_iter().map(entry).collect())
            }
        };
        Self { line: 0, value }
    }

    /// The line of every field below, by its path.
    pub(super) fn lines(&self, path: &mut String, lines: &mut BTreeMap<String, u64>) {
        match &self.value {
            Tree::Map(entries) => {
                for entry in entries {
                    within(path, &key_step(path, &entry.key), |path| {
                        lines.insert(path.clone(), entry.line);
                        entry.node.lines(path, lines);
                    });
                }
            }
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    within(path, &format!("[{index}]"), |path| {
                        lines.insert(path.clone(), item.line);
                        item.lines(path, lines);
                    });
                }
            }
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => {}
        }
    }
}

/// How a path goes on to a key.
pub(super) fn key_step(path: &str, key: &str) -> String {
    let key = key.escape_debug();
    if path.is_empty() { key.to_string() } else { format!(".{key}") }
}

/// Does something with a path that is one step longer meanwhile.
pub(super) fn within(path: &mut String, step: &str, work: impl FnOnce(&mut String)) {
    let len = path.len();
    path.push_str(step);
    work(path);
    path.truncate(len);
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Tree>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a truth value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value);
        number.map(Tree::Number).ok_or_else(|| E::custom("the number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(Spanned { value: key, referenced, .. }) =
            map.next_key::<Spanned<String>>()?
        {
            let node = map.next_value::<Node>()?;
            if entries.len() >= NODES_MAX {
                return Err(A::Error::custom("the mapping is too long"));
            }
            entries.push(Entry { key, line: referenced.line(), node });
        }
        Ok(Tree::Map(entries))
    }
}
