//! Only the gateway may use an engine: it sends the key that both got from their supervisor.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use pilotage_shell::secret::KeyHash;
use pilotage_wire::openai::error::ApiError;

use super::Api;
use super::reply::Refused;

pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).map(KeyHash::of);
    let known = match (&api.inner.key, sent) {
        (None, _) => true,
        (Some(key), Some(sent)) => key.matches(&sent),
        (Some(_), None) => false,
    };
    if known {
        return next.run(request).await;
    }
    let message =
        "this engine takes requests from its gateway only; send the key of PILOTAGE_ENGINE_KEY";
    Refused::from(ApiError::unauthenticated(message)).into_response()
}
