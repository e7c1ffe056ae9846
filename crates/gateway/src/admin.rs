//! The admin listener: metrics, status and explanations, with a key of its own; health without one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use pilotage_shell::secret::KeyHash;
use pilotage_wire::openai::error::ApiError;
use serde_json::{Value, json};

use crate::app::{self, Gateway};
use crate::forward::explain;
use crate::{auth, reply};

/// What others add to the status, under a name.
pub type More = Arc<dyn Fn() -> Value + Send + Sync>;

#[derive(Clone)]
struct Admin {
    gateway: Gateway,
    more: Vec<(&'static str, More)>,
}

impl Gateway {
    /// The admin routes. `more` is added to the status.
    pub fn admin_router(&self, more: Vec<(&'static str, More)>) -> Router {
        let admin = Admin { gateway: self.clone(), more };
        let closed = Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/scaling", get(scaling))
            .route("/explain/route", post(explain_route))
            .fallback(app::not_found)
            .method_not_allowed_fallback(app::method_not_allowed)
            .layer(middleware::from_fn_with_state(self.clone(), check))
            .with_state(admin);
        Router::new()
            .route("/health/live", get(app::live))
            .route("/health/ready", get(app::ready))
            .with_state(self.clone())
            .merge(closed)
    }
}

async fn check(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let sent = auth::sent_key(request.headers()).map(KeyHash::of);
    if sent.is_some_and(|sent| gateway.inner.config.admin_key.matches(&sent)) {
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
            directory.name(tenant.entitlement.tenant).clone_into(&mut tenant.name);
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
