//! Copies move before their nodes go: drains, notices, nodes that break or are not heard of, and operators that
//! come and go meanwhile.

use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_cluster::world::Fate;
use pilotage_shell::date;
use serde_json::{Value, json};

use super::kit::{Stage, resource};

const SERVES: [&str; 4] = [
    "Accepted True Accepted",
    "Ready True Serving",
    "Progressing False Stable",
    "Degraded False Healthy",
];

/// A pod, as far as these scenes look at it.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) is_ready: bool,
    pub(super) is_moving: bool,
    is_leaving: bool,
    grace_s: u64,
}

fn pod(pod: &Value) -> Pod {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is_leaving = pod["metadata"]["deletionTimestamp"].is_string();
    let mut ready = conditions.iter().filter(|one| one["type"] == "Ready");
    Pod {
        name: pod["metadata"]["name"].as_str().unwrap().to_owned(),
        node: pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
        is_ready: !is_leaving && ready.any(|one| one["status"] == "True"),
        is_moving: pod["metadata"]["labels"]["pilotage.dev/held"] == "moving",
        is_leaving,
        grace_s: pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default(),
    }
}

/// The pods of a Model.
pub(super) async fn pods(stage: &Stage, model: &str) -> Vec<Pod> {
    let list = stage.get("/api/v1/namespaces/team-a/pods").await;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let own = items.iter().filter(|one| one["metadata"]["labels"]["pilotage.dev/model"] == model);
    own.map(pod).collect()
}

async fn ready(stage: &Stage) -> usize {
    pods(stage, "small").await.iter().filter(|pod| pod.is_ready).count()
}

async fn moving(stage: &Stage) -> usize {
    let all = pods(stage, "small").await;
    all.iter().filter(|pod| pod.is_moving && !pod.is_leaving).count()
}

pub(super) async fn cordon(stage: &Stage, node: &str, is_cordoned: bool) {
    let spec = json!({"spec": {"unschedulable": is_cordoned}});
    stage.merge(&format!("/api/v1/nodes/{node}"), &spec).await;
}

/// A stage with an operator and a Model `small` of so many copies, all of them on node `n0`.
async fn on_one_node(copies: u64, more: Value) -> (Stage, super::kit::Working) {
    on_one_node_after(1, copies, more).await
}

/// The same with copies that took so many seconds to come up.
async fn on_one_node_after(start_s: u64, copies: u64, more: Value) -> (Stage, super::kit::Working) {
    let stage = Stage::new().await;
    stage.players.lock().nature.fate = Fate::ReadyAfterMs(start_s * 1000);
    let operator = stage.operator("one");
    cordon(&stage, "n1", true).await;
    let mut spec = json!({"replicas": copies});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage.model("team-a", "small", spec).await;
    stage.pass(30 + start_s).await;
    cordon(&stage, "n1", false).await;
    stage.pass(5).await;
    assert!(pods(&stage, "small").await.iter().all(|pod| pod.node == "n0" && pod.is_ready));
    stage.writes();
    (stage, operator)
}

