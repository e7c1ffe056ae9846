//! Finds what no schema can say about running on a cluster: Fleets that are not there or contradict
//! themselves, and what a `Model` says of its copies, weights and pods there.

use super::error::nearest;
use super::link::error;
use super::{ManifestError, Problem};
use crate::WeightsSource;
use crate::api::rollout::shrinking;
use crate::api::{Fleet, FleetKind, Kind, Model, Resource, StorageKind, Toleration, Zero};
use crate::hardware::{self, Accelerator};
use crate::launch::Engine;

/// Fields of a Fleet that only this machine has an effect on.
pub(crate) const FOR_CPU: [&str; 2] = ["threads", "memoryBytes"];

/// Fields of a Fleet that only nodes of a cluster have an effect on.
pub(crate) const FOR_NODES: [&str; 8] = [
    "hardware",
    "perNode",
    "nodes",
    "spot",
    "nodeSelector",
    "tolerations",
    "resourceName",
    "fastNetwork",
];

/// The beginnings of labels that Pilotage sets itself.
pub(crate) const OWN_LABELS: [&str; 2] = ["pilotage.dev/", "app.kubernetes.io/"];

/// Adds everything about Fleets that does not fit together, or the Models that name them.
pub(super) fn fleets(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let fleets = resources.iter().filter_map(|resource| match resource {
        Resource::Fleet(fleet) => Some(fleet),
        Resource::Model(_) | Resource::Tenant(_) | Resource::Route(_) => None,
    });
    let fleets: Vec<&Fleet> = fleets.collect();
    let mut own = fleets.iter().filter(|fleet| fleet.spec.kind == FleetKind::Cpu);
    if let Some(first) = own.next() {
        for fleet in own {
            let problem = Problem::SecondFleet { first: first.name().to_owned() };
            errors.push(error(&fleet.origin, "kind", problem));
        }
    }
    for fleet in &fleets {
        one_fleet(fleet, errors);
    }
    for resource in resources {
        let Resource::Model(model) = resource else { continue };
        named(model, &fleets, errors);
    }
}

fn one_fleet(fleet: &Fleet, errors: &mut Vec<ManifestError>) {
    let mut report = |field: &str, text: String| {
        let field = format!("spec.{field}");
        errors.push(error(&fleet.origin, &field, Problem::Value(text)));
    };
    let (idle, kind): (&[&str], _) = match fleet.spec.kind {
        FleetKind::Cpu => (&FOR_NODES, "nodes"),
        FleetKind::Nodes => (&FOR_CPU, "cpu"),
    };
    let written = |name: &&&str| fleet.origin.fields.contains_key(&format!("spec.{name}"));
    for name in idle.iter().filter(written) {
        report(name, format!("this has an effect only with `kind: {kind}`; remove it"));
    }
    if let Some(id) = &fleet.spec.hardware
        && Accelerator::by_id(id).is_none()
    {
        let known: Vec<String> = hardware::catalogue().map(|one| one.id.to_owned()).collect();
        let meant = nearest(id, &known).map(|one| format!("; did you mean `{one}`?"));
        let meant = meant.unwrap_or_default();
        report(
            "hardware",
            format!("`{id}` is no class of hardware{meant} (`pilotage plan hardware` lists them)"),
        );
    }
    if let Some(name) = &fleet.spec.resource_name
        && !is_qualified(name)
    {
        let text = "a resource is named `DOMAIN/NAME`, as in `nvidia.com/gpu`";
        report("resourceName", text.to_owned());
    }
    tolerations("tolerations", &fleet.spec.tolerations, &mut report);
}

