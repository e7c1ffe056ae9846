//! The rest of a stream, event by event, from the replica to the client. It ends complete, or with
//! an error event: never silently.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use pilotage_core::FailureKind;
use pilotage_lens::{Mark, Termination};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::usage::find_usage;
use pilotage_wire::sse::{self, Event};

use super::attempt::{Opened, is_error, is_usage_only, left};
use super::{Order, Watch};
use crate::app::Gateway;
use crate::driver::Ticket;

/// The response that streams the rest.
pub(super) fn response(
    gateway: Gateway,
    order: Arc<Order>,
    opened: Opened,
    ticket: Ticket,
    watch: Watch,
) -> Response {
    let relay = Relay { gateway, order, opened, ticket, watch, over: false };
    let stream = stream::unfold(relay, |mut relay| async move {
        let bytes = relay.next().await?;
        Some((Ok::<_, Infallible>(bytes), relay))
    });
    let mut response = Response::new(Body::from_stream(stream));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies in front must not hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Relay {
    gateway: Gateway,
    order: Arc<Order>,
    opened: Opened,
    ticket: Ticket,
    watch: Watch,
    over: bool,
}

/// How a stream broke.
enum Broken {
    /// The replica broke off, or sent what is no stream.
    Off,
    /// The replica said that it failed.
    Said,
    /// Nothing came for too long.
    Silent,
}

impl Relay {
    /// The next bytes for the client; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.is_empty() && !self.over {
            let events = std::mem::take(&mut self.opened.events);
            for event in events {
                if !self.over {
                    self.pass(event, &mut out);
                }
            }
            if out.is_empty()
                && !self.over
                && let Err(broken) = self.read().await
            {
                self.break_off(&broken, &mut out);
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn pass(&mut self, event: Event, out: &mut Vec<u8>) {
        if event.data == "[DONE]" {
            out.extend_from_slice(sse::DONE);
            self.over = true;
            self.ticket.finished();
            self.watch.end(200, Termination::Ok);
            return;
        }
        if is_error(&event) {
            self.break_off(&Broken::Said, out);
            return;
        }
        if let Some(usage) = find_usage(event.data.as_bytes()) {
            self.watch.usage(&usage);
            if !self.order.usage_wanted && is_usage_only(&event.data) {
                return;
            }
        }
        self.watch.mark(Mark::LastToken);
        for line in event.data.split('\n') {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        out.push(b'\n');
    }

    /// Waits for more events.
    async fn read(&mut self) -> Result<(), Broken> {
        let idle = self.gateway.inner.config.lanes[self.order.lane].timeouts.idle;
        let limit = idle.min(left(self.watch.now(), self.order.until));
        let frame = tokio::time::timeout(limit, self.opened.rest.frame()).await;
        let frame = frame.map_err(|_| Broken::Silent)?.ok_or(Broken::Off)?;
        let Ok(data) = frame.map_err(|_| Broken::Off)?.into_data() else { return Ok(()) };
        self.opened.decoder.push(&data).map_err(|_| Broken::Off)?;
        let decoder = &mut self.opened.decoder;
        self.opened.events.extend(std::iter::from_fn(|| decoder.next()));
        Ok(())
    }

    /// Ends the stream with the protocol's own error event, and without the event that would say
    /// that it is complete.
    fn break_off(&mut self, broken: &Broken, out: &mut Vec<u8>) {
        self.over = true;
        let (error, kind, termination) = match broken {
            Broken::Off => (
                ApiError::upstream(
                    "the engine broke off in the middle of the answer; retry the request",
                ),
                FailureKind::Broken,
                Termination::UpstreamInterrupted,
            ),
            Broken::Said => (
                ApiError::upstream(
                    "the engine failed in the middle of the answer; retry the request",
                ),
                FailureKind::Server,
                Termination::UpstreamInterrupted,
            ),
            Broken::Silent => (
                ApiError::timeout(
                    "the engine sent nothing for too long in the middle of the answer",
                ),
                FailureKind::Timeout,
                Termination::Timeout,
            ),
        };
        sse::encode_data(out, &error.body());
        self.ticket.failed(kind, true);
        self.watch.end(200, termination);
    }
}
