//! What applying resources would change: the resources themselves, and what the operator would then make of them.
//!
//! The API server is asked to apply the resources without writing; what it would store goes into a [`World`] that
//! knows all the rest of the cluster, and what is planned then is tried in the same way.
//!
//! [`World`]: pilotage_plan::cluster::World

use std::collections::BTreeSet;
use std::sync::Arc;

use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::cluster::{
    Action, Apply, Failure, MANAGER, Plan, Ref, Trouble, Watched, trouble,
};
use pilotage_plan::crd::Names;
use serde_json::{Map, Value, json};

use super::call::{Calls, Manner, Path};
use super::change::{Change, judged, untried};
use super::reconcile::{Sight, list, moved, plans};
use super::{Operator, Shared};

/// What would come of resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// The resources first, then what would be made of them.
    pub changes: Vec<Change>,
    /// What had better be known: resources that would not count, and why.
    pub notes: Vec<String>,
}

/// The name that people's `kubectl apply --server-side` writes by.
const PEOPLE: &str = "kubectl";

/// What `kubectl apply` without `--server-side` keeps of what it sent.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Previews.
pub(super) async fn preview(shared: &Arc<Shared>, resources: &[Value]) -> Result<Preview, Failure> {
    let offered = list(shared, Sight::Peoples).await?;
    if !offered.is_ours {
        let message = format!(
            "the cluster does not serve {API_VERSION}; install the definitions with `pilotage install`, or look at `pilotage render`"
        );
        return Err(Failure { code: 404, message, ..Failure::default() });
    }
    // What there is to do anyway is no change of these resources.
    moved(shared);
    let before = plans(shared).await?;
    let mut preview = Preview::default();
    if !before.is_empty() {
        preview.notes.push(format!(
            "of {} resources the operator has not made what they say: see `pilotage operator --dry-run`",
            before.len()
        ));
    }
    for resource in resources {
        let Some(kind) = resource["kind"].as_str().and_then(Kind::parse) else { continue };
        let change = resource_change(&shared.calls, kind, resource).await?;
        let namespace = change.of()[2];
        let only = shared.settings.namespace.as_deref().filter(|only| *only != namespace);
        match only {
            Some(only) => preview.notes.push(format!(
                "{} {namespace}/{} would not count: the operator looks at the namespace {only} alone",
                kind.name(),
                change.of()[3]
            )),
            None if change.refusal.is_none() => observe(shared, kind, &change),
            None => {}
        }
        preview.changes.push(change);
    }
    let planned = plans(shared).await?;
    for (at, plan) in planned {
        if before.contains(&(at.clone(), plan.clone())) {
            continue;
        }
        made(shared, &at, &plan, &mut preview).await?;
    }
    Ok(preview)
}

/// Previews for somebody who may not look at the whole cluster: namespace by namespace, as far as resources name them.
pub(super) async fn by_namespace(
    operator: &Operator,
    resources: &[Value],
) -> Result<Preview, Failure> {
    let namespace = |one: &Value| one["metadata"]["namespace"].as_str().map(str::to_owned);
    let all: BTreeSet<String> = resources.iter().filter_map(namespace).collect();
    let mut whole = Preview::default();
    for one in &all {
        let own = |resource: &&Value| namespace(resource).as_ref() == Some(one);
        let own: Vec<Value> = resources.iter().filter(own).cloned().collect();
        let found = preview(&operator.within(one).shared, &own).await?;
        whole.changes.extend(found.changes);
        whole.notes.extend(found.notes);
    }
    whole.notes.push(format!(
        "you may not look at all namespaces: whether a name is taken in another one than {}, and Fleets, Tenants and \
         Routes that are there, were not seen",
        all.into_iter().collect::<Vec<_>>().join(", ")
    ));
    Ok(whole)
}

/// What applying a resource would do to it, as `kubectl apply` does.
async fn resource_change(calls: &Calls, kind: Kind, resource: &Value) -> Result<Change, Failure> {
    let text = |name: &str| resource["metadata"][name].as_str().unwrap_or_default();
    let path = Path {
        api_version: API_VERSION,
        plural: Names::of(kind).plural,
        namespace: text("namespace"),
        name: text("name"),
        part: "",
    };
    let manner = Manner { manager: PEOPLE, force: true, dry_run: true };
    let before = calls.get(path).await?;
    let last =
        before.as_ref().and_then(|before| before["metadata"]["annotations"][LAST_APPLIED].as_str());
    let tried = match last.and_then(|last| serde_json::from_str::<Value>(last).ok()) {
        // Who applies so takes away what was in the last manifest and is in this one no more.
        Some(last) => calls.merge_as(path, &merge(&last, resource), manner).await,
        None => calls.apply_as(path, resource, manner).await,
    };
    judged(before, resource, tried)
}

