//! The admin listener: metrics, status and explanations, with a key of its own; health without one.

mod records;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Method, StatusCode, header};
use pilotage_shell::secret::KeyHash;
use pilotage_wire::openai::error::ApiError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{self, Gateway};
use crate::driver::LaneStatus;
use crate::forward::explain;
use crate::{auth, reply};

/// What others add to the status, under a name.
pub type More = Arc<dyn Fn() -> Value + Send + Sync>;

/// Which requests get in without the admin key, by their headers.
pub type Admits = Arc<dyn Fn(&Method, &HeaderMap) -> bool + Send + Sync>;

/// What others have on the admin listener.
#[derive(Clone, Default)]
pub struct Beside {
    /// Added to the status.
    pub status: Vec<(&'static str, More)>,
    /// Routes behind the same key.
    pub closed: Router,
    /// Routes that ask for no key, or for their own.
    pub open: Router,
    /// Who gets in without the key.
    pub admits: Option<Admits>,
}

#[derive(Clone)]
struct Admin {
    gateway: Gateway,
    more: Vec<(&'static str, More)>,
}

impl Gateway {
    /// The admin routes, with what others have there.
    pub fn admin_router(&self, beside: Beside) -> Router {
        let Beside { status: more, closed: others, open, admits } = beside;
        if let Some((_, scaling)) = more.iter().find(|(name, _)| *name == "scaling") {
            self.inner.watchman.hear(scaling);
        }
        let admin = Admin { gateway: self.clone(), more };
        let guard = Guard { gateway: self.clone(), admits };
        let closed = Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/scaling", get(scaling))
            .route("/explain/route", post(explain_route))
            .route("/records", get(records::list))
            .route("/records/stream", get(records::follow))
            .route("/records/{id}", get(records::one))
            .route("/live", get(records::live))
            .route("/history", get(records::history))
            .route("/triage", get(triage))
            .fallback(app::not_found)
            .method_not_allowed_fallback(app::method_not_allowed)
            .with_state(admin)
            .merge(others)
            .layer(middleware::from_fn_with_state(guard, check));
        Router::new()
            .route("/health/live", get(app::live))
            .route("/health/ready", get(app::ready))
            .with_state(self.clone())
            .merge(open)
            .merge(closed)
    }
}

/// Who gets in.
#[derive(Clone)]
struct Guard {
    gateway: Gateway,
    admits: Option<Admits>,
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let sent = auth::sent_key(request.headers()).map(KeyHash::of);
    let has_key = sent.is_some_and(|sent| guard.gateway.inner.config.admin_key.matches(&sent));
    let admits = |admits: &Admits| admits(request.method(), request.headers());
    if has_key || guard.admits.as_ref().is_some_and(admits) {
        return next.run(request).await;
    }
    let message = "the admin listener needs its own key; `pilotage up` keeps it in admin.key of its data directory";
    reply::error(&ApiError::unauthenticated(message))
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = admin.gateway.exposition(accept).await;
    ([(header::CONTENT_TYPE, exposition.content_type)], exposition.body).into_response()
}

/// Of what to say what is wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TriageQuery {
    model: Option<String>,
}

async fn triage(
    State(admin): State<Admin>,
    query: Result<Query<TriageQuery>, QueryRejection>,
) -> Response {
    let model = match query {
        Ok(Query(TriageQuery { model })) => model,
        Err(rejection) => return reply::error(&ApiError::invalid_request(rejection.body_text())),
    };
    if let Some(name) = model.as_deref().filter(|name| admin.gateway.lane(name).is_none()) {
        return reply::error(&ApiError::not_found(format!("no model `{name}` is served")));
    }
    reply::json(StatusCode::OK, &*admin.gateway.triage(model).await)
}

async fn explain_route(State(admin): State<Admin>, request: Request) -> Response {
    explain::answer(admin.gateway, request).await
}

/// What autoscalers ask for.
async fn scaling(State(admin): State<Admin>) -> Response {
    reply::json(StatusCode::OK, &admin.gateway.scaling())
}

impl Gateway {
    /// How each lane stands.
    pub(crate) async fn lanes_status(&self) -> Vec<LaneStatus> {
        let mut lanes = Vec::new();
        for lane in self.table().lanes() {
            let planned = lane.config.planned();
            let Some(mut lane) = lane.handle.status().await else { continue };
            lane.planned = planned;
            let directory = self.inner.directory.read();
            for tenant in &mut lane.tenants {
                directory.show(tenant);
            }
            lanes.push(lane);
        }
        lanes
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    let inner = &admin.gateway.inner;
    let lanes = admin.gateway.lanes_status().await;
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": inner.clock.now_nanos() / 1_000_000_000,
        "ready": admin.gateway.unready().is_empty(),
        "lanes": lanes,
        "routes": inner.trials.status(),
    });
    for (name, more) in &admin.more {
        body[*name] = more();
    }
    reply::json(StatusCode::OK, &body)
}
