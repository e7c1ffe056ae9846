//! A gateway of a cluster in memory, with engines on loopback that its slices tell of.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_cluster::serve::Server;
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;

/// What waits for ever fails after that long, in time that takes none.
const FOR_EVER: Duration = Duration::from_secs(3600);

const CLIENT: &str = "pk-client";

fn client_hash() -> String {
    pilotage_shell::secret::hex(pilotage_shell::secret::KeyHash::of(CLIENT).bytes())
}

/// An engine that writes down the keys it is asked with, and whose streams end when they are told to.
struct Engine {
    at: SocketAddr,
    keys: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
    ends: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Engine {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let keys = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (ends, told) = watch::channel(true);
        let seen = std::sync::Arc::clone(&keys);
        let chat = move |headers: HeaderMap, Json(body): Json<Value>| {
            let key = headers.get("authorization").and_then(|key| key.to_str().ok());
            seen.lock().push(key.unwrap_or_default().to_owned());
            let told = told.clone();
            async move { answer(&body, told, at) }
        };
        let routes = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/health", get(|| async { "ok" }));
        let stop = CancellationToken::new();
        let service = move |request: Request<hyper::body::Incoming>| {
            let routes = routes.clone();
            async move { routes.oneshot(request.map(Body::new)).await }
        };
        let serving = serve(listener, service, ServeLimits::default(), stop.clone());
        drop(tasks::spawn("engine", serving));
        Self { at, keys, ends, stop }
    }

    fn asked(&self) -> usize {
        self.keys.lock().len()
    }

    fn last_key(&self) -> String {
        self.keys.lock().last().cloned().unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Says where it was made.
fn answer(
    body: &Value,
    mut told: watch::Receiver<bool>,
    at: SocketAddr,
) -> axum::response::Response {
    let text = at.port().to_string();
    if body["stream"] != true {
        return Json(json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }))
        .into_response();
    }
    let event = |delta: Value, finish: Value| {
        let chunk = json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let first = event(json!({"role": "assistant", "content": text}), Value::Null);
    let last = [event(json!({"content": "end"}), json!("stop")), Bytes::from("data: [DONE]\n\n")];
    let stream = async_stream(first, last, async move {
        let _ = told.wait_for(|ends| *ends).await;
    });
    ([("content-type", "text/event-stream")], Body::new(stream)).into_response()
}

/// The first piece, and the others after that.
fn async_stream(
    first: Bytes,
    last: [Bytes; 2],
    then: impl Future<Output = ()> + Send + 'static,
) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static {
    use futures_util::StreamExt as _;
    let frame = |bytes: Bytes| Ok(http_body::Frame::data(bytes));
    let waits = futures_util::stream::once(then).filter_map(|()| std::future::ready(None));
    let all = futures_util::stream::iter([first])
        .chain(waits)
        .chain(futures_util::stream::iter(last))
        .map(frame);
    StreamBody::new(all)
}

/// A cluster and its gateway.
struct Rig {
    server: Server,
    client: Client,
    serving: Serving,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A gateway of an empty cluster that has our kinds.
    async fn start() -> Self {
        let (server, client) = cluster();
        for crd in pilotage_plan::crd::all() {
            put(&client, crd).await;
        }
        let tenant = json!({"keys": [{"name": "k", "sha256": client_hash()}]});
        put(&client, resource("Tenant", "n", "team", &tenant)).await;
        Self::on(server, client).await
    }

    /// A gateway of that cluster.
    async fn on(server: Server, client: Client) -> Self {
        let clock = Clock::start();
        let scope = Scope {
            namespace: None,
            system: "pilotage".to_owned(),
            gateways: "pilotage-gateway".to_owned(),
        };
        let watching = Watching::start(&client, &scope, clock);
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::at(Some(folder.path().to_owned())).unwrap();
        let keys = Keys {
            local: None,
            admin: Secret::new("admin".to_owned()),
            open: false,
            media_hosts: Vec::new(),
            installation: installation.clone(),
        };
        let place =
            Place { pod: Some("gateway-0".to_owned()), zone: None, drain: Duration::from_secs(60) };
        let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = (bind().await.into(), bind().await);
        let serving =
            Serving::start(watching, (keys, clock), place, &installation, listeners).unwrap();
        Self { server, client, serving, _folder: folder }
    }

