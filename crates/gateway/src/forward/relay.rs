//! The rest of a stream, event by event, from the replica to the client. It ends complete, or with
//! an error event: never silently.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use pilotage_core::FailureKind;
use pilotage_lens::{Mark, Termination};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::usage::find_usage;
use pilotage_wire::resume::Resumable;
use pilotage_wire::sse::{self, Event};

use super::attempt::{self, Opened, Target, has_token, is_error, is_usage_only, left};
use super::events::Block;
use super::{Order, Watch};
use crate::app::Gateway;
use crate::driver::{Interruption, Ticket};

/// The response that streams the rest.
pub(super) fn response(
    gateway: Gateway,
    order: Arc<Order>,
    opened: Opened,
    ticket: Ticket,
    watch: Watch,
) -> Response {
    let relay = Relay {
        resume: order.resume.clone(),
        gateway,
        order,
        opened: Some(opened),
        ticket,
        watch,
        produced: 0,
        dropped: false,
        over: false,
    };
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

/// Bytes for the client: one piece goes on as it is, only several are copied together.
#[derive(Default)]
struct Out {
    first: Bytes,
    all: BytesMut,
}

impl Out {
    fn push(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.first = bytes;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&bytes);
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

impl From<Out> for Bytes {
    fn from(out: Out) -> Self {
        if out.all.is_empty() { out.first } else { out.all.freeze() }
    }
}

/// Tokens between two reports to the scheduler: a share is charged often enough, and its loop not
/// kept busy.
const PROGRESS_EVERY: u32 = 4;

/// How long a client that waits in the middle of its answer hears nothing.
const KEEP_OPEN: Duration = Duration::from_secs(10);

struct Relay {
    gateway: Gateway,
    order: Arc<Order>,
    /// What the replica sends; none while the request waits for another turn.
    opened: Option<Opened>,
    /// What is needed to stop, and go on later.
    resume: Option<Resumable>,
    ticket: Ticket,
    watch: Watch,
    /// Events with tokens so far.
    produced: u32,
    /// The last block was not for the client.
    dropped: bool,
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
    /// The whole request took too long.
    Late,
}

impl Relay {
    /// The next bytes for the client; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Out::default();
        while out.is_empty() && !self.over {
            let blocks = self.opened.as_mut().map(|opened| std::mem::take(&mut opened.blocks));
            for block in blocks.into_iter().flatten() {
                if !self.over {
                    self.pass(block, &mut out);
                }
            }
            if !out.is_empty() || self.over {
                continue;
            }
            let more = match self.opened {
                Some(_) => self.read().await,
                None => self.wait(&mut out).await,
            };
            if let Err(broken) = more {
                self.break_off(&broken, &mut out);
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn pass(&mut self, block: Block, out: &mut Out) {
        let dropped = std::mem::take(&mut self.dropped);
        let Some(event) = &block.event else {
            // A comment keeps the client's connection open as it did the engine's; half a line end
            // goes where its other half went.
            if !(dropped && &block.bytes[..] == b"\n") {
                out.push(block.bytes);
            }
            return;
        };
        if event.data == "[DONE]" {
            out.push(block.bytes);
            self.over = true;
            self.ticket.finished(self.watch.exact_tokens());
            self.watch.end(200, Termination::Ok);
            return;
        }
        if is_error(event) {
            self.break_off(&Broken::Said, out);
            return;
        }
        let shown = self.shown(&event.data);
        // Of a stream that went on, the usage is that of both parts, as the client is shown it.
        let data = shown.as_deref().and_then(|shown| shown.strip_prefix(b"data: "));
        if let Some(usage) = find_usage(data.unwrap_or(event.data.as_bytes())) {
            self.watch.usage(&usage);
            if !self.order.usage_wanted && is_usage_only(&event.data) {
                self.dropped = true;
                return;
            }
        }
        self.watch.mark(Mark::LastToken);
        self.count(event);
        out.push(shown.unwrap_or(block.bytes));
    }

    /// A chunk without the token ids that were asked for to go on later; none when it is passed on as
    /// it came. A chunk from which there is no going on ends that possibility.
    fn shown(&mut self, data: &str) -> Option<Bytes> {
        let shown = self.resume.as_mut()?.chunk(data);
        if shown.is_none() {
            self.resume = None;
        }
        shown.map(Bytes::from)
    }

    /// Stops for somebody else, if the stream can go on later.
    fn stop(&mut self) {
        if !self.resume.as_ref().is_some_and(Resumable::can_continue) {
            self.ticket.unstoppable();
            return;
        }
        self.opened = None;
        self.produced = self.resume.as_ref().map_or(0, Resumable::sent);
        self.watch.stopped();
        self.ticket.stopped();
    }

    /// Waits for another turn, with a comment now and then that keeps the client's connection open.
    async fn wait(&mut self, out: &mut Out) -> Result<(), Broken> {
        let left = left(self.watch.now(), self.order.until);
        let turn = tokio::time::timeout(left.min(KEEP_OPEN), self.ticket.turn()).await;
        let go = match turn {
            Err(_) if left <= KEEP_OPEN => return Err(Broken::Late),
            Err(_) => {
                out.push(Bytes::from_static(b": waiting\n\n"));
                return Ok(());
            }
            Ok(Err(_)) => return Err(Broken::Off),
            Ok(Ok(go)) => go,
        };
        let served = &self.order.lane.config.served_model;
        let Some(resume) = &mut self.resume else { return Err(Broken::Off) };
        let request = resume.continuation(served);
        let to = Target { replica: &go.replica, displaces: go.displaces };
        let opened = attempt::go_on(&self.gateway, &self.order, to, request, &mut self.watch).await;
        self.opened = Some(opened.map_err(|_| Broken::Off)?);
        Ok(())
    }

    /// An event with text is taken for one token: engines send about that. What it was is settled
    /// with the usage at the end.
    fn count(&mut self, event: &Event) {
        if !has_token(&event.data) {
            return;
        }
        self.produced += 1;
        self.watch.produced(self.order.input, self.produced);
        if self.produced % PROGRESS_EVERY == 1 {
            self.ticket.progress(self.produced);
        }
    }

    /// Waits for more events.
    async fn read(&mut self) -> Result<(), Broken> {
        let idle = self.order.timeouts.idle;
        let left = left(self.watch.now(), self.order.until);
        // Asked before each read: a stream with always something to read would never time out.
        if left.is_zero() {
            return Err(Broken::Late);
        }
        let silent = if left < idle { Broken::Late } else { Broken::Silent };
        let Some(opened) = &mut self.opened else { return Ok(()) };
        let frame = tokio::select! {
            // What has come counts, even from a replica that is gone by now.
            biased;
            frame = tokio::time::timeout(left.min(idle), opened.rest.frame()) => frame,
            interruption = self.ticket.interruption() => {
                return match interruption {
                    Interruption::Lost => Err(Broken::Off),
                    Interruption::Stop(_) => {
                        self.stop();
                        Ok(())
                    }
                };
            }
        };
        let frame = frame.map_err(|_| silent)?.ok_or(Broken::Off)?;
        let Ok(data) = frame.map_err(|_| Broken::Off)?.into_data() else { return Ok(()) };
        opened.cutter.push(data, &mut opened.blocks).map_err(|_| Broken::Off)
    }

    /// Ends the stream with the protocol's own error event, and without the event that would say
    /// that it is complete.
    fn break_off(&mut self, broken: &Broken, out: &mut Out) {
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
            Broken::Late => (
                ApiError::timeout(
                    "the answer was not complete in the time that a whole request has",
                ),
                FailureKind::Timeout,
                Termination::Timeout,
            ),
        };
        let mut event = Vec::new();
        sse::encode_data(&mut event, &error.body());
        out.push(event.into());
        // Who waits for another turn is at no replica that could fail: leaving the line is enough.
        if self.opened.is_some() {
            self.ticket.failed(kind, true);
        }
        self.watch.end(200, termination);
    }
}
