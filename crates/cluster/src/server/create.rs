//! Creating objects, and storing what they become.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Answer, Ask, Cluster, Place};
use crate::api::failure::{Cause, Failure};
use crate::api::kinds::ResourceId;
use crate::api::stamp;
use crate::apply::{Managers, Scope, Set, Who};
use crate::check;
use crate::fault::ending;
use crate::store::{Key, Object};

/// Who makes a new object.
pub(super) enum Maker<'a> {
    /// One that says what it is.
    Updater(&'a Who),
    /// One that applied, with what it manages.
    Applier(&'a Managers),
}

/// Letters of a generated name before its ending.
const STEM_MAX: usize = 58;

impl Cluster {
    pub(super) fn post(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut value = ask.body()?;
        let unknown = ask.decode(&mut value)?;
        let who = Who::updater(&ask.manager, &ask.api_version(), "");
        let object = self.create(ask, value, Maker::Updater(&who))?;
        Ok(ask.object(201, &object).warn(&unknown))
    }

    /// Creates an object of what was decoded.
    pub(super) fn create(
        &mut self,
        ask: &Ask<'_>,
        mut value: Value,
        maker: Maker<'_>,
    ) -> Result<Arc<Object>, Failure> {
        let set = value.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if set.is_some_and(|version| !version.is_empty()) {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Failure::new(500, "InternalError", message));
        }
        let name = self.name(ask, &mut value)?;
        let key = Key::of(ask.namespace(), &name);
        self.room(ask, &name, &key)?;
        self.begin(ask, &mut value)?;
        check::fill(&ask.version().types, ask.version().root, &mut value);
        self.complete(ask, None, &mut value);
        match maker {
            Maker::Applier(managers) => put_managers(&mut value, managers),
            Maker::Updater(who) => {
                let mut managers = Managers::read(&Value::Null, &stamp::written(ask.now_ms));
                let nobody = Value::Object(Map::new());
                ask.scope(&Set::default()).updated(&nobody, &value, &mut managers, who);
                put_managers(&mut value, &managers);
            }
        }
        self.admit(ask, None, &value)?;
        self.fits(ask, &value)?;
        if ask.dry_run {
            return Ok(Arc::new(Object::of(&ask.resource, 0, &value)));
        }
        Ok(self.store(ask.now_ms, ask.id, key, value))
    }

    /// The name that an object comes to have.
    fn name(&mut self, ask: &Ask<'_>, value: &mut Value) -> Result<String, Failure> {
        let ending = self.ending();
        let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Err(Failure::bad_request("metadata must be an object"));
        };
        let text = |meta: &Map<String, Value>, name: &str| {
            meta.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut name = text(meta, "name");
        let stem = text(meta, "generateName");
        if name.is_empty() && !stem.is_empty() {
            let stem: String = stem.chars().take(STEM_MAX).collect();
            name = format!("{stem}{ending}");
            meta.insert("name".into(), name.clone().into());
        }
        let invalid =
            |cause| Failure::invalid(&ask.resource.group, &ask.resource.kind, &name, vec![cause]);
        if name.is_empty() {
            let message = "Required value: name or generateName is required".to_owned();
            return Err(invalid(Cause::of("FieldValueRequired", "metadata.name", message)));
        }
        if let Some(wrong) = check::name(&ask.resource.group, &ask.resource.kind, &name) {
            return Err(invalid(wrong));
        }
        if ask.resource.namespaced {
            let said = text(meta, "namespace");
            if !said.is_empty() && said != ask.namespace() {
                let message = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Failure::bad_request(message));
            }
            if ask.target.namespace.is_none() {
                let message = "an empty namespace may not be set during creation";
                return Err(Failure::bad_request(message));
            }
            meta.insert("namespace".into(), ask.namespace().into());
        } else {
            meta.shift_remove("namespace");
        }
        Ok(name)
    }

    /// Whether there is a place for a new object.
    fn room(&self, ask: &Ask<'_>, name: &str, key: &Key) -> Result<(), Failure> {
        if ask.resource.namespaced {
            self.living(ask, name)?;
        }
        let Some(table) = self.tables.get(ask.id) else { return Err(Failure::no_path()) };
        if table.get(key).is_some() {
            return Err(Failure::exists(ask.named(name)));
        }
        if table.len() >= self.limits.objects_max {
            return Err(Failure::new(
                507,
                "InsufficientStorage",
                "etcdserver: mvcc: database space exceeded",
            ));
        }
        Ok(())
    }

    /// Whether a namespace takes new objects.
    fn living(&self, ask: &Ask<'_>, name: &str) -> Result<(), Failure> {
        let namespace = ask.namespace();
        let named = crate::api::failure::Named { group: "", plural: "namespaces", name: namespace };
        let found = self.kinds.find("", "namespaces").and_then(|(id, _)| self.tables.get(id));
        let found = found.and_then(|table| table.get(&Key::of("", namespace)));
        let Some(found) = found else { return Err(Failure::not_found(named)) };
        if found.deleting {
            return Err(ending(ask.named(name), namespace));
        }
        Ok(())
    }

    /// What a server says of a new object.
    fn begin(&mut self, ask: &Ask<'_>, value: &mut Value) -> Result<(), Failure> {
        let uid = self.uid();
        if ask.version().status
            && let Value::Object(fields) = value
        {
            fields.shift_remove("status");
        }
        let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Err(Failure::bad_request("metadata must be an object"));
        };
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            meta.shift_remove(field);
        }
        for field in ["resourceVersion", "managedFields"] {
            meta.shift_remove(field);
        }
        meta.insert("uid".into(), uid.into());
        meta.insert("creationTimestamp".into(), stamp::written(ask.now_ms).into());
        if ask.resource.habits.generation {
            meta.insert("generation".into(), 1.into());
        }
        Ok(())
    }

    /// Stores a version of an object, and notes what it means for others.
    pub(super) fn store(
        &mut self,
        now_ms: u64,
        id: ResourceId,
        key: Key,
        mut value: Value,
    ) -> Arc<Object> {
        let Some(resource) = self.kinds.get(id).map(Arc::clone) else {
            return Arc::new(Object::of(&EMPTY, 0, &value));
        };
        self.revision += 1;
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(Object::of(&resource, self.revision, &value));
        let place: Place = (id, key.clone());
        let old = self.tables.get(id).and_then(|table| table.get(&key)).map(Arc::clone);
        if let Some(old) = &old {
            self.disown(&old.owners, &place);
        }
        for owner in &object.owners {
            self.dependents.entry(owner.clone()).or_default().insert(place.clone());
        }
        self.by_uid.insert(object.uid.clone(), place.clone());
        let owners_changed = old.is_none_or(|old| old.owners != object.owners);
        if object.deleting || (owners_changed && !object.owners.is_empty()) {
            self.doubtful.insert(place);
        }
        let changes_max = self.limits.changes_max;
        if let Some(table) = self.tables.get_mut(id) {
            table.put(key, Arc::clone(&object), changes_max);
        }
        if &*resource.kind == "CustomResourceDefinition" {
            self.define(now_ms, &object);
        }
        object
    }

    /// Takes an object out, and notes what that means for others.
    pub(super) fn remove(&mut self, id: ResourceId, key: &Key) -> Option<Arc<Object>> {
        let object = Arc::clone(self.tables.get(id)?.get(key)?);
        let resource = Arc::clone(self.kinds.get(id)?);
        self.revision += 1;
        let mut value = object.value();
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let last = Arc::new(Object::of(&resource, self.revision, &value));
        self.tables.get_mut(id)?.remove(key, Arc::clone(&last), self.limits.changes_max);
        self.by_uid.remove(&object.uid);
        self.disown(&object.owners, &(id, key.clone()));
        self.doubtful.remove(&(id, key.clone()));
        let orphans = self.dependents.get(&object.uid).into_iter().flatten().cloned();
        let orphans: Vec<Place> = orphans.collect();
        self.doubtful.extend(orphans);
        let owners = object.owners.iter().filter_map(|uid| self.by_uid.get(uid)).cloned();
        let owners: Vec<Place> = owners.collect();
        self.doubtful.extend(owners);
        self.emptied(&object, &resource);
        if &*resource.kind == "CustomResourceDefinition" {
            self.undefine(&object);
        }
        Some(last)
    }

    fn disown(&mut self, owners: &[Box<str>], place: &Place) {
        for owner in owners {
            if let Some(known) = self.dependents.get_mut(owner) {
                known.remove(place);
                if known.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }
}

/// A resource of nothing, for objects whose resource is gone.
static EMPTY: std::sync::LazyLock<crate::api::kinds::Resource> =
    std::sync::LazyLock::new(|| crate::api::kinds::Resource {
        group: "".into(),
        plural: "".into(),
        singular: "".into(),
        kind: "".into(),
        list_kind: "".into(),
        short: Vec::new(),
        categories: Vec::new(),
        namespaced: false,
        custom: false,
        twin: false,
        versions: Vec::new(),
        habits: Default::default(),
        selectable: Vec::new(),
    });

/// Writes who manages what into an object.
pub(super) fn put_managers(value: &mut Value, managers: &Managers) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        if managers.is_empty() {
            meta.shift_remove("managedFields");
        } else {
            meta.insert("managedFields".into(), managers.write().into());
        }
    }
}

