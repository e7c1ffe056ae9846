//! What people and programs do to the objects of a Model by hand, and what a cluster takes away.

use pilotage_cluster::fault::{Fault, Meets, Trouble};
use serde_json::{Value, json};

use super::kit::{Stage, deployment, resource};

#[tokio::test(start_paused = true)]
async fn a_key_that_is_changed_is_read_hours_later_too() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let all = "/api/v1/namespaces/pilotage/secrets/pilotage-engine-keys";
    for key in ["Zmlyc3Q=", "c2Vjb25k"] {
        stage.rest(3600).await;
        let secret = "/api/v1/namespaces/team-a/secrets/small-key";
        stage.merge(secret, &json!({"data": {"key": key}})).await;
        stage.rest(700).await;
        assert_eq!(stage.get(all).await["data"]["team-a.small"], key);
    }
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_our_notes_out_is_not_raced() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    stage.written();
    // Something that takes every annotation out that it does not know, as soon as it sees one.
    for _ in 0..1200 {
        let there = stage.get(&deployment("team-a", "small")).await;
        if !there["metadata"]["annotations"]["pilotage.dev/rendered"].is_null() {
            let none = json!({"metadata": {"annotations": {"pilotage.dev/rendered": null}}});
            stage.merge(&deployment("team-a", "small"), &none).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let written = stage.written();
    let applied = written.iter().filter(|one| *one == "apply deployments small").count();
    assert!((2..=10).contains(&applied), "{applied} times in two minutes");
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with("True Conflict: somebody changes metadata.annotations"), "{told}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_nobodys_is_taken_back() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    // The owner is taken out by hand.
    let none = json!({"metadata": {"ownerReferences": null}});
    stage.merge(&deployment("team-a", "small"), &none).await;
    stage.pass(30).await;
    let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"].clone();
    let model = stage.get(&resource("Model", "team-a", "small")).await;
    let made = stage.get(&deployment("team-a", "small")).await;
    assert_eq!(owner(&made), model["metadata"]["uid"]);
    // The Model alone is deleted, and comes back: its copies go on.
    let alone = format!("{}?propagationPolicy=Orphan", resource("Model", "team-a", "small"));
    stage.delete(&alone).await;
    stage.pass(10).await;
    let left = stage.get(&deployment("team-a", "small")).await;
    assert_eq!((owner(&left), &left["metadata"]["uid"]), (Value::Null, &made["metadata"]["uid"]));
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let model = stage.get(&resource("Model", "team-a", "small")).await;
    let after = stage.get(&deployment("team-a", "small")).await;
    assert_eq!(owner(&after), model["metadata"]["uid"]);
    assert_eq!(after["metadata"]["uid"], made["metadata"]["uid"]);
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert_eq!(told, "False Healthy: ");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_another_models_label_is_counted_there_no_more() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({"replicas": 1})).await;
    stage.pass(30).await;
    let pod = stage.names("v1", "pods", "team-a").await.remove(0);
    // Somebody sets it aside to look at it; the one in its place never becomes ready.
    stage.players.lock().nature.fate = pilotage_cluster::world::Fate::NeverReady;
    let aside = json!({"metadata": {"labels": {"pilotage.dev/model": "aside"}}});
    stage.merge(&format!("/api/v1/namespaces/team-a/pods/{pod}"), &aside).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Ready").await;
    assert!(told.starts_with("False Starting"), "{told}");
    let known = operator.operator.known().models(|_, _| true);
    assert_eq!(known[0].pods.iter().filter(|one| one.name == pod).count(), 0);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_ends_is_left_in_silence() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.pass(5).await;
    let meets = Meets {
        user: "one".to_owned(),
        namespace: "team-a".to_owned(),
        ..Meets::calls(&["apply", "create"], "")
    };
    stage.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Ending)));
    stage.writes();
    for name in ["small", "other"] {
        stage.model("team-a", name, json!({})).await;
    }
    stage.model("team-b", "third", json!({})).await;
    stage.rest(3600).await;
    let refused: Vec<String> = stage
        .writes()
        .into_iter()
        .filter(|one| one.namespace == "team-a")
        .map(|one| format!("{} {} {}", one.verb, one.resource, one.name))
        .collect();
    assert!((1..=2).contains(&refused.len()), "{refused:?}");
    assert_eq!(stage.conditions("team-a", "small").await[3], "Degraded ");
    let told = stage.condition("Model", "team-b", "third", "Ready").await;
    assert!(told.starts_with("True Serving"), "{told}");
    // Another namespace of that name is another one.
    stage.server.with(|cluster, _| cluster.faults().clear());
    for name in ["small", "other"] {
        stage.delete(&resource("Model", "team-a", name)).await;
    }
    stage.pass(5).await;
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Ready").await;
    assert!(told.starts_with("True Serving"), "{told}");
    operator.stop().await;
}
