//! What is told of resources that nothing is made of: Routes, Tenants and Fleets.

use serde_json::{Value, json};

use super::action::{Action, Plan};
use super::conditions::{self, News, Said};
use super::world::{Ref, Verdict, World};
use crate::api::{Kind, Resource, Route};

/// What is to be done about one of them.
pub(super) fn plan(world: &World, now_ms: u64, at: &Ref) -> Plan {
    let Some(held) = world.resources.get(at).filter(|held| !held.seen.identity.is_deleted) else {
        return Plan::default();
    };
    let mut all = Vec::new();
    match &held.verdict {
        Verdict::Open => return Plan::default(),
        Verdict::Accepted => {
            let message = "it counts, for all gateways".to_owned();
            all.push(Said::new("Accepted", true, "Accepted", message));
        }
        Verdict::Refused(refusal) => {
            let message = refusal.message.clone();
            all.push(Said::new("Accepted", false, refusal.reason.name(), message));
        }
    }
    if at.kind == Kind::Route {
        all.push(ready(world, at));
    }
    if let Some(mind) = world.minds.get(at)
        && let Err(at_ms) = mind.may_try(now_ms, &super::mind::status_subject())
    {
        return Plan { actions: Vec::new(), next_wakeup_ms: Some(at_ms) };
    }
    let identity = &held.seen.identity;
    let conditions = conditions::written(now_ms, identity.generation, &all, &held.status);
    let status = json!({ "observedGeneration": identity.generation, "conditions": conditions });
    if conditions::news(&held.status, &status) == News::None {
        return Plan::default();
    }
    let about = at.about(&identity.uid);
    let mut actions = vec![Action::Status { about: about.clone(), status }];
    actions.extend(conditions::notes(&about, &held.status, &all));
    Plan { actions, next_wakeup_ms: None }
}

/// The Models that a Route sends to.
pub(super) fn models(route: &Route) -> impl Iterator<Item = &str> {
    let targets = route.spec.targets.iter().map(|one| one.model.as_str());
    targets.chain(route.spec.canary.iter().map(|canary| canary.model.as_str()))
}

/// A Route is ready when one of its Models is.
fn ready(world: &World, at: &Ref) -> Said {
    let said =
        |is_true, reason: &str, message: String| Said::new("Ready", is_true, reason, message);
    let Some(Resource::Route(route)) = world.accepted(at).map(AsRef::as_ref) else {
        return said(false, "Refused", "it does not count; `Accepted` says why".to_owned());
    };
    let is_ready =
        |name: &&str| world.model_named(name).is_some_and(|held| is_true(&held.status, "Ready"));
    let (ready, away): (Vec<&str>, Vec<&str>) = models(route).partition(is_ready);
    match (ready.as_slice(), away.as_slice()) {
        ([], _) => {
            let message = format!("none of its Models is ready: {}", away.join(", "));
            said(false, "ModelsNotReady", message)
        }
        (_, []) => said(true, "Serving", "all of its Models are ready".to_owned()),
        _ => said(true, "Serving", format!("not ready: {}", away.join(", "))),
    }
}

/// Whether a condition of a status is true.
pub(super) fn is_true(status: &Value, kind: &str) -> bool {
    let all = status["conditions"].as_array();
    all.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
}
