//! Findings about a Model on its Fleet: nodes, what is between them, and nodes that can go.

use super::{Rule, Scene, Severity};
use crate::api::{Model, Resource, ResourceName, Route};
use crate::launch::Engine;
use crate::render::kubernetes::{IMAGE, fleet_of};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "tensor-parallel-over-nodes",
        severity: Severity::Warning,
        field: "spec.parallelism",
        look: tensor_over_nodes,
        why: "each layer waits for all ranks twice, and between nodes that takes longer than computing it",
        fix: "keep `tensor` within a node and divide layers by `pipeline`, or take nodes with a network made for it (`fastNetwork: true`)",
    },
    Rule {
        name: "slow-network",
        severity: Severity::Info,
        field: "spec.parallelism",
        look: slow_network,
        why: "stages hand each other every token over the network",
        fix: "write `fastNetwork: true` where the Fleet has such a network, or take smaller weights that fit a node",
    },
    Rule {
        name: "no-hardware",
        severity: Severity::Warning,
        field: "spec.fleet",
        look: no_hardware,
        why: "images, sizes and node labels are those of a generic accelerator, and pods go wherever one is free",
        fix: "add a Fleet with `kind: nodes` and its `hardware`, and name it in `spec.fleet`",
    },
    Rule {
        name: "labels-of-nodes",
        severity: Severity::Info,
        field: "spec.fleet",
        look: labels_of_nodes,
        why: "pods that look for a label which no node has wait forever, and pods that look for none go wherever their resource is free",
        fix: "compare with `kubectl get nodes --show-labels`, and write `nodeSelector` into the Fleet where they differ",
    },
    Rule {
        name: "accelerator-unused",
        severity: Severity::Warning,
        field: "spec.fleet",
        look: accelerator_unused,
        why: "the engine in Pilotage's own image computes on processors: the accelerator is taken, paid for and idle",
        fix: "leave out `fleet`, write an image that was built with CUDA into `spec.image`, or take `runtime: llama.cpp`",
    },
    Rule {
        name: "too-few-nodes",
        severity: Severity::Error,
        field: "spec.replicas",
        look: too_few_nodes,
        why: "the copies that find no node wait forever",
        fix: "lower `replicas` or `scaling.max`, or raise `nodes` of the Fleet",
    },
    Rule {
        name: "no-room-to-replace",
        severity: Severity::Warning,
        field: "spec.updates.surge",
        look: no_room_to_replace,
        why: "a new copy starts before an old one ends, and finds no node to start on: the update never ends",
        fix: "write `updates: {surge: 0, unavailable: 1}`, or add a node",
    },
    Rule {
        name: "spot-without-floor",
        severity: Severity::Warning,
        field: "spec.fleet",
        look: spot_without_floor,
        why: "all copies can be taken away within two minutes, at the same time",
        fix: "give the Route a fallback or a second target that runs on other nodes, or elsewhere",
    },
];

fn per_node(scene: &Scene<'_>) -> u32 {
    scene.settled.accelerator.per_node.max(1)
}

fn is_fast(scene: &Scene<'_>) -> bool {
    scene.settled.fleet.is_some_and(|fleet| fleet.spec.fast_network)
}

fn tensor_over_nodes(scene: &Scene<'_>) -> Option<String> {
    let tensor = scene.model.spec.parallelism.tensor;
    let spans = scene.settled.spec.nodes > 1 && tensor > per_node(scene) && !is_fast(scene);
    spans.then(|| {
        let (each, nodes) = (per_node(scene), scene.settled.spec.nodes);
        format!("its layers are divided among {tensor} accelerators on {nodes} nodes of {each}")
    })
}

fn slow_network(scene: &Scene<'_>) -> Option<String> {
    let nodes = scene.settled.spec.nodes;
    let within = scene.model.spec.parallelism.tensor <= per_node(scene);
    (nodes > 1 && within && !is_fast(scene))
        .then(|| format!("a copy spans {nodes} nodes, and no Fleet says what is between them"))
}

