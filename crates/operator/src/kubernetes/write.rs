//! Carries out what was planned for one resource, in order, and tells the world what came of it.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use pilotage_plan::api::API_VERSION;
use pilotage_plan::cluster::{
    About, Action, Apply, Failure, KEYS, Keys, MANAGER, Note, Plan, Ref, Row, Sort, Why,
};
use pilotage_plan::crd::Names;
use pilotage_shell::secret::Secret;
use serde_json::{Value, json};

use super::call::{Manner, Path};
use super::{Shared, chance};
use crate::scaling;

/// Carries out a plan. What is left when the API server goes away is planned again.
pub(super) async fn carry_out(shared: &Shared, recorder: &Recorder, at: Ref, plan: Plan) -> Ref {
    for action in &plan.actions {
        if !shared.leads() || shared.gate.shut_until().is_some() {
            shared.world.lock().again(&at);
            break;
        }
        shared.gate.pass().await;
        let done = act(shared, recorder, &at, action).await;
        shared.counters.wrote(action, done.as_ref().copied());
        match done {
            Ok(()) => shared.gate.answered(),
            Err(failure) if failure.is_of_ending_namespace() => {
                ends(shared, &at.namespace);
                break;
            }
            Err(failure) => {
                refused(shared, &at, action, &failure);
            }
        }
    }
    at
}

/// Keeps all keys; what came of it.
pub(super) async fn keep(shared: &Shared, action: &Action) -> Result<(), Failure> {
    let Action::Keys { namespace, keys } = action else { return Ok(()) };
    shared.gate.pass().await;
    let done = keep_keys(shared, namespace, keys).await;
    shared.counters.wrote(action, done.as_ref().copied());
    if done.is_ok() {
        shared.gate.answered();
    } else {
        shared.world.lock().keys_refused();
    }
    done
}

/// What is in it goes as well, and is heard of.
fn ends(shared: &Shared, namespace: &str) {
    if shared.world.lock().ends(namespace) {
        tracing::info!(namespace, "a namespace is being deleted; nothing more is made in it");
    }
}

fn refused(shared: &Shared, at: &Ref, action: &Action, failure: &Failure) {
    tracing::warn!(
        resource = %at.name, namespace = %at.namespace, code = failure.code,
        error = failure.message, "a write failed"
    );
    if failure.is_servers() {
        shared.gate.failed(failure);
    }
    let now_ms = shared.now_ms();
    shared.world.lock().refused(now_ms, at, action, failure, chance());
}

async fn act(
    shared: &Shared,
    recorder: &Recorder,
    at: &Ref,
    action: &Action,
) -> Result<(), Failure> {
    match action {
        Action::Apply(apply) => {
            let object = applied(shared, apply).await?;
            let now_ms = shared.now_ms();
            shared.world.lock().applied(now_ms, at, apply, &object);
        }
        Action::Delete { sort, namespace, name, uid } => {
            let left = deleted(shared, *sort, (namespace, name), uid).await?;
            shared.world.lock().deleted(at, *sort, name, left.as_ref());
        }
        Action::Status { about, status } => status_of(shared, about, status).await?,
        Action::Tell { about, note } => tell(recorder, about, note).await,
        Action::Key { about, secret } => {
            let key = key(shared, secret).await?;
            let now_ms = shared.now_ms();
            shared.world.lock().key(now_ms, about, key);
        }
        // All keys are kept by `keep`, and what is about no resource of ours is done by `moves`.
        Action::Keys { .. }
        | Action::Release { .. }
        | Action::End { .. }
        | Action::Report { .. } => {}
    }
    Ok(())
}

/// Who cannot be told is not waited for.
async fn tell(recorder: &Recorder, about: &About, note: &Note) {
    if let Err(error) = recorder.publish(&event(note), &reference(about)).await {
        tracing::debug!(error = %error, "an event was not told");
    }
}

async fn deleted(
    shared: &Shared,
    sort: Sort,
    (namespace, name): (&str, &str),
    uid: &str,
) -> Result<Option<Value>, Failure> {
    let row = sort.row();
    let Row { api_version, plural, .. } = row;
    let left = shared.calls.delete(Path { api_version, plural, namespace, name, part: "" }, uid);
    let left = left.await?;
    tracing::info!(kind = row.kind, name, namespace, "deleted");
    Ok(left)
}

async fn applied(shared: &Shared, apply: &Apply) -> Result<Value, Failure> {
    let object = written(shared, apply).await?;
    tracing::info!(
        kind = apply.sort.row().kind, name = apply.name(), namespace = apply.namespace(),
        why = ?apply.why, "applied"
    );
    Ok(object)
}

async fn written(shared: &Shared, apply: &Apply) -> Result<Value, Failure> {
    let path = Path::of(apply.sort, apply.namespace(), apply.name());
    if apply.why != Why::Absent {
        if apply.why == Why::Changed && apply.leaves_number() {
            hand_over(shared, path).await?;
        }
        return shared.calls.apply(path, &apply.object, true).await;
    }
    // What somebody else made under this name would be merged with ours.
    let there = shared.calls.get(path).await?;
    let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"].clone();
    match there {
        None => shared.calls.apply(path, &apply.object, false).await,
        Some(there) if owner(&there) == owner(&apply.object) => {
            shared.calls.apply(path, &apply.object, true).await
        }
        Some(_) => {
            let message = "one of this name is there already and is not of this Model".to_owned();
            Err(Failure { code: 409, message, ..Failure::default() })
        }
    }
}

