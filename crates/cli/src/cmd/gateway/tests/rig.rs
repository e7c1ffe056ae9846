//! A cluster in memory with a gateway on it, and engines on loopback that its slices tell of.

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
use pilotage_cluster::serve::Server;
use pilotage_gateway::epp::PickerConfig;
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::super::*;

/// What waits for ever fails after that long, in time that takes none.
pub(super) const FOR_EVER: Duration = Duration::from_secs(3600);

pub(super) const CLIENT: &str = "pk-client";

pub(super) fn client_hash() -> String {
    pilotage_shell::secret::hex(pilotage_shell::secret::KeyHash::of(CLIENT).bytes())
}

/// An engine that writes down the keys it is asked with, and whose streams end when they are told to.
pub(super) struct Engine {
    pub(super) at: SocketAddr,
    pub(super) keys: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
    pub(super) ends: watch::Sender<bool>,
    pub(super) stop: CancellationToken,
}

impl Engine {
    pub(super) async fn start() -> Self {
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
            .route("/health", get(|| async { "ok" }))
            .route("/health/ready", get(|| async { "ok" }));
        let stop = CancellationToken::new();
        let service = move |request: Request<hyper::body::Incoming>| {
            let routes = routes.clone();
            async move { routes.oneshot(request.map(Body::new)).await }
        };
        let serving = serve(listener, service, ServeLimits::default(), stop.clone());
        drop(tasks::spawn("engine", serving));
        Self { at, keys, ends, stop }
    }

    pub(super) fn asked(&self) -> usize {
        self.keys.lock().len()
    }

    pub(super) fn last_key(&self) -> String {
        self.keys.lock().last().cloned().unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Says where it was made.
pub(super) fn answer(
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
pub(super) fn async_stream(
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
pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) serving: Serving,
    pub(super) folder: tempfile::TempDir,
}

impl Rig {
    /// A gateway of an empty cluster that has our kinds.
    pub(super) async fn start() -> Self {
        let (server, client) = cluster();
        for crd in pilotage_plan::crd::all() {
            put(&client, crd).await;
        }
        let tenant = json!({"keys": [{"name": "k", "sha256": client_hash()}]});
        put(&client, resource("Tenant", "n", "team", &tenant)).await;
        Self::on(server, client).await
    }

    /// A gateway of that cluster.
    pub(super) async fn on(server: Server, client: Client) -> Self {
        Self::of(server, client, Purpose::Serve).await
    }

    /// One that serves that of a cluster.
    pub(super) async fn of(server: Server, client: Client, purpose: Purpose) -> Self {
        Self::within(server, client, purpose, tempfile::tempdir().unwrap()).await
    }

    /// One that begins with what another left in that folder.
    pub(super) async fn within(
        server: Server,
        client: Client,
        purpose: Purpose,
        folder: tempfile::TempDir,
    ) -> Self {
        let clock = Clock::start();
        let scope = Scope {
            namespace: None,
            system: "pilotage".to_owned(),
            gateways: "pilotage-gateway".to_owned(),
            purpose: purpose.clone(),
        };
        let watching = Watching::start(&client, &scope, clock);
        let installation = Installation::at(Some(folder.path().to_owned())).unwrap();
        let keys = Keys {
            local: None,
            admin: Secret::new("admin".to_owned()),
            open: false,
            media_hosts: Vec::new(),
            installation: installation.clone(),
            weights: Weights::default(),
        };
        let place = Place {
            pod: Some("gateway-0".to_owned()),
            zone: None,
            metrics: pilotage_shell::metrics::Metrics::new(),
            drain: Duration::from_secs(60),
            face: match purpose {
                Purpose::Serve | Purpose::Judge => Face::Clients,
                Purpose::Pool(..) => Face::Picker(PickerConfig::default()),
            },
            purpose,
        };
        let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = (bind().await.into(), bind().await);
        let serving =
            Serving::start(watching, (keys, clock), place, &installation, listeners).unwrap();
        Self { server, client, serving, folder }
    }

    /// Lets the gateway work until that is there.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
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

    pub(super) async fn status(&self) -> Value {
        let request = Request::get("/status").header("authorization", "Bearer admin");
        let request = request.body(Body::empty()).unwrap();
        let response = self.serving.front().admin().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// Lets the gateway work until its status is such.
    pub(super) async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
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
    pub(super) async fn replicas(&mut self, open: usize, all: usize) {
        let found = |status: &Value| {
            let replicas = status["lanes"][0]["replicas"].as_array().cloned().unwrap_or_default();
            let up = replicas.iter().filter(|one| one["up"] == true);
            let takes = up.clone().filter(|one| one["places"] != 0);
            (takes.count(), up.count())
        };
        self.until(|status| found(status) == (open, all)).await;
    }

    pub(super) fn ask(
        &self,
        model: &str,
        stream: bool,
    ) -> impl Future<Output = (StatusCode, Body)> + use<> {
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
    pub(super) async fn answered(&mut self, model: &str) -> Result<u16, StatusCode> {
        let asked = self.ask(model, false);
        let (status, body) = self.during(asked).await;
        if status != StatusCode::OK {
            return Err(status);
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        Ok(body["choices"][0]["message"]["content"].as_str().unwrap().parse().unwrap())
    }

    pub(super) async fn put(&self, object: Value) {
        put(&self.client, object).await;
    }

    pub(super) async fn model(&self, spec: &Value) {
        self.put(resource("Model", "n", "m", spec)).await;
    }
}

pub(super) fn cluster() -> (Server, Client) {
    let server = Server::default();
    let client = Client::new(server.connect(""), "default");
    (server, client)
}

/// A Model of pods.
pub(super) fn vllm() -> Value {
    json!({"source": "hf:o/m", "runtime": "vllm", "parallel": 4})
}

pub(super) fn resource(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// A slice of the Model `m` with pods: name, uid, engine, and whether it is ready and terminating.
pub(super) fn slice(pods: &[(&str, &str, SocketAddr, bool, bool)]) -> Value {
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

pub(super) fn api(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
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

pub(super) async fn put(client: &Client, object: Value) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    if !namespace.is_empty() {
        let of = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let (api, name) = api(client, &of);
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(of)).await.unwrap();
    }
    let (api, name) = api(client, &object);
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
}

pub(super) async fn delete(client: &Client, object: &Value) {
    let (api, name) = api(client, object);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}
