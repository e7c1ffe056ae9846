//! A plan in which a Model's next version is tried out: a lane of its own beside that of the version
//! that serves, and a canary in every Route that leads to the Model alone.

use crate::Plan;
use crate::api::{ResourceName, RouteSpec, Target, UpdateCanary};
use crate::lane::Lane;

/// What the lane of a next version has behind the Model's name. No Model has a name with it.
pub const NEXT: &str = "+next";

/// A version on trial.
#[derive(Clone, Copy, Debug)]
pub struct TriedOut<'a> {
    /// The Model.
    pub model: &'a str,
    /// The version's name, by which another one is another trial.
    pub revision: &'a str,
    /// How it proves itself.
    pub canary: &'a UpdateCanary,
    /// The part of the requests, in percent, that its copies can bear: it gets no more.
    pub percent_max: u32,
}

/// Adds to a plan, in which the serving version of a Model runs, its next version from a plan that has
/// that one. Returns the names of the Routes that divide their requests; with none of them nothing is
/// changed.
pub fn try_out(plan: &mut Plan, next: &Plan, tried: &TriedOut<'_>) -> Vec<String> {
    let TriedOut { model, revision, canary, percent_max } = *tried;
    let leads_there = |route: &&mut crate::routes::Route| {
        alone(&route.targets, model) && route.canary.is_none() && route.experiment.is_none()
    };
    if next.lane(model).is_none() {
        return Vec::new();
    }
    let mut divided = Vec::new();
    for route in plan.routes.iter_mut().filter(leads_there) {
        route.canary = Some(canary.of(lane_name(model)));
        route.canary_percent_max = percent_max;
        divided.push(route.name.clone());
    }
    if !divided.is_empty() {
        stand_beside(plan, next, model, revision);
    }
    divided
}

/// Adds the lane of a Model's next version with its replicas, to which no Route leads. What runs elsewhere is
/// none of them: it runs a version of its own, and would be judged in the place of this one.
pub(super) fn stand_beside(plan: &mut Plan, next: &Plan, model: &str, revision: &str) {
    let Some(lane) = next.lane(model) else { return };
    let renamed = |name: &String| next_of(name, model);
    let of_it = || next.endpoints.iter().filter(|one| one.lane == model);
    let is_elsewhere = |name: &String| of_it().any(|one| one.name == *name && one.pod.is_none());
    let own = lane.replicas.iter().filter(|name| !is_elsewhere(name));
    let replicas = own.map(renamed).collect();
    let identity = format!("{}#{revision}", lane.identity);
    let name = format!("{model}{NEXT}");
    plan.lanes.push(Lane { name, identity, replicas, ..lane.clone() });
    for process in next.processes.iter().filter(|process| process.lane == model) {
        let mut process = process.clone();
        process.name = next_of(&process.name, model);
        process.lane = format!("{model}{NEXT}");
        plan.processes.push(process);
    }
    for endpoint in of_it().filter(|one| one.pod.is_some()) {
        let mut endpoint = endpoint.clone();
        endpoint.name = next_of(&endpoint.name, model);
        endpoint.lane = format!("{model}{NEXT}");
        plan.endpoints.push(endpoint);
    }
}

/// Whether all requests of a Route go to this Model, and nothing else is tried out there.
pub fn leads_alone(route: &RouteSpec, model: &str) -> bool {
    alone(&route.targets, model) && route.canary.is_none() && route.experiment.is_none()
}

fn alone(targets: &[Target], model: &str) -> bool {
    let mut used = targets.iter().filter(|target| target.weight > 0).peekable();
    used.peek().is_some() && used.all(|target| target.model.as_str() == model)
}

/// The lane's name where a Model's is wanted.
fn lane_name(model: &str) -> ResourceName {
    ResourceName::internal(format!("{model}{NEXT}"))
}

/// `MODEL-0` becomes `MODEL+next-0`; a name that says its version stays as it is.
fn next_of(name: &str, model: &str) -> String {
    match name.strip_prefix(model) {
        Some(rest) if rest.starts_with('+') => name.to_owned(),
        rest => format!("{model}{NEXT}{}", rest.unwrap_or(name)),
    }
}
