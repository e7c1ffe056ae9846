//! The engine's HTTP API: OpenAI's, with vLLM's additions, on loopback for the gateway.

mod answer;
mod auth;
mod chat;
mod completions;
mod embeddings;
mod metrics;
mod reply;
mod request_id;
mod tokens;

#[cfg(test)]
mod parrot;
#[cfg(test)]
mod parrot_tests;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, middleware};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::model::{Model, ModelList};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::runner::Engine;
use crate::template::Template;
use metrics::Latencies;
use reply::{Refused, json};

/// Most bytes of a request's body: a prompt of a million tokens with room to spare.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// Everything a handler needs.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    template: Template,
    model: String,
    context: u32,
    key: Option<KeyHash>,
    clock: Clock,
    created: u64,
    latencies: Latencies,
}

impl Api {
    /// The API of an engine. Without a key anybody may use it, which only tests do.
    ///
    /// # Errors
    /// The model's chat template is not valid.
    pub fn new(
        engine: Engine,
        model: String,
        context: u32,
        key: Option<KeyHash>,
        clock: Clock,
    ) -> Result<Self, minijinja::Error> {
        let template = Template::new(engine.vocabulary().model())?;
        let latencies = Latencies::new(&model);
        let created = clock.unix_ms() / 1000;
        let inner = Inner { engine, template, model, context, key, clock, created, latencies };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(chat::chat))
            .route("/v1/completions", post(completions::completions))
            .route("/v1/embeddings", post(embeddings::embeddings))
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .route("/tokenize", post(tokens::tokenize))
            .route("/detokenize", post(tokens::detokenize))
            .route("/metrics", get(metrics::metrics))
            .route("/version", get(version))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(self.clone(), auth::check))
            .route("/health", get(health))
            .layer(middleware::from_fn(request_id::echo))
            .with_state(self.clone())
    }

    /// Serves until `stop`, then finishes what runs.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn serve(
        &self,
        listen: SocketAddr,
        limits: ServeLimits,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let listener = TcpListener::bind(listen).await?;
        tracing::info!(listen = %listener.local_addr()?, model = self.inner.model, "serving");
        let router = self.router();
        let service = move |request: axum::http::Request<hyper::body::Incoming>| {
            let router = router.clone();
            async move { router.oneshot(request.map(axum::body::Body::new)).await }
        };
        let engine = self.inner.engine.clone();
        let closing = stop.clone();
        let drain = async move {
            closing.cancelled().await;
            engine.drain().await;
        };
        let (cut, ()) = tokio::join!(serve(listener, service, limits, stop), drain);
        if cut > 0 {
            tracing::warn!(connections = cut, "cut at the end of the drain");
        }
        Ok(())
    }

    /// Refuses another model than the one that is here.
    fn check_model(&self, asked: &str) -> Result<(), ApiError> {
        let served = &self.inner.model;
        if asked == served {
            return Ok(());
        }
        let message =
            format!("the model `{asked}` is not served here; this engine serves `{served}`");
        Err(ApiError::model_not_found(message))
    }
}

async fn health(State(api): State<Api>) -> Response {
    let engine = &api.inner.engine;
    if engine.is_ready() {
        return json(StatusCode::OK, &serde_json::json!({"status": "ok"}));
    }
    let why = if engine.is_draining() { "draining" } else { "loading" };
    json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"status": why}))
}

async fn models(State(api): State<Api>) -> Response {
    json(StatusCode::OK, &ModelList::new(vec![listed(&api)]))
}

async fn model(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    api.check_model(&id)?;
    Ok(json(StatusCode::OK, &listed(&api)))
}

fn listed(api: &Api) -> Model {
    Model::new(&api.inner.model, api.inner.created, Some(api.inner.context))
}

async fn version() -> Response {
    json(StatusCode::OK, &serde_json::json!({"version": env!("CARGO_PKG_VERSION")}))
}

async fn not_found() -> Refused {
    ApiError::not_found("no such path; see /v1/chat/completions, /v1/completions, /v1/embeddings")
        .into()
}

async fn method_not_allowed() -> Refused {
    ApiError::method_not_allowed("this path takes another method; the header `allow` names it")
        .into()
}