    /// Lets the gateway work until that is there.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let all = async {
            loop {
                tokio::select! {
                    biased;
                    done = &mut work => return done,
                    () = self.serving.step() => {}
                }
            }
        };
        tokio::time::timeout(FOR_EVER, all).await.unwrap()
    }

    async fn status(&self) -> Value {
        let request = Request::get("/status").header("authorization", "Bearer admin");
        let request = request.body(Body::empty()).unwrap();
        let response = self.serving.front().admin().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// Lets the gateway work until its status is such.
    async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        let all = async {
            loop {
                let status = self.status().await;
                if is(&status) {
                    return status;
                }
                self.serving.step().await;
            }
        };
        tokio::time::timeout(FOR_EVER, all).await.unwrap()
    }

    /// Until so many replicas of `m` take work, of so many that are up.
    async fn replicas(&mut self, open: usize, all: usize) {
        let found = |status: &Value| {
            let replicas = status["lanes"][0]["replicas"].as_array().cloned().unwrap_or_default();
            let up = replicas.iter().filter(|one| one["up"] == true);
            let takes = up.clone().filter(|one| one["places"] != 0);
            (takes.count(), up.count())
        };
        self.until(|status| found(status) == (open, all)).await;
    }

    fn ask(&self, model: &str, stream: bool) -> impl Future<Output = (StatusCode, Body)> + use<> {
        let body = json!({"model": model, "stream": stream,
            "messages": [{"role": "user", "content": "hello"}]});
        let request = Request::post("/v1/chat/completions")
            .header("authorization", format!("Bearer {CLIENT}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let routes = self.serving.front().gateway.router();
        async move {
            let response = routes.oneshot(request).await.unwrap();
            (response.status(), response.into_body())
        }
    }

    /// The port of the engine that answers, or the status.
    async fn answered(&mut self, model: &str) -> Result<u16, StatusCode> {
        let asked = self.ask(model, false);
        let (status, body) = self.during(asked).await;
        if status != StatusCode::OK {
            return Err(status);
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        Ok(body["choices"][0]["message"]["content"].as_str().unwrap().parse().unwrap())
    }

    async fn put(&self, object: Value) {
        put(&self.client, object).await;
    }

    async fn model(&self, spec: &Value) {
        self.put(resource("Model", "n", "m", spec)).await;
    }
}

fn cluster() -> (Server, Client) {
    let server = Server::default();
    let client = Client::new(server.connect(""), "default");
    (server, client)
}

/// A Model of pods.
fn vllm() -> Value {
    json!({"source": "hf:o/m", "runtime": "vllm", "parallel": 4})
}

fn resource(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// A slice of the Model `m` with pods: name, uid, engine, and whether it is ready and terminating.
fn slice(pods: &[(&str, &str, SocketAddr, bool, bool)]) -> Value {
    // All pods of a slice have the same port, so that each engine is in one of its own.
    let (_, _, at, ..) = pods[0];
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(name, uid, at, ready, terminating)| {
            json!({
                "addresses": [at.ip().to_string()],
                "conditions": {"ready": ready, "serving": true, "terminating": terminating},
                "targetRef": {"kind": "Pod", "name": name, "namespace": "n", "uid": uid},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("m-{}", at.port()), "namespace": "n", "labels": {
            "kubernetes.io/service-name": "m-engines",
            "app.kubernetes.io/component": "engine", "app.kubernetes.io/part-of": "pilotage",
        }},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": at.port(), "protocol": "TCP"}],
    })
}

fn api(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let version = text("/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version.as_str()));
    let of = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text("/kind")));
    let namespace = text("/metadata/namespace");
    let api = match namespace.as_str() {
        "" => Api::all_with(client.clone(), &of),
        namespace => Api::namespaced_with(client.clone(), namespace, &of),
    };
    (api, text("/metadata/name"))
}

async fn put(client: &Client, object: Value) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    if !namespace.is_empty() {
        let of = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let (api, name) = api(client, &of);
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(of)).await.unwrap();
    }
    let (api, name) = api(client, &object);
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
}

async fn delete(client: &Client, object: &Value) {
    let (api, name) = api(client, object);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pods_serve_their_model_with_its_key() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    let secret = |key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "pilotage-engine-keys", "namespace": "pilotage"},
        "stringData": {"n.m": key, "other.m": "not this one"}})
    };
    rig.put(secret("first")).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
    assert_eq!(engine.last_key(), "Bearer first");
    // Another key: what is sent from now on has it, what runs goes on.
    engine.ends.send_replace(false);
    let asked = rig.ask("m", true);
    let (status, body) = rig.during(asked).await;
    assert_eq!(status, StatusCode::OK);
    rig.put(secret("second")).await;
    rig.replicas(1, 2).await;
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
    assert_eq!(engine.last_key(), "Bearer second");
    engine.ends.send_replace(true);
    assert!(ends_well(&mut rig, body).await);
    rig.replicas(1, 1).await;
}

