//! Typed clients: objects, applied configurations, definitions, scales, discovery.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Config, CustomResourceExt, ResourceExt};
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use serde_json::json;

use crate::{Model, ModelSpec, ModelStatus, client, cluster, refused};

fn map(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.data = Some(BTreeMap::from([("key".to_owned(), value.to_owned())]));
    map
}

async fn crud(client: Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    assert_eq!(
        refused(maps.create(&PostParams::default(), &map("a", "1")).await).reason,
        "AlreadyExists"
    );
    let mut newer = made.clone();
    newer.data = map("a", "2").data;
    maps.replace("a", &PostParams::default(), &newer).await.unwrap();
    let stale = refused(maps.replace("a", &PostParams::default(), &newer).await);
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(maps.get_opt("b").await.unwrap().is_none());
    assert!(maps.delete("a", &DeleteParams::default()).await.unwrap().is_right());
    assert_eq!(refused(maps.get("a").await).code, 404);
}

#[tokio::test(start_paused = true)]
async fn objects_in_process() {
    crud(cluster().1).await;
}

#[tokio::test]
async fn objects_over_http() {
    let (server, _) = cluster();
    let listener = server.listen().await.unwrap();
    let config = Config::new(listener.url().parse().unwrap());
    crud(Client::try_from(config).unwrap()).await;
    assert!(server.with(|cluster, _| cluster.records().changes()) >= 3);
}

#[tokio::test(start_paused = true)]
async fn configurations_are_applied() {
    let (server, client) = cluster();
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let wanted = |replicas: i32| {
        Patch::Apply(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "d"}},
                "template": {
                    "metadata": {"labels": {"app": "d"}},
                    "spec": {"containers": [{"name": "c", "image": "i:1",
                        "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}]}
                }
            }
        }))
    };
    let ours = PatchParams::apply("operator");
    let first = deployments.patch("d", &ours, &wanted(1)).await.unwrap();
    let changes = server.with(|cluster, _| cluster.records().changes());
    tokio::time::advance(Duration::from_secs(3)).await;
    let second = deployments.patch("d", &ours, &wanted(1)).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(server.with(|cluster, _| cluster.records().changes()), changes);
    let theirs = PatchParams::apply("other");
    let status = refused(deployments.patch("d", &theirs, &wanted(2)).await);
    let causes = &status.details.as_ref().unwrap().causes;
    assert_eq!((status.code, causes.len()), (409, 1));
    assert_eq!(causes[0].message, "conflict with \"operator\"");
    assert_eq!(causes[0].field, ".spec.replicas");
    let forced = deployments.patch("d", &theirs.force(), &wanted(2)).await.unwrap();
    assert_eq!(forced.spec.unwrap().replicas, Some(2));
    let scale = deployments.get_scale("d").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
}

#[tokio::test(start_paused = true)]
async fn definitions_of_derived_kinds() {
    let (_, client) = cluster();
    let models: Api<Model> = Api::default_namespaced(client.clone());
    assert_eq!(refused(models.list(&ListParams::default()).await).code, 404);
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("operator").force();
    crds.patch(Model::crd_name(), &apply, &Patch::Apply(Model::crd())).await.unwrap();
    await_condition(crds.clone(), Model::crd_name(), conditions::is_crd_established())
        .await
        .unwrap();
    let spec = ModelSpec { from: "hf:x/y".into(), ..ModelSpec::default() };
    let made = models.create(&PostParams::default(), &Model::new("m", spec)).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let status = json!({"status": {"replicas": 3, "observedGeneration": 1}});
    let told =
        models.patch_status("m", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(told.status, Some(ModelStatus { replicas: 3, observed_generation: Some(1) }));
    let wrong = Patch::Merge(json!({"spec": {"from": 1}}));
    assert_eq!(refused(models.patch("m", &PatchParams::default(), &wrong).await).reason, "Invalid");
    let strict = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let unknown = Patch::Merge(json!({"spec": {"form": "x"}}));
    assert!(refused(models.patch("m", &strict, &unknown).await).message.contains("spec.form"));
    let discovered = kube::discovery::group(&client, "example.org").await.unwrap();
    assert_eq!(discovered.recommended_resources().len(), 1);
    crds.delete(Model::crd_name(), &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(models.list(&ListParams::default()).await).code, 404);
}

#[tokio::test(start_paused = true)]
async fn discovery_lists_everything() {
    let (_, client) = cluster();
    let found = kube::Discovery::new(client.clone()).run().await.unwrap();
    let groups: Vec<&str> = found.groups().map(|group| group.name()).collect();
    assert!(
        ["", "apps", "coordination.k8s.io"].iter().all(|name| groups.contains(name)),
        "{groups:?}"
    );
    assert_eq!(client.apiserver_version().await.unwrap().minor, "35");
}

#[tokio::test(start_paused = true)]
async fn pages_and_selectors() {
    let (_, client) = cluster();
    let pods: Api<Pod> = Api::default_namespaced(client);
    for at in 0..5 {
        let pod = json!({"metadata": {"name": format!("p{at}"), "labels": {"odd": (at % 2).to_string()}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    let first = pods.list(&ListParams::default().limit(3)).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let second = pods.list(&ListParams::default().limit(3).continue_token(&token)).await.unwrap();
    let names: Vec<String> = second.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["p3", "p4"]);
    let odd = pods.list(&ListParams::default().labels("odd in (1)")).await.unwrap();
    assert_eq!(odd.items.len(), 2);
    let one = pods.list_metadata(&ListParams::default().fields("metadata.name=p2")).await.unwrap();
    assert_eq!(one.items.len(), 1);
    pods.delete_collection(&DeleteParams::default(), &ListParams::default().labels("odd=1"))
        .await
        .unwrap();
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn faults_reach_clients() {
    let (server, _) = cluster();
    let maps: Api<ConfigMap> =
        Api::default_namespaced(client(&server, "system:serviceaccount:x:y"));
    let forbids = Fault::new(Meets::calls(&["create"], "configmaps"), Trouble::Forbidden).times(1);
    server.with(|cluster, _| cluster.faults().add(forbids));
    let status = refused(maps.create(&PostParams::default(), &map("a", "1")).await);
    let said = "configmaps is forbidden: User \"system:serviceaccount:x:y\" cannot create resource \
                \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!((status.code, status.message.as_str()), (403, said));
    let busy = Fault::new(Meets::calls(&["get"], "configmaps"), Trouble::TooMany(7)).times(1);
    server.with(|cluster, _| cluster.faults().add(busy));
    let status = refused(maps.get("a").await);
    assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
    server.with(|cluster, now_ms| cluster.faults().away_until_ms(now_ms + 1000));
    assert!(matches!(maps.get("a").await, Err(kube::Error::Service(_))));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(refused(maps.get("a").await).code, 404);
    let late = Fault::new(Meets::default(), Trouble::Late(1500));
    server.with(|cluster, _| cluster.faults().add(late));
    let before = server.now_ms();
    assert_eq!(refused(maps.get("a").await).code, 404);
    assert!(server.now_ms() >= before + 1500);
}
