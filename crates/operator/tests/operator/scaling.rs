//! The loop: what becomes of a workload's scale, of a Model's status and of its events.

use std::sync::atomic::Ordering;

use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_operator::scaling::Asleep;
use serde_json::json;

use crate::stand::{Stand, Told};

const BUSY: Option<Told> = Some(Told { rate: 9.0, waiting: 0.0 });
const IDLE: Option<Told> = Some(Told { rate: 0.0, waiting: 0.0 });
const ASKED: Option<Told> = Some(Told { rate: 0.0, waiting: 2.0 });

#[tokio::test(start_paused = true)]
async fn copies_follow_the_load() {
    let stand = Stand::new(json!({ "max": 6 }), 1, 2).await;
    let pilot = stand.pilot(true);
    stand.run(30).await;
    let said = stand.status().await.unwrap();
    assert_eq!((said.wanted, said.reason.as_str()), (1, "Minimum"), "{said:?}");
    stand.all(BUSY);
    stand.run(120).await;
    let most = stand.replicas().await;
    assert!(most > 2, "{:?}", stand.status().await);
    assert_eq!(stand.status().await.unwrap().wanted, most as u32);
    assert_eq!(pilot.board.wanted("default", "m"), Some(most as u32));
    stand.all(IDLE);
    stand.run(200).await;
    assert_eq!(stand.replicas().await, most, "{:?}", stand.status().await);
    stand.run(2400).await;
    assert_eq!(stand.replicas().await, 1, "{:?}", stand.status().await);
    let events = stand.events().await;
    assert!(events.iter().any(|(reason, _)| reason == "ScaledUp"), "{events:?}");
    assert!(events.iter().any(|(reason, note)| reason == "ScaledDown" && note.contains("from ")));
    stand.changes();
    stand.run(3600).await;
    assert_eq!(stand.changes(), 0, "at rest nothing is written");
}

#[tokio::test(start_paused = true)]
async fn silent_gateways_take_nothing_away() {
    let stand = Stand::new(json!({ "max": 6 }), 4, 2).await;
    let _pilot = stand.pilot(true);
    stand.script.lock().insert("http://g1".into(), None);
    stand.run(3600).await;
    let said = stand.status().await.unwrap();
    assert_eq!((stand.replicas().await, said.reason.as_str()), (4, "SignalsMissing"));
    // A pod that is gone is no gateway that is silent.
    stand.script.lock().remove("http://g1");
    stand.run(2400).await;
    assert_eq!(stand.replicas().await, 1, "{:?}", stand.status().await);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_takes_nothing_away_before_it_has_looked() {
    let stand = Stand::new(json!({ "max": 6 }), 4, 1).await;
    let (one, two) = (stand.pilot(true), stand.pilot(false));
    stand.run(250).await;
    one.stop();
    two.lead(true);
    stand.run(250).await;
    assert_eq!(stand.replicas().await, 4, "{:?}", stand.status().await);
    stand.run(2400).await;
    assert_eq!(stand.replicas().await, 1, "{:?}", stand.status().await);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing_and_knows_what_was_written() {
    let stand = Stand::new(json!({ "max": 6 }), 1, 1).await;
    let follower = stand.pilot(false);
    stand.all(BUSY);
    stand.changes();
    stand.run(120).await;
    assert_eq!((stand.changes(), follower.board.wanted("default", "m")), (0, None));
    let _leader = stand.pilot(true);
    stand.run(120).await;
    let wanted = stand.status().await.unwrap().wanted;
    assert_eq!(follower.board.wanted("default", "m"), Some(wanted));
}

#[tokio::test(start_paused = true)]
async fn cold_models_go_and_come_back() {
    let scaling = json!({ "min": 0, "max": 3, "zero": "cold", "idleSeconds": 60 });
    let stand = Stand::new(scaling, 1, 1).await;
    let pilot = stand.pilot(true);
    stand.run(400).await;
    assert_eq!((stand.replicas().await, pilot.board.wanted("default", "m")), (0, Some(0)));
    stand.all(ASKED);
    stand.run(5).await;
    assert_eq!(stand.replicas().await, 1, "{:?}", stand.status().await);
}

#[tokio::test(start_paused = true)]
async fn warm_models_sleep_and_wake() {
    let scaling = json!({ "min": 1, "max": 3, "zero": "warm", "idleSeconds": 60 });
    let stand = Stand::new(scaling, 2, 1).await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "m-key" },
        "data": { "key": "cw==" } });
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::default_namespaced(stand.client.clone());
    secrets
        .create(&kube::api::PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    let pilot = stand.pilot(true);
    stand.engines.refuse.store(true, Ordering::SeqCst);
    stand.run(600).await;
    let said = stand.status().await.unwrap();
    assert_eq!(
        (said.wanted, said.asleep.len()),
        (1, 0),
        "who does not fall asleep is awake: {said:?}"
    );
    stand.engines.refuse.store(false, Ordering::SeqCst);
    stand.run(90).await;
    let said = stand.status().await.unwrap();
    assert_eq!((said.wanted, said.asleep.len()), (1, 1), "{said:?}");
    // Another leader knows who sleeps.
    pilot.stop();
    let _pilot = stand.pilot(true);
    stand.run(60).await;
    stand.all(ASKED);
    stand.run(10).await;
    let said = stand.status().await.unwrap();
    assert_eq!((said.wanted, said.asleep.len()), (1, 0), "{said:?}");
    let key = Some("s".to_owned());
    assert_eq!(*stand.engines.told.lock(), [(Asleep::Sleep, key.clone()), (Asleep::Wake, key)]);
    let events = stand.events().await;
    let has = |reason: &str| events.iter().any(|(told, _)| told == reason);
    assert!(has("SleepFailed") && has("PutToSleep") && has("Woken"), "{events:?}");
}

