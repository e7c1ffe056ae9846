//! Who scales a Model is another one: no copy is lost on the way, and no two write its number.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use pilotage_core::scale::{Report, Running, Seen, Signals, Speed, Waiting, Work};
use pilotage_core::{Band, Time};
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::kit::{Stage, Working, deployment, foreign};
use crate::scaling::{Ask, Asleep, Board, Conduct, FromWatches, ReachError};

const SCALERS: &str = "/apis/autoscaling/v2/namespaces/team-a/horizontalpodautoscalers";
const OBJECTS: &str = "/apis/keda.sh/v1alpha1/namespaces/team-a/scaledobjects";

/// A gateway that sees so many requests a second for `small`.
struct Gateway(Mutex<f64>);

/// A cluster with everybody who scales in it.
struct Scene {
    stage: Stage,
    operator: Working,
    gateway: Arc<Gateway>,
    board: Board,
    stop: CancellationToken,
}

impl Ask for Gateway {
    async fn report(&self, _: &str) -> Result<Report, ReachError> {
        let (now, rate) = (Time::from_millis(1_000_000), *self.0.lock());
        let mut bands = [Work::default(); Band::ALL.len()];
        bands[1] = Work { requests: rate, prompt: rate * 1000.0, answer: rate * 100.0 };
        let speed = Speed {
            token_seconds: 1e-4,
            step_seconds: 0.02,
            sequence_seconds: 1e-3,
            sequences_max: 8,
            kv_tokens: None,
        };
        let signals = Signals {
            arrivals: Some(Seen::new(now, bands)),
            waiting: Some(Seen::new(now, [Waiting::default(); Band::ALL.len()])),
            running: Some(Seen::new(now, Running { requests: rate, tokens: 0.0 })),
            speed: Some(Seen::new(now, speed)),
            ..Signals::default()
        };
        Ok(Report::of(now, "g", [("small", signals, |_| None)]))
    }

    async fn rest(&self, _: &str, _: Option<&Secret>, _: Asleep) -> Result<(), ReachError> {
        Ok(())
    }
}

