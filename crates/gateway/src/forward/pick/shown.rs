//! An answer that passes by: counted event by event, or as a whole, and let through as it is but for
//! what its client did not ask for.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use pilotage_core::{FailureKind, Time};
use pilotage_lens::{Mark, Termination};
use pilotage_wire::openai::chunk::Read;
use pilotage_wire::openai::usage::find_usage;

use super::super::Order;
use super::super::chunk::{Ends, Said};
use super::super::events::{Block, Blocks};
use super::super::fit::{self, Form};
use super::super::relay::{Out, PROGRESS_EVERY, told};
use super::Picked;
use crate::metrics::Fault;

/// How far an answer is.
pub(super) struct Shown {
    event_bytes_max: usize,
    status: u16,
    form: Passing,
    begun: bool,
}

/// How an answer is read while it passes.
enum Passing {
    /// It has not begun.
    Head,
    Events(Box<Events>),
    /// Kept until its end, which says what it took; none once it is too large for that.
    Whole(Option<BytesMut>),
    /// An error that is the client's own.
    Unread,
    /// It is not shown.
    Unseen,
}

struct Events {
    cutter: Blocks,
    ends: Ends,
    produced: u32,
    /// When the last token came.
    token_at: Time,
    /// The last block was not for the client.
    dropped: bool,
    done: bool,
    failed: Option<FailureKind>,
    /// It cannot be cut any more, and passes as it is.
    uncut: bool,
}

impl Shown {
    pub(super) const fn new(event_bytes_max: usize) -> Self {
        Self { event_bytes_max, status: 0, form: Passing::Head, begun: false }
    }

    /// Whether some of the answer came.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// The answer begins.
    ///
    /// # Errors
    /// It is a failure of the replica.
    pub(super) fn begin(
        &mut self,
        order: &Order,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), FailureKind> {
        let is_json = headers.contains_key(header::CONTENT_TYPE) && fit::says(headers, fit::JSON);
        self.status = status.as_u16();
        self.form = match self.status {
            200 => match order.expects.form(headers, order.stream) {
                Some(Form::Events) => Passing::Events(Box::new(Events {
                    cutter: Blocks::new(self.event_bytes_max),
                    ends: Ends::default(),
                    produced: 0,
                    token_at: Time::ZERO,
                    dropped: false,
                    done: false,
                    failed: None,
                    uncut: false,
                })),
                Some(Form::Whole) => Passing::Whole(Some(BytesMut::new())),
                None => return Err(FailureKind::Server),
            },
            429 | 503 => return Err(FailureKind::Overloaded),
            401 | 403 | 405 | 424 => return Err(FailureKind::Server),
            404 if !is_json => return Err(FailureKind::Server),
            // The request is wrong, and would be anywhere: that is the answer.
            400..=499 => Passing::Unread,
            _ => return Err(FailureKind::Server),
        };
        Ok(())
    }
}

impl Picked {
    /// Some of the answer comes; returns what its client gets of it. A part of an event waits for its end.
    pub fn data(&mut self, data: Bytes) -> Bytes {
        self.shown.begun = true;
        let most = self.gateway.inner.config.limits.answer_bytes_max;
        match &mut self.shown.form {
            Passing::Head | Passing::Unread | Passing::Unseen => data,
            Passing::Whole(kept) => {
                let fits = |kept: &BytesMut| kept.len() + data.len() <= most;
                *kept = kept.take().filter(fits).map(|mut kept| {
                    kept.extend_from_slice(&data);
                    kept
                });
                data
            }
            Passing::Events(events) if events.uncut => data,
            Passing::Events(events) => {
                // Most often nothing.
                let held = Bytes::copy_from_slice(events.cutter.held());
                let mut blocks = Vec::new();
                let mut out = Out::default();
                if events.cutter.push(data.clone(), &mut blocks).is_err() {
                    (events.uncut, events.failed) = (true, Some(FailureKind::Broken));
                    let _ = events.cutter.take_rest();
                    if !held.is_empty() {
                        out.push(held);
                    }
                    out.push(data);
                    return out.into();
                }
                blocks.into_iter().for_each(|block| self.event(block, &mut out));
                // Its client may leave with the last event.
                if self.is_done() {
                    self.settle(true);
                }
                out.into()
            }
        }
    }

