//! What is known of a cluster in memory: InferencePools, their pods, and when all is known.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_cluster::serve::Server;
use serde_json::{Value, json};

use super::*;

/// What waits for ever fails after that long, in time that takes none.
const FOR_EVER: Duration = Duration::from_secs(3600);

struct Rig {
    server: Server,
    client: Client,
}

fn definition(group: &str, plural: &str, kind: &str, scope: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}]},
    })
}

impl Rig {
    async fn new() -> Self {
        let server = Server::default();
        let client = Client::new(server.connect(""), "default");
        let this = Self { server, client };
        this.put(definition(
            gateway_api::POOL_GROUP,
            "inferencepools",
            "InferencePool",
            "Namespaced",
        ))
        .await;
        this.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).await;
        this
    }

    fn api(&self, object: &Value) -> (Api<DynamicObject>, String) {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let version = text("/apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let namespace = Some(text("/metadata/namespace")).filter(|one| !one.is_empty());
        let api = objects(&self.client, namespace, (group, version, text("/kind")));
        (api, text("/metadata/name").to_owned())
    }

    async fn put(&self, object: Value) {
        let (api, name) = self.api(&object);
        let how = PatchParams::apply("test").force();
        api.patch(&name, &how, &Patch::Apply(&object)).await.unwrap();
        if !object["status"].is_null() {
            let status = json!({ "status": object["status"] });
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    async fn delete(&self, object: &Value) {
        let (api, name) = self.api(object);
        api.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    fn watch(&self, purpose: Purpose) -> Watching {
        let scope = Scope {
            namespace: Some("n".to_owned()),
            system: "pilotage".to_owned(),
            gateways: "pilotage-epp".to_owned(),
            purpose,
        };
        Watching::start(&self.client, &scope, Clock::start())
    }
}

async fn until(watching: &mut Watching, is: impl Fn(&Known) -> bool) {
    let all = async {
        while !watching.read(&is) {
            watching.changed().await;
        }
    };
    tokio::time::timeout(FOR_EVER, all).await.unwrap();
}

fn pool(label: &str) -> Value {
    json!({"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": label}}, "targetPorts": [{"number": 8000}]}})
}

fn pod(name: &str, label: &str, address: &str, ready: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "labels": {"app": label}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": address, "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}]}})
}

fn names(known: &Known) -> Vec<String> {
    let told = |pod: &pilotage_plan::pods::Pod| format!("{} {:?}", pod.name, pod.stage);
    known.pods_of_pool("n", "p").iter().map(told).collect()
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_followed_with_its_pods() {
    let rig = Rig::new().await;
    rig.put(pool("a")).await;
    rig.put(pod("a-0", "a", "10.0.0.1", "True")).await;
    rig.put(pod("b-0", "b", "10.0.0.2", "True")).await;
    let mut watching = rig.watch(Purpose::Pool("n".to_owned(), "p".to_owned()));
    until(&mut watching, |known| names(known) == ["a-0 Ready"]).await;
    assert!(watching.read(Known::is_known));
    rig.put(pod("a-1", "a", "10.0.0.3", "False")).await;
    until(&mut watching, |known| names(known) == ["a-0 Ready", "a-1 Unready"]).await;
    rig.put(pod("a-1", "a", "10.0.0.3", "True")).await;
    rig.delete(&pod("a-0", "a", "10.0.0.1", "True")).await;
    until(&mut watching, |known| names(known) == ["a-1 Ready"]).await;
    // Other pods are meant.
    rig.put(pool("b")).await;
    until(&mut watching, |known| names(known) == ["b-0 Ready"]).await;
    rig.delete(&pool("b")).await;
    until(&mut watching, |known| known.pool_trouble().is_some()).await;
    assert!(watching.read(|known| names(known).is_empty()));
    rig.put(pool("a")).await;
    until(&mut watching, |known| names(known) == ["a-1 Ready"]).await;
    assert_eq!(watching.read(Known::pool_trouble), None);
}

#[tokio::test(start_paused = true)]
async fn pods_that_may_not_be_looked_at_are_told_and_not_waited_for() {
    let rig = Rig::new().await;
    let meets = Meets::calls(&["list", "watch"], "pods");
    rig.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Forbidden)));
    rig.put(pool("a")).await;
    let mut watching = rig.watch(Purpose::Pool("n".to_owned(), "p".to_owned()));
    until(&mut watching, |known| told(known).is_some_and(|why| why.contains("403"))).await;
    assert!(watching.read(Known::is_known));
}

/// What is wrong with the pods of the pool.
fn told(known: &Known) -> Option<String> {
    let pods = known.sources().find(|source| source.kind == "Pod of an InferencePool");
    pods.and_then(|pods| pods.error.clone())
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_be_listed_keep_nothing_else_waiting() {
    let rig = Rig::new().await;
    let meets = Meets::calls(&["list", "watch"], "pods");
    rig.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Internal)));
    rig.put(pool("a")).await;
    rig.put(pod("a-0", "a", "10.0.0.1", "True")).await;
    let mut watching = rig.watch(Purpose::Pool("n".to_owned(), "p".to_owned()));
    until(&mut watching, |known| told(known).is_some_and(|why| why.contains("500"))).await;
    assert!(watching.read(Known::is_known), "all kinds are");
    assert!(watching.read(|known| names(known).is_empty()));
    rig.server.with(|cluster, _| cluster.faults().clear());
    until(&mut watching, |known| names(known) == ["a-0 Ready"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_gateway_api_is_known_too() {
    let rig = Rig::new().await;
    for crd in pilotage_plan::crd::all() {
        rig.put(crd).await;
    }
    let mut watching = rig.watch(Purpose::Judge);
    until(&mut watching, Known::is_known).await;
    assert_eq!(watching.read(|known| known.pools().len()), 0);
}