/// The fields of `wanted`, and those that go since only `last` has them.
fn merge(last: &Value, wanted: &Value) -> Value {
    let (Value::Object(last), Value::Object(wanted)) = (last, wanted) else {
        return wanted.clone();
    };
    let gone = last.keys().filter(|name| !wanted.contains_key(*name));
    let mut all: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
    for (name, value) in wanted {
        let value = last.get(name).map_or_else(|| value.clone(), |last| merge(last, value));
        all.insert(name.clone(), value);
    }
    Value::Object(all)
}

/// Tells the world of a resource as it would be.
fn observe(shared: &Shared, kind: Kind, change: &Change) {
    let Some(mut object) = change.after.clone() else { return };
    let before = change.before.clone().unwrap_or_default();
    let metadata = &mut object["metadata"];
    if !metadata["uid"].is_string() {
        metadata["uid"] = "00000000-0000-4000-8000-000000000000".into();
    }
    metadata["resourceVersion"] = u64::MAX.to_string().into();
    let generation = before["metadata"]["generation"].as_u64().unwrap_or_default();
    let is_other = before["spec"] != object["spec"];
    object["metadata"]["generation"] = (generation + u64::from(is_other)).into();
    shared.world.lock().observe(Watched::Resources(kind), &object);
}

/// What would be done about a resource.
async fn made(
    shared: &Shared,
    at: &Ref,
    plan: &Plan,
    preview: &mut Preview,
) -> Result<(), Failure> {
    let manner = Manner { manager: MANAGER, force: true, dry_run: true };
    for action in &plan.actions {
        match action {
            Action::Apply(apply) => {
                preview.changes.push(applied(&shared.calls, apply, manner).await?);
            }
            Action::Delete { sort, namespace, name, .. } => {
                let path = Path::of(*sort, namespace, name);
                preview.changes.extend(shared.calls.get(path).await?.map(Change::end));
            }
            Action::Key { secret, .. } => {
                let mut after = secret.clone();
                after["data"] = json!({ "key": "" });
                let change =
                    Change { before: None, after: Some(after), is_exact: false, refusal: None };
                preview.changes.push(change);
            }
            Action::Status { status, .. } => preview.notes.extend(refusals(at, status)),
            // What moves does so whatever the resources say.
            Action::Tell { .. }
            | Action::Keys { .. }
            | Action::Release { .. }
            | Action::End { .. }
            | Action::Report { .. } => {}
        }
    }
    Ok(())
}

/// What the operator's applying an object would do to it. What the user has no right to, the operator may have: then
/// it is shown as it was rendered.
async fn applied(calls: &Calls, apply: &Apply, manner: Manner) -> Result<Change, Failure> {
    let path = Path::of(apply.sort, apply.namespace(), apply.name());
    let is_right = |failure: &Failure| trouble(failure) == Some(Trouble::Forbidden);
    let before = match calls.get(path).await {
        Err(failure) if is_right(&failure) => None,
        before => before?,
    };
    match calls.apply_as(path, &apply.object, manner).await {
        Err(failure) if is_right(&failure) => Ok(untried(before, &apply.object)),
        tried => judged(before, &apply.object, tried),
    }
}

/// Why a resource would not count, if it would not.
fn refusals(at: &Ref, status: &Value) -> Option<String> {
    let mut all = status["conditions"].as_array()?.iter();
    let one = all.find(|one| one["type"] == "Accepted" && one["status"] == "False")?;
    let text = |name: &str| one[name].as_str().unwrap_or_default();
    let Ref { kind, namespace, name } = at;
    Some(format!(
        "{kind} {namespace}/{name} would not count: {}: {}",
        text("reason"),
        text("message")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_and_is_no_more_goes() {
        let last = json!({"spec": {"a": 1, "b": {"c": 2, "d": 3}}});
        let wanted = json!({"spec": {"b": {"d": 4}, "e": [1]}});
        let expect = json!({"spec": {"a": null, "b": {"c": null, "d": 4}, "e": [1]}});
        assert_eq!(merge(&last, &wanted), expect);
    }
}
