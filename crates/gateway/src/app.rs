//! The whole API on one screen, and the state behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use parking_lot::RwLock;
use pilotage_core::admit::Window;
use pilotage_core::traffic::Name;
use pilotage_core::traffic::router::TableError;
use pilotage_core::{ReplicaId, RequestId, Time, scale};
use pilotage_lens::trace::{Reasons, Tracer};
use pilotage_lens::{Record, Sink};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::id;
use pilotage_shell::metrics::Metrics;
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::model::{Model, ModelList};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::auth::Tenants;
use crate::config::{GatewayConfig, TenantConfig};
use crate::directory::{Directory, DirectoryError, Known};
use crate::driver::LaneHandle;
use crate::forward::{self, Endpoint, Merges};
use crate::metrics::GatewayMetrics;
use crate::names;
use crate::quotas::Quotas;
use crate::stored::Store;
use crate::table::{Lane, Start, Table};
use crate::trail::{LaneNow, Ledger, STEP, Trail};
use crate::triage::Watchman;
use crate::trials::{Judged, Trials};
use crate::{reply, responses};

/// Between two beats of the pulse, in nanoseconds.
const PULSE_NANOS: u64 = 250_000_000;

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
    /// Generations that requests share.
    pub(crate) merges: Merges,
    /// Room for copies of requests.
    pub(crate) mirrors: Arc<Semaphore>,
    table: RwLock<Arc<Table>>,
    pub(crate) trials: Trials,
    /// What requests leave behind.
    pub(crate) trail: Trail,
    /// What was seen of late, for whoever asks what is wrong.
    pub(crate) watchman: Watchman,
    /// Which traces there are; none but those of clients that say so where nothing here sends any.
    tracer: RwLock<Option<Arc<dyn Tracer>>>,
    /// Responses that a later request can go on from.
    pub(crate) stored: Arc<Store>,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) counts: GatewayMetrics,
    created: u64,
    next_id: AtomicU64,
    /// What the names of prompts' blocks are made with.
    pub(crate) seed: u64,
    draining: AtomicBool,
    /// A name that no other gateway has, and another one after each start.
    instance: String,
    readiness: RwLock<Readiness>,
}

/// When a gateway says that it is ready.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Readiness {
    /// Each model has a replica that takes work.
    #[default]
    Replicas,
    /// Not yet, and why: what it has to serve is still to be found out.
    Waits(&'static str),
    /// Whatever there is: one model without replicas is no reason to send nobody here.
    Serves,
}

