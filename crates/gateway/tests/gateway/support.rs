//! A gateway in this process with scripted engines behind it, all on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use axum::serve::ListenerExt as _;
use futures_util::stream;
use http_body_util::BodyExt as _;
use pilotage_core::health::BoardConfig;
use pilotage_core::{Band, Capacity, Policy, ReplicaId, SchedulerConfig};
use pilotage_gateway::{
    Gateway, GatewayConfig, LaneConfig, Limits, Replica, RouteConfig, TenantConfig, Timeouts,
};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::{KeyHash, Secret};
use pilotage_shell::serve::{ServeLimits, serve};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// The client's key.
pub(crate) const KEY: &str = "pk-client";

/// What a scripted engine saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// One answer of a scripted engine.
pub(crate) enum Answer {
    /// Status, media type and body.
    Whole(u16, &'static str, &'static str),
    /// Status, and when to come back.
    SentAway(u16, &'static str),
    /// A stream whose pieces the test sends; closing the channel ends it, an `Err` breaks it.
    Stream(&'static str, mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>),
}

/// A scripted engine: answers in order, and what it saw.
pub(crate) struct Engine {
    pub(crate) url: String,
    pub(crate) answers: mpsc::UnboundedSender<Answer>,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
}

type Script = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Answer>>>;

pub(crate) async fn engine() -> Engine {
    let (answers, script) = mpsc::unbounded_channel();
    let (saw, seen) = mpsc::unbounded_channel();
    let script: Script = Arc::new(tokio::sync::Mutex::new(script));
    let router = Router::new().fallback(reply).with_state((script, saw));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // A piece that waits for an acknowledgement would be late where time is paused.
    let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).unwrap());
    drop(pilotage_shell::tasks::spawn(
        "engine",
        async move { axum::serve(listener, router).await },
    ));
    Engine { url, answers, seen }
}

async fn reply(
    State((script, saw)): State<(Script, mpsc::UnboundedSender<Seen>)>,
    request: Request<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let path = parts.uri.path().to_owned();
    // Checks come by the clock, which would take answers that are meant for others.
    if parts.method == Method::GET {
        return Response::new(Body::empty());
    }
    let _ = saw.send(Seen { path, headers: parts.headers, body });
    let answer = script.lock().await.recv().await;
    let builder = Response::builder();
    match answer {
        Some(Answer::Whole(status, kind, body)) => {
            builder.status(status).header("content-type", kind).body(Body::from(body)).unwrap()
        }
        Some(Answer::SentAway(status, after)) => {
            let builder = builder.status(status).header("retry-after", after);
            builder.body(Body::from("{}")).unwrap()
        }
        Some(Answer::Stream(kind, pieces)) => {
            let pieces =
                stream::unfold(
                    pieces,
                    |mut pieces| async move { Some((pieces.recv().await?, pieces)) },
                );
            builder.header("content-type", kind).body(Body::from_stream(pieces)).unwrap()
        }
        None => builder.status(StatusCode::INTERNAL_SERVER_ERROR).body(Body::empty()).unwrap(),
    }
}

impl Engine {
    /// The next answer is a stream, fed through what is returned.
    pub(crate) fn stream(&self) -> mpsc::UnboundedSender<Result<Bytes, std::io::Error>> {
        self.pieces("text/event-stream")
    }

    /// The next answer is JSON, fed through what is returned.
    pub(crate) fn slow(&self) -> mpsc::UnboundedSender<Result<Bytes, std::io::Error>> {
        self.pieces("application/json")
    }

    fn pieces(&self, kind: &'static str) -> mpsc::UnboundedSender<Result<Bytes, std::io::Error>> {
        let (feed, pieces) = mpsc::unbounded_channel();
        self.answers.send(Answer::Stream(kind, pieces)).unwrap();
        feed
    }

    /// The next answer is this JSON.
    pub(crate) fn json(&self, status: u16, body: &'static str) {
        self.plain(status, "application/json", body);
    }

    /// The next answer is that it has no room, and when to come back.
    pub(crate) fn sent_away(&self, status: u16, after: &'static str) {
        self.answers.send(Answer::SentAway(status, after)).unwrap();
    }

    /// The next answer is this body, of that media type.
    pub(crate) fn plain(&self, status: u16, kind: &'static str, body: &'static str) {
        self.answers.send(Answer::Whole(status, kind, body)).unwrap();
    }
}

