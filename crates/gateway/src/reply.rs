//! Responses that the gateway itself writes.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pilotage_core::admit::Denial;
use pilotage_core::{FailureKind, Refusal, Span};
use pilotage_lens::Termination;
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;
use serde::{Deserialize, Serialize};

use crate::quotas::{self, Header};

/// A request that gets an error: what the client sees, and how it counts.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) error: Box<ApiError>,
    pub(crate) termination: Termination,
    /// When to come back.
    pub(crate) retry_after: Option<Span>,
    /// What else the answer says.
    pub(crate) headers: Vec<Header>,
}

impl Refused {
    fn new(error: ApiError, termination: Termination) -> Self {
        let retry_after = matches!(error.status, 429 | 503).then(|| Span::from_secs(1));
        Self { error: Box::new(error), termination, retry_after, headers: Vec::new() }
    }

    /// A request over a limit of its tenant's path.
    pub(crate) fn denied(denial: &Denial, tenant: &str) -> Self {
        let error = quotas::denied(denial, tenant);
        let termination =
            if error.status == 402 { Termination::Budget } else { Termination::Quota };
        let limit = quotas::denial_header(denial, tenant);
        let headers = limit.map(|limit| (HeaderName::from_static(envelope::LIMIT), limit));
        let headers = headers.into_iter().collect();
        let error = Box::new(error);
        Self { error, termination, retry_after: denial.retry_after, headers }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::new(error, Termination::BadRequest)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let retry_after = match refusal {
            Refusal::QueueFull { retry_after, .. }
            | Refusal::QueueShare { retry_after, .. }
            | Refusal::Poison { retry_after, .. }
            | Refusal::DeadlinePassed { retry_after, .. } => Some(retry_after),
            Refusal::Unreachable { wait, left } => {
                Some(Span::from_nanos(wait.as_nanos().saturating_sub(left.as_nanos())))
            }
            Refusal::Exhausted { retry_after, .. } => retry_after,
            _ => None,
        };
        let (error, termination) = told(refusal);
        let refused = Self::new(error, termination);
        Self { retry_after: retry_after.or(refused.retry_after), ..refused }
    }
}

/// When to come back to a model that is being started.
const STARTING_RETRY: Span = Span::from_secs(10);

/// A request for a model that rested, and whose first replica was not ready in time.
pub(crate) fn starting() -> Refused {
    let message = "the model rested and is being started, and was not ready in the time that the \
                   request had; retry later";
    let error = ApiError::unavailable(message).with_code("model_starting");
    let refused = Refused::new(error, Termination::Deadline);
    Refused { retry_after: Some(STARTING_RETRY), ..refused }
}

/// When to come back for an adapter: it may have to be fetched.
const LOADING_RETRY: Span = Span::from_secs(5);

/// The code of that error.
const NOT_LOADED: &str = "adapter_not_loaded";

/// A request for an adapter that no replica has loaded yet.
pub(crate) fn not_loaded(adapter: &str) -> Refused {
    let message = format!(
        "no replica that takes work has loaded the adapter `{adapter}` yet; retry later, and if that goes on, the \
         Model's status says why"
    );
    let error = ApiError::unavailable(message).with_code(NOT_LOADED);
    let refused = Refused::new(error, Termination::UpstreamError);
    Refused { retry_after: Some(LOADING_RETRY), ..refused }
}

/// Whether a gateway answered with [`not_loaded`].
pub(crate) fn says_not_loaded(body: &[u8]) -> bool {
    let told: Result<Said, _> = serde_json::from_slice(body);
    told.is_ok_and(|told| told.error.code.as_deref() == Some(NOT_LOADED))
}

#[derive(Deserialize)]
struct Said {
    error: SaidError,
}

#[derive(Deserialize)]
struct SaidError {
    code: Option<String>,
}

/// What the client is told, and how it counts.
fn told(refusal: Refusal) -> (ApiError, Termination) {
    match refusal {
        Refusal::QueueFull { requests, tokens, .. } => (
            ApiError::queue_full(format!(
                "{requests} requests with {tokens} tokens wait already; retry later"
            )),
            Termination::QueueFull,
        ),
        Refusal::QueueShare { waiting, .. } => (
            ApiError::rate_limited(format!(
                "the queue is full, and {waiting} of its requests are your tenant's own; retry \
                     later"
            ))
            .with_code("queue_share"),
            Termination::QueueFull,
        ),
        Refusal::Unreachable { wait, left } => (
            ApiError::unavailable(format!(
                "the wait would be about {} ms, and the deadline is in {} ms; retry later, or \
                     give it more time",
                wait.as_millis(),
                left.as_millis(),
            ))
            .with_code("deadline_unreachable"),
            Termination::Deadline,
        ),
        Refusal::Poison { deaths, .. } => poison(deaths),
        Refusal::TenantRemoved => (
            ApiError::forbidden("the tenant of this request was removed while it waited"),
            Termination::BadRequest,
        ),
        Refusal::DeadlinePassed { waited_ms, .. } => (
            ApiError::unavailable(format!("no replica was free for {waited_ms} ms; retry later")),
            Termination::Deadline,
        ),
        Refusal::Exhausted { attempts, last, .. } => exhausted(attempts, last),
        Refusal::Draining => (
            ApiError::unavailable("this gateway is stopping; retry on another one"),
            Termination::Draining,
        ),
    }
}

/// Engines died under the like of the request.
fn poison(deaths: u32) -> (ApiError, Termination) {
    let message = format!(
        "{deaths} engines died while they answered this very request; change it to have it answered"
    );
    let error = ApiError { status: 422, ..ApiError::invalid_request(message) };
    (error.with_code("request_kills_engines"), Termination::BadRequest)
}

fn exhausted(attempts: u32, last: FailureKind) -> (ApiError, Termination) {
    match last {
        FailureKind::Overloaded => (
            ApiError::unavailable(format!(
                "all replicas were busy on {attempts} attempts; retry later"
            )),
            Termination::UpstreamError,
        ),
        FailureKind::Timeout => (
            ApiError::timeout(format!("no answer came in time on {attempts} attempts")),
            Termination::Timeout,
        ),
        _ => (
            ApiError::upstream(format!("the engine failed on {attempts} attempts; retry later")),
            Termination::UpstreamError,
        ),
    }
}

/// The response to a request that was turned away.
pub(crate) fn refused(refused: Refused) -> Response {
    let mut response = error(&refused.error);
    let headers = response.headers_mut();
    headers.remove(header::RETRY_AFTER);
    if let Some(after) = refused.retry_after {
        // The header knows whole seconds; the second one, which OpenAI's clients read, is exact.
        let ms = after.as_nanos().div_ceil(1_000_000);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
        headers.insert("retry-after-ms", HeaderValue::from(ms));
    }
    headers.extend(refused.headers);
    response
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