impl Scene {
    async fn new(rate: f64) -> Self {
        let stage = Stage::new().await;
        stage.define(&foreign("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")).await;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "g", "labels": {"kubernetes.io/service-name": "pilotage-gateway-admin"}},
            "ports": [{"name": "admin", "port": 8081}], "endpoints": [{"addresses": ["10.0.0.9"]}],
        });
        stage.post("/apis/discovery.k8s.io/v1/namespaces/pilotage/endpointslices", &slice).await;
        let operator = stage.operator("operator");
        let (gateway, board) = (Arc::new(Gateway(Mutex::new(rate))), Board::default());
        let stop = CancellationToken::new();
        let view = Arc::new(FromWatches::new(operator.operator.known(), "pilotage".to_owned()));
        let client = Client::new(stage.server.connect("scaling"), "default");
        let conduct = Conduct::new(client, None, view, Arc::clone(&gateway), board.clone());
        drop(tasks::spawn("conduct", conduct.run(stop.clone())));
        Self { stage, operator, gateway, board, stop }
    }

    /// Says who scales; none where nobody does.
    async fn by(&self, by: Option<&str>) {
        let more = match by {
            Some(by) => json!({"replicas": 3, "scaling": {"min": 1, "max": 8, "by": by}}),
            None => json!({"replicas": 3}),
        };
        self.stage.model("team-a", "small", more).await;
    }

    async fn replicas(&self) -> u64 {
        self.stage.get(&deployment("team-a", "small")).await["spec"]["replicas"].as_u64().unwrap()
    }

    /// What horizontal autoscalers do, and KEDA, which has one of its own for each ScaledObject.
    async fn others(&self) {
        let items = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
        for object in items(self.stage.get(OBJECTS).await) {
            let own = json!({
                "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "keda-hpa-small", "labels": object["metadata"]["labels"],
                    "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                        "name": "small", "uid": object["metadata"]["uid"], "controller": true}]},
                "spec": {"scaleTargetRef": object["spec"]["scaleTargetRef"], "maxReplicas": 8},
            });
            if self.stage.get(&format!("{SCALERS}/keda-hpa-small")).await.is_null() {
                self.stage.post(SCALERS, &own).await;
            }
        }
        let Some(wanted) = self.board.wanted("team-a", "small") else { return };
        let client = Client::new(self.stage.server.connect("autoscaler"), "default");
        let scalers = items(self.stage.get(SCALERS).await);
        if !scalers.is_empty() && self.replicas().await != u64::from(wanted) && wanted > 0 {
            let body = json!({"spec": {"replicas": wanted}}).to_string().into_bytes();
            let request = http::Request::patch(format!("{}/scale", deployment("team-a", "small")))
                .header("content-type", "application/merge-patch+json")
                .body(body)
                .unwrap();
            client.request::<Value>(request).await.unwrap();
        }
    }

    /// Passes so many seconds; every number of copies that was there meanwhile.
    async fn pass(&self, seconds: u64) -> BTreeSet<u64> {
        let mut seen = BTreeSet::new();
        for at in 0..seconds * 2 {
            if at % 10 == 0 {
                self.others().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            seen.insert(self.replicas().await);
            let ours = !self.stage.get(&format!("{SCALERS}/small")).await.is_null();
            let kedas = !self.stage.get(&format!("{SCALERS}/keda-hpa-small")).await.is_null()
                || !self.stage.get(&format!("{OBJECTS}/small")).await.is_null();
            assert!(!(ours && kedas), "two scale it at once");
        }
        seen
    }

    /// Who wrote the number of copies since it was last asked, and changed it.
    fn writers(&self) -> BTreeSet<String> {
        let all = self.stage.server.with(|cluster, _| cluster.records().take());
        let scale =
            all.into_iter().filter(|one| one.resource == "deployments/scale" && one.changed);
        scale.map(|one| one.user).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.operator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_lost_when_another_one_scales() {
    let scene = Scene::new(6.0).await;
    scene.by(None).await;
    scene.pass(30).await;
    assert_eq!(scene.replicas().await, 3);
    // The number was ours, and is to be in the scale alone from now on.
    scene.by(Some("pilotage")).await;
    let seen = scene.pass(120).await;
    let least = scene.replicas().await;
    let mut count = least;
    assert!(count >= 3 && seen.iter().all(|one| (3..=count).contains(one)), "{seen:?}");
    for by in ["hpa", "keda", "pilotage", "keda", "hpa", "pilotage"] {
        scene.by(Some(by)).await;
        assert_eq!(scene.pass(60).await, BTreeSet::from([count]), "by {by}");
        let ours = !scene.stage.get(&format!("{SCALERS}/small")).await.is_null();
        let kedas = !scene.stage.get(&format!("{OBJECTS}/small")).await.is_null();
        let there = (ours, kedas);
        assert_eq!(there, (by == "hpa", by == "keda"), "by {by}");
        // Whoever it is follows the load, alone.
        scene.writers();
        *scene.gateway.0.lock() = 12.0;
        scene.pass(60).await;
        assert!(scene.replicas().await > count, "by {by}");
        let writer = if by == "pilotage" { "scaling" } else { "autoscaler" };
        assert_eq!(scene.writers(), BTreeSet::from([writer.to_owned()]), "by {by}");
        *scene.gateway.0.lock() = 6.0;
        scene.pass(900).await;
        // On the way down it stops where one less would soon be too few.
        count = scene.replicas().await;
        assert!((least..=least + 1).contains(&count), "by {by}: {count}");
    }
    scene.by(None).await;
    scene.pass(30).await;
    assert_eq!(scene.replicas().await, 3, "as many as are written");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn pilotage_scales_while_keda_is_not_there() {
    let scene = Scene::new(12.0).await;
    let keda = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scaledobjects.keda.sh";
    scene.stage.delete(keda).await;
    scene.by(Some("keda")).await;
    scene.pass(120).await;
    assert!(scene.replicas().await > 3);
    assert_eq!(scene.writers(), BTreeSet::from(["scaling".to_owned()]));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn versions_begin_with_as_many_as_there_are() {
    let scene = Scene::new(12.0).await;
    scene.by(Some("pilotage")).await;
    scene.pass(120).await;
    let count = scene.replicas().await;
    assert!(count > 3);
    let updates = json!({"canary": {"steps": [{"weight": 50}]}});
    let more = json!({"scaling": {"min": 1, "max": 8}, "updates": updates});
    scene.stage.model("team-a", "small", more).await;
    for _ in 0..120 {
        scene.stage.pass(1).await;
        let list = scene.stage.get("/apis/apps/v1/namespaces/team-a/deployments").await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let sum: u64 = items.iter().filter_map(|one| one["spec"]["replicas"].as_u64()).sum();
        assert!(sum >= count, "{sum} of {count}");
    }
    scene.end().await;
}
