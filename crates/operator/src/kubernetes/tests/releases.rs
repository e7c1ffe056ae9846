//! Another release of Pilotage: what it leaves as it runs, and what gets its image.

use serde_json::{Value, json};

use super::kit::{Stage, Working, deployment};
use crate::kubernetes::{Deed, Operator};

const NEXT: &str = "ghcr.io/pilotage-dev/pilotage:next";

const KINDS: [&str; 3] = ["deployments", "statefulsets", "leaderworkersets"];

async fn apply(stage: &Stage, name: &str, more: Value) {
    stage.apply("Model", "team-a", name, spec(more)).await;
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "source": "hf:o/big", "runtime": "vllm", "sizeBytes": 1_000_000, "replicas": 2, "fleet": "h100",
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn big(more: Value) -> Value {
    let mut all = json!({"adapterSources": {"sql": "hf:o/sql"}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Models of all sorts that run, as one release of Pilotage made them.
async fn running() -> (Stage, Working) {
    let stage = Stage::new().await;
    stage.nodes(2..4).await;
    let operator = stage.operator("one");
    let fleet = json!({"kind": "nodes", "hardware": "h100-sxm", "perNode": 8});
    stage.apply("Fleet", "team-a", "h100", fleet).await;
    apply(&stage, "big", big(json!({}))).await;
    apply(&stage, "kept", json!({"storage": {"kind": "claim"}})).await;
    apply(&stage, "wide", json!({"parallelism": {"tensor": 8, "pipeline": 2}, "replicas": 1}))
        .await;
    stage.pass(120).await;
    for name in ["big", "kept", "wide"] {
        let ready = stage.condition("Model", "team-a", name, "Ready").await;
        assert!(ready.starts_with("True Serving"), "{name}: {ready}");
    }
    (stage, operator)
}

/// UIDs of all pods that are there of copies.
async fn pods(stage: &Stage) -> Vec<String> {
    let list = stage.get("/api/v1/namespaces/team-a/pods").await;
    let all = list["items"].as_array().unwrap().iter().map(|one| &one["metadata"]);
    let all = all.filter(|one| one["labels"]["app.kubernetes.io/component"] == "engine");
    let mut all: Vec<String> = all.map(|one| one["uid"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

/// Images of what fetches in the pods of a Deployment.
async fn images(stage: &Stage, name: &str) -> Vec<String> {
    let made = stage.get(&deployment("team-a", name)).await;
    let all = made["spec"]["template"]["spec"]["initContainers"].as_array().unwrap().iter();
    all.map(|one| one["image"].as_str().unwrap().to_owned()).collect()
}

/// What applying a Model would come to, as `verb kind name`, and its lines.
async fn preview(operator: &Operator, name: &str, more: Value) -> (Vec<String>, String) {
    let model = json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": "Model",
        "metadata": {"name": name, "namespace": "team-a"}, "spec": spec(more)});
    let changes = operator.preview(&[model]).await.unwrap().changes;
    let changes = changes.iter().filter(|one| one.deed() != Deed::Keep);
    let (mut deeds, mut lines) = (Vec::new(), String::new());
    for change in changes {
        deeds.push(format!("{} {} {}", change.deed().name(), change.of()[1], change.of()[3]));
        let hunks = change.hunks();
        lines.extend(hunks.iter().flat_map(|hunk| &hunk.lines).map(|line| format!("{line}\n")));
    }
    (deeds, lines)
}

#[tokio::test(start_paused = true)]
async fn another_release_replaces_no_copies() {
    let (stage, operator) = running().await;
    operator.stop().await;
    let before = pods(&stage).await;
    assert_eq!(before.len(), 6);
    stage.written();
    // What would be done is what is done: nothing.
    assert_eq!(stage.release("look", NEXT).dry_run().await.unwrap(), "");
    let unchanged = preview(&stage.release("look", NEXT), "big", big(json!({}))).await;
    assert_eq!(unchanged, (Vec::new(), String::new()));
    stage.written();
    let operator = Stage::working(stage.release("two", NEXT));
    // A Job that ended well is gone by then, and does not come again.
    stage.rest(4_000).await;
    assert!(operator.operator.known().leads());
    assert_eq!(stage.written(), Vec::<String>::new());
    assert_eq!(pods(&stage).await, before);
    // Nor does another number of copies replace those that are there.
    apply(&stage, "big", big(json!({"replicas": 3}))).await;
    stage.pass(60).await;
    let after = pods(&stage).await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.iter().all(|uid| after.contains(uid)));
    assert!(images(&stage, "big").await.iter().all(|image| image != NEXT));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_change_anyway_get_the_new_image() {
    let (stage, operator) = running().await;
    operator.stop().await;
    let before = images(&stage, "big").await;
    assert_eq!(before.len(), 2, "{before:?}");
    let more = big(json!({"context": 8192}));
    let (deeds, lines) = preview(&stage.release("look", NEXT), "big", more.clone()).await;
    assert_eq!(deeds, ["change Model big", "change Deployment big"]);
    let image = format!("image: {NEXT}");
    let mut added = lines.lines().filter(|line| line.starts_with('+'));
    assert!(added.any(|line| line.ends_with(&image)), "{lines}");
    let operator = Stage::working(stage.release("two", NEXT));
    stage.pass(60).await;
    stage.written();
    apply(&stage, "big", more).await;
    stage.pass(120).await;
    assert_eq!(images(&stage, "big").await, [NEXT, NEXT]);
    let written = stage.written();
    let replaced = written.iter().filter(|one| KINDS.iter().any(|kind| one.contains(kind)));
    assert_eq!(replaced.collect::<Vec<_>>(), ["apply deployments big"], "{written:?}");
    // What somebody puts there by hand is repaired, to what was.
    let all = stage.get(&deployment("team-a", "big")).await;
    let mut containers = all["spec"]["template"]["spec"]["initContainers"].clone();
    for one in containers.as_array_mut().unwrap() {
        one["image"] = "theirs".into();
    }
    let change = json!({"spec": {"template": {"spec": {"initContainers": containers}}}});
    stage.merge(&deployment("team-a", "big"), &change).await;
    stage.pass(60).await;
    assert_eq!(images(&stage, "big").await, [NEXT, NEXT]);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_pods_takes_the_new_image_at_once() {
    let (stage, operator) = running().await;
    apply(&stage, "big", big(json!({"replicas": 0}))).await;
    stage.pass(120).await;
    operator.stop().await;
    stage.written();
    let operator = Stage::working(stage.release("two", NEXT));
    stage.rest(600).await;
    let written = stage.written();
    let objects: Vec<&String> = written.iter().filter(|one| !one.contains("status")).collect();
    assert_eq!(objects, ["apply deployments big"]);
    assert_eq!(images(&stage, "big").await, [NEXT, NEXT]);
    operator.stop().await;
}

/// The control planes of a cluster are of two releases for a while, and any of them may answer.
#[tokio::test(start_paused = true)]
async fn another_kubernetes_replaces_no_copies() {
    let (stage, operator) = running().await;
    let before = pods(&stage).await;
    stage.written();
    for minor in [29, 32, 29] {
        stage.server.with(|cluster, _| cluster.set_minor(minor));
        stage.rest(150).await;
        assert_eq!(stage.written(), Vec::<String>::new(), "1.{minor}");
    }
    assert_eq!(pods(&stage).await, before);
    operator.stop().await;
}
