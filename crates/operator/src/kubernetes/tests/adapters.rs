//! Adapters of a Model that runs: another list is one write, and the pods stay.

use pilotage_plan::adapters::{AdapterList, AdapterTold, State, Told};
use serde_json::{Value, json};

use super::kit::{Stage, deployment};

const MAP: &str = "/api/v1/namespaces/team-a/configmaps/big-adapters";

async fn with(stage: &Stage, adapters: Value) {
    let spec = json!({
        "source": "hf:o/big", "runtime": "vllm", "sizeBytes": 1_000_000, "replicas": 2,
        "fleet": "cpu", "adapterSources": adapters,
    });
    stage.apply("Model", "team-a", "big", spec).await;
}

async fn running() -> (Stage, super::kit::Working) {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let fleet = json!({"kind": "nodes", "hardware": "h100-sxm", "perNode": 8});
    stage.apply("Fleet", "team-a", "cpu", fleet).await;
    with(&stage, json!({"sql": "hf:o/sql"})).await;
    stage.pass(60).await;
    (stage, operator)
}

fn names(map: &Value) -> Vec<String> {
    let text = map["data"]["adapters.json"].as_str().unwrap_or_default();
    let list = AdapterList::read(text.as_bytes()).unwrap();
    list.adapters.into_iter().map(|one| one.name).collect()
}

#[tokio::test(start_paused = true)]
async fn another_list_is_one_write_and_the_pods_stay() {
    let (stage, operator) = running().await;
    let ready = stage.condition("Model", "team-a", "big", "Ready").await;
    assert!(ready.starts_with("True Serving"), "{ready}");
    let pods = stage.names("v1", "pods", "team-a").await;
    let before = stage.get(&deployment("team-a", "big")).await;
    assert_eq!(names(&stage.get(MAP).await), ["sql"]);
    stage.written();
    with(&stage, json!({"law": "hf:o/law", "sql": "hf:o/sql2"})).await;
    stage.pass(30).await;
    let written = stage.written();
    let objects: Vec<&String> =
        written.iter().filter(|one| !one.contains("models") && !one.contains("events")).collect();
    assert_eq!(objects, ["apply configmaps big-adapters"], "{written:?}");
    assert_eq!(names(&stage.get(MAP).await), ["law", "sql"]);
    assert_eq!(stage.names("v1", "pods", "team-a").await, pods);
    let after = stage.get(&deployment("team-a", "big")).await;
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_changed_by_hand_or_gone_comes_back() {
    let (stage, operator) = running().await;
    stage.merge(MAP, &json!({"data": {"adapters.json": "{}"}})).await;
    stage.pass(30).await;
    assert_eq!(names(&stage.get(MAP).await), ["sql"]);
    stage.delete(MAP).await;
    stage.pass(30).await;
    assert_eq!(names(&stage.get(MAP).await), ["sql"]);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_copies_say_of_their_adapters_is_told() {
    let (stage, operator) = running().await;
    let told = async || stage.condition("Model", "team-a", "big", "AdaptersLoaded").await;
    assert_eq!(told().await, "");
    let known = operator.operator.known();
    let urls =
        known.models(|_, _| true)[0].pods.iter().filter_map(|pod| pod.adapters_url()).count();
    assert_eq!(urls, 2, "each copy is asked");
    let say = async |state: State, trouble: Option<&str>| {
        let one = AdapterTold {
            name: "sql".to_owned(),
            source: Some("hf:o/sql".parse().unwrap()),
            state,
            trouble: trouble.map(str::to_owned),
        };
        let heard = Some(Told { ready: true, adapters: vec![one], ..Told::default() });
        known.heard_adapters("team-a", "big", vec![heard.clone(), heard]);
        stage.pass(5).await;
    };
    say(State::Fetching, None).await;
    assert!(told().await.starts_with("False Loading: `sql` is on 0 of 2"), "{}", told().await);
    say(State::Waiting, Some("no such file")).await;
    assert!(told().await.starts_with("False AdapterFailed: "), "{}", told().await);
    let events = stage.events("team-a", "big").await;
    assert!(events.contains(&"AdapterFailed".to_owned()), "{events:?}");
    say(State::Loaded, None).await;
    assert!(told().await.starts_with("True Loaded: 2 of 2"), "{}", told().await);
    stage.written();
    say(State::Loaded, None).await;
    assert_eq!(stage.written(), Vec::<String>::new(), "what is known is not told again");
    // What one operator heard, the next one knows from the Model.
    operator.stop().await;
    let next = stage.operator("two");
    stage.pass(60).await;
    assert!(told().await.starts_with("True Loaded"), "{}", told().await);
    next.stop().await;
}

/// Pods of the version before mount the list: without it those that start meanwhile would hang.
#[tokio::test(start_paused = true)]
async fn a_list_that_nobody_wants_goes_after_the_last_pod_that_mounts_it() {
    let (stage, operator) = running().await;
    let before = stage.names("v1", "pods", "team-a").await;
    with(&stage, json!({})).await;
    let mut together = 0;
    for _ in 0..300 {
        stage.pass(1).await;
        let pods = stage.names("v1", "pods", "team-a").await;
        let is_there = stage.get(MAP).await != Value::Null;
        let mounts = before.iter().any(|pod| pods.contains(pod));
        assert!(is_there || !mounts, "{pods:?} of {before:?}");
        together += usize::from(is_there && pods.iter().any(|pod| !before.contains(pod)));
    }
    assert!(together > 0, "pods of both stood beside each other");
    assert_eq!(stage.get(MAP).await, Value::Null);
    assert_eq!(stage.condition("Model", "team-a", "big", "AdaptersLoaded").await, "");
    operator.stop().await;
}
