//! The rest of a stream, event by event, from the replica to the client. It ends complete, or with
//! an error event: never silently. Where it breaks off and can go on elsewhere, see
//! [`go_on`](super::go_on).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use pilotage_core::{FailureKind, Span, Time};
use pilotage_lens::{Mark, Termination};
use pilotage_wire::openai::chunk::Read;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::usage::{Usage, find_usage};
use pilotage_wire::resume::{Resumable, Shown};
use pilotage_wire::sse;

use super::attempt::{Opened, left};
use super::chunk::{Ends, Said};
use super::events::Block;
use super::go_on::{Asked, KEEP_OPEN, keep_open};
use super::{Order, Watch};
use crate::app::Gateway;
use crate::driver::{Interruption, Ticket};
use crate::metrics::Fault;

/// The response that streams the rest.
pub(super) fn response(
    gateway: Gateway,
    mut order: Order,
    opened: Opened,
    ticket: Ticket,
    watch: Watch,
) -> Response {
    let relay = Relay {
        resume: order.resume.take(),
        gateway,
        order: Arc::new(order),
        source: Source::Open(opened),
        ticket,
        heard: watch.now(),
        watch,
        ends: Ends::default(),
        cause: None,
        fresh: false,
        wrote: Time::ZERO,
        yielded: Time::ZERO,
        token_at: Time::ZERO,
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
pub(super) struct Out {
    first: Bytes,
    all: BytesMut,
}

impl Out {
    pub(super) fn push(&mut self, bytes: Bytes) {
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
pub(super) const PROGRESS_EVERY: u32 = 4;

pub(super) struct Relay {
    pub(super) gateway: Gateway,
    pub(super) order: Arc<Order>,
    pub(super) source: Source,
    /// What is needed to stop, and go on later.
    pub(super) resume: Option<Resumable>,
    pub(super) ticket: Ticket,
    pub(super) watch: Watch,
    /// Which answers ended.
    ends: Ends,
    /// How the stream broke, until another attempt brings a token.
    pub(super) cause: Option<Broken>,
    /// An attempt that goes on has brought no token.
    pub(super) fresh: bool,
    /// When the attempt that goes on was last heard of.
    pub(super) heard: Time,
    /// When something was last passed on.
    wrote: Time,
    /// When the client last got something.
    yielded: Time,
    /// When the last token came.
    token_at: Time,
    /// Events with tokens so far.
    pub(super) produced: u32,
    /// The last block was not for the client.
    pub(super) dropped: bool,
    over: bool,
}

/// Events that come this soon after each other are written together.
const TOGETHER: Span = Span::from_nanos(500_000);

/// What a client takes to be given the next piece when nothing holds it up: shorter waits are the gateway's own.
pub(super) const BLOCKED_LEAST: Span = Span::from_millis(5);

/// Most pieces of a stream that are written together.
const TOGETHER_MAX: usize = 32;

/// Where the rest of a stream comes from.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(super) enum Source {
    /// The replica that sends it.
    Open(Opened),
    /// One that was asked to go on and has not answered.
    Asked(Asked),
    /// Nobody: the request waits for another turn.
    Line,
}

/// How a stream broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Broken {
    /// The replica broke off, or sent what is no stream.
    Off,
    /// The replica said that it failed.
    Said,
    /// Nothing came for too long.
    Silent,
    /// The whole request took too long.
    Late,
    /// A replica that was asked to go on did not.
    Unresumed(FailureKind),
}

impl Relay {
    /// The next bytes for the client; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        self.taken();
        let mut out = Out::default();
        while out.is_empty() && !self.over {
            self.pass_all(&mut out);
            if !out.is_empty() || self.over {
                continue;
            }
            let more = match self.source {
                Source::Open(_) => self.read(&mut out).await,
                Source::Asked(_) => self.await_answer(&mut out).await,
                Source::Line => self.wait(&mut out).await,
            };
            if let Err(broken) = more {
                self.broke(broken, &mut out);
            }
        }
        if !out.is_empty() && !self.over {
            self.gather(&mut out).await;
        }
        if self.over {
            self.watch.booked().await;
        }
        self.yielded = self.watch.now();
        (!out.is_empty()).then(|| out.into())
    }

    /// The client takes more: it did not since the last time that it got something.
    fn taken(&mut self) {
        if self.yielded > Time::ZERO {
            let blocked = self.watch.now().since(self.yielded);
            if blocked >= BLOCKED_LEAST {
                self.watch.blocked(blocked);
            }
        }
    }

    /// Adds what comes with it: where events follow each other faster than they can be written, many go
    /// on in one write. Nobody waits for that: others get their turn on the processor once, and what has
    /// not come by then goes on by itself.
    async fn gather(&mut self, out: &mut Out) {
        let last = std::mem::replace(&mut self.wrote, self.watch.now());
        if self.wrote.since(last) > TOGETHER {
            return;
        }
        for _ in 0..TOGETHER_MAX {
            tokio::task::yield_now().await;
            let Source::Open(opened) = &mut self.source else { return };
            let Some(frame) = opened.rest.frame().now_or_never() else { return };
            let data = frame.and_then(Result::ok).map(Frame::into_data);
            let more = match data {
                Some(Ok(data)) => opened.cutter.push(data, &mut opened.blocks).map_err(drop),
                Some(Err(_)) => Ok(()),
                None if opened.cutter.end(&mut opened.blocks) => Ok(()),
                None => Err(()),
            };
            self.pass_all(out);
            if more.is_err() && !self.over {
                self.broke(Broken::Off, out);
            }
            if self.over || !matches!(self.source, Source::Open(_)) {
                return;
            }
        }
    }

    /// Passes on what has come, up to where it breaks.
    fn pass_all(&mut self, out: &mut Out) {
        let Source::Open(opened) = &mut self.source else { return };
        for block in std::mem::take(&mut opened.blocks) {
            if let Err(broken) = self.pass(block, out) {
                self.broke(broken, out);
            }
            if self.over || !matches!(self.source, Source::Open(_)) {
                return;
            }
        }
    }

    fn pass(&mut self, block: Block, out: &mut Out) -> Result<(), Broken> {
        let dropped = std::mem::take(&mut self.dropped);
        let Some(data) = block.data() else {
            // A comment keeps the client's connection open as it did the engine's; half a line end
            // goes where its other half went.
            if !(dropped && &block.bytes[..] == b"\n") {
                out.push(block.bytes);
            }
            return Ok(());
        };
        if data == "[DONE]" {
            out.push(block.bytes);
            self.finish();
            return Ok(());
        }
        if block.is_error() {
            return Err(Broken::Said);
        }
        let read = Read::of(data);
        let (token, mended) = match self.ends.take(data, &read) {
            Said::Chunk { token, mended } => (token, mended),
            Said::Over => {
                self.watch.corrupted();
                self.dropped = true;
                return Ok(());
            }
            Said::Failed => return Err(Broken::Said),
            Said::Garbage => return Err(Broken::Off),
        };
        match mended {
            None => self.pass_chunk(data, &read, &block.bytes, out),
            Some(mended) => {
                self.watch.corrupted();
                let mut event = Vec::new();
                sse::encode_data(&mut event, mended.as_bytes());
                self.pass_chunk(&mended, &Read::of(&mended), &event.into(), out);
            }
        }
        if token {
            self.count();
        }
        Ok(())
    }

    /// Passes on a chunk as the client shall see it.
    fn pass_chunk(&mut self, data: &str, read: &Read<'_>, event: &Bytes, out: &mut Out) {
        let shown = match self.resume.as_mut().and_then(|resume| resume.chunk(data, read)) {
            Some(Shown::Event(shown)) => Some(Bytes::from(shown)),
            Some(Shown::Nothing) => {
                self.dropped = true;
                return;
            }
            Some(Shown::Same) | None => None,
        };
        if let Some(usage) = told(data, read, shown.as_deref()) {
            self.watch.usage(&usage);
            let alone =
                |read: &Read<'_>| matches!(read, Read::Chunk(chunk) if chunk.choices().is_empty());
            if !self.order.usage_wanted && alone(read) {
                self.dropped = true;
                return;
            }
        }
        self.watch.mark(Mark::LastToken);
        out.push(shown.unwrap_or_else(|| event.clone()));
    }

    /// An event with text is taken for one token: engines send about that. What it was is settled
    /// with the usage at the end.
    fn count(&mut self) {
        let now = self.watch.now();
        if std::mem::take(&mut self.fresh) {
            self.ticket.first_token();
            self.watch.went_on(now);
            if self.cause.take().is_some() {
                self.watch.resumed();
            }
        }
        if self.produced > 0 {
            self.watch.gap(now.since(self.token_at));
        }
        self.token_at = now;
        self.produced += 1;
        self.watch.produced(self.order.input, self.produced);
        if self.produced % PROGRESS_EVERY == 1 {
            self.ticket.progress(self.produced);
        }
    }

    /// Waits for more events.
    async fn read(&mut self, out: &mut Out) -> Result<(), Broken> {
        let now = self.watch.now();
        let left = left(now, self.order.until);
        // Asked before each read: a stream with always something to read would never time out.
        if left.is_zero() {
            return Err(Broken::Late);
        }
        // One that goes on computes its prompt first, and its client must not take it for dead.
        let quiet = if self.fresh { self.patience(now) } else { self.order.timeouts.idle };
        let tick = if self.fresh { KEEP_OPEN } else { Duration::MAX };
        let Source::Open(opened) = &mut self.source else { return Ok(()) };
        let frame = tokio::select! {
            // What has come counts, even from a replica that is gone by now.
            biased;
            frame = tokio::time::timeout(left.min(quiet).min(tick), opened.rest.frame()) => frame,
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
        let Ok(frame) = frame else { return self.nothing_came((left, quiet, tick), out) };
        let Some(frame) = frame else {
            return opened.cutter.end(&mut opened.blocks).then_some(()).ok_or(Broken::Off);
        };
        let Ok(data) = frame.map_err(|_| Broken::Off)?.into_data() else { return Ok(()) };
        opened.cutter.push(data, &mut opened.blocks).map_err(|_| Broken::Off)
    }

    /// What it means that nothing came for the least of these times.
    pub(super) fn nothing_came(
        &self,
        (left, quiet, tick): (Duration, Duration, Duration),
        out: &mut Out,
    ) -> Result<(), Broken> {
        if left <= quiet && left <= tick {
            return Err(Broken::Late);
        }
        if quiet <= tick {
            return Err(Broken::Silent);
        }
        keep_open(out);
        Ok(())
    }

    /// The answer is complete.
    fn finish(&mut self) {
        self.over = true;
        self.ticket.finished(self.watch.exact_tokens());
        self.watch.end(200, Termination::Ok);
    }

    /// The stream broke: it goes on elsewhere, or ends with an error. One whose answer has its end is
    /// complete all the same.
    pub(super) fn broke(&mut self, broken: Broken, out: &mut Out) {
        if self.ends.is_complete() {
            self.complete(out);
            return;
        }
        let may = broken != Broken::Late && !self.ticket.is_over();
        if may && self.can_continue() {
            tracing::warn!(?broken, sent = self.produced, "a stream broke and waits to go on");
            self.cause = Some(broken);
            self.faulted(broken);
            self.leave();
            self.watch.failed();
            self.ticket.broke(broken.kind(), true);
        } else {
            self.break_off(broken, out);
        }
    }

    /// Ends a stream that broke off after the answer's end, as it should have ended.
    fn complete(&mut self, out: &mut Out) {
        self.watch.corrupted();
        let counted = self.watch.exact_tokens().is_some();
        let event = self.resume.as_ref().filter(|_| !counted).and_then(Resumable::usage);
        if let Some(event) = event {
            if let Some(usage) = event.strip_prefix(b"data: ").and_then(find_usage) {
                self.watch.usage(&usage);
            }
            if self.order.usage_wanted {
                out.push(event.into());
            }
        }
        out.push(Bytes::from_static(sse::DONE));
        self.finish();
    }

    /// Ends the stream with the protocol's own error event, and without the event that would say
    /// that it is complete.
    fn break_off(&mut self, broken: Broken, out: &mut Out) {
        self.over = true;
        if broken != Broken::Late || self.cause.is_some() {
            self.watch.not_resumed(self.cause.is_some() || self.can_continue());
        }
        let error = broken.error();
        let mut event = Vec::new();
        sse::encode_data(&mut event, &error.body());
        out.push(event.into());
        // Who waits for another turn is at no replica that could fail: leaving the line is enough.
        if !matches!(self.source, Source::Line) {
            self.faulted(broken);
            self.ticket.broke(broken.kind(), false);
        }
        // An engine that hangs after it said that it failed is left at once.
        self.source = Source::Line;
        self.watch.end(200, broken.termination());
    }
}

impl Relay {
    /// Counts what was wrong with the replica whose stream broke.
    fn faulted(&mut self, broken: Broken) {
        if let Some(fault) = broken.fault() {
            self.ticket.faulted(fault);
            self.watch.faulted(fault, None);
        }
    }
}

/// The usage that a chunk tells. Of a stream that went on that is the one of both parts, as the client is
/// shown it.
pub(super) fn told(data: &str, read: &Read<'_>, shown: Option<&[u8]>) -> Option<Usage> {
    match (shown, read) {
        (Some(shown), _) => find_usage(shown.strip_prefix(sse::DATA)?),
        (None, Read::Chunk(chunk)) => serde_json::from_str(chunk.usage()?.get()).ok(),
        (None, _) => find_usage(data.as_bytes()),
    }
}

impl Broken {
    /// The failure, as the scheduler knows it.
    const fn kind(self) -> FailureKind {
        match self {
            Self::Off => FailureKind::Broken,
            Self::Said => FailureKind::Server,
            Self::Silent | Self::Late => FailureKind::Timeout,
            Self::Unresumed(kind) => kind,
        }
    }

    /// What was wrong with the replica; none where that is counted already, or nothing was.
    const fn fault(self) -> Option<Fault> {
        match self {
            Self::Off => Some(Fault::Truncated),
            Self::Said => Some(Fault::Failed),
            Self::Silent => Some(Fault::Stalled),
            Self::Late | Self::Unresumed(_) => None,
        }
    }

    const fn termination(self) -> Termination {
        match self {
            Self::Silent | Self::Late => Termination::Timeout,
            Self::Off | Self::Said | Self::Unresumed(_) => Termination::UpstreamInterrupted,
        }
    }

    /// What the client is told.
    fn error(self) -> ApiError {
        match self {
            Self::Off | Self::Unresumed(_) => ApiError::upstream(
                "the engine broke off in the middle of the answer; retry the request",
            ),
            Self::Said => ApiError::upstream(
                "the engine failed in the middle of the answer; retry the request",
            ),
            Self::Silent => ApiError::timeout(
                "the engine sent nothing for too long in the middle of the answer",
            ),
            Self::Late => ApiError::timeout(
                "the answer was not complete in the time that a whole request has",
            ),
        }
    }
}
