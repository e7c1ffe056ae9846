//! What is kept of objects that were made of Models: who owns them, what was written into them, and how
//! far they are. The rest is forgotten when it is read, so that thousands of objects take little room.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kept::{FETCHES_WITH, PODS, Stopping};
use super::kinds::Sort;
use crate::api::ScaleBy;
use crate::render::kubernetes::SURGED;

/// The annotation with a digest of what was rendered: fields that are rendered no more are found by it.
pub const RENDERED: &str = "pilotage.dev/rendered";

/// The annotation of a claim with the digest of the Job that filled it.
pub const FILLED: &str = "pilotage.dev/filled";

/// The label with the version of a Model.
pub(super) const REVISION: &str = "pilotage.dev/revision";

/// An object as it was last seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Live {
    /// What tells it from another one of its name, later.
    pub(super) uid: String,
    /// Its version.
    pub(super) version: String,
    /// The digest of what was rendered into it.
    pub(super) rendered: Option<String>,
    /// The digest of its pods but for what may stay.
    pub(super) pods: Option<String>,
    /// The image of containers that only fetch, in its pods.
    pub(super) fetches_with: Option<String>,
    /// How its pods are given time before they are told to stop; none where they are not.
    pub(super) stopping: Option<Stopping>,
    /// The UID of the Model that owns it.
    pub(super) owner: Option<String>,
    /// The version of the Model that it is of.
    pub(super) revision: Option<String>,
    /// Whether it is on its way out.
    pub(super) is_deleted: bool,
    /// How far it is, where pods come of it.
    pub(super) progress: Progress,
    /// Whether it did what it was for, of a Job.
    pub(super) ended: Option<Ended>,
    /// What is in it beside its status, as text.
    content: Box<str>,
}

/// How a Job ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// Well.
    Well,
    /// With an error, and why.
    Badly(String),
}

/// How far a workload is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Progress {
    /// Copies it is to have.
    pub(super) wanted: u32,
    /// Copies it has.
    pub(super) there: u32,
    /// Copies that are ready.
    pub(super) ready: u32,
    /// Copies of the newest spec.
    pub(super) updated: u32,
    /// Whether its controller has seen the newest spec.
    pub(super) is_seen: bool,
    /// Whether its controller gave up waiting.
    pub(super) is_late: bool,
    /// Whether its pods take requests.
    pub(super) serves: bool,
    /// Copies of those wanted that stand in for others which move.
    pub(super) surged: u32,
    /// Why its controller cannot make pods.
    pub(super) failure: Option<String>,
}

impl Live {
    /// What matters of an object of that kind.
    pub(super) fn read(sort: Sort, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let owners = metadata["ownerReferences"].as_array();
        let owner = owners.into_iter().flatten().find(|one| one["controller"] == true);
        Self {
            uid: text(&metadata["uid"]).unwrap_or_default(),
            version: text(&metadata["resourceVersion"]).unwrap_or_default(),
            rendered: text(&metadata["annotations"][RENDERED]),
            pods: text(&metadata["annotations"][PODS]),
            fetches_with: text(&metadata["annotations"][FETCHES_WITH]),
            stopping: Stopping::of(object),
            owner: owner.and_then(|one| text(&one["uid"])),
            revision: text(&metadata["labels"][REVISION]),
            is_deleted: metadata["deletionTimestamp"].is_string(),
            progress: progress(sort, object),
            ended: if sort == Sort::Job { ended(object) } else { None },
            content: content(object),
        }
    }

    /// Whether it was made of a Model and is nobody's: somebody took its owner out, or deleted that alone.
    pub(super) const fn is_orphan(&self) -> bool {
        self.owner.is_none() && self.rendered.is_some()
    }

    /// What is in it beside its status.
    pub(super) fn content(&self) -> Value {
        serde_json::from_str(&self.content).unwrap_or_default()
    }

    /// Whether the other one differs in what is decided by.
    pub(super) fn matters(&self, other: &Self) -> bool {
        let same = self.uid == other.uid
            && self.rendered == other.rendered
            && self.owner == other.owner
            && self.is_deleted == other.is_deleted
            && self.progress == other.progress
            && self.ended == other.ended
            && self.content == other.content;
        !same
    }
}

/// Who writes the number of copies. What KEDA makes bears the Model's label and is not of the Model.
pub(super) fn scaled_by(made: &BTreeMap<(Sort, String), Live>, uid: &str) -> ScaleBy {
    let all = || made.iter().filter(|((sort, _), _)| sort.scales());
    let is_own =
        |sort: Sort, live: &Live| sort == Sort::Autoscaler && live.owner.as_deref() == Some(uid);
    if all().any(|((sort, _), live)| !is_own(*sort, live)) {
        return ScaleBy::Keda;
    }
    if all().next().is_some() { ScaleBy::Hpa } else { ScaleBy::Pilotage }
}

fn content(object: &Value) -> Box<str> {
    let fields = object.as_object().into_iter().flatten();
    let kept = fields
        .filter(|(name, _)| !["status", "apiVersion", "kind", "metadata"].contains(&name.as_str()));
    let mut kept: serde_json::Map<String, Value> =
        kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut metadata = serde_json::Map::new();
    for name in ["name", "namespace", "labels", "annotations", "ownerReferences"] {
        if let Some(value) = object["metadata"].get(name) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // Others' notes change as they please, and only ours are looked at.
        notes.retain(|name, _| name.starts_with("pilotage.dev/"));
    }
    kept.insert("metadata".to_owned(), metadata.into());
    Value::Object(kept).to_string().into()
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn progress(sort: Sort, object: &Value) -> Progress {
    if !sort.is_workload() {
        return Progress::default();
    }
    let (spec, status) = (&object["spec"], &object["status"]);
    let seen = status["observedGeneration"].as_u64().unwrap_or_default();
    let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
    let conditions = || status["conditions"].as_array().into_iter().flatten();
    let is_late = conditions()
        .any(|one| one["type"] == "Progressing" && one["reason"] == "ProgressDeadlineExceeded");
    let failure = conditions()
        .find(|one| one["type"] == "ReplicaFailure" && one["status"] == "True")
        .map(|one| one["message"].as_str().unwrap_or_default().to_owned());
    Progress {
        wanted: spec["replicas"].as_u64().map_or(1, |_| number(&spec["replicas"])),
        there: number(&status["replicas"]),
        ready: number(&status["readyReplicas"]),
        updated: number(&status["updatedReplicas"]),
        // LeaderWorkerSets do not say what they have seen.
        is_seen: sort == Sort::LeaderWorkerSet || seen >= generation,
        is_late,
        surged: object["metadata"]["annotations"][SURGED]
            .as_str()
            .and_then(|count| count.parse().ok())
            .unwrap_or_default(),
        serves: spec["template"]["metadata"]["labels"]["pilotage.dev/role"] != "works",
        failure,
    }
}

fn ended(job: &Value) -> Option<Ended> {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find_map(|one| {
        let is_true = one["status"] == "True";
        match one["type"].as_str().filter(|_| is_true)? {
            "Complete" => Some(Ended::Well),
            "Failed" => Some(Ended::Badly(one["message"].as_str().unwrap_or_default().to_owned())),
            _ => None,
        }
    })
}