/// Gives the number of copies to who scales, where it was ours so far: a field that is applied no more and
/// is nobody's falls back to the API server's default, which is one copy.
async fn hand_over(shared: &Shared, path: Path<'_>) -> Result<(), Failure> {
    let Some(there) = shared.calls.get(path).await? else { return Ok(()) };
    let managers = there["metadata"]["managedFields"].as_array();
    let is_ours = managers.into_iter().flatten().any(|one| {
        one["manager"] == MANAGER
            && one["operation"] == "Apply"
            && one["fieldsV1"]["f:spec"]["f:replicas"].is_object()
    });
    if !is_ours {
        return Ok(());
    }
    let number = json!({
        "apiVersion": there["apiVersion"],
        "kind": there["kind"],
        "metadata": { "name": path.name, "namespace": path.namespace },
        "spec": { "replicas": there["spec"]["replicas"] },
    });
    let manner = Manner { manager: scaling::MANAGER, force: true, dry_run: false };
    shared.calls.apply_as(path, &number, manner).await?;
    tracing::info!(name = path.name, namespace = path.namespace, "handed over a number of copies");
    Ok(())
}

async fn status_of(shared: &Shared, about: &About, status: &Value) -> Result<(), Failure> {
    let path = Path {
        api_version: API_VERSION,
        plural: Names::of(about.kind).plural,
        namespace: &about.namespace,
        name: &about.name,
        part: "status",
    };
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": about.kind.name(),
        "metadata": { "name": about.name, "namespace": about.namespace },
        "status": status,
    });
    match shared.calls.apply(path, &object, true).await {
        Ok(object) => {
            use pilotage_plan::cluster::Watched;
            shared.world.lock().observe(Watched::Resources(about.kind), &object);
            Ok(())
        }
        // It was deleted meanwhile.
        Err(failure) if failure.code == 404 => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// A Model's key, where its Secret is there and has one.
pub(super) async fn existing_key(
    shared: &Shared,
    secret: &Value,
) -> Result<Option<String>, Failure> {
    let text = |name: &str| secret["metadata"][name].as_str().unwrap_or_default();
    let there = shared.calls.get(secret_path(text("namespace"), text("name"))).await?;
    let key = there.as_ref().and_then(|there| unbase64(there["data"]["key"].as_str()?));
    Ok(key.filter(|key| !key.is_empty()))
}

/// Reads a Model's key, or makes it.
async fn key(shared: &Shared, secret: &Value) -> Result<String, Failure> {
    let text = |name: &str| secret["metadata"][name].as_str().unwrap_or_default();
    let path = secret_path(text("namespace"), text("name"));
    let there = match shared.calls.get(path).await? {
        Some(there) => there,
        None => {
            let made = Secret::generate()
                .map_err(|error| Failure { message: error.to_string(), ..Failure::default() })?;
            let mut secret = secret.clone();
            secret["data"] = json!({ "key": base64(made.expose()) });
            match shared.calls.create(path, &secret).await {
                Ok(made) => made,
                // Another one was faster.
                Err(failure) if failure.code == 409 => {
                    shared.calls.get(path).await?.unwrap_or_default()
                }
                Err(failure) => return Err(failure),
            }
        }
    };
    let key = there["data"]["key"].as_str().and_then(unbase64).filter(|key| !key.is_empty());
    key.ok_or_else(|| Failure {
        code: 422,
        message: "the Secret has no entry `key`; delete it, and it is made anew".to_owned(),
        ..Failure::default()
    })
}

/// What the Secret of all keys holds.
pub(super) async fn collected(shared: &Shared) -> Result<Keys, Failure> {
    let there = shared.calls.get(secret_path(&shared.settings.cluster.system, KEYS)).await?;
    let data = there.as_ref().and_then(|there| there["data"].as_object());
    let entry = |(name, value): (&String, &Value)| Some((name.clone(), unbase64(value.as_str()?)?));
    Ok(Keys(data.into_iter().flatten().filter_map(entry).collect()))
}

async fn keep_keys(shared: &Shared, namespace: &str, keys: &Keys) -> Result<(), Failure> {
    let data: serde_json::Map<String, Value> =
        keys.0.iter().map(|(name, key)| (name.clone(), base64(key).into())).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": KEYS, "namespace": namespace,
            "labels": {
                "app.kubernetes.io/part-of": "pilotage",
                "app.kubernetes.io/managed-by": "pilotage",
            },
        },
        "data": data,
    });
    shared.calls.apply(secret_path(namespace, KEYS), &object, true).await?;
    shared.world.lock().collected(keys.clone());
    Ok(())
}

const fn secret_path<'a>(namespace: &'a str, name: &'a str) -> Path<'a> {
    Path { api_version: "v1", plural: "secrets", namespace, name, part: "" }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn unbase64(text: &str) -> Option<String> {
    use base64::Engine as _;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
}

pub(super) fn event(note: &Note) -> Event {
    Event {
        type_: if note.is_warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.clone(),
        note: Some(note.message.chars().take(NOTE_CHARS_MAX).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

/// Longest note of an event that API servers take.
const NOTE_CHARS_MAX: usize = 1000;

fn reference(about: &About) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(about.kind.name().to_owned()),
        name: Some(about.name.clone()),
        namespace: Some(about.namespace.clone()),
        uid: Some(about.uid.clone()),
        ..ObjectReference::default()
    }
}