    fn event(&mut self, block: Block, out: &mut Out) {
        let Passing::Events(events) = &mut self.shown.form else { return };
        let dropped = std::mem::take(&mut events.dropped);
        let Some(data) = block.data() else {
            if !(dropped && &block.bytes[..] == b"\n") {
                out.push(block.bytes);
            }
            return;
        };
        if data == "[DONE]" {
            events.done = true;
            out.push(block.bytes);
            return;
        }
        if block.is_error() {
            events.failed = Some(FailureKind::Server);
            out.push(block.bytes);
            return;
        }
        let read = Read::of(data);
        let token = match events.ends.take(data, &read) {
            Said::Chunk { token, .. } => token,
            Said::Over => false,
            Said::Failed => {
                events.failed = Some(FailureKind::Server);
                false
            }
            Said::Garbage => {
                events.failed = Some(FailureKind::Broken);
                false
            }
        };
        if let Some(usage) = told(data, &read, None) {
            self.watch.usage(&usage);
            let alone = matches!(&read, Read::Chunk(chunk) if chunk.choices().is_empty());
            if alone && !self.order.usage_wanted {
                events.dropped = true;
                return;
            }
        }
        if token {
            events.produced += 1;
            let produced = events.produced;
            let now = self.watch.now();
            let before = std::mem::replace(&mut events.token_at, now);
            if produced > 1 {
                self.watch.gap(now.since(before));
            } else {
                self.watch.mark(Mark::FirstToken);
                self.ticket.first_token();
            }
            self.watch.produced(self.order.input, produced);
            if produced % PROGRESS_EVERY == 1 {
                self.ticket.progress(produced);
            }
        }
        self.watch.mark(Mark::LastToken);
        out.push(block.bytes);
    }

    /// The answer is over; returns what its client still gets of it. `is_whole` says whether its end was
    /// seen, or could not be as it is not shown.
    pub fn end(&mut self, is_whole: bool) -> Bytes {
        let rest = match &mut self.shown.form {
            Passing::Events(events) => events.cutter.take_rest(),
            _ => Bytes::new(),
        };
        self.settle(is_whole);
        rest
    }

    /// Counts the answer's end, once.
    fn settle(&mut self, is_whole: bool) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let broke = (!is_whole).then_some(FailureKind::Broken);
        let failed = match &mut self.shown.form {
            Passing::Unread | Passing::Unseen => None,
            Passing::Head => broke,
            Passing::Whole(kept) => {
                let kept = kept.take().map(BytesMut::freeze).unwrap_or_default();
                if let Some(usage) = find_usage(&kept) {
                    self.watch.usage(&usage);
                }
                self.watch.mark(Mark::FirstToken);
                self.watch.mark(Mark::LastToken);
                broke
            }
            Passing::Events(events) => {
                let is_whole = events.done || events.ends.is_complete();
                events.failed.or_else(|| (!is_whole).then_some(FailureKind::Broken))
            }
        };
        let status = self.shown.status;
        match failed {
            None => {
                self.ticket.finished(self.watch.exact_tokens());
                self.watch.end(status, Termination::Ok);
            }
            Some(kind) => {
                let fault = match kind {
                    FailureKind::Server => Fault::Failed,
                    FailureKind::Timeout => Fault::Stalled,
                    _ => Fault::Truncated,
                };
                self.ticket.faulted(fault);
                self.watch.faulted(fault, None);
                self.ticket.broke(kind, false);
                self.watch.end(status, Termination::UpstreamInterrupted);
            }
        }
    }

    const fn is_done(&self) -> bool {
        matches!(&self.shown.form, Passing::Events(events) if events.done)
    }

    /// The answer's body is not shown: its end cannot be told from its client's leaving.
    pub fn unseen(&mut self) {
        self.shown.form = Passing::Unseen;
    }

    /// Whether the answer's body is not shown, and its end has not been counted.
    pub const fn is_unseen(&self) -> bool {
        matches!(&self.shown.form, Passing::Unseen) && !self.over
    }

    /// Whether its end has been counted.
    pub const fn is_over(&self) -> bool {
        self.over
    }
}

impl Drop for Picked {
    /// Of an answer that is not shown nothing tells whether its client had all of it: it had.
    fn drop(&mut self) {
        if self.is_unseen() {
            self.settle(true);
        }
    }
}
