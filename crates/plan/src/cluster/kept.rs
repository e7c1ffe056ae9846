//! What another release of Pilotage, or of Kubernetes, leaves as it is in pods that run: the image of the
//! containers that only fetch, and how the program is given time before it is told to stop.
//!
//! Contract: where nothing else of a workload's pods is other than it was, they stay. Where something is, all of it
//! is as it was rendered.

use serde_json::Value;

use super::kinds::Sort;
use super::mind::digest;
use super::observed::{Ended, Live};
use crate::render::kubernetes::stopping;

/// The annotation with a digest of what a release does not decide of a workload's pods.
pub const PODS: &str = "pilotage.dev/pods";

/// The annotation with the image of containers that only fetch, in a workload's pods.
pub const FETCHES_WITH: &str = "pilotage.dev/fetches-with";

/// Where pod templates are in workloads and Jobs.
const TEMPLATES: [&str; 3] = [
    "/spec/template",
    "/spec/leaderWorkerTemplate/leaderTemplate",
    "/spec/leaderWorkerTemplate/workerTemplate",
];

/// How the pods of a workload are given time before they are told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stopping {
    /// By a command in the container.
    Command,
    /// By Kubernetes.
    Sleep,
}

impl Stopping {
    /// How those of a workload are.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let mut templates = TEMPLATES.iter().filter_map(|at| object.pointer(at));
        templates.find_map(|template| {
            let mut all = template["spec"]["containers"].as_array().into_iter().flatten();
            let hook = &all.find(|one| serves(one))?["lifecycle"]["preStop"];
            match hook {
                hook if hook["exec"].is_object() => Some(Self::Command),
                hook if hook["sleep"].is_object() => Some(Self::Sleep),
                _ => None,
            }
        })
    }
}

/// The program's container.
const ENGINE: &str = "engine";

/// Has the object keep what is there of its pods, if nothing but that would change, and notes on it what is compared
/// then.
pub(super) fn keep(sort: Sort, object: &mut Value, live: Option<&Live>) {
    if !sort.is_workload() && sort != Sort::Job {
        return;
    }
    let print = print(object);
    let stays = live.filter(|live| live.pods.as_deref() == Some(&print) && holds(sort, live));
    if let Some(image) = stays.and_then(|live| live.fetches_with.clone()) {
        each(object, fetches, &mut |container| container["image"] = image.as_str().into());
    }
    // One that is gone was taken out by somebody.
    if let Some(how) = stays.and_then(|live| live.stopping) {
        let stopping = stopping(how == Stopping::Command);
        each(object, serves, &mut |container| container["lifecycle"] = stopping.clone());
    }
    let mut image = None;
    each(object, fetches, &mut |container| image = container["image"].as_str().map(str::to_owned));
    let notes = &mut object["metadata"]["annotations"];
    notes[PODS] = print.into();
    if let Some(image) = image {
        notes[FETCHES_WITH] = image.into();
    }
}

/// Whether there is something to hold on to: pods that serve, or a Job that works or has worked. What has none takes what
/// is new without anybody's waiting, and what failed or never came up may be helped by it.
fn holds(sort: Sort, live: &Live) -> bool {
    match sort {
        Sort::Job => !matches!(live.ended, Some(Ended::Badly(_))),
        _ => live.progress.ready > 0 && !live.progress.is_late,
    }
}

/// A digest of the pods but for what may stay.
fn print(object: &Value) -> String {
    let mut object = object.clone();
    each(&mut object, fetches, &mut |container| container["image"] = Value::Null);
    each(&mut object, serves, &mut |container| {
        drop(container.as_object_mut().and_then(|all| all.remove("lifecycle")));
    });
    let pods = TEMPLATES.iter().filter_map(|at| object.pointer(at));
    let text: String = pods.map(Value::to_string).collect();
    format!("{:016x}", digest(&text))
}

/// Whether a container is Pilotage's own and computes nothing.
fn fetches(container: &Value) -> bool {
    let name = container["name"].as_str().unwrap_or_default();
    name == "adapters" || name == "fetch" || name.starts_with("fetch-adapter-")
}

/// Whether a container is the program's and takes requests: the one that is given time.
fn serves(container: &Value) -> bool {
    container["name"] == ENGINE && container["ports"].is_array()
}

fn each(object: &mut Value, is: fn(&Value) -> bool, change: &mut dyn FnMut(&mut Value)) {
    for at in TEMPLATES {
        let Some(template) = object.pointer_mut(at) else { continue };
        for list in ["initContainers", "containers"] {
            let all = template["spec"].get_mut(list).and_then(Value::as_array_mut);
            all.into_iter().flatten().filter(|one| is(one)).for_each(&mut *change);
        }
    }
}
