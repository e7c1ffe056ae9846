//! What is to be done, in order, and how it reads: a plan leaves nothing to decide to who carries it out.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::difference::{Difference, plain};
use super::kinds::Sort;
use crate::api::Kind;

/// What is to be done about one resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order. One that fails does not stop the others, as long as the API server answers.
    pub actions: Vec<Action>,
    /// When to look again, in milliseconds since 1970, though nothing changes.
    pub next_wakeup_ms: Option<u64>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Apply an object.
    Apply(Apply),
    /// Delete an object, if it is still that one.
    Delete {
        /// Its kind.
        sort: Sort,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Write what is the case of a resource.
    Status {
        /// Which one.
        about: About,
        /// All that the operator says of it.
        status: Value,
    },
    /// Tell people.
    Tell {
        /// What about.
        about: About,
        /// What.
        note: Note,
    },
    /// Read a Model's key, or make it: a Secret of this form, with 32 random bytes as its entry `key`.
    Key {
        /// The Model.
        about: About,
        /// The Secret without its content.
        secret: Value,
    },
    /// Keep the keys of all Models in one Secret, for gateways.
    Keys {
        /// The Secret's namespace.
        namespace: String,
        /// Keys by `<namespace>.<model>`.
        keys: Keys,
    },
    /// Have a Deployment let go of a pod, which starts another one.
    Release {
        /// The pod.
        pod: Target,
        /// What is changed in it, as a strategic merge patch, if it is still that pod.
        patch: Value,
    },
    /// Delete a pod, if it is still that one, with its own time to finish.
    End {
        /// The pod.
        pod: Target,
        /// Seconds that it has, where they are fewer than its own.
        grace_seconds: Option<u32>,
    },
    /// Tell people of something that is not ours.
    Report {
        /// What about.
        of: Target,
        /// What.
        note: Note,
    },
}

/// A pod, or a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// `Pod` or `Node`.
    pub kind: &'static str,
    /// Its namespace; empty for nodes.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The Model that it is of.
    pub model: Option<String>,
}

/// An object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    /// Its kind.
    pub sort: Sort,
    /// The object.
    pub object: Value,
    /// Why.
    pub why: Why,
    /// Where it differs from what is there.
    pub differences: Vec<Difference>,
}

/// Why an object is applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// It is not there. What has its name and is somebody else's stays as it is.
    Absent,
    /// Something else is wanted of it than before.
    Changed,
    /// Somebody changed it.
    Drifted,
}

/// The resource that something is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct About {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What people are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// Why, as one word for programs.
    pub reason: String,
    /// What, for people.
    pub message: String,
}

/// Keys, which are never shown.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Keys(pub BTreeMap<String, String>);

impl Apply {
    /// Whether it leaves the number of copies to who scales them.
    pub fn leaves_number(&self) -> bool {
        self.sort.has_scale() && self.object["spec"]["replicas"].is_null()
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The object's namespace.
    pub fn namespace(&self) -> &str {
        self.object["metadata"]["namespace"].as_str().unwrap_or_default()
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.actions.iter().try_for_each(|action| write!(f, "{action}"))
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{slash}{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(apply) => apply.fmt(f),
            Self::Delete { sort, namespace, name, .. } => {
                writeln!(f, "- {} {namespace}/{name}", sort.row().kind)
            }
            Self::Status { about, status } => {
                writeln!(f, "~ {about}: status")?;
                let conditions = status["conditions"].as_array();
                conditions.into_iter().flatten().try_for_each(|one| {
                    let part = |name: &str| plain(&one[name]);
                    let (kind, truth, reason) = (part("type"), part("status"), part("reason"));
                    writeln!(f, "    {kind}={truth} {reason}: {}", part("message"))
                })
            }
            Self::Tell { about, note } => {
                writeln!(f, "! {about}: {}: {}", note.reason, note.message)
            }
            Self::Key { about, secret } => {
                let name = plain(&secret["metadata"]["name"]);
                writeln!(f, "+ Secret {}/{name}, unless it is there", about.namespace)
            }
            Self::Keys { namespace, keys } => {
                writeln!(f, "~ Secret {namespace}/{}: {} keys", super::KEYS, keys.0.len())
            }
            Self::Release { pod, .. } => {
                writeln!(f, "~ {pod}: let go of by its Deployment, which starts another one")
            }
            Self::End { pod, .. } => writeln!(f, "- {pod}"),
            Self::Report { of, note } => writeln!(f, "! {of}: {}: {}", note.reason, note.message),
        }
    }
}

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 60;

impl fmt::Display for Apply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.why == Why::Absent { '+' } else { '~' };
        let kind = self.sort.row().kind;
        writeln!(f, "{sign} {kind} {}/{}", self.namespace(), self.name())?;
        let short = |value: &Value| {
            let text = plain(value);
            match text.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        self.differences.iter().try_for_each(|one| {
            let is = one.is.as_ref().map_or_else(|| "nothing".to_owned(), short);
            writeln!(f, "    {}: {is} → {}", one.path, short(&one.wanted))
        })
    }
}
