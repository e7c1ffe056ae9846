//! Changing objects: updates, patches and applied configurations, at the object or at its status.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::create::{Maker, parse, put_managers};
use super::{Answer, Ask, Cluster};
use crate::api::failure::{Cause, Details, Failure};
use crate::api::stamp;
use crate::apply::{ApplyError, Conflict, Managers, Set, Who};
use crate::check;
use crate::patch;
use crate::store::Object;

/// What an object is to become, and who manages what of it then.
struct Proposal {
    value: Value,
    managers: Option<Managers>,
    /// By updates: who made it.
    who: Who,
}

impl Cluster {
    pub(super) fn put(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut value = ask.body()?;
        let unknown = ask.decode(&mut value)?;
        ask.named_so(&value)?;
        let live = Arc::clone(self.found(ask)?);
        let version = value.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let strict = ask.resource.custom || ask.resource.habits.versioned_updates;
        if strict && version.is_none_or(str::is_empty) {
            let why = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &Value::from(0), why);
            return Err(ask.invalid(vec![cause]));
        }
        let proposal = Proposal { value, managers: None, who: ask.updater() };
        let object = self.amend(ask, &live, proposal)?;
        Ok(ask.object(200, &object).warn(&unknown))
    }

    pub(super) fn patch(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let content = ask.call.content_type.split(';').next().unwrap_or_default().trim();
        if content == "application/apply-patch+yaml" {
            return self.apply(ask);
        }
        let live = Arc::clone(self.found(ask)?);
        let mut value = live.value();
        if ask.resource.twin {
            super::twin::told(&mut value);
        }
        let body = parse(&ask.call.body, false)?;
        let unprocessable = |what: String| Failure::new(422, "Invalid", what);
        match content {
            "application/merge-patch+json" => patch::merge(&mut value, body),
            "application/json-patch+json" => {
                patch::operations(&mut value, &body).map_err(unprocessable)?;
            }
            "application/strategic-merge-patch+json" if !ask.resource.custom => {
                let version = ask.version();
                patch::strategic(&version.types, version.root, &mut value, body)
                    .map_err(Failure::bad_request)?;
            }
            _ => {
                let known = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
                return Err(Failure::media_type(known));
            }
        }
        ask.strip(&mut value)?;
        let unknown = ask.decode(&mut value)?;
        let proposal = Proposal { value, managers: None, who: ask.updater() };
        let object = self.amend(ask, &live, proposal)?;
        Ok(ask.object(200, &object).warn(&unknown))
    }

    fn apply(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        if ask.query.text("fieldManager").is_none() {
            let message = "Required value: is required for apply patch".to_owned();
            let cause = Cause::of("FieldValueRequired", "fieldManager", message);
            return Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]));
        }
        let mut config = ask.body()?;
        ask.named_so(&config)?;
        if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        if let Some(field) = ask.decode(&mut config)?.first() {
            let (kind, version) = (&ask.resource.kind, ask.api_version());
            let what = format!(
                "failed to create typed patch object ({}/{}; {version}, Kind={kind}): .{field}: field not declared in schema",
                ask.namespace(),
                ask.name()
            );
            return Err(Failure::new(500, "InternalError", what));
        }
        let who = Who::applier(&ask.manager, &ask.target.subresource);
        let live = self.found(ask).map(Arc::clone);
        let (status, object) = match live {
            Ok(live) => (200, self.apply_over(ask, &live, &config, &who)?),
            Err(missing) if !ask.target.subresource.is_empty() => return Err(missing),
            Err(_) => (201, self.apply_new(ask, config, &who)?),
        };
        Ok(ask.object(status, &object))
    }

    fn apply_over(
        &mut self,
        ask: &Ask<'_>,
        live: &Arc<Object>,
        config: &Value,
        who: &Who,
    ) -> Result<Arc<Object>, Failure> {
        let mut value = live.value();
        let now = stamp::written(ask.now_ms);
        let mut managers = Managers::read(&value, &now);
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.shift_remove("managedFields");
        }
        let ignored = ask.ignored();
        let reach = ask.scope(&ignored);
        if managers.is_empty() {
            // Of an object that nobody is known to manage, all belongs to whoever was before.
            let nobody = Value::Object(Map::new());
            let before = Who::updater("before-first-apply", &ask.api_version(), "");
            reach.updated(&nobody, &value, &mut managers, &before);
        }
        let force = ask.query.flag("force");
        let applied = reach.scope().apply((&value, config), &mut managers, who, force);
        let value = applied.map_err(|error| ask.not_applied(error))?;
        let proposal = Proposal { value, managers: Some(managers), who: who.clone() };
        self.amend(ask, live, proposal)
    }

    fn apply_new(
        &mut self,
        ask: &Ask<'_>,
        config: Value,
        who: &Who,
    ) -> Result<Arc<Object>, Failure> {
        let preset = config.pointer("/metadata/uid").is_some()
            || config.pointer("/metadata/resourceVersion").is_some();
        if preset {
            return Err(Failure::not_found(ask.named(ask.name())));
        }
        if config.pointer("/metadata/name").is_none() {
            let message = format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                ask.name()
            );
            return Err(Failure::bad_request(message));
        }
        let mut managers = Managers::read(&Value::Null, &stamp::written(ask.now_ms));
        let ignored = ask.ignored();
        let nobody = Value::Object(Map::new());
        let reach = ask.scope(&ignored);
        let value = reach
            .scope()
            .apply((&nobody, &config), &mut managers, who, true)
            .map_err(|error| ask.not_applied(error))?;
        self.create(ask, value, Maker::Applier(&managers))
    }

    /// Patches the number of replicas, whatever an object's scale calls it.
    pub(super) fn rescale(
        &mut self,
        ask: &Ask<'_>,
        live: &Arc<Object>,
    ) -> Result<Arc<Object>, Failure> {
        let mut value = live.value();
        patch::merge(&mut value, parse(&ask.call.body, false)?);
        ask.decode(&mut value)?;
        self.amend(ask, live, Proposal { value, managers: None, who: ask.updater() })
    }

    /// Makes of a stored object what is proposed, as far as the endpoint allows.
    fn amend(
        &mut self,
        ask: &Ask<'_>,
        live: &Arc<Object>,
        proposal: Proposal,
    ) -> Result<Arc<Object>, Failure> {
        let old = live.value();
        let mut new = proposal.value;
        ask.same(live, &new)?;
        ask.restrict(&old, &mut new);
        if proposal.managers.is_some() && !ask.resource.twin {
            ask.decode(&mut new)?;
        }
        check::fill(&ask.version().types, ask.version().root, &mut new);
        self.complete(ask, Some(&old), &mut new);
        let managers = proposal.managers.unwrap_or_else(|| {
            let mut managers = ask.managers(&old, &new);
            let ignored = ask.ignored();
            ask.scope(&ignored).updated(&old, &new, &mut managers, &proposal.who);
            managers
        });
        put_managers(&mut new, &managers);
        if same(&old, &new) {
            return Ok(Arc::clone(live));
        }
        self.admit(ask, Some(&old), &new)?;
        count(ask, &old, &mut new);
        if ask.dry_run {
            return Ok(Arc::new(Object::of(&ask.resource, live.revision, &new)));
        }
        let stored = self.store(ask.now_ms, ask.id, ask.key(), new);
        if finished(&stored) {
            return Ok(self.remove(ask.id, &ask.key()).unwrap_or(stored));
        }
        Ok(stored)
    }
}

