//! Bodies in and out: reading one within its limit, and writing JSON, errors and streams.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pilotage_wire::openai::error::ApiError;
use serde::Serialize;

use super::BODY_BYTES_MAX;
use crate::job::JobError;

/// An error as a response.
#[derive(Debug)]
pub(super) struct Refused(pub(super) ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<JobError> for Refused {
    fn from(error: JobError) -> Self {
        Self(api_error(&error))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = bytes(status, self.0.body());
        if matches!(self.0.status, 429 | 503) {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

/// What a job's failure is to a client.
pub(super) fn api_error(error: &JobError) -> ApiError {
    let message = error.to_string();
    match error {
        JobError::QueueFull { .. } => ApiError::queue_full(message),
        JobError::DeadlinePassed => ApiError::timeout(message),
        JobError::BadGrammar(_) => ApiError::invalid_request(message).with_param("response_format"),
        JobError::Draining => ApiError::unavailable(message),
        JobError::Compute(_) => ApiError::internal(message),
    }
}

/// The whole body.
///
/// # Errors
/// Status 413 past the limit, 400 when it breaks off.
pub(super) async fn read(request: Request) -> Result<Bytes, ApiError> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body is larger than {BODY_BYTES_MAX} bytes")))
        }
        Err(_) => Err(ApiError::invalid_request("the body broke off")),
    }
}

/// A JSON response.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, body),
        Err(error) => Refused(ApiError::internal(format!("the answer cannot be written: {error}")))
            .into_response(),
    }
}

/// A stream of events.
pub(super) fn events(
    stream: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(stream)).into_response()
}

fn bytes(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
        .into_response()
}
