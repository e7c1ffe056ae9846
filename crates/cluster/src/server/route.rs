//! From a call to what does it, and back to an answer; faults and records are on the way.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{Answer, Ask, Cluster, Payload};
use crate::api::call::{Call, Path, Query, Target, path};
use crate::api::discover;
use crate::api::failure::{Cause, Failure, Named};
use crate::fault::{Outcome, Subject};
use crate::record::Record;

/// Letters of a manager's name.
const MANAGER_MAX: usize = 128;

impl Cluster {
    /// Does what a call asks for. Faults that delay are for who sends the answer: see
    /// [`Cluster::delay_ms`].
    pub fn handle(&mut self, now_ms: u64, call: &Call) -> Answer {
        let (named, query) = (path(&call.path), Query::read(&call.query));
        let subject = subject(call, &named, &query);
        self.establish(now_ms);
        let before = self.revision;
        let outcome = self.faults.outcome(now_ms, &subject);
        let answer = match &outcome {
            Outcome::Refused(failure) => Answer::failed(failure),
            Outcome::Cut => cut(),
            Outcome::Done | Outcome::DoneUnheard => self.answer(now_ms, call, &named, &query),
        };
        let unheard = matches!(outcome, Outcome::DoneUnheard);
        self.records.add(Record {
            at_ms: now_ms,
            verb: subject.verb,
            group: subject.group.into(),
            resource: subject.resource,
            namespace: subject.namespace.into(),
            name: subject.name.into(),
            manager: manager(call, &query),
            user: call.user.clone(),
            dry_run: query.text("dryRun").is_some(),
            status: if matches!(answer.payload, Payload::Lost) { 0 } else { answer.status },
            changed: self.revision > before,
            heard: !unheard,
        });
        if self.limits.collects_at_once {
            self.collect(now_ms);
        }
        if unheard { cut() } else { answer }
    }

    /// How long the answer to a call is to be held back, by the faults that there are.
    pub fn delay_ms(&self, call: &Call) -> u64 {
        let (named, query) = (path(&call.path), Query::read(&call.query));
        self.faults.delay_ms(&subject(call, &named, &query))
    }

    /// Does what the cluster itself asks for: past faults and records.
    pub(crate) fn inside(
        &mut self,
        now_ms: u64,
        method: Method,
        target: &str,
        body: &Value,
    ) -> (u16, Value) {
        let (path_text, query) = target.split_once('?').unwrap_or((target, ""));
        let patch = method == Method::PATCH;
        let applies = patch && query.contains("force");
        let content = match (patch, applies) {
            (true, true) => "application/apply-patch+yaml",
            (true, false) => "application/merge-patch+json",
            _ => "application/json",
        };
        let call = Call {
            method,
            path: path_text.into(),
            query: query.into(),
            content_type: content.into(),
            accept: "application/json".into(),
            user_agent: "cluster".into(),
            user: String::new(),
            body: if body.is_null() { Bytes::new() } else { body.to_string().into() },
        };
        let answer = self.answer(now_ms, &call, &path(&call.path), &Query::read(&call.query));
        if self.limits.collects_at_once {
            self.collect(now_ms);
        }
        match answer.payload {
            Payload::Text(text) => {
                (answer.status, serde_json::from_slice(&text).unwrap_or_default())
            }
            Payload::Stream(_) | Payload::Lost => (answer.status, Value::Null),
        }
    }

    fn answer(&mut self, now_ms: u64, call: &Call, named: &Path, query: &Query) -> Answer {
        let done = match named {
            Path::Objects(target) if target.plural == "selfsubjectaccessreviews" => {
                self.review(call)
            }
            Path::Objects(target) => self.ask(now_ms, call, target, query),
            _ if call.method != Method::GET => Err(Failure::method_not_allowed()),
            Path::Core => Ok(Answer::json(200, &discover::core())),
            Path::Groups => Ok(Answer::json(200, &discover::groups(&self.kinds))),
            Path::Group(group) => {
                let found = discover::group(&self.kinds, group).ok_or_else(Failure::no_path);
                found.map(|value| Answer::json(200, &value))
            }
            Path::Resources(group, version) => {
                let found = discover::resources(&self.kinds, group, version);
                found.map(|value| Answer::json(200, &value)).ok_or_else(Failure::no_path)
            }
            Path::Version => Ok(Answer::json(200, &discover::version(self.minor))),
            Path::Health => Ok(Answer {
                status: 200,
                headers: vec![("content-type", "text/plain; charset=utf-8".into())],
                payload: Payload::Text(Bytes::from_static(b"ok")),
            }),
            Path::Unknown => Err(Failure::no_path()),
        };
        done.unwrap_or_else(|failure| Answer::failed(&failure))
    }

