//! Carries out moves: lets go of pods, ends them, tells of nodes; many at once, since the time of nodes is short.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, Recorder};
use pilotage_plan::cluster::{Action, Failure, Plan, Target};
use serde_json::Value;

use super::call::Path;
use super::write::event;
use super::{Shared, chance};

/// Pods that are moved at once.
const AT_ONCE_MAX: usize = 16;

/// Carries out a plan. What is left when the API server goes away is planned again.
pub(super) async fn carry_out(shared: Arc<Shared>, recorder: Recorder, plan: Plan) {
    let all =
        plan.actions.into_iter().map(|action| one(Arc::clone(&shared), recorder.clone(), action));
    let all: Vec<_> = all.collect();
    stream::iter(all).buffer_unordered(AT_ONCE_MAX).collect::<()>().await;
}

async fn one(shared: Arc<Shared>, recorder: Recorder, action: Action) {
    if !shared.leads() || shared.gate.shut_until().is_some() {
        return shared.world.lock().look_at_ground();
    }
    shared.gate.pass().await;
    let done = act(&shared, &recorder, &action).await;
    shared.counters.wrote(&action, done.as_ref().map(|_| ()));
    match done {
        Ok(left) => {
            shared.gate.answered();
            shared.world.lock().moved(&action, left.as_ref());
        }
        Err(failure) => refused(&shared, &action, &failure),
    }
}

fn refused(shared: &Shared, action: &Action, failure: &Failure) {
    if let Action::Release { pod, .. } | Action::End { pod, .. } = action {
        tracing::warn!(
            pod = %pod.name, namespace = %pod.namespace, code = failure.code,
            error = failure.message, "a pod could not be moved"
        );
    }
    if failure.is_servers() {
        shared.gate.failed(failure);
    }
    let now_ms = shared.now_ms();
    shared.world.lock().not_moved(now_ms, action, failure, chance());
}

async fn act(
    shared: &Shared,
    recorder: &Recorder,
    action: &Action,
) -> Result<Option<Value>, Failure> {
    match action {
        Action::Release { pod, patch } => {
            let left = shared.calls.patch(path(pod), patch).await?;
            note(pod, "let go of a pod");
            Ok(left)
        }
        Action::End { pod, grace_seconds } => {
            let left = shared.calls.delete_in(path(pod), &pod.uid, *grace_seconds).await?;
            note(pod, "told a pod to end");
            Ok(left)
        }
        Action::Report { of, note } => {
            tell(recorder, of, &event(note)).await;
            Ok(None)
        }
        Action::Apply(_)
        | Action::Delete { .. }
        | Action::Status { .. }
        | Action::Tell { .. }
        | Action::Key { .. }
        | Action::Keys { .. } => Ok(None),
    }
}

fn note(pod: &Target, done: &str) {
    tracing::info!(pod = pod.name, namespace = pod.namespace, "{done}");
}

/// Who cannot be told is not waited for.
async fn tell(recorder: &Recorder, of: &Target, event: &Event) {
    if let Err(error) = recorder.publish(event, &reference(of)).await {
        tracing::debug!(error = %error, "an event was not told");
    }
}

fn path(pod: &Target) -> Path<'_> {
    let Target { namespace, name, .. } = pod;
    Path { api_version: "v1", plural: "pods", namespace, name, part: "" }
}

/// Events of what has no namespace are in `default`, as those of Kubernetes itself.
fn reference(of: &Target) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(of.kind.to_owned()),
        name: Some(of.name.clone()),
        namespace: Some(of.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        uid: Some(of.uid.clone()),
        ..ObjectReference::default()
    }
}
