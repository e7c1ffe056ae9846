//! Findings about a Model by itself: its weights, its copies, its memory.

use super::{Rule, Scene, Severity};
use crate::api::{Access, Route, StorageKind, Zero};
use crate::machine::Machine;
use crate::source::OciReference;
use crate::{WeightsSource, World};

/// Weights from this size on are not fetched by each copy for nothing.
const LARGE_BYTES: u64 = 10 << 30;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "does-not-fit",
        severity: Severity::Error,
        field: "spec.parallelism",
        look: does_not_fit,
        why: "the runtime ends at its start, for want of memory on the accelerator",
        fix: "spread it over more accelerators, lower `spec.context`, or take smaller weights; `pilotage plan` says what would do",
    },
    Rule {
        name: "no-memory-limit",
        severity: Severity::Warning,
        field: "spec.podTemplate.memoryBytes",
        look: no_memory_limit,
        why: "pods that ask for no memory are the first to be evicted, and can take that of others",
        fix: "write `spec.sizeBytes`, from which it follows, or `spec.podTemplate.memoryBytes`",
    },
    Rule {
        name: "no-digest",
        severity: Severity::Warning,
        field: "spec.source",
        look: no_digest,
        why: "whatever the server gives today is run, also when somebody has replaced it",
        fix: "write `spec.digest`; `pilotage model pull` prints it",
    },
    Rule {
        name: "moving-source",
        severity: Severity::Info,
        field: "spec.source",
        look: moving_source,
        why: "copies that start on different days may run different weights",
        fix: "name a commit (`hf:OWNER/REPO@COMMIT`) or a digest (`oci://…@sha256:…`)",
    },
    Rule {
        name: "one-copy",
        severity: Severity::Info,
        field: "spec.replicas",
        look: one_copy,
        why: "a drain waits until the operator has started another one elsewhere; a node that dies takes the model away for as long as a start takes",
        fix: "write `replicas: 2`, or let a Route fall back to another Model",
    },
    Rule {
        name: "claim-of-one-node",
        severity: Severity::Warning,
        field: "spec.storage.access",
        look: claim_of_one_node,
        why: "copies on other nodes wait forever for the volume",
        fix: "write `access: ReadWriteMany` with a class that can do so",
    },
    Rule {
        name: "each-copy-fetches",
        severity: Severity::Info,
        field: "spec.storage.kind",
        look: each_copy_fetches,
        why: "a new copy starts as slowly as its download",
        fix: "write `storage: {kind: claim}`, which all copies share",
    },
    Rule {
        name: "class-of-storage",
        severity: Severity::Info,
        field: "spec.storage.className",
        look: class_of_storage,
        why: "a claim of a class that is not there waits forever, and so do all copies",
        fix: "make the class (`kubectl get storageclass` lists them), or write `storage.className`",
    },
    Rule {
        name: "cold-start-outlasts-queue",
        severity: Severity::Warning,
        field: "spec.scaling.zero",
        look: cold_start,
        why: "the request that wakes the model is answered with status 503 before it is awake",
        fix: "raise `timeouts.queueSeconds` of the Route, write `zero: always` or `warm`, or let the Route fall back",
    },
];

fn does_not_fit(scene: &Scene<'_>) -> Option<String> {
    let settled = scene.settled;
    let world = World { facts: settled.cluster.facts.clone(), ..World::with_cores(1) };
    let room = Machine::of(&world).check_room(scene.model, settled.spec.engine, &settled.launch);
    room.err().map(|mistake| mistake.text)
}

fn no_memory_limit(scene: &Scene<'_>) -> Option<String> {
    let is_said = scene.settled.memory_bytes().is_some();
    (!is_said).then(|| "nobody says how much memory its pods take".to_owned())
}

fn no_digest(scene: &Scene<'_>) -> Option<String> {
    let spec = &scene.model.spec;
    let is_remote = spec.source.as_ref().is_some_and(|source| !source.is_local());
    let is_named =
        matches!(&spec.source, Some(WeightsSource::Oci { reference: OciReference::Digest(_), .. }));
    (is_remote && !is_named && spec.digest.is_none() && spec.signed_by.is_none())
        .then(|| "its weights are downloaded and not verified".to_owned())
}

fn moving_source(scene: &Scene<'_>) -> Option<String> {
    if scene.model.spec.digest.is_some() {
        return None;
    }
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match scene.model.spec.source.as_ref()? {
        WeightsSource::Hf { revision, .. } if !revision.as_deref().is_some_and(is_commit) => {
            let what = revision.as_deref().unwrap_or("the main branch");
            Some(format!("its source is {what}, which moves"))
        }
        WeightsSource::Oci { reference: OciReference::Tag(tag), .. } => {
            Some(format!("its source is the tag `{tag}`, which moves"))
        }
        _ => None,
    }
}

fn one_copy(scene: &Scene<'_>) -> Option<String> {
    (scene.settled.replicas_max() == 1).then(|| "there is one copy of it".to_owned())
}

fn claim_of_one_node(scene: &Scene<'_>) -> Option<String> {
    let storage = scene.model.spec.storage.as_ref()?;
    let pods = scene.settled.replicas_max().saturating_mul(scene.settled.spec.nodes);
    let is_single = storage.access == Some(Access::ReadWriteOnce);
    (is_single && pods > 1).then(|| format!("{pods} pods share a claim that one node mounts"))
}

fn each_copy_fetches(scene: &Scene<'_>) -> Option<String> {
    let kind = scene.model.spec.storage.as_ref().map(|one| one.kind).unwrap_or_default();
    let bytes = scene.settled.weight_bytes()?;
    let pods = scene.settled.replicas_max().saturating_mul(scene.settled.spec.nodes);
    let is_much = kind == StorageKind::Ephemeral && bytes >= LARGE_BYTES && pods > 1;
    is_much.then(|| format!("{pods} pods fetch {} GiB each", bytes >> 30))
}

fn class_of_storage(scene: &Scene<'_>) -> Option<String> {
    let class = scene.settled.usual_class()?;
    (!scene.settled.cluster.platform.makes_class(class))
        .then(|| format!("its claim asks for the class `{class}`, which somebody has to have made"))
}

fn cold_start(scene: &Scene<'_>) -> Option<String> {
    let scaling = scene.model.spec.scaling.filter(|scaling| scaling.zero == Zero::Cold)?;
    let start = scene.settled.spec.probes.startup.patience_seconds();
    let start = scene.model.spec.start_seconds.unwrap_or(start);
    let name = &scene.model.metadata.name;
    let leads = |route: &&&Route| {
        route.spec.fallbacks.is_empty()
            && route.spec.targets.iter().any(|target| target.model == *name)
    };
    let waits = scene.routes.iter().filter(leads).map(|route| route.spec.timeouts.queue_seconds);
    let waits = waits.min().or_else(|| scene.routes.is_empty().then_some(60))?;
    (scaling.min == 0 && waits < start)
        .then(|| format!("its start may take {start} s, and requests wait {waits} s"))
}