fn no_hardware(scene: &Scene<'_>) -> Option<String> {
    let is_named = scene.settled.fleet.is_some_and(|fleet| fleet.spec.hardware.is_some());
    (scene.settled.accelerators() > 0 && !is_named)
        .then(|| "nobody says which accelerators it runs on".to_owned())
}

fn labels_of_nodes(scene: &Scene<'_>) -> Option<String> {
    let fleet = &scene.settled.fleet?.spec;
    let hardware = fleet.hardware.as_deref().filter(|_| fleet.node_selector.is_empty())?;
    if scene.settled.accelerators() == 0 {
        return None;
    }
    let Some(known) = scene.settled.known() else {
        return Some(format!("nothing says which nodes have a {hardware} on this platform"));
    };
    let label = known.label.map(|(key, value)| format!("`{key}: {value}`"));
    let keys = known.terms.iter().flat_map(|term| term["matchExpressions"].as_array());
    let keys = keys.flatten().filter_map(|one| Some(format!("`{}`", one["key"].as_str()?)));
    let keys: std::collections::BTreeSet<String> = keys.collect();
    let all: Vec<String> = label.into_iter().chain(keys).collect();
    Some(format!("its pods run on nodes with {}, as set by {}", all.join(", "), known.who))
}

fn accelerator_unused(scene: &Scene<'_>) -> Option<String> {
    let is_own = scene.settled.spec.engine == Engine::Embedded && scene.model.spec.image.is_none();
    (is_own && scene.settled.accelerators() > 0 && scene.settled.cluster.image == IMAGE).then(
        || "the embedded engine takes an accelerator that its image has no use for".to_owned(),
    )
}

/// Whole nodes that so many copies take.
fn nodes_of(scene: &Scene<'_>, copies: u32) -> u32 {
    let nodes = scene.settled.spec.nodes;
    if nodes > 1 {
        return nodes.saturating_mul(copies);
    }
    let on_node = (per_node(scene) / scene.settled.accelerators().max(1)).max(1);
    copies.div_ceil(on_node)
}

fn too_few_nodes(scene: &Scene<'_>) -> Option<String> {
    let there = scene.settled.fleet?.spec.nodes?;
    if scene.settled.accelerators() == 0 {
        return None;
    }
    let copies = scene.settled.replicas_max();
    let wanted = nodes_of(scene, copies);
    (wanted > there)
        .then(|| format!("{copies} copies take {wanted} nodes, and the Fleet has {there}"))
}

fn no_room_to_replace(scene: &Scene<'_>) -> Option<String> {
    let there = scene.settled.fleet?.spec.nodes?;
    let updates = scene.model.spec.updates.clone().unwrap_or_default();
    if scene.settled.accelerators() == 0 || updates.unavailable > 0 {
        return None;
    }
    let copies = scene.settled.replicas_max();
    let is_full = nodes_of(scene, copies) <= there && nodes_of(scene, copies + 1) > there;
    is_full.then(|| format!("its {copies} copies take all {there} nodes of the Fleet"))
}

fn spot_without_floor(scene: &Scene<'_>) -> Option<String> {
    let is_spot = |model: &Model| {
        fleet_of(model, scene.resources).is_some_and(|fleet| fleet.spec.spot)
            && model.spec.source.is_some()
    };
    if !is_spot(scene.model) {
        return None;
    }
    let stays = |name: &ResourceName| {
        scene.resources.iter().any(|resource| match resource {
            Resource::Model(model) => model.metadata.name == *name && !is_spot(model),
            Resource::Tenant(_) | Resource::Route(_) | Resource::Fleet(_) => false,
        })
    };
    let own = &scene.model.metadata.name;
    let leads = |route: &&Route| route.spec.targets.iter().any(|target| target.model == *own);
    let has_floor = |route: &Route| {
        let targets = route.spec.targets.iter().map(|target| &target.model);
        targets.chain(&route.spec.fallbacks).any(stays)
    };
    let mut leading = scene.routes.iter().copied().filter(leads).peekable();
    let is_bare = leading.peek().is_none() || !leading.all(has_floor);
    is_bare.then(|| {
        "all its copies are on nodes that can be taken away, and nothing stands in for it"
            .to_owned()
    })
}
