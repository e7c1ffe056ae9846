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
async fn who_gets_no_answer_leads_no_more_before_another_does() {
    let stage = Stage::new().await;
    let one = stage.operator("one");
    stage.pass(5).await;
    let two = stage.operator("two");
    stage.pass(5).await;
    assert!(one.operator.known().leads());
    // The server takes its calls, and answers in an hour.
    let meets = Meets { user: "one".to_owned(), ..Meets::calls(&[], "leases") };
    let late = Fault::new(meets, Trouble::Late(3_600_000));
    stage.server.with(|cluster, _| cluster.faults().add(late));
    let mut leaders = Vec::new();
    for _ in 0..300 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let leads = [&one, &two].map(|one| one.operator.known().leads());
        assert_ne!(leads, [true, true], "two lead at once");
        leaders.push(leads);
    }
    leaders.dedup();
    assert_eq!(leaders, [[true, false], [false, false], [false, true]]);
    stage.server.with(|cluster, _| cluster.faults().clear());
    two.stop().await;
    stage.pass(60).await;
    assert!(one.operator.known().leads());
    one.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_swarm_is_lost() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.pass(10).await;
    // They come at once, far more than are taken in between two deeds.
    let all: Vec<String> = (0..1500).map(|at| format!("team-{at}")).collect();
    stage.server.with(|cluster, now_ms| {
        for name in &all {
            let body = json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": "Tenant",
                "metadata": {"name": name, "namespace": "team-a"}, "spec": {}});
            let call = pilotage_cluster::Call {
                method: http::Method::POST,
                path: "/apis/pilotage.dev/v1alpha1/namespaces/team-a/tenants".to_owned(),
                query: String::new(),
                content_type: "application/json".to_owned(),
                accept: "application/json".to_owned(),
                user_agent: "test".to_owned(),
                user: String::new(),
                body: body.to_string().into(),
            };
            assert_eq!(cluster.handle(now_ms, &call).status, 201);
        }
    });
    stage.pass(60).await;
    let list = stage.get("/apis/pilotage.dev/v1alpha1/namespaces/team-a/tenants").await;
    let items = list["items"].as_array().unwrap();
    let silent = items.iter().filter(|one| one["status"]["conditions"].is_null());
    let silent: Vec<_> = silent.map(|one| one["metadata"]["name"].clone()).collect();
    assert_eq!((items.len(), silent), (1500, Vec::new()));
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