/// Somebody waits for a pod whose engine does not wake: another one takes its place.
#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_wake_is_replaced() {
    let scaling = json!({ "max": 3, "zero": "warm", "idleSeconds": 60 });
    let stand = Stand::new(scaling, 1, 1).await;
    let _pilot = stand.pilot(true);
    stand.run(400).await;
    let asleep = stand.status().await.unwrap().asleep;
    assert_eq!(asleep.len(), 1);
    stand.engines.refuse.store(true, Ordering::SeqCst);
    stand.all(ASKED);
    stand.run(120).await;
    let said = stand.status().await.unwrap();
    assert_eq!((said.wanted, said.asleep.len()), (1, 0), "{said:?}");
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::default_namespaced(stand.client.clone());
    let pods = pods.list(&kube::api::ListParams::default()).await.unwrap();
    let names: Vec<_> = pods.into_iter().filter_map(|pod| pod.metadata.name).collect();
    assert!(names.len() == 1 && !asleep.contains(&names[0]), "{names:?} beside {asleep:?}");
    let events = stand.events().await;
    let has = |part: &str| events.iter().any(|(_, note)| note.contains(part));
    assert!(has("it is tried again") && has("it makes room for a new one"), "{events:?}");
}

/// An engine that was not asked, as its key could not be read, is none that does not wake up.
#[tokio::test(start_paused = true)]
async fn a_pod_stays_whose_key_cannot_be_read() {
    let scaling = json!({ "max": 3, "zero": "warm", "idleSeconds": 60 });
    let stand = Stand::new(scaling, 1, 1).await;
    let _pilot = stand.pilot(true);
    stand.run(400).await;
    let asleep = stand.status().await.unwrap().asleep;
    assert_eq!(asleep.len(), 1);
    let meets = Meets { verbs: vec!["get"], resource: "secrets".into(), ..Meets::default() };
    stand.server.with(|cluster, _| {
        cluster.faults().add(Fault::new(meets, Trouble::Internal));
    });
    stand.all(ASKED);
    stand.run(120).await;
    assert_eq!(stand.status().await.unwrap().asleep, asleep);
    let events = stand.events().await;
    let has = |part: &str| events.iter().any(|(_, note)| note.contains(part));
    assert!(has("key cannot be read") && !has("it makes room for a new one"), "{events:?}");
    assert_eq!(stand.engines.told.lock().iter().filter(|told| told.0 == Asleep::Wake).count(), 0);
    stand.server.with(|cluster, _| cluster.faults().clear());
    stand.run(30).await;
    assert_eq!(stand.status().await.unwrap().asleep, [""; 0]);
    assert!(stand.engines.told.lock().iter().any(|told| told.0 == Asleep::Wake));
}

#[tokio::test(start_paused = true)]
async fn others_are_told_and_not_overruled() {
    for by in ["hpa", "keda"] {
        let stand = Stand::new(json!({ "max": 6, "by": by }), 1, 1).await;
        let pilot = stand.pilot(true);
        stand.all(BUSY);
        stand.run(120).await;
        assert_eq!(stand.replicas().await, 1, "{by}");
        assert!(pilot.board.wanted("default", "m").unwrap() > 1, "{by}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_scales_no_more_is_let_go() {
    let stand = Stand::new(json!({ "max": 6 }), 1, 1).await;
    let pilot = stand.pilot(true);
    stand.run(30).await;
    stand.change(json!(null)).await;
    stand.run(30).await;
    assert_eq!((stand.status().await, pilot.board.wanted("default", "m")), (None, None));
}
