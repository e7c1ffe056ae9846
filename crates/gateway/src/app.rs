//! The whole API on one screen, and the state behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderValue, StatusCode};
use parking_lot::RwLock;
use pilotage_core::RequestId;
use pilotage_core::admit::Window;
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::id;
use pilotage_shell::metrics::Metrics;
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::model::{Model, ModelList};

use crate::auth::Tenants;
use crate::config::{GatewayConfig, LaneConfig, TenantConfig};
use crate::directory::{Directory, DirectoryError};
use crate::driver::LaneHandle;
use crate::forward;
use crate::metrics::GatewayMetrics;
use crate::quotas::Quotas;
use crate::reply;

/// A gateway: routes, lanes, tenants. Clones are the same one.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: GatewayConfig,
    tenants: RwLock<Arc<Tenants>>,
    pub(crate) directory: RwLock<Directory>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) lanes: Vec<LaneHandle>,
    /// Public names to places in `lanes`.
    names: HashMap<String, usize>,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) counts: GatewayMetrics,
    created: u64,
    next_id: AtomicU64,
    draining: AtomicBool,
}

/// The id of a request, made or taken over at the door.
#[derive(Clone, Debug)]
pub(crate) struct RequestName(pub(crate) String);

impl Gateway {
    /// A gateway whose lanes have no replicas yet.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(config: GatewayConfig, clock: Clock, metrics: Metrics) -> std::io::Result<Self> {
        let lane_names: Vec<String> = config.lanes.iter().map(|lane| lane.name.clone()).collect();
        let counts = GatewayMetrics::new(&metrics, &lane_names);
        let mut directory = Directory::default();
        let known = directory.learn(&config.tenants).map_err(std::io::Error::other)?;
        let quotas = Arc::new(Quotas::new(clock));
        quotas.set(known.tree.clone(), known.quotas);
        let client = Client::new()?;
        let start = |lane: &LaneConfig| {
            let (name, gauges) = (lane.name.clone(), counts.lane(&lane.name));
            let start = (lane.scheduler, known.tree.clone());
            LaneHandle::start(name, start, client.clone(), clock, gauges)
        };
        let lanes = config.lanes.iter().map(start).collect();
        let names =
            config.lanes.iter().enumerate().flat_map(|(at, lane)| {
                lane.public_names.iter().map(move |name| (name.clone(), at))
            });
        let oidc = config.limits.oidc;
        let tenants =
            Tenants::new(&config.tenants, &known.ids, config.open, oidc, client.clone(), clock);
        let inner = Inner {
            names: names.collect(),
            tenants: RwLock::new(Arc::new(tenants)),
            directory: RwLock::new(directory),
            quotas,
            lanes,
            client,
            clock,
            metrics,
            counts,
            created: clock.unix_ms() / 1000,
            // Engines know requests by these: those of another gateway must be others.
            next_id: AtomicU64::new(id::random_u64() >> 1),
            draining: AtomicBool::new(false),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The API for clients.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(forward::chat_completions))
            .route("/v1/completions", post(forward::completions))
            .route("/v1/embeddings", post(forward::embeddings))
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(middleware::from_fn(name_request))
            .with_state(self.clone())
    }

    /// The lane of that name, for whoever brings replicas.
    pub fn lane(&self, name: &str) -> Option<&LaneHandle> {
        let at = self.inner.config.lanes.iter().position(|lane| lane.name == name)?;
        self.inner.lanes.get(at)
    }

    /// Tenants from now on, all of them at once. Requests that wait for one that is gone are refused;
    /// what runs is finished; what was used of quotas stays used.
    ///
    /// # Errors
    /// The tenants contradict each other; those before stay.
    pub fn set_tenants(&self, tenants: &[TenantConfig]) -> Result<(), DirectoryError> {
        let inner = &self.inner;
        let known = inner.directory.write().learn(tenants)?;
        let (oidc, client) = (inner.config.limits.oidc, inner.client.clone());
        let fresh = Tenants::new(tenants, &known.ids, inner.config.open, oidc, client, inner.clock);
        *inner.tenants.write() = Arc::new(fresh);
        inner.quotas.set(known.tree.clone(), known.quotas);
        for lane in &inner.lanes {
            lane.set_tenants(known.tree.clone());
        }
        Ok(())
    }

    /// What was spent of budgets, by tenant: name, window, its number, millionths. Kept over a
    /// restart by whoever has a place for it.
    pub fn spent(&self) -> Vec<(String, Window, u64, u64)> {
        let directory = self.inner.directory.read();
        let spent = self.inner.quotas.spent().into_iter();
        spent
            .map(|(id, window, number, spent)| {
                (directory.name(id).to_owned(), window, number, spent)
            })
            .collect()
    }

    /// Takes over what [`Self::spent`] told before a restart.
    pub fn restore_spent(&self, tenant: &str, window: Window, number: u64, spent: u64) {
        if let Some(id) = self.inner.directory.read().find(tenant) {
            self.inner.quotas.restore(id, window, number, spent);
        }
    }

    /// The tenants of this moment.
    pub(crate) fn tenants(&self) -> Arc<Tenants> {
        Arc::clone(&self.inner.tenants.read())
    }

    /// Nothing new is let in from now on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        self.inner.lanes.iter().for_each(LaneHandle::drain);
    }

    /// Why a request would not be served; empty when it would be.
    pub async fn unready(&self) -> Vec<String> {
        if self.inner.draining.load(Ordering::SeqCst) {
            return vec!["the gateway is stopping".to_owned()];
        }
        let mut missing = Vec::new();
        for lane in &self.inner.lanes {
            match lane.status().await {
                Some(status) if status.replicas.iter().any(|replica| replica.up) => {}
                Some(status) => {
                    missing.push(format!("`{}` has no replica that takes work", status.name));
                }
                None => missing.push("a lane has stopped".to_owned()),
            }
        }
        missing
    }

    /// The lane that serves a public name.
    pub(crate) fn lane_of(&self, model: &str) -> Result<usize, ApiError> {
        self.inner.names.get(model).copied().ok_or_else(|| {
            /// Most names that the error lists.
            const NAMES_MAX: usize = 20;
            let mut names: Vec<&str> = self.inner.names.keys().map(String::as_str).collect();
            names.sort_unstable();
            names.truncate(NAMES_MAX);
            let shown: String = model.chars().take(80).collect();
            let list = names.join("`, `");
            ApiError::model_not_found(format!(
                "the model `{shown}` does not exist; there is `{list}`"
            ))
        })
    }

    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.inner.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn listed(&self) -> Vec<Model> {
        let inner = &self.inner;
        let models = inner.config.lanes.iter().flat_map(|lane| {
            let one = |name| Model::new(name, inner.created, Some(lane.context_tokens));
            lane.public_names.iter().map(one)
        });
        models.collect()
    }
}

