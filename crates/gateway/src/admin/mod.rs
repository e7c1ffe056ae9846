//! The admin listener: metrics, status and explanations, with a key of its own; health without one.

mod records;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use pilotage_shell::secret::KeyHash;
use pilotage_wire::openai::error::ApiError;
use serde_json::{Value, json};

use crate::app::{self, Gateway};
use crate::forward::explain;
use crate::{auth, reply};

/// What others add to the status, under a name.
pub type More = Arc<dyn Fn() -> Value + Send + Sync>;

/// Who else than the admin key gets in, by a request's headers.
pub type Admits = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

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
    if has_key || guard.admits.as_ref().is_some_and(|admits| admits(request.headers())) {
        return next.run(request).await;
    }
    let message = "the admin listener needs its own key; `pilotage up` keeps it in admin.key of its data directory";
    reply::error(&ApiError::unauthenticated(message))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = admin.gateway.inner.metrics.encode();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn explain_route(State(admin): State<Admin>, request: Request) -> Response {
    explain::answer(admin.gateway, request).await
}

/// What autoscalers ask for.
async fn scaling(State(admin): State<Admin>) -> Response {
    reply::json(StatusCode::OK, &admin.gateway.scaling())
}

async fn status(State(admin): State<Admin>) -> Response {
    let inner = &admin.gateway.inner;
    let mut lanes = Vec::new();
    for lane in admin.gateway.table().lanes() {
        let Some(mut lane) = lane.handle.status().await else { continue };
        let directory = inner.directory.read();
        for tenant in &mut lane.tenants {
            directory.show(tenant);
        }
        lanes.push(lane);
    }
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
