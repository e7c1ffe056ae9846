//! A gateway in this process with scripted engines behind it, all on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use pilotage_core::admit::Quota;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{
    Gateway, GatewayConfig, LaneConfig, Limits, Replica, RouteConfig, TenantConfig, Timeouts,
};
use pilotage_lab::engine::{AnswerShape, Engine, EngineConfig};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::serve::{ServeLimits, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// The client's key.
pub(crate) const KEY: &str = "pk-client";

/// Requests that the client's tenant may have at once: a lease that is not given back is missed.
pub(crate) const AT_ONCE: usize = 20;

/// When the gateway stops waiting.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    queue: Duration::from_secs(5),
    first_token: Duration::from_secs(2),
    idle: Duration::from_secs(1),
    total: Duration::from_secs(10),
};

/// A gateway and its engines.
pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    /// None where an engine was killed.
    pub(crate) engines: Vec<Option<Engine>>,
}

pub(crate) fn config() -> GatewayConfig {
    GatewayConfig {
        lanes: vec![LaneConfig {
            served_model: "served".to_owned(),
            ..LaneConfig::named("lane", 10_000)
        }],
        routes: vec![RouteConfig { timeouts: TIMEOUTS, ..RouteConfig::to_lane(&["public"], 0) }],
        tenants: vec![TenantConfig {
            keys: vec![KeyHash::of(KEY).into()],
            quota: Quota { concurrency: Some(AT_ONCE as u64), ..Quota::default() },
            ..TenantConfig::named("team")
        }],
        media_hosts: Vec::new(),
        open: false,
        admin_key: KeyHash::of("pk-admin"),
        limits: Limits { body_bytes_max: 1 << 20, ..Limits::default() },
    }
}

/// An engine that takes its time, so that requests meet.
pub(crate) async fn engine() -> Engine {
    engine_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// The same at an address.
pub(crate) async fn engine_at(place: SocketAddr) -> Engine {
    let listener = TcpListener::bind(place).await.unwrap();
    let answer = AnswerShape {
        first_gap: Duration::from_millis(5),
        chunk_gap: Duration::from_millis(2),
        ..AnswerShape::default()
    };
    let config = EngineConfig { answer, record: true, ..EngineConfig::default() };
    Engine::start(config, listener, None, Clock::start()).unwrap()
}

impl Rig {
    /// A gateway with so many engines.
    pub(crate) async fn new(engines: usize) -> Self {
        let mut rig = Self { gateway: bare(), engines: Vec::new() };
        for index in 0..engines {
            let engine = engine().await;
            rig.up(index, &format!("http://{}", engine.addr()));
            rig.engines.push(Some(engine));
        }
        rig
    }

    /// An engine is at that address from now on.
    pub(crate) fn up(&self, index: usize, url: &str) {
        self.up_through(index, url, None);
    }

    /// The same for one that has a client of its own.
    pub(crate) fn up_through(&self, index: usize, url: &str, client: Option<Client>) {
        let name = format!("replica-{index}");
        let replica = Replica { client, ..Replica::at(name, url, Capacity::of_requests(8)) };
        let id = ReplicaId(u32::try_from(index).unwrap() + 1);
        self.gateway.lane("lane").unwrap().replica_up(id, replica);
    }

    /// That engine died.
    pub(crate) fn down(&self, index: usize) {
        let id = ReplicaId(u32::try_from(index).unwrap() + 1);
        self.gateway.lane("lane").unwrap().replica_died(id);
    }

    /// What the admin sees of the lane.
    pub(crate) async fn lane(&self) -> serde_json::Value {
        let request = Request::get("/status")
            .header("authorization", "Bearer pk-admin")
            .body(Body::empty())
            .unwrap();
        let response =
            self.gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["lanes"][0].clone()
    }

    /// What is still in flight, waiting or open when all should be over; none when nothing is.
    pub(crate) async fn left(&self) -> Option<String> {
        let mut left = None;
        for _ in 0..200 {
            left = self.busy().await;
            if left.is_none() {
                break;
            }
            pass(Duration::from_millis(50)).await;
        }
        if left.is_some() {
            return left;
        }
        // Idle connections are closed in time, but for the one over which an engine is asked for its
        // metrics: what is open beside that belongs to nobody.
        pass(pilotage_shell::client::IDLE_TIMEOUT * 3).await;
        let most = || self.engines.iter().flatten().map(|engine| engine.stats().open).max();
        // Closing takes the other end's turn, too, which here takes no time: on a busy machine the kernel is late.
        for _ in 0..2000 {
            if most().is_none_or(|open| open <= 1) {
                return None;
            }
            pass(Duration::from_millis(50)).await;
            settle().await;
        }
        most().map(|open| format!("{open} connections to an engine stay open"))
    }

    async fn busy(&self) -> Option<String> {
        let lane = self.lane().await;
        let replicas = lane["replicas"].as_array().unwrap();
        if lane["queue"]["requests"] != 0
            || replicas.iter().any(|replica| replica["in_flight"] != 0)
        {
            return Some(format!("the gateway is not idle: {lane}"));
        }
        let active: u64 = self.engines.iter().flatten().map(|engine| engine.stats().active).sum();
        (active > 0).then(|| format!("engines compute {active} requests for nobody"))
    }
}

/// A runtime whose time stands still while anybody has something to do: waiting takes none.
pub(crate) fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Lets time go by on such a runtime.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Gives the kernel a moment to hand over what was sent, in which that runtime's time stands still.
pub(crate) async fn settle() {
    let moment = || std::thread::park_timeout(Duration::from_millis(1));
    tokio::task::spawn_blocking(moment).await.unwrap();
}

/// A gateway without engines.
pub(crate) fn bare() -> Gateway {
    Gateway::new(config(), Clock::start(), Metrics::new()).unwrap()
}

/// Serves the gateway on a port of its own, as it is in production.
pub(crate) async fn listen(gateway: &Gateway, limits: ServeLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let front = gateway.front();
    let service = move |request: Request<hyper::body::Incoming>| {
        let answer = Box::pin(front.clone().answer(request.map(Body::new)));
        async move { Ok(answer.await) }
    };
    let serving = serve(listener, service, limits, CancellationToken::new());
    drop(pilotage_shell::tasks::spawn("gateway", serving));
    at
}
