//! A Model's next version proves itself beside the one that serves, takes over or is taken back.

use pilotage_cluster::world::Fate;
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

#[tokio::test(start_paused = true)]
async fn who_takes_over_amid_a_trial_takes_no_copy_away() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    apply(&stage, 1).await;
    stage.pass(20).await;
    apply(&stage, 2).await;
    stage.pass(10).await;
    say(&stage, &operator, Progress::Going, 0, 10.0).await;
    say(&stage, &operator, Progress::Going, 1, 50.0).await;
    let there = workloads(&stage).await;
    assert_eq!(there.iter().map(|(_, copies)| copies).sum::<u64>(), 3, "{there:?}");
    operator.kill().await;
    // It has heard of no gateway yet.
    let operator = stage.operator("two");
    for _ in 0..60 {
        stage.pass(1).await;
        assert_eq!(workloads(&stage).await, there);
    }
    assert!(operator.operator.known().leads());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_mistake_amid_versions_forgets_none() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    apply(&stage, 1).await;
    stage.pass(20).await;
    let before = update(&stage).await;
    let updates = json!({CANARY: {"steps": [{"weight": 10}, {"weight": 50}]}});
    let wrong = json!({"threads": 2, "fleet": "none", "updates": updates});
    stage.model("team-a", "small", wrong).await;
    stage.pass(30).await;
    assert!(stage.conditions("team-a", "small").await[0].starts_with("Accepted False"));
    assert_eq!(update(&stage).await, before);
    // What comes then is tried as anything else.
    apply(&stage, 2).await;
    stage.pass(20).await;
    let after = update(&stage).await;
    assert_eq!(
        (&after["serving"], &after["next"]["phase"]),
        (&before["serving"], &json!("Trying"))
    );
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_given_up_makes_room_for_the_next() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let fleet = json!({"kind": "nodes", "hardware": "h100-sxm", "perNode": 8, "nodes": 2, "nodeSelector": {}});
    stage.apply("Fleet", "team-a", "h100", fleet).await;
    let apply = async |context: u32| {
        let spec = json!({
            "source": "hf:meta-llama/Llama-3.1-70B-Instruct", "runtime": "vllm",
            "sizeBytes": 141_000_000_000_u64, "parallelism": {"tensor": 8}, "replicas": 1,
            "context": context, "updates": {CANARY: {"steps": [{"weight": 50}]}},
        });
        stage.apply("Model", "team-a", "small", spec).await;
    };
    apply(8192).await;
    stage.pass(60).await;
    // The second version has the last place, and does not come up.
    stage.players.lock().nature.fate = Fate::NeverReady;
    apply(4096).await;
    stage.pass(60).await;
    let second = update(&stage).await["next"].clone();
    assert_eq!((&second["phase"], workloads(&stage).await.len()), (&json!("Starting"), 2));
    stage.players.lock().nature.fate = Fate::ReadyAfterMs(1000);
    apply(2048).await;
    stage.pass(120).await;
    let third = update(&stage).await["next"].clone();
    assert_ne!(third["revision"], second["revision"]);
    let all = workloads(&stage).await;
    assert_eq!((&third["phase"], all.len()), (&json!("Trying"), 2), "{all:?}");
    let told = stage.condition("Model", "team-a", "small", "Ready").await;
    assert!(told.starts_with("True Serving"), "{told}");
    operator.stop().await;
}
