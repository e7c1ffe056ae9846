//! Reading: one object, lists in pages, and the beginning of watches.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, Ask, Cluster, Payload, Stream};
use crate::api::failure::{Cause, Details, Failure};
use crate::api::select;
use crate::store::{Field, Key, Object, Selection, Watch};

impl Cluster {
    pub(super) fn get(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let object = self.found(ask)?;
        Ok(ask.object(200, object))
    }

    pub(super) fn list(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let selection = selection(ask)?;
        let page = self.page(ask)?;
        let table = self.tables.get(ask.id).ok_or_else(Failure::no_path)?;
        let gone = || {
            let message = "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.";
            Failure::expired(message)
        };
        let mut all = table.at(page.revision, &selection, page.after.as_ref()).ok_or_else(gone)?;
        let limit = ask.query.number("limit").and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let left = all.len().saturating_sub(limit);
        all.truncate(limit);
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let Some(last) = all.last().filter(|_| left > 0) {
            metadata["continue"] = token(page.revision, last).into();
            if selection.all_of() {
                metadata["remainingItemCount"] = left.into();
            }
        }
        Ok(Answer::text(200, written(ask, &all, &metadata)))
    }

    /// Which version to list, and after which object.
    fn page(&self, ask: &Ask<'_>) -> Result<Page, Failure> {
        matched(ask)?;
        if let Some(token) = ask.query.text("continue") {
            let wrong = || Failure::bad_request("continue key is not valid");
            return read_token(token).ok_or_else(wrong);
        }
        let newest = Page { revision: self.revision, after: None };
        let Some(asked) = self.asked(ask)? else { return Ok(newest) };
        let exact = ask.query.text("resourceVersionMatch") == Some("Exact");
        Ok(if exact { Page { revision: asked, after: None } } else { newest })
    }

    /// The version that a query names, if it names one that matters.
    fn asked(&self, ask: &Ask<'_>) -> Result<Option<u64>, Failure> {
        let Some(text) = ask.query.text("resourceVersion") else { return Ok(None) };
        let wrong = || {
            let cause =
                Cause::invalid("resourceVersion", &Value::from(text), "strconv.ParseUint: parsing");
            Failure::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
        };
        let asked: u64 = text.parse().map_err(|_| wrong())?;
        if asked > self.revision && !ask.query.flag("watch") {
            let current = self.revision;
            let message = format!("Too large resource version: {asked}, current: {current}");
            let cause =
                Cause::of("ResourceVersionTooLarge", "", "Too large resource version".into());
            let details = Details { causes: vec![cause], ..Details::default() };
            let failure = Failure::new(504, "Timeout", format!("Timeout: {message}"));
            return Err(Failure {
                details: Some(Box::new(details)),
                retry_after_s: Some(1),
                ..failure
            });
        }
        Ok(Some(asked).filter(|asked| *asked > 0))
    }

    pub(super) fn watch(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let selection = selection(ask)?;
        let asked = self.asked(ask)?;
        let table = self.tables.get(ask.id).ok_or_else(Failure::no_path)?;
        let sends = ask.query.flag("sendInitialEvents");
        if sends && ask.query.text("resourceVersionMatch") != Some("NotOlderThan") {
            let why = "sendInitialEvents is forbidden for watch unless resourceVersionMatch is set to NotOlderThan";
            let cause = Cause::forbidden("resourceVersionMatch", why);
            return Err(Failure::invalid("meta.k8s.io", "ListOptions", "", vec![cause]));
        }
        let lasts = ask.query.number("timeoutSeconds").filter(|seconds| *seconds > 0);
        let lasts = lasts.map_or(self.limits.watch_ms, |seconds| seconds.saturating_mul(1000));
        let from = if sends { self.revision } else { asked.unwrap_or(self.revision) };
        let ends = ask.now_ms.saturating_add(lasts);
        let mut watch = Watch::of(selection, ask.feed(), from, ends);
        if sends || asked.is_none() {
            let all = table.iter(watch.selection.namespace.as_deref());
            let held = all.filter(|(_, object)| watch.selection.holds(object));
            watch.initial = held.map(|(_, object)| Arc::clone(object)).collect();
            watch.initial.reverse();
        }
        if ask.query.flag("allowWatchBookmarks") {
            watch.marks_initial = sends;
            watch.bookmark_every_ms = Some(self.limits.bookmark_every_ms);
            watch.bookmark_at_ms = ask.now_ms.saturating_add(self.limits.bookmark_every_ms);
        }
        self.watches += 1;
        let stream = Stream::of(watch, ask.id, self.watches);
        let headers = vec![("content-type", "application/json".to_owned())];
        Ok(Answer { status: 200, headers, payload: Payload::Stream(Box::new(stream)) })
    }
}