/// Every response names its request: with the client's own id where it sent a decent one.
async fn name_request(mut request: Request, next: Next) -> Response {
    let sent = request.headers().get(envelope::REQUEST_ID).and_then(|id| id.to_str().ok());
    let name =
        sent.filter(|id| envelope::is_request_id(id)).map_or_else(id::request_id, str::to_owned);
    request.extensions_mut().insert(RequestName(name.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(envelope::REQUEST_ID, value);
    }
    response
}

async fn models(State(gateway): State<Gateway>, request: Request) -> Response {
    match gateway.tenants().find(request.headers()).await {
        Ok(_) => reply::json(StatusCode::OK, &ModelList::new(gateway.listed())),
        Err(error) => reply::error(&error),
    }
}

async fn model(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    Extension(RequestName(_)): Extension<RequestName>,
    request: Request,
) -> Response {
    let caller = gateway.tenants().find(request.headers()).await;
    let found = caller.and_then(|_| gateway.lane_of(&id));
    match found {
        Ok(_) => {
            let listed = gateway.listed().into_iter().find(|model| model.id == id);
            reply::json(StatusCode::OK, &listed)
        }
        Err(error) => reply::error(&error),
    }
}

pub(crate) async fn live() -> Response {
    reply::json(StatusCode::OK, &serde_json::json!({"status": "live"}))
}

pub(crate) async fn ready(State(gateway): State<Gateway>) -> Response {
    let missing = gateway.unready().await;
    if missing.is_empty() {
        return reply::json(StatusCode::OK, &serde_json::json!({"status": "ready"}));
    }
    let body = serde_json::json!({"status": "not ready", "missing": missing});
    reply::json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

pub(crate) async fn not_found() -> Response {
    let paths = "/v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models";
    reply::error(&ApiError::not_found(format!(
        "there is nothing at this path; the API has {paths}"
    )))
}

pub(crate) async fn method_not_allowed() -> Response {
    let message = "this path does not take this method; the header `allow` names the ones it takes";
    reply::error(&ApiError::method_not_allowed(message))
}
