//! One object as it is and as it would be: the API server is asked to apply it without writing, so that what it fills
//! in, refuses and passes over is known.

use pilotage_plan::cluster::Failure;
use pilotage_plan::render::kubernetes::unified::{Hunk, unified};
use serde_json::Value;

use super::call::{Calls, Manner, Path};

/// What would become of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The object as it is, if it is there.
    pub before: Option<Value>,
    /// As it would be, if it would be there.
    pub after: Option<Value>,
    /// Whether the API server said so; else it is as it was rendered, since its namespace or kind is not there yet.
    pub is_exact: bool,
    /// Why the API server would refuse it, if it would.
    pub refusal: Option<String>,
}

/// What would be done to an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// It would be made.
    Make,
    /// It would be changed.
    Change,
    /// It would be deleted.
    Delete,
    /// It would stay as it is.
    Keep,
}

impl Deed {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }
}

impl Change {
    /// That an object goes.
    pub(crate) const fn end(before: Value) -> Self {
        Self { before: Some(before), after: None, is_exact: true, refusal: None }
    }

    /// What would be done.
    pub fn deed(&self) -> Deed {
        match (&self.before, &self.after) {
            (None, None) => Deed::Keep,
            (None, Some(_)) => Deed::Make,
            (Some(_), None) => Deed::Delete,
            (Some(_), Some(_)) if self.hunks().is_empty() => Deed::Keep,
            (Some(_), Some(_)) => Deed::Change,
        }
    }

    /// What differs, as people read it. Secrets are never shown.
    pub fn hunks(&self) -> Vec<Hunk> {
        unified(self.before.as_ref(), self.after.as_ref())
    }

    /// What it is of: API version, kind, namespace (empty for what belongs to the whole cluster) and name.
    pub fn of(&self) -> [&str; 4] {
        let object = self.after.as_ref().or(self.before.as_ref());
        let at = |pointer: &str| {
            object
                .and_then(|object| object.pointer(pointer))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        [at("/apiVersion"), at("/kind"), at("/metadata/namespace"), at("/metadata/name")]
    }
}

/// What applying an object would do to it.
pub(crate) async fn tried(
    calls: &Calls,
    path: Path<'_>,
    object: &Value,
    manner: Manner,
) -> Result<Change, Failure> {
    let before = calls.get(path).await?;
    let tried = calls.apply_as(path, object, Manner { dry_run: true, ..manner }).await;
    judged(before, object, tried)
}

/// What became of a try.
pub(super) fn judged(
    before: Option<Value>,
    object: &Value,
    tried: Result<Value, Failure>,
) -> Result<Change, Failure> {
    let failure = match tried {
        Ok(after) => {
            return Ok(Change { before, after: Some(after), is_exact: true, refusal: None });
        }
        Err(failure) if failure.is_servers() => return Err(failure),
        Err(failure) => failure,
    };
    // What is not there yet comes with what is applied before it.
    let refusal = Some(failure.message).filter(|_| failure.code != 404);
    Ok(Change { refusal, ..untried(before, object) })
}

/// An object as it was rendered over what is there, which nobody was asked about.
pub(super) fn untried(before: Option<Value>, object: &Value) -> Change {
    let mut after = before.clone().unwrap_or_default();
    overlay(&mut after, object);
    Change { before, after: Some(after), is_exact: false, refusal: None }
}

/// Writes fields over what is there.
fn overlay(there: &mut Value, fields: &Value) {
    match (there, fields) {
        (Value::Object(there), Value::Object(fields)) => {
            for (name, value) in fields {
                overlay(there.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (there, fields) => *there = fields.clone(),
    }
}