/// Whether a stream ends as it should.
async fn ends_well(rig: &mut Rig, body: Body) -> bool {
    let whole = rig.during(body.collect()).await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&whole);
    text.contains("\"end\"") && text.ends_with("data: [DONE]\n\n")
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_leaves_gets_nothing_new_and_ends_what_it_has() {
    let (one, two) = (Engine::start().await, Engine::start().await);
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", one.at, true, false)])).await;
    rig.replicas(1, 1).await;
    one.ends.send_replace(false);
    let asked = rig.ask("m", true);
    let (_, body) = rig.during(asked).await;
    rig.put(slice(&[("q", "2", two.at, true, false)])).await;
    rig.put(slice(&[("p", "1", one.at, false, true)])).await;
    rig.replicas(1, 2).await;
    for _ in 0..4 {
        assert_eq!(rig.answered("m").await, Ok(two.at.port()));
    }
    one.ends.send_replace(true);
    assert!(ends_well(&mut rig, body).await);
    delete(&rig.client, &slice(&[("p", "1", one.at, false, true)])).await;
    rig.replicas(1, 1).await;
    assert_eq!((one.asked(), two.asked()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_elsewhere_when_its_pod_is_gone() {
    let engines = [Engine::start().await, Engine::start().await];
    let [one, two] = &engines;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    let slices = [("p", "1", one.at), ("q", "2", two.at)]
        .map(|(name, uid, at)| slice(&[(name, uid, at, true, false)]));
    for slice in &slices {
        rig.put(slice.clone()).await;
    }
    rig.replicas(2, 2).await;
    for engine in &engines {
        engine.ends.send_replace(false);
    }
    let asked = rig.ask("m", true);
    let (_, body) = rig.during(asked).await;
    let at = engines.iter().position(|engine| engine.asked() == 1).unwrap();
    engines[1 - at].ends.send_replace(true);
    delete(&rig.client, &slices[at]).await;
    assert!(ends_well(&mut rig, body).await);
    assert_eq!((one.asked(), two.asked()), (1, 1));
    rig.replicas(1, 1).await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_resource_leaves_the_others_alone() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    let to = |model: &str| json!({"targets": [{"model": model}]});
    rig.put(resource("Route", "n", "good", &to("m"))).await;
    rig.put(resource("Route", "n", "bad", &to("nowhere"))).await;
    let later = tokio::time::sleep(Duration::from_secs(2));
    rig.during(later).await;
    rig.put(resource("Model", "later", "m", &vllm())).await;
    let status = rig.until(|status| status["cluster"]["refusedCount"] == 2).await;
    let refused: Vec<_> = status["cluster"]["refused"].as_array().unwrap().iter().collect();
    let told = |one: &Value| {
        format!("{} {}/{} {}", one["kind"], one["namespace"], one["name"], one["reason"])
    };
    let mut told: Vec<String> = refused.into_iter().map(told).collect();
    told.sort();
    let expect =
        ["\"Model\" \"later\"/\"m\" \"NameTaken\"", "\"Route\" \"n\"/\"bad\" \"ReferenceMissing\""];
    assert_eq!(told, expect);
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("good").await, Ok(engine.at.port()));
    assert_eq!(rig.answered("bad").await, Err(StatusCode::NOT_FOUND));
    // It is put right.
    rig.put(resource("Route", "n", "bad", &to("m"))).await;
    rig.until(|status| status["cluster"]["refusedCount"] == 1).await;
    assert_eq!(rig.answered("bad").await, Ok(engine.at.port()));
}

#[tokio::test(start_paused = true)]
async fn what_changes_holds_without_losing_a_request() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    engine.ends.send_replace(false);
    let asked = rig.ask("m", true);
    let (_, body) = rig.during(asked).await;
    // The Model goes, and its name with it; what runs there ends as it would have.
    delete(&rig.client, &resource("Model", "n", "m", &vllm())).await;
    rig.put(resource("Model", "n", "other", &vllm())).await;
    rig.until(|status| status["config"]["generation"] == 3).await;
    assert_eq!(rig.answered("m").await, Err(StatusCode::NOT_FOUND));
    engine.ends.send_replace(true);
    assert!(ends_well(&mut rig, body).await);
    rig.until(|status| status["lanes"].as_array().unwrap().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_loses_its_cluster_serves_on() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    rig.server.with(|cluster, now_ms| {
        cluster.faults().away_until_ms(now_ms + 3_600_000);
        cluster.drop_watches(true);
    });
    let hour = tokio::time::sleep(Duration::from_secs(1800));
    rig.during(hour).await;
    let status = rig.status().await;
    let source = &status["cluster"]["sources"][0];
    assert!(
        source["error"].is_string() && source["heardMsAgo"].as_u64() > Some(1_700_000),
        "{source}"
    );
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
    let hour = tokio::time::sleep(Duration::from_secs(1830));
    rig.during(hour).await;
    rig.put(resource("Route", "n", "new", &json!({"targets": [{"model": "m"}]}))).await;
    rig.until(|status| status["config"]["generation"] == 3).await;
    assert_eq!(rig.answered("new").await, Ok(engine.at.port()));
    let is_well = |status: &Value| {
        let sources = status["cluster"]["sources"].as_array().unwrap();
        // This cluster never had HTTPRoutes.
        sources.iter().all(|one| one["kind"] == "HTTPRoute" || one["error"].is_null())
    };
    rig.until(is_well).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_waits_for_its_cluster() {
    let (server, client) = cluster();
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    server.with(|cluster, now_ms| cluster.faults().away_until_ms(now_ms + 120_000));
    let mut rig = Rig::on(server, client).await;
    let ready = async |rig: &Rig| {
        let request = Request::get("/health/ready").body(Body::empty()).unwrap();
        let response = rig.serving.front().gateway.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let minute = tokio::time::sleep(Duration::from_secs(60));
    rig.during(minute).await;
    let (status, body) = ready(&rig).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reason"], "what there is in the cluster is not known yet");
    rig.until(|status| status["ready"] == true).await;
    assert_eq!(ready(&rig).await.0, StatusCode::OK, "though there is no Model at all");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_keys_says_so_and_waits() {
    let (server, client) = cluster();
    let meets = Meets::calls(&["list", "watch"], "secrets");
    server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Forbidden)));
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    let mut rig = Rig::on(server, client).await;
    let secret = |status: &Value| {
        let all = status["cluster"]["sources"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["kind"] == "Secret").unwrap()
    };
    let status = rig.until(|status| secret(status)["error"].is_string()).await;
    assert!(secret(&status)["error"].as_str().unwrap().contains("403"), "{status}");
    assert_eq!(status["ready"], false);
    rig.server.with(|cluster, _| cluster.faults().clear());
    rig.until(|status| status["ready"] == true).await;
}

#[tokio::test(start_paused = true)]
async fn gateways_share_what_tenants_may() {
    let mut rig = Rig::start().await;
    rig.until(|status| status["ready"] == true).await;
    let pods: Vec<Value> = ["gateway-0", "gateway-1", "gateway-2"]
        .iter()
        .zip(1_u8..)
        .map(|(name, at)| {
            json!({"addresses": [format!("10.0.0.{at}")], "zone": "a",
                "conditions": {"ready": *name != "gateway-2"},
                "targetRef": {"kind": "Pod", "name": name, "uid": name}})
        })
        .collect();
    rig.put(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "g", "namespace": "pilotage",
            "labels": {"kubernetes.io/service-name": "pilotage-gateway"}},
        "addressType": "IPv4", "endpoints": pods, "ports": [],
    }))
    .await;
    let status = rig.until(|status| status["cluster"]["gateways"] == 2).await;
    assert_eq!(status["cluster"]["zone"], "a");
    let quota =
        json!({"keys": [{"name": "k", "sha256": client_hash()}], "quota": {"concurrency": 5}});
    rig.put(resource("Tenant", "n", "team", &quota)).await;
    rig.until(|status| status["config"]["generation"] == 3).await;
    let tenants = &rig.serving.front().current.plan().tenants;
    assert_eq!(tenants[0].quota.concurrency, Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_http_route_leads_to_models() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    rig.put(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "httproutes.gateway.networking.k8s.io"},
        "spec": {"group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}]},
    }))
    .await;
    let route = |name: &str, more: Value| {
        let mut spec = json!({"rules": [{"backendRefs":
            [{"group": "pilotage.dev", "kind": "Model", "name": "m"}]}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "n"}, "spec": spec})
    };
    rig.put(route("by-http", json!({}))).await;
    rig.put(route("hosted", json!({"hostnames": ["a.example.com"]}))).await;
    let status = rig.until(|status| status["cluster"]["refusedCount"] == 1).await;
    let why = status["cluster"]["refused"][0]["message"].as_str().unwrap();
    assert!(why.starts_with("hostnames: "), "{why}");
    assert_eq!(rig.answered("by-http").await, Ok(engine.at.port()));
    assert_eq!(rig.answered("hosted").await, Err(StatusCode::NOT_FOUND));
}
