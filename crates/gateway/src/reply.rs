//! Responses that the gateway itself writes.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use pilotage_core::{FailureKind, Refusal};
use pilotage_lens::Termination;
use pilotage_wire::openai::error::ApiError;
use serde::Serialize;

/// A request that gets an error: what the client sees, and how it counts.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: ApiError,
    pub(crate) termination: Termination,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self { error, termination: Termination::BadRequest }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (error, termination) = match refusal {
            Refusal::QueueFull { requests, .. } => (
                ApiError::rate_limited(format!("{requests} requests wait already; retry later")),
                Termination::QueueFull,
            ),
            Refusal::DeadlinePassed { waited_ms } => (
                ApiError::unavailable(format!(
                    "no replica was free for {waited_ms} ms; retry later"
                )),
                Termination::Deadline,
            ),
            Refusal::Exhausted { attempts, last: FailureKind::Overloaded } => (
                ApiError::unavailable(format!(
                    "all replicas were busy on {attempts} attempts; retry later"
                )),
                Termination::UpstreamError,
            ),
            Refusal::Exhausted { attempts, last: FailureKind::Timeout } => (
                ApiError::timeout(format!("no answer came in time on {attempts} attempts")),
                Termination::Timeout,
            ),
            Refusal::Exhausted { attempts, .. } => (
                ApiError::upstream(format!(
                    "the engine failed on {attempts} attempts; retry later"
                )),
                Termination::UpstreamError,
            ),
            Refusal::Draining => (
                ApiError::unavailable("this gateway is stopping; retry on another one"),
                Termination::Draining,
            ),
        };
        Self { error, termination }
    }
}

/// An error response.
pub(crate) fn error(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = bytes(status, error.body());
    let headers = response.headers_mut();
    if matches!(error.status, 429 | 503) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if matches!(error.status, 408 | 413) {
        // The rest of the body is not read, so the connection cannot be used again.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    serde_json::to_vec(value).map_or_else(
        |_| error(&ApiError::internal("the answer cannot be written")),
        |body| bytes(status, body),
    )
}

fn bytes(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
