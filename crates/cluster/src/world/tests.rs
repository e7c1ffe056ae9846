//! Workloads, nodes and pods, moved on by hand.

use http::Method;
use serde_json::{Value, json};

use super::{Fate, Nature, World, condition, text};
use crate::{Cluster, Limits};

struct Rig {
    cluster: Cluster,
    world: World,
    now_ms: u64,
}

impl Rig {
    /// A cluster with nodes, each with two accelerators.
    fn new(nodes: usize) -> Self {
        let now_ms = 1_767_225_600_000;
        let mut cluster = Cluster::new(now_ms, Limits::default(), 7);
        for at in 0..nodes {
            let node = json!({"metadata": {"name": format!("n{at}")}});
            cluster.inside(now_ms, Method::POST, "/api/v1/nodes", &node);
            let status = json!({"status": {"allocatable": {"nvidia.com/gpu": "2"}}});
            let target = format!("/api/v1/nodes/n{at}/status");
            cluster.inside(now_ms, Method::PATCH, &target, &status);
        }
        Self { cluster, world: World::new(Nature::default()), now_ms }
    }

    fn ask(&mut self, method: Method, target: &str, body: Value) -> Value {
        let (status, value) = self.cluster.inside(self.now_ms, method, target, &body);
        assert!(status < 300, "{target}: {value}");
        value
    }

    /// Time passes, and what is due in it happens when it is.
    fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some(due) = self.world.step(self.now_ms, &mut self.cluster) {
            if due > until {
                break;
            }
            self.now_ms = due;
        }
        self.now_ms = until;
        self.world.step(self.now_ms, &mut self.cluster);
    }

    fn pods(&mut self) -> Vec<Value> {
        let list = self.ask(Method::GET, "/api/v1/namespaces/default/pods", Value::Null);
        list["items"].as_array().unwrap().clone()
    }

    /// `name node ready` of each pod.
    fn shown(&mut self) -> Vec<String> {
        let shown = |pod: &Value| {
            let (name, node) = (text(pod, "/metadata/name"), text(pod, "/spec/nodeName"));
            let ready = if condition(pod, "Ready") { "ready" } else { text(pod, "/status/phase") };
            format!("{name} {node} {ready}")
        };
        self.pods().iter().map(shown).collect()
    }
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

fn workload(name: &str, replicas: u64, gpus: u64) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
            {"name": "c", "image": "i:1", "resources": {"limits": {"nvidia.com/gpu": gpus.to_string()}}}]}}}})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[test]
