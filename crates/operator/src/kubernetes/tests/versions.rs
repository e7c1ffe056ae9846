//! A Model's next version proves itself beside the one that serves, takes over or is taken back.

use pilotage_plan::update::{Progress, Trial};
use serde_json::{Value, json};

use super::kit::{Stage, Working, resource};

const CANARY: &str = "canary";

async fn apply(stage: &Stage, threads: u32) {
    let updates = json!({CANARY: {"steps": [{"weight": 10}, {"weight": 50}]}});
    stage.model("team-a", "small", json!({"threads": threads, "updates": updates})).await;
}

async fn update(stage: &Stage) -> Value {
    let model = stage.get(&resource("Model", "team-a", "small")).await;
    model["status"]["update"].clone()
}

/// Deployments with the copies that each has, in the order of their names.
async fn workloads(stage: &Stage) -> Vec<(String, u64)> {
    let list = stage.get("/apis/apps/v1/namespaces/team-a/deployments").await;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let one = |one: &Value| {
        let name = one["metadata"]["name"].as_str().unwrap().to_owned();
        (name, one["spec"]["replicas"].as_u64().unwrap())
    };
    items.iter().map(one).collect()
}

/// A gateway says what it thinks of the version that is on trial.
async fn say(stage: &Stage, operator: &Working, progress: Progress, step: u32, percent: f64) {
    let next = update(stage).await["next"].clone();
    let percent = percent.min(next["percentMax"].as_f64().unwrap());
    let revision = next["revision"].as_str().unwrap().to_owned();
    let why = "as the test says".to_owned();
    let trial = Trial { revision, progress, step, percent, why };
    operator.operator.known().heard_trials("team-a", "small", vec![trial]);
    stage.pass(10).await;
}

#[tokio::test(start_paused = true)]
async fn a_version_takes_over_share_by_share() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    apply(&stage, 1).await;
    stage.pass(20).await;
    let first = update(&stage).await["serving"].as_str().unwrap().to_owned();
    assert_eq!(workloads(&stage).await, [(format!("small-{first}"), 2)]);
    assert_eq!(stage.names("v1", "services", "team-a").await, [format!("small-{first}-engines")]);
    apply(&stage, 2).await;
    stage.pass(10).await;
    let next = update(&stage).await["next"].clone();
    assert_eq!((&next["phase"], &next["percentMax"]), (&json!("Trying"), &json!(50)), "{next}");
    let second = next["revision"].as_str().unwrap().to_owned();
    let copies = |all: &[(String, u64)], revision: &str| {
        let own = all.iter().find(|(name, _)| *name == format!("small-{revision}"));
        own.map(|(_, copies)| *copies)
    };
    let all = workloads(&stage).await;
    assert_eq!((copies(&all, &first), copies(&all, &second)), (Some(2), Some(1)), "{all:?}");
    let told = stage.condition("Model", "team-a", "small", "Progressing").await;
    assert!(told.starts_with("True Trying: version"), "{told}");
    say(&stage, &operator, Progress::Going, 0, 10.0).await;
    say(&stage, &operator, Progress::Going, 1, 50.0).await;
    let all = workloads(&stage).await;
    assert_eq!((copies(&all, &first), copies(&all, &second)), (Some(1), Some(2)), "{all:?}");
    say(&stage, &operator, Progress::Done, 2, 100.0).await;
    stage.pass(60).await;
    let status = update(&stage).await;
    assert_eq!(status["serving"], second.as_str(), "{status}");
    assert_eq!(status["next"], Value::Null);
    assert_eq!(workloads(&stage).await, [(format!("small-{second}"), 2)]);
    assert_eq!(stage.names("v1", "services", "team-a").await, [format!("small-{second}-engines")]);
    stage
        .check(
            "team-a",
            "small",
            [
                "Accepted True Accepted",
                "Ready True Serving",
                "Progressing False Stable",
                "Degraded False Healthy",
            ],
        )
        .await;
    // At rest nothing is written, and another operator goes on from the status alone.
    stage.written();
    stage.rest(600).await;
    operator.stop().await;
    let operator = stage.operator("two");
    stage.rest(600).await;
    assert_eq!(stage.written(), Vec::<String>::new());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_worse_is_taken_back_and_stays_so() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    apply(&stage, 1).await;
    stage.pass(20).await;
    let first = update(&stage).await["serving"].as_str().unwrap().to_owned();
    apply(&stage, 2).await;
    stage.pass(10).await;
    say(&stage, &operator, Progress::Worse, 0, 10.0).await;
    stage.pass(60).await;
    assert_eq!(update(&stage).await["next"]["phase"], "RolledBack");
    assert_eq!(workloads(&stage).await, [(format!("small-{first}"), 2)]);
    let template = stage.get(&super::kit::deployment("team-a", &format!("small-{first}"))).await;
    let container = &template["spec"]["template"]["spec"]["containers"][0];
    assert!(container["args"].to_string().contains(r#""--threads","1""#), "{container}");
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with("True RolledBack: version"), "{told}");
    // So it stays, whoever operates, until the Model says something else.
    operator.kill().await;
    let operator = stage.operator("two");
    stage.pass(120).await;
    assert_eq!(update(&stage).await["next"]["phase"], "RolledBack");
    apply(&stage, 1).await;
    stage.pass(60).await;
    assert_eq!(update(&stage).await["next"], Value::Null);
    assert!(stage.condition("Model", "team-a", "small", "Degraded").await.starts_with("False"));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_never_comes_up_is_given_up() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    apply(&stage, 1).await;
    stage.pass(20).await;
    let first = update(&stage).await["serving"].as_str().unwrap().to_owned();
    let updates = json!({CANARY: {"steps": [{"weight": 10}]}});
    let image = "example.com/nobody/has:1";
    stage.players.lock().nature.no_images.push(image.to_owned());
    stage.model("team-a", "small", json!({"image": image, "updates": updates})).await;
    stage.pass(60).await;
    let status = update(&stage).await;
    let told = stage.conditions("team-a", "small").await;
    assert_eq!(status["next"]["phase"], "Starting", "{status} {told:?}");
    stage.rest(4 * 3600).await;
    let status = update(&stage).await;
    assert_eq!(status["next"]["phase"], "RolledBack", "{status}");
    assert_eq!(workloads(&stage).await, [(format!("small-{first}"), 2)]);
    operator.stop().await;
}
