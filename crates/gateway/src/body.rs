//! Reading a request's body within its limits: how large it may be, and how slowly it may come.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use pilotage_shell::clock::Clock;
use pilotage_wire::openai::error::ApiError;

use crate::config::Limits;

/// Most bytes for which there is room before they come.
const RESERVED_MAX: usize = 512 << 10;

/// The whole body.
///
/// # Errors
/// Status 413 when it is too large (by its announced length, before a byte of it is read), 408
/// when it comes too slowly, 400 when it breaks off.
pub(crate) async fn read(
    clock: Clock,
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes_max) {
        return Err(too_large(limits));
    }
    let begun = clock.now_nanos();
    // What a client announces it has not sent yet: memory is for what comes.
    let mut read = BytesMut::with_capacity(announced.unwrap_or(0).min(RESERVED_MAX));
    let mut body = body;
    loop {
        let earned =
            read.len() as u64 * 1_000_000_000 / limits.body_bytes_per_second_min.max(1) as u64;
        let base = u64::try_from(limits.body_time_base.as_nanos()).unwrap_or(u64::MAX);
        let until = begun.saturating_add(base).saturating_add(earned);
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = clock.sleep_until_nanos(until) => return Err(too_slow(limits)),
        };
        let Some(frame) = frame else { return Ok(read.freeze()) };
        let Ok(frame) = frame else {
            return Err(ApiError::invalid_request("the body broke off before its end"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > limits.body_bytes_max {
            return Err(too_large(limits));
        }
        read.extend_from_slice(&data);
    }
}

fn too_large(limits: &Limits) -> ApiError {
    ApiError::too_large(format!(
        "the body is larger than {} bytes; send a smaller one, or ask whoever runs this gateway to raise the limit",
        limits.body_bytes_max,
    ))
}

fn too_slow(limits: &Limits) -> ApiError {
    ApiError::request_timeout(format!(
        "the body came too slowly: it has {} seconds, and one more for each {} bytes",
        limits.body_time_base.as_secs(),
        limits.body_bytes_per_second_min,
    ))
}