fn a_deployment_comes_up_and_rolls() {
    let mut rig = Rig::new(2);
    rig.ask(Method::POST, DEPLOYMENTS, workload("d", 2, 0));
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "d"}, "ports": [{"port": 80}]}});
    rig.ask(Method::POST, "/api/v1/namespaces/default/services", service);
    rig.pass(500);
    assert_eq!(rig.pods().iter().filter(|pod| condition(pod, "Ready")).count(), 0);
    rig.pass(500);
    let nodes: Vec<String> =
        rig.pods().iter().map(|pod| text(pod, "/spec/nodeName").into()).collect();
    assert!(nodes.contains(&"n0".into()) && nodes.contains(&"n1".into()));
    let got = rig.ask(Method::GET, &format!("{DEPLOYMENTS}/d"), Value::Null);
    assert_eq!(
        (&got["status"]["readyReplicas"], &got["status"]["observedGeneration"]),
        (&json!(2), &json!(1))
    );
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s-endpoints";
    let slice = rig.ask(Method::GET, slices, Value::Null);
    assert_eq!(slice["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
    rig.ask(Method::PATCH, &format!("{DEPLOYMENTS}/d"), image("i:2"));
    rig.pass(100);
    assert_eq!(
        rig.pods().iter().filter(|pod| condition(pod, "Ready")).count(),
        2,
        "the old ones serve on"
    );
    rig.pass(5000);
    let images: Vec<Value> =
        rig.pods().iter().map(|pod| pod["spec"]["containers"][0]["image"].clone()).collect();
    assert_eq!(images, ["i:2", "i:2"]);
    rig.ask(Method::DELETE, &format!("{DEPLOYMENTS}/d"), Value::Null);
    rig.pass(5000);
    assert!(rig.pods().is_empty());
    let before = rig.cluster.revision();
    rig.pass(60_000);
    assert_eq!(rig.cluster.revision(), before, "a world at rest writes nothing");
}

#[test]
fn a_stateful_set_comes_up_in_order() {
    let mut rig = Rig::new(1);
    rig.ask(Method::POST, SETS, workload("s", 2, 0));
    rig.pass(500);
    assert_eq!(rig.shown(), ["s-0 n0 Running"]);
    rig.pass(1000);
    assert_eq!(rig.shown(), ["s-0 n0 ready", "s-1 n0 Running"]);
    rig.pass(2000);
    rig.ask(Method::PATCH, &format!("{SETS}/s"), image("i:2"));
    rig.pass(1000);
    assert_eq!(rig.shown()[0], "s-0 n0 ready");
    rig.pass(5000);
    assert_eq!(rig.shown(), ["s-0 n0 ready", "s-1 n0 ready"]);
    let got = rig.ask(Method::GET, &format!("{SETS}/s"), Value::Null);
    assert_eq!(got["status"]["updatedReplicas"], 2);
}

#[test]
fn pods_have_fates() {
    let check = |fate: Fate, expect: &str| {
        let mut rig = Rig::new(1);
        rig.world.nature.fates.push(("app".into(), "s".into(), fate));
        rig.ask(Method::POST, SETS, workload("s", 1, 0));
        rig.pass(10_000);
        let pod = &rig.pods()[0];
        let state = &pod["status"]["containerStatuses"][0]["state"];
        let said =
            state["waiting"]["reason"].as_str().unwrap_or_else(|| text(pod, "/status/phase"));
        let ready = if condition(pod, "Ready") { "ready" } else { said };
        assert_eq!(ready, expect, "{fate:?}");
    };
    check(Fate::ReadyAfterMs(10_000), "ready");
    check(Fate::ReadyAfterMs(10_001), "Running");
    check(Fate::NeverReady, "Running");
    check(Fate::NoImage, "ImagePullBackOff");
    check(Fate::CrashesAfterMs(10), "CrashLoopBackOff");
    check(Fate::SucceedsAfterMs(10), "Succeeded");
}

#[test]
fn accelerators_run_out_and_taints_drive_out() {
    let mut rig = Rig::new(2);
    rig.ask(Method::POST, DEPLOYMENTS, workload("d", 3, 2));
    rig.pass(3000);
    let waiting = |rig: &mut Rig| {
        rig.pods().iter().filter(|pod| text(pod, "/spec/nodeName").is_empty()).count()
    };
    assert_eq!(waiting(&mut rig), 1);
    let taint = json!({"spec": {"taints": [{"key": "gone", "effect": "NoExecute"}]}});
    rig.ask(Method::PATCH, "/api/v1/nodes/n0", taint);
    rig.pass(3000);
    let on = |rig: &mut Rig, node: &str| {
        rig.pods().iter().filter(|pod| text(pod, "/spec/nodeName") == node).count()
    };
    assert_eq!((on(&mut rig, "n0"), on(&mut rig, "n1"), waiting(&mut rig)), (0, 1, 2));
    rig.ask(Method::DELETE, "/api/v1/nodes/n1", Value::Null);
    rig.pass(3000);
    assert_eq!(waiting(&mut rig), 3);
}

#[test]
fn budgets_count_and_evictions_wait() {
    let mut rig = Rig::new(2);
    rig.ask(Method::POST, DEPLOYMENTS, workload("d", 2, 0));
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "d"}}}});
    rig.ask(Method::POST, "/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget);
    rig.pass(3000);
    let names: Vec<String> =
        rig.pods().iter().map(|pod| text(pod, "/metadata/name").into()).collect();
    let evict = |rig: &mut Rig, name: &str| {
        let target = format!("/api/v1/namespaces/default/pods/{name}/eviction");
        rig.cluster
            .inside(rig.now_ms, Method::POST, &target, &json!({"metadata": {"name": name}}))
            .0
    };
    assert_eq!((evict(&mut rig, &names[0]), evict(&mut rig, &names[1])), (201, 429));
    rig.pass(3000);
    assert_eq!(evict(&mut rig, &names[1]), 201);
}

#[test]
fn groups_of_leaders_and_workers() {
    let mut rig = Rig::new(1);
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "leaderworkersets.leaderworkerset.x-k8s.io"}, "spec": {
        "group": "leaderworkerset.x-k8s.io", "scope": "Namespaced",
        "names": {"plural": "leaderworkersets", "kind": "LeaderWorkerSet"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}}]}});
    rig.ask(Method::POST, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
    let sets = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets";
    let template = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    let set = json!({"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
        "metadata": {"name": "g"}, "spec": {"replicas": 2,
        "leaderWorkerTemplate": {"size": 2, "workerTemplate": template("i:1")}}});
    rig.ask(Method::POST, sets, set);
    rig.pass(2000);
    assert_eq!(rig.shown(), ["g-0 n0 ready", "g-0-1 n0 ready", "g-1 n0 ready", "g-1-1 n0 ready"]);
    let newer = json!({"spec": {"leaderWorkerTemplate": {"workerTemplate": template("i:2")}}});
    rig.ask(Method::PATCH, &format!("{sets}/g"), newer);
    rig.pass(20_000);
    assert!(rig.pods().iter().all(|pod| pod["spec"]["containers"][0]["image"] == "i:2"));
    let got = rig.ask(Method::GET, &format!("{sets}/g"), Value::Null);
    assert_eq!(
        (&got["status"]["readyReplicas"], &got["status"]["updatedReplicas"]),
        (&json!(2), &json!(2))
    );
}
