//! What a gateway of a cluster serves while Models change their versions: the one that serves in the Model's
//! own lane, and the one on trial in a lane beside it.

use std::collections::BTreeMap;

use super::{NEXT, TriedOut, running, try_out};
use crate::api::status::{UpdatePhase, UpdateStatus};
use crate::plan;
use crate::pods::Pod;
use crate::{Plan, PlanError, Resource};

/// How far a Model's update is, and the pods of its next version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Staged {
    /// What its status says.
    pub update: UpdateStatus,
    /// Pods of the next version.
    pub pods: Vec<Pod>,
}

impl Staged {
    /// The version on trial, where requests may go to it.
    fn next(&self) -> Option<(&str, u32)> {
        let next = self.update.next.as_ref()?;
        match next.phase {
            UpdatePhase::Trying | UpdatePhase::Paused | UpdatePhase::TakingOver => {
                Some((&next.revision, next.percent_max))
            }
            UpdatePhase::Starting | UpdatePhase::RolledBack => None,
        }
    }
}

/// What is served by pods of the versions that serve, by Model, and by those on trial.
///
/// # Errors
/// [`PlanError`] when the resources contradict each other.
pub fn serve(
    resources: &[Resource],
    pods: &BTreeMap<String, Vec<Pod>>,
    staged: &BTreeMap<String, Staged>,
) -> Result<Plan, PlanError> {
    let kept = |name: &str| staged.get(name).map(|state| &state.update);
    let serving: Vec<Resource> = resources.iter().map(|one| as_it_serves(one, kept)).collect();
    let mut plan = plan::serve(&serving, pods)?;
    for resource in resources {
        let Resource::Model(model) = resource else { continue };
        let Some(state) = staged.get(model.name()) else { continue };
        let Some((revision, percent_max)) = state.next() else { continue };
        let own = BTreeMap::from([(model.name().to_owned(), state.pods.clone())]);
        let next = plan::serve(resources, &own)?;
        let canary = model.spec.updates.as_ref().and_then(|updates| updates.canary.as_ref());
        let divided = canary.map(|canary| {
            let tried = TriedOut { model: model.name(), revision, canary, percent_max };
            try_out(&mut plan, &next, &tried)
        });
        if divided.unwrap_or_default().is_empty() {
            // Nobody tells them apart: they serve together.
            let more = next.endpoints.into_iter().filter(|one| one.lane == model.name());
            plan.endpoints.extend(more.filter(|one| one.pod.is_some()));
        }
    }
    Ok(plan)
}

/// The Model that a lane is of.
pub fn model_of(lane: &str) -> &str {
    lane.strip_suffix(NEXT).unwrap_or(lane)
}

/// A Model with what runs as it was kept; one of which nothing was kept, or that cannot be read, as it is.
pub(super) fn as_it_serves<'a>(
    resource: &Resource,
    kept: impl Fn(&str) -> Option<&'a UpdateStatus>,
) -> Resource {
    let Resource::Model(model) = resource else { return resource.clone() };
    let kept = kept(model.name()).and_then(|update| update.serving_spec.as_ref());
    match kept.map(|kept| running(&model.spec, kept)) {
        Some(Ok(spec)) => {
            let mut model = model.clone();
            model.spec = spec;
            Resource::Model(model)
        }
        Some(Err(_)) | None => resource.clone(),
    }
}