/// Which calls about pods there were, as `verb name`.
fn about_pods(stage: &Stage) -> Vec<String> {
    let all = stage.writes().into_iter().filter(|one| one.resource == "pods");
    all.map(|one| format!("{} {}", one.verb, one.name)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_until_the_only_copy_has_moved() {
    let (stage, operator) = on_one_node(1, json!({})).await;
    let old = pods(&stage, "small").await[0].name.clone();
    assert!(!stage.evict("team-a", &old).await, "nothing moves, and the budget refuses");
    stage.players.lock().nature.fate = Fate::ReadyAfterMs(20_000);
    cordon(&stage, "n0", true).await;
    let mut refused = 0;
    for _ in 0..60 {
        stage.pass(1).await;
        assert!(ready(&stage).await >= 1, "somebody serves at each moment");
        let is_there =
            pods(&stage, "small").await.iter().any(|one| one.name == old && !one.is_leaving);
        if is_there && !stage.evict("team-a", &old).await {
            refused += 1;
        }
        let told = stage.condition("Model", "team-a", "small", "Ready").await;
        assert_eq!(told, "True Serving: 1 of 1 copies are ready");
    }
    assert!((15..30).contains(&refused), "it waits as long as a start takes: {refused}");
    let after = pods(&stage, "small").await;
    assert!(matches!(after.as_slice(), [one] if one.node == "n1" && one.name != old), "{after:?}");
    stage.check("team-a", "small", SERVES).await;
    let calls = about_pods(&stage);
    assert_eq!(calls[0], format!("patch {old}"));
    assert!(calls.iter().all(|one| one.ends_with(&old)) && calls.len() <= 2, "{calls:?}");
    let events = stage.events("team-a", &old).await;
    assert!(events.contains(&"Moving".to_owned()), "{events:?}");
    let events = stage.events("team-a", "small").await;
    assert!(!events.contains(&"NotReady".to_owned()), "{events:?}");
    stage.rest(600).await;
    assert_eq!(stage.written(), Vec::<String>::new(), "a cordoned node that is empty says nothing");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_kept_by_whoever_comes_next() {
    let (stage, operator) = on_one_node_after(130, 3, json!({})).await;
    stage.players.lock().nature.fate = Fate::ReadyAfterMs(600_000);
    stage.players.lock().nature.end_ms = 300_000;
    // As AWS Node Termination Handler sets it: it does not say since when.
    let taint = json!([{"key": "aws-node-termination-handler/spot-itn", "value": "x", "effect": "NoSchedule"}]);
    stage.merge("/api/v1/nodes/n0", &json!({"spec": {"taints": taint}})).await;
    stage.pass(3).await;
    assert_eq!((moving(&stage).await, ready(&stage).await), (3, 3), "all of them begin at once");
    assert_eq!(pods(&stage, "small").await.len(), 6);
    stage.pass(27).await;
    operator.kill().await;
    let second = stage.operator("two");
    // Half of two minutes is for those that have no place elsewhere.
    stage.pass(27).await;
    assert_eq!(ready(&stage).await, 3, "they serve as long as there is time");
    stage.pass(8).await;
    let all = pods(&stage, "small").await;
    let leaving: Vec<&Pod> = all.iter().filter(|pod| pod.is_leaving).collect();
    assert_eq!(leaving.len(), 3, "{all:?}");
    assert!(leaving.iter().all(|pod| (50..=60).contains(&pod.grace_s)), "{leaving:?}");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_heard_of_is_left_to_kubernetes() {
    let (stage, operator) = on_one_node(2, json!({})).await;
    let old: Vec<String> = pods(&stage, "small").await.into_iter().map(|pod| pod.name).collect();
    let since = date::utc(stage.server.now_ms() / 1000);
    let unheard = json!([{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.", "lastTransitionTime": since}]);
    stage.merge("/api/v1/nodes/n0/status", &json!({"status": {"conditions": unheard}})).await;
    let taints = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": since},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]);
    stage.merge("/api/v1/nodes/n0", &json!({"spec": {"taints": taints}})).await;
    stage.pass(50).await;
    assert_eq!(pods(&stage, "small").await.len(), 2, "it may come back");
    stage.pass(30).await;
    let new = pods(&stage, "small").await.into_iter().filter(|pod| !old.contains(&pod.name));
    assert_eq!(new.filter(|pod| pod.node == "n1" && pod.is_ready).count(), 2);
    assert_eq!(about_pods(&stage), Vec::<String>::new(), "nothing by force");
    assert_eq!(stage.events("default", "n0").await, ["NodeLost"]);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn copies_leave_a_node_that_breaks_and_those_that_come_later_stay() {
    let (stage, operator) = on_one_node(2, json!({})).await;
    let old: Vec<String> = pods(&stage, "small").await.into_iter().map(|pod| pod.name).collect();
    let since = date::utc(stage.server.now_ms() / 1000);
    let broken = json!([{"type": "AcceleratedHardwareReady", "status": "False", "reason": "NvidiaXID79Error",
        "message": "XID 79", "lastTransitionTime": since}]);
    stage.merge("/api/v1/nodes/n0/status", &json!({"status": {"conditions": broken}})).await;
    for _ in 0..60 {
        stage.pass(1).await;
        assert!(ready(&stage).await >= 2);
    }
    let after = pods(&stage, "small").await;
    assert!(after.iter().all(|pod| !old.contains(&pod.name)) && after.len() == 2, "{after:?}");
    assert_eq!(stage.events("default", "n0").await, ["NodeBroken"]);
    stage.check("team-a", "small", SERVES).await;
    stage.writes();
    stage.rest(600).await;
    assert_eq!(stage.written(), Vec::<String>::new());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cordon_that_is_taken_back_ends_what_has_not_begun() {
    let (stage, operator) = on_one_node(4, json!({})).await;
    stage.players.lock().nature.fate = Fate::ReadyAfterMs(20_000);
    cordon(&stage, "n0", true).await;
    stage.pass(5).await;
    assert_eq!(moving(&stage).await, 1, "there is room for one");
    let told = stage.condition("Model", "team-a", "small", "Progressing").await;
    assert_eq!(told, "True Moving: 1 of 4 copies move from their nodes, 4 ready");
    cordon(&stage, "n0", false).await;
    stage.pass(60).await;
    let after = pods(&stage, "small").await;
    assert_eq!(after.iter().filter(|pod| pod.node == "n0").count(), 3, "{after:?}");
    assert_eq!((after.len(), moving(&stage).await), (4, 0), "what had begun is finished");
    assert_eq!(about_pods(&stage).len(), 2);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_go_together_keep_to_the_limits() {
    let (stage, operator) = on_one_node(4, json!({"updates": {"surge": 4}})).await;
    stage.model("team-b", "other", json!({"replicas": 3})).await;
    stage.pass(30).await;
    stage.nodes(2..4).await;
    for node in ["n0", "n1"] {
        cordon(&stage, node, true).await;
    }
    let mut most = 0;
    for _ in 0..300 {
        stage.pass(1).await;
        most = most.max(moving(&stage).await);
        assert!(ready(&stage).await >= 4);
    }
    assert_eq!(most, 2, "two of a Model at once");
    let after = pods(&stage, "small").await;
    assert!(after.iter().all(|pod| ["n2", "n3"].contains(&pod.node.as_str())), "{after:?}");
    assert_eq!(after.len(), 4);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_goes_on_where_another_one_ended() {
    let (stage, operator) = on_one_node(2, json!({})).await;
    stage.players.lock().nature.fate = Fate::ReadyAfterMs(60_000);
    cordon(&stage, "n0", true).await;
    stage.pass(3).await;
    assert_eq!(moving(&stage).await, 1);
    operator.kill().await;
    // One of the others is let go of by hand, as the guide says to do while no operator is there.
    let all = pods(&stage, "small").await;
    let by_hand = all.iter().find(|pod| pod.node == "n0" && !pod.is_moving).unwrap();
    let label = json!({"metadata": {"labels": {"pilotage.dev/held": "moving"}}});
    stage.merge(&format!("/api/v1/namespaces/team-a/pods/{}", by_hand.name), &label).await;
    stage.pass(20).await;
    assert_eq!((moving(&stage).await, pods(&stage, "small").await.len()), (2, 4));
    let second = stage.operator("two");
    for _ in 0..120 {
        stage.pass(1).await;
        assert!(ready(&stage).await >= 2);
    }
    let after = pods(&stage, "small").await;
    assert!(after.iter().all(|pod| pod.node == "n1") && after.len() == 2, "{after:?}");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_moves_goes_with_its_model_whoever_is_there() {
    for has_operator in [true, false] {
        let (stage, operator) = on_one_node(1, json!({})).await;
        stage.players.lock().nature.fate = Fate::ReadyAfterMs(10_000_000);
        cordon(&stage, "n0", true).await;
        stage.pass(10).await;
        assert_eq!((moving(&stage).await, pods(&stage, "small").await.len()), (1, 2));
        if !has_operator {
            operator.kill().await;
            stage.delete(&resource("Model", "team-a", "small")).await;
            stage.pass(20).await;
            assert!(pods(&stage, "small").await.is_empty());
            continue;
        }
        // One that was let go of by hand has no owner at all.
        let nobodys = json!({"metadata": {"ownerReferences": null}});
        let all = pods(&stage, "small").await;
        let moves = all.iter().find(|pod| pod.is_moving).unwrap();
        stage.merge(&format!("/api/v1/namespaces/team-a/pods/{}", moves.name), &nobodys).await;
        stage.delete(&resource("Model", "team-a", "small")).await;
        stage.pass(20).await;
        assert!(pods(&stage, "small").await.is_empty());
        operator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_rights_to_nodes_the_rest_goes_on() {
    let stage = Stage::new().await;
    let nodes = Meets { resource: "nodes".to_owned(), user: "one".to_owned(), ..Meets::default() };
    stage.server.with(|cluster, _| cluster.faults().add(Fault::new(nodes, Trouble::Forbidden)));
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({"replicas": 1})).await;
    stage.pass(30).await;
    stage.check("team-a", "small", SERVES).await;
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert!(told.contains("nodes may not be seen: copies do not move"), "{told}");
    let old = pods(&stage, "small").await[0].clone();
    cordon(&stage, &old.node, true).await;
    stage.pass(30).await;
    assert_eq!(pods(&stage, "small").await[0].name, old.name);
    // Whoever drains does it by hand, and the operator ends what was replaced.
    let label = json!({"metadata": {"labels": {"pilotage.dev/held": "moving"}}});
    stage.merge(&format!("/api/v1/namespaces/team-a/pods/{}", old.name), &label).await;
    stage.pass(30).await;
    let after = pods(&stage, "small").await;
    assert!(matches!(after.as_slice(), [one] if one.name != old.name && one.is_ready), "{after:?}");
    // The right is given, and noticed within ten minutes.
    stage.server.with(|cluster, _| cluster.faults().clear());
    stage.pass(700).await;
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert!(!told.contains("nodes"), "{told}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_move_pods_says_so() {
    let (stage, operator) = on_one_node(1, json!({})).await;
    let refused = Meets {
        verbs: vec!["patch", "delete"],
        resource: "pods".to_owned(),
        user: "one".to_owned(),
        ..Meets::default()
    };
    stage.server.with(|cluster, _| cluster.faults().add(Fault::new(refused, Trouble::Forbidden)));
    cordon(&stage, "n0", true).await;
    stage.pass(60).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with("True Forbidden: the pod `small-"), "{told}");
    assert!(about_pods(&stage).len() < 10, "ever more seldom");
    stage.server.with(|cluster, _| cluster.faults().clear());
    stage.pass(120).await;
    stage.check("team-a", "small", SERVES).await;
    let after = pods(&stage, "small").await;
    assert!(matches!(after.as_slice(), [one] if one.node == "n1"), "{after:?}");
    operator.stop().await;
}