    fn ask(
        &mut self,
        now_ms: u64,
        call: &Call,
        target: &Target,
        query: &Query,
    ) -> Result<Answer, Failure> {
        let (id, resource) =
            self.kinds.find(&target.group, &target.plural).ok_or_else(Failure::no_path)?;
        let (id, resource) = (self.kinds.stored(id, resource), Arc::clone(resource));
        let version = resource
            .versions
            .iter()
            .position(|version| version.served && *version.name == *target.version)
            .ok_or_else(Failure::no_path)?;
        let one = target.name.is_some();
        if (target.namespace.is_some() && !resource.namespaced)
            || (one && resource.namespaced && target.namespace.is_none())
        {
            return Err(Failure::no_path());
        }
        let too_large = call.body.len() > self.limits.body_bytes_max;
        if too_large {
            let message = "the request is too large: limit is 3145728";
            return Err(Failure::new(413, "RequestEntityTooLarge", message));
        }
        let dry_run = match query.text("dryRun") {
            None => false,
            Some("All") => true,
            Some(other) => {
                let message = format!("Unsupported value: {other:?}: supported values: \"All\"");
                let cause = Cause::of("FieldValueNotSupported", "dryRun", message);
                return Err(Failure::invalid("meta.k8s.io", "Options", "", vec![cause]));
            }
        };
        let manager = manager(call, query);
        let ask = Ask { now_ms, id, resource, version, target, query, call, manager, dry_run };
        self.act(&ask)
    }

    fn act(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let named = ask.target.name.is_some();
        match (&ask.call.method, named, ask.target.subresource.as_str()) {
            (&Method::GET, true, "" | "status") => self.get(ask),
            (&Method::GET, false, "") if ask.query.flag("watch") => self.watch(ask),
            (&Method::GET, false, "") => self.list(ask),
            (&Method::POST, false, "") => self.post(ask),
            (&Method::PUT, true, "") => self.put(ask),
            (&Method::PATCH, true, "") => self.patch(ask),
            (&Method::DELETE, true, "") => self.delete(ask),
            (&Method::DELETE, false, "") => self.delete_all(ask),
            (&Method::PUT, true, "status") if ask.version().status => self.put(ask),
            (&Method::PATCH, true, "status") if ask.version().status => self.patch(ask),
            (_, true, "scale") if ask.version().scale.is_some() => self.scale(ask),
            (&Method::POST, true, "eviction") if &*ask.resource.plural == "pods" => self.evict(ask),
            (&Method::POST, true, "binding") if &*ask.resource.plural == "pods" => self.bind(ask),
            (&Method::PUT, true, "finalize") if &*ask.resource.plural == "namespaces" => {
                self.put(ask)
            }
            (_, _, "" | "status" | "scale") => Err(Failure::method_not_allowed()),
            _ => Err(Failure::no_path()),
        }
    }

    /// The object that a call names.
    pub(super) fn found(&self, ask: &Ask<'_>) -> Result<&Arc<crate::store::Object>, Failure> {
        let table = self.tables.get(ask.id).ok_or_else(Failure::no_path)?;
        let missing = || {
            let named = Named { name: ask.name(), ..ask.named("") };
            Failure::not_found(named)
        };
        table.get(&ask.key()).ok_or_else(missing)
    }
}

fn cut() -> Answer {
    Answer { status: 503, headers: Vec::new(), payload: Payload::Lost }
}

/// What a call is, to faults and records.
fn subject<'a>(call: &'a Call, named: &'a Path, query: &Query) -> Subject<'a> {
    let none = Subject { verb: "get", user: &call.user, ..Subject::default() };
    let Path::Objects(target) = named else { return none };
    let one = target.name.is_some();
    let verb = match (&call.method, one) {
        (&Method::GET, true) => "get",
        (&Method::GET, false) if query.flag("watch") => "watch",
        (&Method::GET, false) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) if call.content_type.starts_with("application/apply-patch") => "apply",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => "",
    };
    let resource = if target.subresource.is_empty() {
        target.plural.clone()
    } else {
        format!("{}/{}", target.plural, target.subresource)
    };
    Subject {
        verb,
        group: &target.group,
        resource,
        namespace: target.namespace.as_deref().unwrap_or_default(),
        name: target.name.as_deref().unwrap_or_default(),
        ..none
    }
}

/// Who writes: who says so, or the program that calls.
fn manager(call: &Call, query: &Query) -> String {
    let program = call.user_agent.split('/').next().unwrap_or_default();
    let said = query.text("fieldManager").unwrap_or(program);
    let said = if said.is_empty() { "unknown" } else { said };
    said.chars().take(MANAGER_MAX).collect()
}

/// A success that says what went.
pub(super) fn success(ask: &Ask<'_>, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": ask.resource.plural, "uid": uid});
    if !ask.resource.group.is_empty() {
        details["group"] = ask.resource.group.as_ref().into();
    }
    let (kind, version) = ("Status", "v1");
    json!({"kind": kind, "apiVersion": version, "metadata": {}, "status": "Success", "details": details})
}
