//! A watch: where it stands in the log of a resource, and what it has yet to send.
//!
//! Contract: pulled, never pushed: who watches asks for lines, and is told when to ask again. A
//! change of an object that comes into a selection is an `ADDED`, one that leaves it a `DELETED`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Change, Object, Selection, Table};
use crate::api::failure::Failure;

/// Changes that one pull tells.
const BATCH_MAX: usize = 256;

/// What a watch sends next.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Events, each with its line end.
    Lines(Vec<u8>),
    /// Nothing until something changes, or until this time in milliseconds since 1970.
    Nothing(u64),
    /// The stream ends; with words, it breaks off.
    End(Option<&'static str>),
}

/// How objects are told.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    /// What objects begin with: `{"kind":…,"apiVersion":…,`.
    pub(crate) opening: Arc<str>,
    /// Only metadata is told.
    pub(crate) partial: bool,
    /// What is made of an object before it is told.
    pub(crate) told: Option<fn(&mut Value)>,
}

impl Feed {
    pub(crate) fn write(&self, object: &Object, into: &mut Vec<u8>) {
        into.extend_from_slice(self.opening.as_bytes());
        if self.partial {
            let metadata = object.value().get("metadata").cloned().unwrap_or_default();
            into.extend_from_slice(b"\"metadata\":");
            into.extend_from_slice(metadata.to_string().as_bytes());
            into.push(b'}');
        } else if let Some(told) = self.told {
            let mut value = object.value();
            told(&mut value);
            let text = value.to_string();
            into.extend_from_slice(text.get(1..).unwrap_or_default().as_bytes());
        } else {
            into.extend_from_slice(object.rest());
        }
    }

    fn event(&self, what: &str, object: &Object, into: &mut Vec<u8>) {
        into.extend_from_slice(format!("{{\"type\":\"{what}\",\"object\":").as_bytes());
        self.write(object, into);
        into.extend_from_slice(b"}\n");
    }
}

/// A watch of a resource.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) selection: Selection,
    pub(crate) feed: Feed,
    /// The last change that was looked at.
    pub(crate) revision: u64,
    /// Objects to tell before changes, last first.
    pub(crate) initial: Vec<Arc<Object>>,
    /// A bookmark says that those were all.
    pub(crate) marks_initial: bool,
    /// Milliseconds between bookmarks; of none, there are none.
    pub(crate) bookmark_every_ms: Option<u64>,
    pub(crate) bookmark_at_ms: u64,
    pub(crate) ends_at_ms: u64,
    ended: bool,
}

impl Watch {
    pub(crate) fn of(selection: Selection, feed: Feed, revision: u64, ends_at_ms: u64) -> Self {
        Self {
            selection,
            feed,
            revision,
            initial: Vec::new(),
            marks_initial: false,
            bookmark_every_ms: None,
            bookmark_at_ms: u64::MAX,
            ends_at_ms,
            ended: false,
        }
    }

    /// What comes next. `current` is the version of the whole store.
    pub(crate) fn pull(&mut self, now_ms: u64, table: &Table, current: u64) -> Pulled {
        if self.ended {
            return Pulled::End(None);
        }
        let mut lines = Vec::new();
        for _ in 0..BATCH_MAX {
            let Some(object) = self.initial.pop() else { break };
            self.feed.event("ADDED", &object, &mut lines);
        }
        if !lines.is_empty() {
            return Pulled::Lines(lines);
        }
        if self.marks_initial {
            self.marks_initial = false;
            self.bookmark(self.revision, true, &mut lines);
            return Pulled::Lines(lines);
        }
        let Some(changes) = table.since(self.revision) else {
            self.ended = true;
            return Pulled::Lines(too_old(self.revision));
        };
        let mut told = 0;
        for change in changes {
            self.revision = change.revision;
            let before = lines.len();
            tell(&self.selection, &self.feed, change, &mut lines);
            told += usize::from(lines.len() > before);
            if told == BATCH_MAX {
                break;
            }
        }
        if lines.is_empty() { self.idle(now_ms, current) } else { Pulled::Lines(lines) }
    }

    fn idle(&mut self, now_ms: u64, current: u64) -> Pulled {
        let mut lines = Vec::new();
        let over = now_ms >= self.ends_at_ms;
        if let Some(every) = self.bookmark_every_ms
            && (over || now_ms >= self.bookmark_at_ms)
        {
            self.bookmark_at_ms = now_ms.saturating_add(every);
            self.revision = self.revision.max(current);
            self.bookmark(self.revision, false, &mut lines);
        }
        self.ended = over;
        match (lines.is_empty(), over) {
            (false, _) => Pulled::Lines(lines),
            (true, true) => Pulled::End(None),
            (true, false) => Pulled::Nothing(self.ends_at_ms.min(self.bookmark_at_ms)),
        }
    }

    fn bookmark(&self, revision: u64, initial: bool, into: &mut Vec<u8>) {
        let opening = self.feed.opening.strip_suffix(',').unwrap_or(&self.feed.opening);
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let line =
            format!("{{\"type\":\"BOOKMARK\",\"object\":{opening},\"metadata\":{metadata}}}}}\n");
        into.extend_from_slice(line.as_bytes());
    }
}

/// Tells a change to who selects so.
fn tell(selection: &Selection, feed: &Feed, change: &Change, into: &mut Vec<u8>) {
    let was = change.old.as_ref().filter(|old| selection.holds(old));
    let is = !change.gone && selection.holds(&change.new);
    match (was, is) {
        (None, true) => feed.event("ADDED", &change.new, into),
        (Some(_), true) => feed.event("MODIFIED", &change.new, into),
        (Some(_), false) if change.gone => feed.event("DELETED", &change.new, into),
        // As it was when it was selected, at the version at which it is not.
        (Some(old), false) => {
            let mut value = old.value();
            if let Some(version) = value.pointer_mut("/metadata/resourceVersion") {
                *version = Value::from(change.revision.to_string());
            }
            into.extend_from_slice(b"{\"type\":\"DELETED\",\"object\":");
            into.extend_from_slice(feed.opening.as_bytes());
            if let Some(told) = feed.told {
                told(&mut value);
            }
            let text = if feed.partial {
                json!({"metadata": value["metadata"]}).to_string()
            } else {
                value.to_string()
            };
            into.extend_from_slice(text.get(1..).unwrap_or_default().as_bytes());
            into.extend_from_slice(b"}\n");
        }
        (None, false) => {}
    }
}

/// The event that ends a watch of what is forgotten.
pub(crate) fn too_old(revision: u64) -> Vec<u8> {
    let failure = Failure::expired(format!("too old resource version: {revision}"));
    let line = json!({"type": "ERROR", "object": failure.status()});
    format!("{line}\n").into_bytes()
}
