//! What operators do: reconcile until nothing changes, finalize, hold leases, tell events.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as Told;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Event as Finalizer, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Client, CustomResourceExt, Resource};
use pilotage_shell::tasks;
use serde_json::json;

use crate::{Model, ModelSpec, cluster, refused};

async fn reconcile(model: Arc<Model>, client: Arc<Client>) -> Result<Action, Wrong> {
    let models: Api<Model> = Api::default_namespaced(client.as_ref().clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.as_ref().clone());
    finalizer(&models, "example.org/model", model, |event| async {
        let Finalizer::Apply(model) = event else { return Ok(Action::await_change()) };
        let owner = model.controller_owner_ref(&()).unwrap();
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "of-model", "ownerReferences": [owner]},
            "data": {"from": model.spec.from}});
        let ours = PatchParams::apply("operator").force();
        maps.patch("of-model", &ours, &Patch::Apply(map)).await?;
        let status = json!({"apiVersion": "example.org/v1", "kind": "Model",
            "status": {"replicas": model.spec.replicas, "observedGeneration": model.metadata.generation}});
        models.patch_status("m", &ours, &Patch::Apply(status)).await?;
        Ok::<_, kube::Error>(Action::requeue(Duration::from_secs(60)))
    })
    .await
    .map_err(|error| Wrong(error.to_string()))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

#[tokio::test(start_paused = true)]
async fn a_controller_comes_to_rest() {
    let (server, client) = cluster();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.create(&PostParams::default(), &Model::crd()).await.unwrap();
    let models: Api<Model> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let all = watcher::Config::default();
    let controller = Controller::new(models.clone(), all.clone()).owns(maps.clone(), all).run(
        reconcile,
        |_, error, _| panic!("{error}"),
        Arc::new(client.clone()),
    );
    tasks::spawn("controller", controller.for_each(|_| std::future::ready(())));
    let spec = ModelSpec { from: "a".into(), replicas: 2, note: None };
    models.create(&PostParams::default(), &Model::new("m", spec)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let made = models.get("m").await.unwrap();
    assert_eq!(made.status.unwrap().observed_generation, Some(1));
    server.with(|cluster, _| cluster.records().take());
    // Five more rounds, and none of them changes anything.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let (applied, changed) = server.with(|cluster, _| {
        let applied = cluster.records().iter().filter(|one| one.verb == "apply").count();
        (applied, cluster.records().changes())
    });
    assert!(applied >= 10, "{applied}");
    assert_eq!(changed, 0);
    maps.delete("of-model", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(maps.get_opt("of-model").await.unwrap().is_some(), "what it owns comes back");
    models.delete("m", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(models.get_opt("m").await.unwrap().is_none());
    assert!(maps.get_opt("of-model").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn one_of_two_gets_a_lease() {
    let (_, client) = cluster();
    let leases: Api<Lease> = Api::default_namespaced(client);
    let mut lease = Lease { spec: Some(LeaseSpec::default()), ..Lease::default() };
    lease.metadata.name = Some("leader".into());
    let free = leases.create(&PostParams::default(), &lease).await.unwrap();
    let take = |who: &str| {
        let mut taken = free.clone();
        taken.spec = Some(LeaseSpec { holder_identity: Some(who.into()), ..LeaseSpec::default() });
        taken
    };
    let post = PostParams::default();
    let (one, two) = (take("one"), take("two"));
    let (first, second) =
        tokio::join!(leases.replace("leader", &post, &one), leases.replace("leader", &post, &two));
    assert!(first.is_ok() != second.is_ok());
    let lost = if first.is_err() { first } else { second };
    assert_eq!(refused(lost).code, 409);
    let unversioned = json!({"spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}});
    let ours = PatchParams::apply("one").force();
    let mut applied = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"});
    applied["spec"] = unversioned["spec"].clone();
    let held = leases.patch("leader", &ours, &Patch::Apply(applied.clone())).await.unwrap();
    applied["metadata"] = json!({"resourceVersion": free.metadata.resource_version});
    assert_eq!(refused(leases.patch("leader", &ours, &Patch::Apply(applied)).await).code, 409);
    assert_eq!(held.spec.unwrap().lease_duration_seconds, Some(15));
}

#[tokio::test(start_paused = true)]
async fn events_are_told_once_and_counted() {
    let (_, client) = cluster();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".into());
    let map = maps.create(&PostParams::default(), &map).await.unwrap();
    let recorder =
        Recorder::new(client.clone(), Reporter { controller: "op".into(), instance: None });
    let event = Event {
        type_: EventType::Normal,
        reason: "Made".into(),
        note: Some("it is there".into()),
        action: "Making".into(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&event, &map.object_ref(&())).await.unwrap();
    }
    let told: Api<Told> = Api::default_namespaced(client);
    let told = told.list(&ListParams::default()).await.unwrap();
    assert_eq!(told.items.len(), 1);
    assert_eq!(told.items[0].series.as_ref().map(|series| series.count), Some(3));
}