/// Whether a list says in a way that servers take which version it wants.
fn matched(ask: &Ask<'_>) -> Result<(), Failure> {
    let Some(how) = ask.query.text("resourceVersionMatch") else { return Ok(()) };
    let version = ask.query.text("resourceVersion").unwrap_or_default();
    let cause = if ask.query.text("continue").is_some() {
        let why = "resourceVersionMatch is forbidden for continue";
        Cause::forbidden("resourceVersionMatch", why)
    } else if version.is_empty() {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        Cause::forbidden("resourceVersionMatch", why)
    } else if !["Exact", "NotOlderThan"].contains(&how) {
        let message = format!(
            "Unsupported value: {how:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
        );
        Cause::of("FieldValueNotSupported", "resourceVersionMatch", message)
    } else if how == "Exact" && version == "0" {
        let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        Cause::forbidden("resourceVersionMatch", why)
    } else {
        return Ok(());
    };
    Err(Failure::invalid("meta.k8s.io", "ListOptions", "", vec![cause]))
}

struct Page {
    revision: u64,
    after: Option<Key>,
}

fn token(revision: u64, last: &Object) -> String {
    let start = Key::of(&last.namespace, &last.name);
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start.text()});
    STANDARD.encode(token.to_string())
}

fn read_token(token: &str) -> Option<Page> {
    let token: Value = serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()?;
    let after = Key::read(token.get("start")?.as_str()?);
    Some(Page { revision: token.get("rv")?.as_u64()?, after: Some(after) })
}

/// What a query selects.
pub(super) fn selection(ask: &Ask<'_>) -> Result<Selection, Failure> {
    let labels = select::labels(ask.query.text("labelSelector").unwrap_or_default())?;
    let wanted = select::fields(ask.query.text("fieldSelector").unwrap_or_default())?;
    let fields = wanted.into_iter().map(|one| {
        let field = Field::named(&ask.resource, &one.key);
        let wrong = || Failure::bad_request(format!("field label not supported: {}", one.key));
        field.map(|field| (field, one.clone())).ok_or_else(wrong)
    });
    Ok(Selection {
        namespace: ask.target.namespace.as_deref().map(Into::into),
        labels,
        fields: fields.collect::<Result<_, Failure>>()?,
    })
}

/// A list. Its entries name their kind where definitions brought it, as servers do.
pub(super) fn written(ask: &Ask<'_>, all: &[Arc<Object>], metadata: &Value) -> Vec<u8> {
    let mut feed = ask.feed();
    let (kind, version) = if feed.partial {
        ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
    } else {
        (ask.resource.list_kind.to_string(), ask.api_version())
    };
    if !feed.partial && !ask.resource.custom {
        feed.opening = "{".into();
    }
    let size: usize = all.iter().map(|object| object.rest().len() + 96).sum();
    let mut text = Vec::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    );
    text.extend_from_slice(head.as_bytes());
    for (at, object) in all.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        feed.write(object, &mut text);
    }
    text.extend_from_slice(b"]}");
    text
}
