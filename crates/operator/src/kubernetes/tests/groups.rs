//! Copies of several nodes move as a whole: another group first, then the old one starts elsewhere.

use serde_json::{Value, json};

use super::kit::{Stage, foreign};
use super::nodes::{cordon, pods};

/// A stage with five nodes and a Model `wide` whose copies take two.
async fn wide(copies: u64, has_groups: bool) -> Stage {
    let stage = Stage::new().await;
    stage.nodes(2..5).await;
    if has_groups {
        let kind = ("LeaderWorkerSet", "leaderworkersets");
        stage.define(&foreign("leaderworkerset.x-k8s.io", "v1", kind.0, kind.1)).await;
    }
    let fleet = json!({"kind": "nodes", "hardware": "h100-sxm", "perNode": 8, "nodes": 5, "nodeSelector": {}});
    stage.apply("Fleet", "team-a", "h100", fleet).await;
    let spec = json!({
        "source": "hf:meta-llama/Llama-3.1-405B-Instruct-FP8", "runtime": "vllm",
        "sizeBytes": 435_000_000_000_u64, "parallelism": {"tensor": 8, "pipeline": 2}, "replicas": copies, "fleet": "h100",
    });
    stage.apply("Model", "team-a", "wide", spec).await;
    stage
}

/// Copies of which both pods are ready.
async fn whole(stage: &Stage) -> usize {
    let list = stage.get("/api/v1/namespaces/team-a/pods").await;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let ready: Vec<String> = pods(stage, "wide")
        .await
        .into_iter()
        .filter(|pod| pod.is_ready)
        .map(|pod| pod.name)
        .collect();
    let group = |pod: &Value| {
        let labels = &pod["metadata"]["labels"];
        let of = [&labels["leaderworkerset.sigs.k8s.io/group-index"], &labels["pilotage.dev/copy"]];
        of.iter().find_map(|label| label.as_str()).unwrap_or_default().to_owned()
    };
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    let up = items.iter().filter(|pod| ready.contains(&name(pod)));
    let mut groups: Vec<String> = up.map(group).collect();
    groups.sort();
    groups.chunk_by(|a, b| a == b).filter(|pods| pods.len() == 2).count()
}

#[tokio::test(start_paused = true)]
async fn a_group_moves_when_another_one_is_ready() {
    for has_groups in [true, false] {
        let stage = wide(1, has_groups).await;
        let operator = stage.operator("one");
        stage.pass(60).await;
        assert_eq!(whole(&stage).await, 1);
        stage.writes();
        let node = pods(&stage, "wide").await[0].node.clone();
        cordon(&stage, &node, true).await;
        for _ in 0..120 {
            stage.pass(1).await;
            assert!(whole(&stage).await >= 1, "one serves at each moment: another came first");
        }
        let after = pods(&stage, "wide").await;
        assert!(after.iter().all(|pod| pod.node != node) && after.len() == 2, "{after:?}");
        let told = stage.condition("Model", "team-a", "wide", "Progressing").await;
        assert!(told.starts_with("False Stable"), "{told}");
        let sets = if has_groups {
            let set = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/team-a/leaderworkersets/wide";
            let set = stage.get(set).await;
            assert_eq!(set["metadata"]["annotations"]["pilotage.dev/surged"], Value::Null);
            set["spec"]["replicas"].as_u64().unwrap() as usize
        } else {
            stage.names("apps/v1", "statefulsets", "team-a").await.len() / 2
        };
        assert_eq!(sets, 1);
        stage.writes();
        stage.rest(600).await;
        assert_eq!(stage.written(), Vec::<String>::new());
        operator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_stands_in_stays_while_operators_change() {
    let stage = wide(1, true).await;
    let operator = stage.operator("one");
    stage.pass(60).await;
    stage.players.lock().nature.fate = pilotage_cluster::world::Fate::ReadyAfterMs(40_000);
    let node = pods(&stage, "wide").await[0].node.clone();
    cordon(&stage, &node, true).await;
    stage.pass(45).await;
    // The one that stands in is ready, and the old one starts anew.
    assert_eq!((whole(&stage).await, pods(&stage, "wide").await.len()), (1, 4));
    operator.kill().await;
    let second = stage.operator("two");
    for _ in 0..120 {
        stage.pass(1).await;
        assert!(whole(&stage).await >= 1);
    }
    let after = pods(&stage, "wide").await;
    assert!(after.iter().all(|pod| pod.node != node) && after.len() == 2, "{after:?}");
    second.stop().await;
}
