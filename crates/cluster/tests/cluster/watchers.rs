//! Watchers and reflectors, through everything that happens to watches.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_shell::tasks;
use serde_json::json;

use crate::cluster;

async fn put(client: &Client, name: &str, value: &str) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}});
    maps.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(map)).await.unwrap();
}

/// A store that a reflector keeps.
fn reflect(client: &Client, config: watcher::Config) -> Store<ConfigMap> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (reader, writer) = reflector::store();
    let events = watcher(maps, config).default_backoff().reflect(writer);
    tasks::spawn("reflector", events.for_each(|_| std::future::ready(())));
    reader
}

/// What a store holds once `until` holds of it.
async fn settled(store: &Store<ConfigMap>, until: &[&str]) {
    let names = || {
        let mut names: Vec<String> = store.state().iter().map(|map| map.name_any()).collect();
        names.sort();
        names
    };
    for _ in 0..10_000 {
        if names() == until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the store holds {:?}, not {until:?}", names());
}

async fn survives(config: watcher::Config) {
    let (server, client) = cluster();
    put(&client, "a", "1").await;
    let store = reflect(&client, config);
    store.wait_until_ready().await.unwrap();
    settled(&store, &["a"]).await;
    put(&client, "b", "1").await;
    settled(&store, &["a", "b"]).await;
    server.with(|cluster, _| cluster.drop_watches(false));
    put(&client, "c", "1").await;
    settled(&store, &["a", "b", "c"]).await;
    server.with(|cluster, _| cluster.drop_watches(true));
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.delete("a", &Default::default()).await.unwrap();
    server.with(|cluster, _| cluster.compact());
    settled(&store, &["b", "c"]).await;
    let busy =
        Fault::new(Meets::calls(&["watch", "list"], "configmaps"), Trouble::TooMany(1)).times(3);
    server.with(|cluster, now_ms| {
        cluster.faults().add(busy);
        cluster.faults().away_until_ms(now_ms + 5000);
        cluster.drop_watches(true);
    });
    tokio::time::sleep(Duration::from_secs(6)).await;
    put(&client, "d", "1").await;
    settled(&store, &["b", "c", "d"]).await;
}

#[tokio::test(start_paused = true)]
async fn reflectors_survive_with_lists() {
    survives(watcher::Config::default()).await;
}

#[tokio::test(start_paused = true)]
async fn reflectors_survive_with_streamed_lists() {
    survives(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_watch_ends_and_goes_on() {
    let (server, client) = cluster();
    let store = reflect(&client, watcher::Config::default().timeout(10));
    store.wait_until_ready().await.unwrap();
    tokio::time::sleep(Duration::from_secs(35)).await;
    let of = |verb: &str| {
        server.with(|cluster, _| cluster.records().iter().filter(|one| one.verb == verb).count())
    };
    assert_eq!((of("list"), of("watch")), (1, 4));
    put(&client, "a", "1").await;
    settled(&store, &["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn metadata_alone_is_watched() {
    let (_, client) = cluster();
    put(&client, "a", "1").await;
    let maps: Api<PartialObjectMeta<ConfigMap>> = Api::default_namespaced(client.clone());
    let mut events = Box::pin(watcher(maps, watcher::Config::default()).applied_objects());
    let first = events.try_next().await.unwrap().unwrap();
    assert_eq!(first.name_any(), "a");
    put(&client, "b", "1").await;
    let second = events.try_next().await.unwrap().unwrap();
    assert_eq!(
        (second.name_any(), second.metadata.namespace.as_deref()),
        ("b".into(), Some("default"))
    );
}

#[tokio::test(start_paused = true)]
async fn selected_objects_come_and_go() {
    let (_, client) = cluster();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let store = reflect(&client, watcher::Config::default().labels("app=x"));
    store.wait_until_ready().await.unwrap();
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    maps.patch("a", &PatchParams::default(), &label("x")).await.unwrap();
    settled(&store, &["a"]).await;
    maps.patch("a", &PatchParams::default(), &label("y")).await.unwrap();
    settled(&store, &[]).await;
}