impl Ask<'_> {
    /// The object in the body, of the kind that the path names, without `apiVersion` and `kind`.
    pub(super) fn body(&self) -> Result<Value, Failure> {
        let content = self.call.content_type.split(';').next().unwrap_or_default().trim();
        let yaml = match content {
            "" | "application/json" => false,
            "application/yaml" | "application/apply-patch+yaml" => true,
            _ => {
                let known = "application/json, application/yaml";
                return Err(Failure::media_type(known));
            }
        };
        let mut value = parse(&self.call.body, yaml)?;
        self.says_what_it_is(&value, content == "application/apply-patch+yaml")?;
        self.strip(&mut value)?;
        Ok(value)
    }

    /// Checks that an object says its kind and version where nothing else tells: only kinds that every
    /// cluster has are known by the path alone, and by no means when they are applied.
    fn says_what_it_is(&self, value: &Value, applied: bool) -> Result<(), Failure> {
        if !applied && !self.resource.custom {
            return Ok(());
        }
        let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        if said("kind").is_empty() {
            let message = format!("Object 'Kind' is missing in '{value}'");
            return Err(Failure::bad_request(message));
        }
        let (version, due) = (said("apiVersion"), self.api_version());
        let what = if applied {
            format!(
                "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {due}"
            )
        } else {
            format!(
                "the API version in the data ({version}) does not match the expected API version ({due})"
            )
        };
        if version == due { Ok(()) } else { Err(Failure::bad_request(what)) }
    }

    /// Checks that an object names itself and its namespace as the path does, if at all.
    pub(super) fn named_so(&self, value: &Value) -> Result<(), Failure> {
        let said = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (name, namespace) = (said("/metadata/name"), said("/metadata/namespace"));
        let other = |what: &str, said: &str, is: &str| {
            let message = format!(
                "the {what} of the object ({said}) does not match the {what} on the URL ({is})"
            );
            Err(Failure::bad_request(message))
        };
        if !name.is_empty() && name != self.name() {
            return other("name", name, self.name());
        }
        if self.resource.namespaced && !namespace.is_empty() && namespace != self.namespace() {
            return other("namespace", namespace, self.namespace());
        }
        Ok(())
    }

    /// Checks that an object is of the kind that the path names, and takes `apiVersion` and `kind`
    /// out of it.
    pub(super) fn strip(&self, value: &mut Value) -> Result<(), Failure> {
        let (kind, version) = (&self.resource.kind, self.api_version());
        let Value::Object(fields) = value else {
            return Err(Failure::bad_request("the body must be an object"));
        };
        let mut take = |name: &str| fields.shift_remove(name).unwrap_or_default();
        let (said_version, said_kind) = (take("apiVersion"), take("kind"));
        let other = |said: &Value, is: &str| said.as_str().is_some_and(|said| said != is);
        if other(&said_version, &version) || other(&said_kind, kind) {
            let message = format!(
                "the object provided is unrecognized (must be of type {kind} in {version}): got {said_kind} in {said_version}"
            );
            return Err(Failure::bad_request(message));
        }
        fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        Ok(())
    }

    /// Drops what is not declared: the fields that were dropped.
    pub(super) fn decode(&self, value: &mut Value) -> Result<Vec<String>, Failure> {
        let version = self.version();
        let custom = self.resource.custom;
        let found = check::decode(&version.types, version.root, value, custom);
        if let Some(wrong) = found.wrong {
            let (kind, version) = (&self.resource.kind, &version.name);
            let message = format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: json: cannot unmarshal {wrong}"
            );
            return Err(Failure::bad_request(message));
        }
        if self.resource.twin {
            super::twin::stored(value);
        }
        match self.query.text("fieldValidation") {
            Some("Strict") if !found.unknown.is_empty() => {
                let all = found.unknown.iter().map(|field| format!("unknown field {field:?}"));
                let all: Vec<String> = all.collect();
                let message = format!("strict decoding error: {}", all.join(", "));
                Err(Failure::bad_request(message))
            }
            Some("Ignore") => Ok(Vec::new()),
            _ => Ok(found.unknown),
        }
    }

    pub(super) fn scope<'s>(&'s self, ignored: &'s Set) -> Reach<'s> {
        Reach {
            types: &self.version().types,
            root: self.version().root,
            ignored,
            version: self.api_version(),
        }
    }
}

/// What [`Scope`] borrows from.
pub(super) struct Reach<'s> {
    types: &'s crate::shape::Types,
    root: crate::shape::NodeId,
    ignored: &'s Set,
    version: String,
}

impl Reach<'_> {
    pub(super) fn scope(&self) -> Scope<'_> {
        Scope {
            types: self.types,
            root: self.root,
            ignored: self.ignored,
            api_version: &self.version,
        }
    }

    pub(super) fn updated(&self, live: &Value, new: &Value, managers: &mut Managers, who: &Who) {
        self.scope().updated(live, new, managers, who);
    }
}

/// A body, in JSON or YAML.
pub(super) fn parse(body: &[u8], yaml: bool) -> Result<Value, Failure> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(_) if yaml => {
            let text = std::str::from_utf8(body);
            let text = text.map_err(|error| Failure::bad_request(error.to_string()))?;
            let wrong = |error: serde_saphyr::Error| {
                Failure::bad_request(format!("error converting YAML to JSON: {error}"))
            };
            serde_saphyr::from_str(text).map_err(wrong)
        }
        Err(error) => Err(Failure::bad_request(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))),
    }
}
