//! From the first resource to the last: what is made, what is told, what is left.

use serde_json::{Value, json};

use super::kit::{Stage, deployment, foreign, resource};

const SERVES: [&str; 4] = [
    "Accepted True Accepted",
    "Ready True Serving",
    "Progressing False Stable",
    "Degraded False Healthy",
];

#[tokio::test(start_paused = true)]
async fn a_model_becomes_objects_and_is_told_of() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.pass(5).await;
    stage.server.with(|cluster, _| cluster.records().take());
    stage.model("team-a", "small", json!({})).await;
    stage.pass(20).await;
    stage.check("team-a", "small", SERVES).await;
    let model = stage.get(&resource("Model", "team-a", "small")).await;
    let status = &model["status"];
    assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(2), &json!(2)));
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["runtime"], "embedded");
    let made = stage.get(&deployment("team-a", "small")).await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], model["metadata"]["uid"]);
    assert_eq!(stage.names("v1", "services", "team-a").await, ["small-engines"]);
    let secret = stage.get("/api/v1/namespaces/team-a/secrets/small-key").await;
    let all = stage.get("/api/v1/namespaces/pilotage/secrets/pilotage-engine-keys").await;
    assert_eq!(all["data"]["team-a.small"], secret["data"]["key"]);
    assert!(secret["data"]["key"].as_str().unwrap().len() > 60);
    let events = stage.events("team-a", "small").await;
    assert!(
        events.contains(&"Accepted".to_owned()) && events.contains(&"Ready".to_owned()),
        "{events:?}"
    );
    // Each object was written once; what is told of the Model came in a few steps.
    let written = stage.written();
    let objects = written.iter().filter(|one| !one.contains("status") && !one.contains("events"));
    let mut once: Vec<&String> = objects.collect();
    let all = once.len();
    once.dedup();
    assert_eq!(once.len(), all, "{written:?}");
    let told = written.iter().filter(|one| one.contains("models/status")).count();
    assert!((1..=6).contains(&told), "{written:?}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_at_rest_nor_by_one_who_comes_new() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.apply("Tenant", "team-a", "team", json!({})).await;
    stage.apply("Route", "team-a", "chat", json!({"targets": [{"model": "small"}]})).await;
    stage.pass(60).await;
    stage.check("team-a", "small", SERVES).await;
    assert!(
        stage.condition("Tenant", "team-a", "team", "Accepted").await.starts_with("True Accepted")
    );
    assert!(stage.condition("Route", "team-a", "chat", "Ready").await.starts_with("True Serving"));
    stage.written();
    stage.rest(3600).await;
    assert_eq!(stage.written(), Vec::<String>::new());
    operator.stop().await;
    let operator = stage.operator("two");
    stage.rest(600).await;
    assert!(operator.operator.known().leads());
    assert_eq!(stage.written(), Vec::<String>::new());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_one_write_and_what_is_rendered_no_more_goes() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage
        .model(
            "team-a",
            "small",
            json!({"podTemplate": {"nodeSelector": {}, "labels": {"team": "x"}}}),
        )
        .await;
    stage.pass(30).await;
    stage.written();
    stage.model("team-a", "small", json!({"replicas": 1})).await;
    stage.pass(30).await;
    let written = stage.written();
    let changed = |what: &str| written.iter().filter(|one| one.starts_with(what)).count();
    assert_eq!(changed("apply deployments small"), 1, "{written:?}");
    assert_eq!(changed("delete"), 0, "{written:?}");
    let made = stage.get(&deployment("team-a", "small")).await;
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["spec"]["template"]["metadata"]["labels"]["team"], Value::Null);
    // A Model that runs elsewhere from now on has nothing here.
    stage
        .apply("Model", "team-a", "small", json!({"endpoints": [{"url": "http://10.1.1.1:8000"}]}))
        .await;
    stage.pass(30).await;
    assert_eq!(stage.names("apps/v1", "deployments", "team-a").await, Vec::<String>::new());
    assert_eq!(stage.names("v1", "services", "team-a").await, Vec::<String>::new());
    assert!(
        stage.condition("Model", "team-a", "small", "Ready").await.starts_with("True Elsewhere")
    );
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_by_hand_is_repaired_and_told_once() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    for _ in 0..2 {
        stage.merge(&deployment("team-a", "small"), &json!({"spec": {"replicas": 7}})).await;
        stage.pass(20).await;
        assert_eq!(stage.get(&deployment("team-a", "small")).await["spec"]["replicas"], 2);
    }
    let service = "/api/v1/namespaces/team-a/services/small-engines";
    stage.delete(service).await;
    stage.pass(20).await;
    assert_eq!(stage.get(service).await["metadata"]["name"], "small-engines");
    let events = stage.events("team-a", "small").await;
    assert_eq!(events.iter().filter(|one| *one == "Repaired").count(), 1, "{events:?}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_everything_leaves_nothing() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    stage.delete(&resource("Model", "team-a", "small")).await;
    stage.pass(30).await;
    for (version, plural) in [
        ("apps/v1", "deployments"),
        ("v1", "services"),
        ("v1", "secrets"),
        ("v1", "pods"),
        ("policy/v1", "poddisruptionbudgets"),
        ("networking.k8s.io/v1", "networkpolicies"),
    ] {
        assert_eq!(stage.names(version, plural, "team-a").await, Vec::<String>::new(), "{plural}");
    }
    let keys = stage.get("/api/v1/namespaces/pilotage/secrets/pilotage-engine-keys").await;
    assert!(keys["data"].as_object().is_none_or(serde_json::Map::is_empty), "{keys}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn groups_take_over_when_they_are_installed() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let fleet = json!({"kind": "nodes", "hardware": "h100-sxm", "perNode": 8, "nodes": 4, "nodeSelector": {}});
    stage.apply("Fleet", "team-a", "h100", fleet).await;
    let wide = json!({
        "source": "hf:meta-llama/Llama-3.1-405B-Instruct-FP8", "runtime": "vllm",
        "sizeBytes": 435_000_000_000_u64, "parallelism": {"tensor": 8, "pipeline": 2}, "replicas": 1, "fleet": "h100",
    });
    stage.apply("Model", "team-a", "wide", wide).await;
    stage.pass(30).await;
    let sets = stage.names("apps/v1", "statefulsets", "team-a").await;
    assert_eq!(sets, ["wide-0", "wide-0-workers"]);
    let told = stage.condition("Model", "team-a", "wide", "Accepted").await;
    assert!(told.starts_with("True LwsAbsent: LeaderWorkerSet is not installed"), "{told}");
    stage
        .define(&foreign("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets"))
        .await;
    stage.pass(150).await;
    assert_eq!(
        stage.names("leaderworkerset.x-k8s.io/v1", "leaderworkersets", "team-a").await,
        ["wide"]
    );
    let told = stage.condition("Model", "team-a", "wide", "Accepted").await;
    assert!(told.starts_with("True Accepted"), "{told}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_keda_pilotage_scales() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({"scaling": {"min": 1, "max": 3, "by": "keda"}})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert!(told.starts_with("True KedaAbsent:") && told.contains("Pilotage scales it"), "{told}");
    // The number is in the scale alone, which begins where the API server has it begin.
    assert_eq!(stage.get(&deployment("team-a", "small")).await["spec"]["replicas"], 1);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missing_monitors_are_told_and_made_when_they_may_be() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert_eq!(told, "True Accepted: no PodMonitor: Prometheus' operator is not installed");
    // That is nothing to tell again and again.
    stage.written();
    stage.rest(600).await;
    assert_eq!(stage.written(), Vec::<String>::new());
    stage.define(&foreign("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")).await;
    stage.pass(150).await;
    let made = stage.names("monitoring.coreos.com/v1", "podmonitors", "team-a").await;
    assert_eq!(made, ["small-engines"]);
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert_eq!(told, "True Accepted: it counts");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_the_other_follows_it() {
    let stage = Stage::new().await;
    let (one, two) = (stage.operator("one"), stage.operator("two"));
    stage.pass(10).await;
    let leads = [one.operator.known().leads(), two.operator.known().leads()];
    assert_eq!(leads.iter().filter(|leads| **leads).count(), 1);
    let (leader, other) = if leads[0] { (one, two) } else { (two, one) };
    leader.kill().await;
    stage.model("team-a", "small", json!({})).await;
    stage.pass(10).await;
    assert!(!other.operator.known().leads());
    stage.pass(30).await;
    assert!(other.operator.known().leads());
    stage.check("team-a", "small", SERVES).await;
    // Who ends in peace hands over at once.
    let third = stage.operator("three");
    other.stop().await;
    stage.pass(4).await;
    assert!(third.operator.known().leads());
    third.stop().await;
}

#[tokio::test(start_paused = true)]
async fn other_loops_know_the_models() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let mut known = operator.operator.known();
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    known.changed().await;
    let models = known.models(|_, _| true);
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].copies, (2, 2));
    assert_eq!(models[0].pods.iter().filter(|pod| pod.ready_s.is_some()).count(), 2);
    assert_eq!(models[0].status["readyReplicas"], 2);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespaced_operator_looks_at_its_own_alone() {
    let stage = Stage::new().await;
    let operator = stage.operator_of("one", Some("team-b"));
    stage.model("team-a", "small", json!({})).await;
    stage.model("team-b", "other", json!({})).await;
    stage.pass(30).await;
    stage.check("team-b", "other", SERVES).await;
    assert_eq!(stage.conditions("team-a", "small").await[0], "Accepted ");
    let all = stage.server.with(|cluster, _| cluster.records().take());
    // Nodes are in no namespace; where they may not be seen, it goes on without.
    let known = ["", "nodes"];
    let mut beyond =
        all.iter().filter(|one| one.user == "one" && !known.contains(&one.resource.as_str()));
    assert!(beyond.all(|one| ["team-b", "pilotage"].contains(&one.namespace.as_str())));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_done() {
    let stage = Stage::new().await;
    stage.model("team-a", "small", json!({})).await;
    let working = stage.operator_of("other", Some("team-b"));
    working.stop().await;
    stage.written();
    let operator = stage.idle("one");
    let text = operator.dry_run().await.unwrap();
    assert!(text.contains("+ Secret team-a/small-key"), "{text}");
    assert_eq!(stage.written(), Vec::<String>::new());
}
