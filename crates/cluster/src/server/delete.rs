//! Deleting objects: at once, after their finalizers, or when a node is done with them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::amend::finished;
use super::create::parse;
use super::read::{selection, written};
use super::route::success;
use super::{Answer, Ask, Cluster, Place};
use crate::api::failure::Failure;
use crate::api::stamp;
use crate::store::{Key, Object};

/// Keeps an object until its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until its dependents are nobody's.
pub(super) const ORPHAN: &str = "orphan";

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// They go first.
    Foreground,
    /// They go afterwards.
    Background,
    /// They stay.
    Orphan,
}

/// What a deletion says.
#[derive(Debug, Default)]
struct Options {
    policy: Option<Policy>,
    grace_s: Option<u64>,
    uid: Option<String>,
    version: Option<String>,
}

impl Cluster {
    pub(super) fn delete(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let options = options(ask)?;
        let live = Arc::clone(self.found(ask)?);
        let other = |wanted: &Option<String>, is: &str| {
            wanted.as_deref().is_some_and(|wanted| wanted != is)
        };
        let version = live.revision.to_string();
        if other(&options.uid, &live.uid) || other(&options.version, &version) {
            let why = format!(
                "Precondition failed: UID in precondition: {:?}, UID in object meta: {}, resourceVersion in object meta: {version}",
                options.uid, live.uid
            );
            return Err(Failure::conflict(ask.named(ask.name()), &why));
        }
        if ask.dry_run {
            return Ok(ask.object(200, &live));
        }
        let place = (ask.id, ask.key());
        let (object, gone) = self.end(ask.now_ms, &place, options.policy, options.grace_s);
        let Some(object) = object else {
            return Err(Failure::not_found(ask.named(ask.name())));
        };
        if gone && !ask.resource.habits.returns_deleted {
            return Ok(Answer::json(200, &success(ask, &object.name, &object.uid)));
        }
        Ok(ask.object(200, &object))
    }

    pub(super) fn delete_all(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let options = options(ask)?;
        let selection = selection(ask)?;
        let table = self.tables.get(ask.id).ok_or_else(Failure::no_path)?;
        let all = table.iter(selection.namespace.as_deref());
        let held = all.filter(|(_, object)| selection.holds(object));
        let held: Vec<(Key, Arc<Object>)> =
            held.map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        if !ask.dry_run {
            for (key, _) in &held {
                self.end(ask.now_ms, &(ask.id, key.clone()), options.policy, options.grace_s);
            }
        }
        let objects: Vec<Arc<Object>> = held.into_iter().map(|(_, object)| object).collect();
        let metadata = json!({"resourceVersion": self.revision.to_string()});
        Ok(Answer::text(200, written(ask, &objects, &metadata)))
    }

    /// Deletes an object, or begins to: what it is then, and whether it is gone.
    pub(super) fn end(
        &mut self,
        now_ms: u64,
        place: &Place,
        policy: Option<Policy>,
        grace_s: Option<u64>,
    ) -> (Option<Arc<Object>>, bool) {
        let (id, key) = place;
        let found = self.kinds.get(*id).zip(self.tables.get(*id).and_then(|table| table.get(key)));
        let Some((resource, live)) = found else { return (None, true) };
        let (resource, live) = (Arc::clone(resource), Arc::clone(live));
        let mut value = live.value();
        let before = value.clone();
        finalize(&mut value, policy, resource.habits.orphans);
        let grace_s = if resource.habits.graceful { grace(&value, grace_s) } else { 0 };
        let known = value.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
        let shorter = known.is_none_or(|known| grace_s < known);
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
            && (!live.deleting || shorter)
        {
            let at = stamp::written(now_ms.saturating_add(grace_s.saturating_mul(1000)));
            meta.insert("deletionTimestamp".into(), at.into());
            meta.insert("deletionGracePeriodSeconds".into(), grace_s.into());
        }
        if !live.deleting
            && let Some(generation) = value.pointer_mut("/metadata/generation")
            && let Some(number) = generation.as_u64()
        {
            *generation = (number + 1).into();
        }
        if &*resource.kind == "Namespace" && resource.group.is_empty() {
            value["status"]["phase"] = "Terminating".into();
        }
        let after = Object::of(&resource, live.revision, &value);
        if finished(&after) && !kept(&resource.kind) {
            return (self.remove(*id, key), true);
        }
        if value == before {
            return (Some(live), false);
        }
        (Some(self.store(now_ms, *id, key.clone(), value)), false)
    }
}

/// Definitions go only after their objects, which the collector sees to.
fn kept(kind: &str) -> bool {
    kind == "CustomResourceDefinition"
}

/// Says in an object's finalizers what becomes of its dependents.
fn finalize(value: &mut Value, policy: Option<Policy>, orphans: bool) {
    let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let all = meta.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let says = |name: &str| all.iter().any(|one| one == name);
    let policy = match policy {
        Some(policy) => policy,
        None if says(ORPHAN) => Policy::Orphan,
        None if says(FOREGROUND) => Policy::Foreground,
        None if orphans => Policy::Orphan,
        None => Policy::Background,
    };
    let others = all.iter().filter(|one| *one != ORPHAN && *one != FOREGROUND).cloned();
    let mut finalizers: Vec<Value> = others.collect();
    match policy {
        Policy::Foreground => finalizers.push(FOREGROUND.into()),
        Policy::Orphan => finalizers.push(ORPHAN.into()),
        Policy::Background => {}
    }
    if finalizers.is_empty() {
        meta.shift_remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.into());
    }
}

/// Seconds that a pod has to end; none where there is no node to end it, or nothing to end.
fn grace(pod: &Value, asked: Option<u64>) -> u64 {
    let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    asked.or(own).unwrap_or(30)
}

/// What a deletion says, in its body or its query.
fn options(ask: &Ask<'_>) -> Result<Options, Failure> {
    let body = if ask.call.body.is_empty() { Value::Null } else { parse(&ask.call.body, true)? };
    let text = |name: &str| {
        let said = body.get(name).and_then(Value::as_str);
        said.or_else(|| ask.query.text(name)).map(str::to_owned)
    };
    let policy = match text("propagationPolicy").as_deref() {
        None => None,
        Some("Foreground") => Some(Policy::Foreground),
        Some("Background") => Some(Policy::Background),
        Some("Orphan") => Some(Policy::Orphan),
        Some(other) => {
            let message = format!("invalid propagationPolicy: {other:?}");
            return Err(Failure::bad_request(message));
        }
    };
    let grace_s = body.get("gracePeriodSeconds").and_then(Value::as_u64);
    let must = |name: &str| {
        let said = body.pointer("/preconditions").and_then(|must| must.get(name));
        said.and_then(Value::as_str).map(str::to_owned)
    };
    Ok(Options {
        policy,
        grace_s: grace_s.or_else(|| ask.query.number("gracePeriodSeconds")),
        uid: must("uid"),
        version: must("resourceVersion"),
    })
}