pub(crate) fn config() -> GatewayConfig {
    GatewayConfig {
        lanes: vec![LaneConfig {
            served_model: "served".to_owned(),
            scheduler: SchedulerConfig {
                // Among equals the first, so that a test knows which engine is asked.
                policy: Policy::LeastTokens,
                health: Some(BoardConfig::default()),
                ..SchedulerConfig::default()
            },
            ..LaneConfig::named("lane", 1000)
        }],
        routes: vec![RouteConfig {
            timeouts: Timeouts {
                queue: Duration::from_secs(5),
                first_token: Duration::from_secs(10),
                idle: Duration::from_secs(3),
                total: Duration::from_secs(60),
            },
            ..RouteConfig::to_lane(&["public", "alias"], 0)
        }],
        tenants: vec![TenantConfig {
            highest_band: Band::Standard,
            keys: vec![KeyHash::of(KEY).into()],
            ..TenantConfig::named("team")
        }],
        open: false,
        admin_key: KeyHash::of("pk-admin"),
        limits: Limits { body_bytes_max: 10_000, ..Limits::default() },
        media_hosts: Vec::new(),
    }
}

pub(crate) fn gateway(config: GatewayConfig, engines: &[&Engine]) -> Gateway {
    let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
    for (id, engine) in (1..).zip(engines) {
        up(&gateway, id, &engine.url);
    }
    gateway
}

pub(crate) fn up(gateway: &Gateway, id: u32, url: &str) {
    let key = Some(Secret::new("engine-key".to_owned()));
    let capacity = Capacity::of_requests(4);
    let replica = Replica { key, ..Replica::at(format!("replica-{id}"), url, capacity) };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
}

pub(crate) fn chat(body: &str) -> Request<Body> {
    post("/v1/chat/completions", body)
}

pub(crate) fn post(path: &str, body: &str) -> Request<Body> {
    Request::post(path)
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from(body.to_owned()))
        .unwrap()
}

pub(crate) async fn send(gateway: &Gateway, request: Request<Body>) -> Response<Body> {
    gateway.router().oneshot(request).await.unwrap()
}

/// Status and body.
pub(crate) async fn answer(gateway: &Gateway, request: Request<Body>) -> (u16, String) {
    let response = send(gateway, request).await;
    let status = response.status().as_u16();
    (status, text(response).await)
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// The lanes as the admin sees them.
pub(crate) async fn status(gateway: &Gateway) -> serde_json::Value {
    let request = Request::get("/status")
        .header("authorization", "Bearer pk-admin")
        .body(Body::empty())
        .unwrap();
    let response = gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
    serde_json::from_str(&text(response).await).unwrap()
}

/// The gateway's metrics as Prometheus gets them.
pub(crate) async fn metrics(gateway: &Gateway) -> String {
    let request = Request::get("/metrics")
        .header("authorization", "Bearer pk-admin")
        .body(Body::empty())
        .unwrap();
    text(gateway.admin_router(Default::default()).oneshot(request).await.unwrap()).await
}

/// How many requests ended that way, over all lanes and statuses.
pub(crate) async fn ended(gateway: &Gateway, termination: &str) -> u64 {
    let part = format!("termination=\"{termination}\"");
    let metrics = metrics(gateway).await;
    let lines = metrics.lines().filter(|line| line.starts_with("pilotage_requests_total{"));
    let counts = lines
        .filter(|line| line.contains(&part))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

/// Serves the gateway on a port of its own, as it is in production.
pub(crate) async fn listen(gateway: &Gateway) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let router = gateway.router();
    let service = move |request: Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(Body::new)).await }
    };
    let serving = serve(listener, service, ServeLimits::default(), CancellationToken::new());
    drop(pilotage_shell::tasks::spawn("gateway", serving));
    at
}

/// Waits until the lane has taken in that so many replicas are up.
pub(crate) async fn until_up(gateway: &Gateway, replicas: usize) {
    let up = |status: &serde_json::Value| {
        let all = status["lanes"][0]["replicas"].as_array().unwrap();
        all.iter().filter(|replica| replica["up"] == true).count()
    };
    while up(&status(gateway).await) != replicas {
        tokio::task::yield_now().await;
    }
}

/// Waits until that many requests wait for a turn.
pub(crate) async fn until_queued(gateway: &Gateway, requests: u32) {
    while status(gateway).await["lanes"][0]["queue"]["requests"] != requests {
        tokio::task::yield_now().await;
    }
}

/// Waits until nothing is in flight and nothing waits.
pub(crate) async fn until_idle(gateway: &Gateway) {
    for _ in 0..10_000 {
        let lane = &status(gateway).await["lanes"][0];
        let busy =
            lane["replicas"].as_array().unwrap().iter().any(|replica| replica["in_flight"] != 0);
        if !busy && lane["queue"]["requests"] == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never idle: {}", status(gateway).await);
}
