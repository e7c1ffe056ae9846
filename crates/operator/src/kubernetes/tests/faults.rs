//! The API server fails: it is away, refuses for a while, forgets, breaks off.

use pilotage_cluster::fault::{Fault, Meets, Trouble};
use serde_json::json;

use super::kit::Stage;

async fn serves(stage: &Stage, name: &str) {
    let told = stage.condition("Model", "team-a", name, "Ready").await;
    assert!(told.starts_with("True Serving"), "{name}: {told}");
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_the_server_is_survived_without_a_storm() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "first", json!({})).await;
    stage.pass(30).await;
    serves(&stage, "first").await;
    let until = stage.server.now_ms() + 3_600_000;
    stage.server.with(|cluster, _| cluster.faults().away_until_ms(until));
    stage.server.with(|cluster, _| cluster.drop_watches(true));
    stage.server.with(|cluster, _| cluster.records().take());
    stage.rest(3_590).await;
    assert!(!operator.operator.known().leads());
    let asked = stage.server.with(|cluster, _| cluster.records().take());
    let asked = asked.iter().filter(|one| one.user == "one").count();
    // Sixteen watches each half a minute, the Lease each two to three seconds.
    assert!(asked < 6_000, "{asked} calls in an hour");
    stage.pass(60).await;
    stage.model("team-a", "second", json!({})).await;
    stage.pass(60).await;
    serves(&stage, "first").await;
    serves(&stage, "second").await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_waited_for_as_long_as_is_said() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.pass(5).await;
    let meets = Meets { user: "one".to_owned(), ..Meets::calls(&["apply", "create"], "") };
    stage
        .server
        .with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::TooMany(20)).times(1)));
    stage.server.with(|cluster, _| cluster.records().take());
    stage.model("team-a", "small", json!({})).await;
    stage.pass(15).await;
    let asked = stage.writes();
    assert_eq!(asked.len(), 1, "{asked:?}");
    stage.pass(60).await;
    serves(&stage, "small").await;
    // Nobody is told of it.
    assert!(!stage.events("team-a", "small").await.iter().any(|one| one.contains("Many")));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_or_expire_begin_anew() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "first", json!({})).await;
    stage.pass(30).await;
    for (turn, broken) in [(0, true), (1, false)] {
        stage.server.with(|cluster, _| {
            cluster.drop_watches(broken);
            cluster.compact();
        });
        stage.model("team-a", &format!("turn-{turn}"), json!({})).await;
        stage.pass(90).await;
        serves(&stage, &format!("turn-{turn}")).await;
    }
    serves(&stage, "first").await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_done_unheard_is_not_done_twice_over() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.pass(5).await;
    let meets = Meets { user: "one".to_owned(), ..Meets::default() };
    for verb in ["apply", "create"] {
        let meets = Meets { verbs: vec![verb], ..meets.clone() };
        let fault = Fault::new(meets, Trouble::Unheard).after(1).times(3);
        stage.server.with(|cluster, _| cluster.faults().add(fault));
    }
    stage.model("team-a", "small", json!({})).await;
    stage.pass(120).await;
    serves(&stage, "small").await;
    assert_eq!(stage.names("apps/v1", "deployments", "team-a").await, ["small"]);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_definitions_it_says_what_to_do() {
    let stage = Stage::new().await;
    for kind in ["models", "routes", "tenants", "fleets"] {
        let target =
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind}.pilotage.dev");
        stage.delete(&target).await;
    }
    let operator = stage.operator("one");
    stage.pass(5).await;
    let why = operator.operator.hindrance().unwrap();
    assert!(why.contains("pilotage crd | kubectl apply"), "{why}");
    for definition in pilotage_plan::crd::all() {
        stage.define(&definition).await;
    }
    stage.model("team-a", "small", json!({})).await;
    stage.pass(150).await;
    assert_eq!(operator.operator.hindrance(), None);
    serves(&stage, "small").await;
    operator.stop().await;
}