/// Why a configuration cannot be used. Nothing changed; whoever wrote it can put it right.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ConfigError {
    /// The tenants contradict each other.
    #[error(transparent)]
    Tenants(#[from] DirectoryError),
    /// The routes contradict each other.
    #[error(transparent)]
    Routes(#[from] TableError),
}

/// The id of a request, made or taken over at the door.
#[derive(Clone, Debug)]
pub(crate) struct RequestName(pub(crate) Name);

impl Gateway {
    /// A gateway whose lanes have no replicas yet.
    ///
    /// # Errors
    /// The HTTP client cannot be made, or the configuration contradicts itself.
    pub fn new(config: GatewayConfig, clock: Clock, metrics: Metrics) -> std::io::Result<Self> {
        forward::check_hosts(&config.media_hosts).map_err(std::io::Error::other)?;
        let counts = GatewayMetrics::new(&metrics);
        let mut directory = Directory::default();
        let known = directory.learn(&config.tenants, |_| false).map_err(std::io::Error::other)?;
        let quotas = Arc::new(Quotas::new(clock));
        quotas.set(known.tree.clone(), known.quotas);
        let client = Client::new()?.counted(&metrics);
        let start = Start {
            tenants: known.tree.clone(),
            ids: &known.ids,
            client: &client,
            clock,
            metrics: &counts,
        };
        let table = Table::new(&config.lanes, &config.routes, &Table::default(), &start)
            .map_err(std::io::Error::other)?;
        let trials = Trials::new(clock, id::random_u64(), counts.clone());
        trials.set(&config.routes, &config.lanes);
        let oidc = config.limits.oidc;
        let tenants =
            Tenants::new(&config.tenants, &known.ids, config.open, oidc, client.clone(), clock);
        let inner = Inner {
            table: RwLock::new(Arc::new(table)),
            trials,
            trail: Trail::new(config.limits.records_kept),
            watchman: Watchman::default(),
            tracer: RwLock::default(),
            tenants: RwLock::new(Arc::new(tenants)),
            directory: RwLock::new(directory),
            quotas,
            stored: Arc::new(Store::new(config.limits.stored, clock)),
            merges: Merges::default(),
            mirrors: Arc::new(Semaphore::new(config.limits.mirrors_max)),
            client,
            clock,
            metrics,
            counts,
            created: clock.unix_ms() / 1000,
            // Engines know requests by these: those of another gateway must be others.
            next_id: AtomicU64::new(id::random_u64() >> 1),
            seed: id::random_u64(),
            draining: AtomicBool::new(false),
            instance: format!("gateway-{:016x}", id::random_u64()),
            readiness: RwLock::default(),
            config,
        };
        inner.counts.set_tenants(inner.config.tenants.iter().map(|tenant| tenant.name.as_str()));
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Hands every record of a request on from now on.
    pub fn add_sink(&self, sink: Arc<dyn Sink>) {
        self.inner.trail.add_sink(sink);
    }

    /// Books every record in a ledger from now on; whether there was none before.
    pub fn set_ledger(&self, ledger: Ledger) -> bool {
        self.inner.trail.set_ledger(ledger)
    }

    /// Decides from now on which traces there are.
    pub fn set_tracer(&self, tracer: Arc<dyn Tracer>) {
        *self.inner.tracer.write() = Some(tracer);
    }

    /// Whether the trace of that number is sampled, of which the client said so much.
    pub(crate) fn samples(&self, trace: u128, said: Option<bool>) -> bool {
        match &*self.inner.tracer.read() {
            Some(tracer) => tracer.samples(trace, said),
            None => said == Some(true),
        }
    }

    /// Why a request's trace is kept. Where nobody here sends traces, clients and engines have those that are
    /// sampled.
    pub(crate) fn keeps(&self, record: &Record) -> Reasons {
        match &*self.inner.tracer.read() {
            Some(tracer) => tracer.keeps(record),
            None => Reasons::sampled(record.sampled),
        }
    }

    /// Measures, time and again, how late a task gets its turn on the processor, for as long as it is polled.
    pub async fn keep_pulse(&self) {
        let (clock, delay) = (self.inner.clock, self.inner.counts.loop_delay());
        loop {
            let due = clock.now_nanos().saturating_add(PULSE_NANOS);
            clock.sleep_until_nanos(due).await;
            delay.observe(clock.now_nanos().saturating_sub(due) as f64 / 1e9);
        }
    }

    /// Notes how lanes stand, step by step, for as long as it is polled.
    pub async fn keep_history(&self) {
        let inner = &self.inner;
        let mut at = inner.clock.now_nanos();
        loop {
            let table = self.table();
            let lanes = table.lanes().iter().map(|lane| {
                let (queued, in_flight, replicas_up) = lane.handle.load();
                (lane.name.clone(), LaneNow { queued, in_flight, replicas_up })
            });
            inner.trail.history.sample(inner.clock.unix_ms(), lanes);
            at += STEP * 1_000_000_000;
            inner.clock.sleep_until_nanos(at).await;
        }
    }

    /// The API for clients.
    pub fn router(&self) -> Router {
        let served = forward::ENDPOINTS.iter().fold(Router::new(), |router, endpoint| {
            let answer = move |State(gateway): State<Self>,
                               Extension(name): Extension<RequestName>,
                               request: Request| {
                forward::answer(gateway, endpoint, name, request)
            };
            router.route(endpoint.path, post(answer))
        });
        served
            .route("/v1/responses/{id}", get(responses::get).delete(responses::delete))
            .route("/v1/responses/{id}/input_items", get(responses::input_items))
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready_for))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(middleware::from_fn(name_request))
            .with_state(self.clone())
    }

    /// The API for clients, for a listener.
    pub fn front(&self) -> Front {
        Front { gateway: self.clone(), others: self.router() }
    }

    /// The lane of that name, for whoever brings replicas.
    pub fn lane(&self, name: &str) -> Option<LaneHandle> {
        self.table().lane(name).map(|lane| lane.handle.clone())
    }

    /// What is to be seen of every model now, for whoever decides how many replicas it has.
    pub fn scaling(&self) -> scale::Report {
        let now = Time::from_nanos(self.inner.clock.now_nanos());
        let table = self.table();
        let seen = table.lanes().iter().map(|lane| {
            let (signals, names) = lane.handle.signals();
            let name = move |id: ReplicaId| names.get(&id).cloned();
            (lane.config.name.as_str(), signals, name)
        });
        let trials = self.judged().into_iter().map(|judged| scale::TrialReport {
            progress: scale::TrialProgress::of(&judged.judgement),
            why: judged.judgement.to_string(),
            model: judged.lane,
            revision: judged.revision,
            step: u32::try_from(judged.step).unwrap_or(u32::MAX),
            percent: judged.percent,
        });
        let report = scale::Report::of(now, self.inner.instance.clone(), seen);
        scale::Report { trials: trials.collect(), ..report }
    }

    /// Models, routes and tenants from now on, all of them at once: what was there before stays when
    /// anything is wrong. Lanes keep their queues and replicas by their names; requests under way stay
    /// where they are. Limits, the admin key and whether keys are needed do not change.
    ///
    /// # Errors
    /// The tenants or the routes contradict each other.
    pub fn set_config(&self, config: &GatewayConfig) -> Result<(), ConfigError> {
        let inner = &self.inner;
        let mut directory = inner.directory.write();
        let known = directory.learn(&config.tenants, |id| inner.quotas.holds(id))?;
        let before = self.table();
        let start = Start {
            tenants: known.tree.clone(),
            ids: &known.ids,
            client: &inner.client,
            clock: inner.clock,
            metrics: &inner.counts,
        };
        let table = Arc::new(Table::new(&config.lanes, &config.routes, &before, &start)?);
        self.install(&config.tenants, known, &table);
        for lane in before.lanes().iter().filter(|lane| table.lane(&lane.config.name).is_none()) {
            lane.handle.retire();
            inner.counts.forget(&lane.config.name);
        }
        for route in before.cached().filter(|route| table.cache(route).is_none()) {
            inner.counts.forget_cache(route.as_str());
        }
        *inner.table.write() = table;
        inner.trials.set(&config.routes, &config.lanes);
        Ok(())
    }

    /// Tenants from now on, all of them at once. Requests that wait for one that is gone are refused;
    /// what runs is finished; what was used of quotas stays used.
    ///
    /// # Errors
    /// The tenants contradict each other; those before stay.
    pub fn set_tenants(&self, tenants: &[TenantConfig]) -> Result<(), DirectoryError> {
        let inner = &self.inner;
        let known = inner.directory.write().learn(tenants, |id| inner.quotas.holds(id))?;
        self.install(tenants, known, &self.table());
        Ok(())
    }

    fn install(&self, tenants: &[TenantConfig], known: Known, table: &Table) {
        let inner = &self.inner;
        let (oidc, client) = (inner.config.limits.oidc, inner.client.clone());
        let fresh = Tenants::new(tenants, &known.ids, inner.config.open, oidc, client, inner.clock);
        *inner.tenants.write() = Arc::new(fresh);
        inner.quotas.set(known.tree.clone(), known.quotas);
        inner.counts.set_tenants(tenants.iter().map(|tenant| tenant.name.as_str()));
        for lane in table.lanes() {
            lane.handle.set_tenants(known.tree.clone());
        }
    }

    /// What is served at the moment.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.inner.table.read())
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

    /// How far canaries are. Kept over a restart by whoever has a place for it.
    pub fn trials(&self) -> serde_json::Value {
        self.inner.trials.snapshot()
    }

    /// What is thought of each route's canary now.
    pub fn judged(&self) -> Vec<Judged> {
        self.inner.trials.judged()
    }

    /// Goes on where [`Self::trials`] was asked before a restart. A canary of another model, or by
    /// another plan, begins anew.
    pub fn restore_trials(&self, kept: &serde_json::Value) {
        self.inner.trials.restore(kept);
    }

    /// The tenants of this moment.
    pub(crate) fn tenants(&self) -> Arc<Tenants> {
        Arc::clone(&self.inner.tenants.read())
    }

    /// Nothing new is let in from now on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        self.table().lanes().iter().for_each(|lane| lane.handle.drain());
    }

    /// When it is ready, from now on.
    pub fn set_readiness(&self, readiness: Readiness) {
        *self.inner.readiness.write() = readiness;
    }

    /// Why a request would not be served; empty when it would be.
    pub fn unready(&self) -> Vec<String> {
        if self.inner.draining.load(Ordering::SeqCst) {
            return vec!["the gateway is stopping".to_owned()];
        }
        match *self.inner.readiness.read() {
            Readiness::Replicas => {}
            Readiness::Waits(why) => return vec![why.to_owned()],
            Readiness::Serves => return Vec::new(),
        }
        let table = self.table();
        // What is only tried out is nobody's only one.
        let closed = table.lanes().iter().filter(|lane| !lane.is_open());
        let closed = closed.filter(|lane| lane.config.on_trial().is_none());
        let told =
            |lane: &Arc<Lane>| format!("`{}` has no replica that takes work", lane.config.name);
        closed.map(told).collect()
    }

    /// Whether any request would be served.
    pub fn is_open(&self) -> bool {
        let draining = self.inner.draining.load(Ordering::SeqCst);
        !draining && self.table().lanes().iter().any(|lane| lane.handle.is_open())
    }

    /// Whether gateways of other regions may send their requests for that public name here. Gateways that they
    /// could be sent on to do not count: two regions without replicas would each wait for the other.
    fn is_open_to_gateways(&self, name: &str, starts: bool) -> bool {
        let draining = self.inner.draining.load(Ordering::SeqCst);
        let waits = matches!(*self.inner.readiness.read(), Readiness::Waits(_));
        let table = self.table();
        !draining
            && !waits
            && table.behind(name).iter().any(|lane| lane.is_open_to_gateways(starts))
    }

    /// The error of a request for a name that leads nowhere.
    pub(crate) fn no_model(&self, model: &str) -> ApiError {
        /// Most names that the error lists.
        const NAMES_MAX: usize = 20;
        let table = self.table();
        let mut names: Vec<&str> = table.public_names().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.truncate(NAMES_MAX);
        let shown: String = model.chars().take(80).collect();
        let list = names.join("`, `");
        ApiError::model_not_found(format!("the model `{shown}` does not exist; there is `{list}`"))
    }

    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.inner.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn listed(&self) -> Vec<Model> {
        let created = self.inner.created;
        let one = |(name, context)| Model::new(name, created, Some(context));
        self.table().public_names().map(one).collect()
    }
}