/// Whether nothing keeps a deleted object any more.
pub(super) fn finished(object: &Object) -> bool {
    if !object.deleting {
        return false;
    }
    let value = object.value();
    let kept =
        |at: &str| value.pointer(at).and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    let grace = value.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
    let namespace = value.pointer("/status/phase").and_then(Value::as_str) == Some("Terminating");
    !kept("/metadata/finalizers")
        && grace.unwrap_or_default() == 0
        && !(namespace && kept("/spec/finalizers"))
}

/// Whether two versions differ in nothing but when their managers wrote.
fn same(old: &Value, new: &Value) -> bool {
    let (Some(was), Some(is)) = (old.as_object(), new.as_object()) else { return false };
    let others = |all: &Map<String, Value>| all.keys().filter(|name| *name != "metadata").count();
    let mut rest = was.iter().filter(|(name, _)| *name != "metadata");
    others(was) == others(is)
        && rest.all(|(name, value)| is.get(name) == Some(value))
        && timeless(old) == timeless(new)
}

/// Metadata without version, and without the times and the order of managers.
fn timeless(value: &Value) -> Value {
    let mut meta = value.get("metadata").cloned().unwrap_or_default();
    if let Value::Object(fields) = &mut meta {
        fields.shift_remove("resourceVersion");
    }
    if let Some(Value::Array(managers)) = meta.get_mut("managedFields") {
        for manager in managers.iter_mut() {
            if let Value::Object(fields) = manager {
                fields.shift_remove("time");
            }
        }
        managers.sort_by_cached_key(|one| {
            let of = |name: &str| one.get(name).map(Value::to_string);
            (of("manager"), of("operation"), of("apiVersion"), of("subresource"))
        });
    }
    meta
}

/// Counts a change of what is wished for.
fn count(ask: &Ask<'_>, old: &Value, new: &mut Value) {
    if !ask.resource.habits.generation {
        return;
    }
    let wished = |value: &Value| {
        let mut value = value.clone();
        if let Value::Object(fields) = &mut value {
            fields.shift_remove("metadata");
            if ask.version().status {
                fields.shift_remove("status");
            }
        }
        value
    };
    let generation = old.pointer("/metadata/generation").and_then(Value::as_u64).unwrap_or(1);
    let changed = u64::from(wished(old) != wished(new));
    new["metadata"]["generation"] = (generation + changed).into();
}

