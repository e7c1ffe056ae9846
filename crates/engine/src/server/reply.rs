//! Bodies in and out: reading one within its limit, and writing JSON, errors and streams.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
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
    (headers, Body::from_stream(kept_open(stream))).into_response()
}

/// How long a stream says nothing: a sequence that is paused for more urgent ones is not dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The stream, with a comment whenever nothing came for long.
fn kept_open(
    stream: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(Box::pin(stream), |mut stream| async move {
        let item = match tokio::time::timeout(SILENCE_MAX, stream.next()).await {
            Ok(item) => item?,
            Err(_) => Ok(Bytes::from_static(b": waiting\n\n")),
        };
        Some((item, stream))
    })
}

fn bytes(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_kept_open_and_loses_nothing() {
        let (feed, pieces) = tokio::sync::mpsc::unbounded_channel();
        let pieces = stream::unfold(pieces, |mut pieces| async move {
            pieces.recv().await.map(|piece: &'static [u8]| (Ok(Bytes::from_static(piece)), pieces))
        });
        let mut kept = Box::pin(kept_open(pieces));
        let mut next = async || kept.next().await.map(|piece| piece.unwrap());
        assert_eq!(next().await.unwrap(), ": waiting\n\n");
        feed.send(b"data: a\n\n").unwrap();
        assert_eq!(next().await.unwrap(), "data: a\n\n");
        assert_eq!(next().await.unwrap(), ": waiting\n\n");
        drop(feed);
        assert_eq!(next().await, None);
    }
}