/// Every response names its request: with the client's own id where it sent a decent one.
async fn name_request(mut request: Request, next: Next) -> Response {
    let (name, value) = RequestName::of(request.headers());
    request.extensions_mut().insert(name);
    let mut response = next.run(request).await;
    response.headers_mut().insert(names::REQUEST_ID.clone(), value);
    response
}

impl RequestName {
    /// The name of a request with these headers, and the header that its response has.
    pub(crate) fn of(headers: &HeaderMap) -> (Self, HeaderValue) {
        let sent = headers.get(&names::REQUEST_ID).and_then(|id| id.to_str().ok());
        let sent = sent.filter(|id| envelope::is_request_id(id));
        let name = sent.map_or_else(|| Name::from(id::request_id()), Name::from);
        let value = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static(""));
        (Self(name), value)
    }
}

/// The API for clients, as a listener asks it: requests for models do not walk through the router.
#[derive(Clone)]
pub struct Front {
    gateway: Gateway,
    others: Router,
}

impl Front {
    /// Answers a request as [`Gateway::router`] does.
    pub async fn answer(self, request: Request) -> Response {
        if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
            let message = "the request names two hosts; send one `Host` header";
            let mut response = reply::error(&ApiError::invalid_request(message));
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            return response;
        }
        let path = request.uri().path();
        let is = |endpoint: &&Endpoint| endpoint.path == path;
        let endpoint = match *request.method() {
            Method::POST => forward::ENDPOINTS.iter().find(is),
            _ => None,
        };
        let Some(endpoint) = endpoint else {
            let Ok(response) = self.others.oneshot(request).await;
            return response;
        };
        let (name, value) = RequestName::of(request.headers());
        let mut response = forward::answer(self.gateway, endpoint, name, request).await;
        response.headers_mut().insert(names::REQUEST_ID.clone(), value);
        response
    }
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
    let listed = || gateway.listed().into_iter().find(|model| model.id == id);
    let found = caller.and_then(|_| listed().ok_or_else(|| gateway.no_model(&id)));
    match found {
        Ok(listed) => reply::json(StatusCode::OK, &listed),
        Err(error) => reply::error(&error),
    }
}