/// The Fleet that a Model names is there, and has nodes.
fn named(model: &Model, fleets: &[&Fleet], errors: &mut Vec<ManifestError>) {
    let Some(name) = &model.spec.fleet else { return };
    let known: Vec<String> = fleets.iter().map(|fleet| fleet.name().to_owned()).collect();
    let problem = match fleets.iter().find(|fleet| fleet.metadata.name == *name) {
        Some(fleet) if fleet.spec.kind == FleetKind::Nodes => return,
        Some(_) => Problem::Value(
            "this Fleet is the machine's own; name one of kind `nodes`, or remove this".to_owned(),
        ),
        None => Problem::Dangling {
            kind: Kind::Fleet,
            name: name.to_string(),
            suggestion: nearest(name.as_str(), &known),
            known,
        },
    };
    errors.push(error(&model.origin, "spec.fleet", problem));
}

/// Adds everything that a Model says of a cluster and that does not fit together.
pub(super) fn model(model: &Model, errors: &mut Vec<ManifestError>) {
    let mut report = |field: &str, text: String| {
        let field = format!("spec.{field}");
        errors.push(error(&model.origin, &field, Problem::Value(text)));
    };
    scaling(model, &mut report);
    storage(model, &mut report);
    if let Some(updates) = &model.spec.updates
        && updates.surge == 0
        && updates.unavailable == 0
    {
        let text = "with neither more nor fewer copies none is ever replaced; raise one of the two";
        report("updates.surge", text.to_owned());
    }
    let canary = model.spec.updates.as_ref().and_then(|updates| updates.canary.as_ref());
    for (index, before) in canary.map(|canary| shrinking(&canary.steps)).unwrap_or_default() {
        let text = format!("a canary grows from step to step; write more than {before}");
        report(&format!("updates.canary.steps[{index}].weight"), text);
    }
    let Some(pods) = &model.spec.pod_template else { return };
    for key in pods.labels.keys().filter(|key| OWN_LABELS.iter().any(|own| key.starts_with(own))) {
        let text = "labels of this beginning are Pilotage's own; choose another".to_owned();
        report(&format!("podTemplate.labels.{key}"), text);
    }
    tolerations("podTemplate.tolerations", &pods.tolerations, &mut report);
}

fn scaling(model: &Model, report: &mut impl FnMut(&str, String)) {
    let Some(scaling) = &model.spec.scaling else { return };
    if scaling.min > scaling.max {
        let text = format!("at most {} copies are allowed; write at most that", scaling.max);
        report("scaling.min", text);
    }
    match scaling.zero {
        Zero::Cold if scaling.min > 0 => {
            let text = "copies that rest are none; write `min: 0`, or `zero: always`".to_owned();
            report("scaling.zero", text);
        }
        Zero::Warm if model.spec.runtime.engine() != Some(Engine::Vllm) => {
            let text = "only vLLM sleeps and wakes; write `runtime: vllm`, or `zero: cold`";
            report("scaling.zero", text.to_owned());
        }
        Zero::Always | Zero::Warm | Zero::Cold => {}
    }
}

fn storage(model: &Model, report: &mut impl FnMut(&str, String)) {
    let Some(storage) = &model.spec.storage else { return };
    let is_artifact = matches!(model.spec.source, Some(WeightsSource::Oci { .. }));
    if storage.kind == StorageKind::Image && !is_artifact {
        let text = "only an artifact is mounted as it is; write a `source` of `oci://`, or `claim`";
        report("storage.kind", text.to_owned());
    }
    if storage.kind != StorageKind::Claim {
        let text = "this has an effect only with `kind: claim`; remove it";
        for (field, is_there) in
            [("className", storage.class_name.is_some()), ("access", storage.access.is_some())]
        {
            if is_there {
                report(&format!("storage.{field}"), text.to_owned());
            }
        }
    }
}

fn tolerations(list: &str, all: &[Toleration], report: &mut impl FnMut(&str, String)) {
    for (index, one) in all.iter().enumerate() {
        if one.key.is_none() && one.value.is_some() {
            let text = "a value belongs to a key; add `key`, or remove this".to_owned();
            report(&format!("{list}[{index}].value"), text);
        }
    }
}

/// A name with a domain before it.
fn is_qualified(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.split_once('/').is_some_and(|(domain, name)| {
        domain.contains('.') && !name.is_empty() && domain.bytes().chain(name.bytes()).all(plain)
    })
}