impl Ask<'_> {
    fn updater(&self) -> Who {
        Who::updater(&self.manager, &self.api_version(), &self.target.subresource)
    }

    pub(super) fn invalid(&self, causes: Vec<Cause>) -> Failure {
        Failure::invalid(&self.resource.group, &self.resource.kind, self.name(), causes)
    }

    /// The fields that writes through this endpoint do not reach.
    fn ignored(&self) -> Set {
        if self.target.subresource == "status" {
            let all = self.version().types.node(self.version().root).fields.keys();
            let names: Vec<&str> = all
                .map(|name| &**name)
                .filter(|name| !matches!(*name, "status" | "metadata"))
                .collect();
            let mut set = Set::of(&names);
            set.union(&Set::of(&STATUS_KEEPS));
            set
        } else if self.version().status {
            Set::of(&["status"])
        } else {
            Set::default()
        }
    }

    /// Who manages an object before an update: as the update says, or as it was.
    fn managers(&self, old: &Value, new: &Value) -> Managers {
        let now = stamp::written(self.now_ms);
        let said = new.pointer("/metadata/managedFields").and_then(Value::as_array);
        match said {
            _ if !self.target.subresource.is_empty() => Managers::read(old, &now),
            Some(all) if all.is_empty() => Managers::read(&Value::Null, &now),
            Some(all) if all.len() == 1 && all[0].as_object().is_some_and(Map::is_empty) => {
                Managers::read(&Value::Null, &now)
            }
            _ => {
                let said = Managers::read(new, &now);
                if said.is_empty() { Managers::read(old, &now) } else { said }
            }
        }
    }

    /// Whether a proposal is of this very version of the object, where it says of which.
    fn same(&self, live: &Object, new: &Value) -> Result<(), Failure> {
        let said = |field: &str| {
            let said = new.pointer("/metadata").and_then(|meta| meta.get(field));
            said.and_then(Value::as_str).filter(|said| !said.is_empty())
        };
        if said("uid").is_some_and(|uid| *uid != *live.uid) {
            let (is, uid) = (&live.uid, said("uid").unwrap_or_default());
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {is}"
            );
            return Err(Failure::conflict(self.named(self.name()), &why));
        }
        if said("resourceVersion").is_some_and(|version| version != live.revision.to_string()) {
            return Err(Failure::modified(self.named(self.name())));
        }
        Ok(())
    }

    /// Puts back what a write through this endpoint does not reach.
    fn restrict(&self, old: &Value, new: &mut Value) {
        let mut kept = old.clone();
        if self.target.subresource == "status" {
            let Value::Object(fields) = &mut kept else { return };
            match new.get_mut("status").map(Value::take) {
                Some(status) => fields.insert("status".into(), status),
                None => fields.shift_remove("status"),
            };
            *new = kept;
            return;
        }
        let Value::Object(fields) = new else { return };
        if self.version().status {
            match old.get("status") {
                Some(status) => fields.insert("status".into(), status.clone()),
                None => fields.shift_remove("status"),
            };
        }
        let Some(Value::Object(meta)) = fields.get_mut("metadata") else { return };
        for field in KEPT {
            match old.pointer("/metadata").and_then(|meta| meta.get(field)) {
                Some(value) => meta.insert(field.into(), value.clone()),
                None => meta.shift_remove(field),
            };
        }
    }

    fn not_applied(&self, error: ApplyError) -> Failure {
        match error {
            ApplyError::Invalid(what) => Failure::new(500, "InternalError", what),
            ApplyError::Conflicts(all) => conflicts(&all),
        }
    }
}

/// Metadata that clients do not change.
const KEPT: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "generateName",
];

/// Metadata that writes of a status do not reach.
const STATUS_KEEPS: [&str; 5] = [
    "metadata.labels",
    "metadata.annotations",
    "metadata.finalizers",
    "metadata.ownerReferences",
    "metadata.generateName",
];

/// What applying says when others are in the way.
fn conflicts(all: &[Conflict]) -> Failure {
    let causes = all.iter().map(|one| {
        let message = format!("conflict with {}", one.manager);
        Cause::of("FieldManagerConflict", one.path.clone(), message)
    });
    let message = match all {
        [one] => {
            format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path)
        }
        _ => {
            let mut lines = Vec::new();
            let mut last = "";
            for one in all {
                if one.manager != last {
                    lines.push(format!("conflicts with {}:", one.manager));
                    last = &one.manager;
                }
                lines.push(format!("- {}", one.path));
            }
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    let details = Details { causes: causes.collect(), ..Details::default() };
    Failure { details: Some(Box::new(details)), ..Failure::new(409, "Conflict", message) }
}