pub(crate) async fn live() -> Response {
    reply::json(StatusCode::OK, &serde_json::json!({"status": "live"}))
}

/// What `/health/ready` may be asked.
#[derive(Debug, Deserialize)]
struct Asked {
    /// By a gateway of another region: for which public name it would send requests; empty for any.
    near: Option<String>,
    /// Whether a model that rests is to be started for them.
    #[serde(default)]
    starts: bool,
}

async fn ready_for(
    State(gateway): State<Gateway>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Response {
    let Some(name) = asked.near else { return ready(State(gateway)).await };
    // Which models there are is for those to know who have a key.
    if let Err(error) = gateway.tenants().find(request.headers()).await {
        return reply::error(&error);
    }
    let (status, told) = match gateway.is_open_to_gateways(&name, asked.starts) {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    reply::json(status, &serde_json::json!({"status": told}))
}

pub(crate) async fn ready(State(gateway): State<Gateway>) -> Response {
    if let Readiness::Waits(why) = *gateway.inner.readiness.read() {
        let body = serde_json::json!({"status": "not ready", "reason": why});
        return reply::json(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    let missing = gateway.unready().len();
    if missing == 0 {
        return reply::json(StatusCode::OK, &serde_json::json!({"status": "ready"}));
    }
    // Which ones is for those to know who have a key: see the status.
    let body = serde_json::json!({"status": "not ready", "missing": missing});
    reply::json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

pub(crate) async fn not_found() -> Response {
    let paths = forward::ENDPOINTS.map(|endpoint| endpoint.path).join(", ");
    reply::error(&ApiError::not_found(format!(
        "there is nothing at this path; the API has {paths}, /v1/models"
    )))
}

pub(crate) async fn method_not_allowed() -> Response {
    let message = "this path does not take this method; the header `allow` names the ones it takes";
    reply::error(&ApiError::method_not_allowed(message))
}
