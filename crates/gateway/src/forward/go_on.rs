//! A stream that stopped in the middle goes on: its request waits for another turn, a replica is asked
//! for the rest, and that becomes the source of the stream. Meanwhile comments keep the client's
//! connection open. Who fails to go on is followed by the next, as long as the scheduler gives turns.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pilotage_core::Time;
use pilotage_wire::resume::Resumable;

use super::attempt::{self, Failed, Opened, left};
use super::relay::{Broken, Out, Relay, Source};
use super::span;
use crate::driver::{Go, Interruption};

/// How long a client that waits in the middle of its answer hears nothing.
pub(super) const KEEP_OPEN: Duration = Duration::from_secs(10);

/// A replica's answer to the request to go on.
pub(super) type Asked = Pin<Box<dyn Future<Output = Result<Opened, Failed>> + Send>>;

/// Tells the client that its answer is still to come.
pub(super) fn keep_open(out: &mut Out) {
    out.push(Bytes::from_static(b": waiting\n\n"));
}

impl Relay {
    /// Whether the answer can go on from where its client has it.
    pub(super) fn can_continue(&self) -> bool {
        self.resume.as_ref().is_some_and(Resumable::can_continue)
    }

    /// Leaves the replica. What it sent and the client does not have is made again.
    pub(super) fn leave(&mut self) {
        self.source = Source::Line;
        self.dropped = false;
        self.produced = self.resume.as_ref().map_or(0, Resumable::sent);
        self.watch.produced(self.order.input, self.produced);
    }

    /// Stops for somebody else, if the stream can go on later.
    pub(super) fn stop(&mut self) {
        if !self.can_continue() {
            self.ticket.unstoppable();
            return;
        }
        self.leave();
        self.watch.stopped();
        self.ticket.stopped();
    }

    /// Waits for another turn.
    pub(super) async fn wait(&mut self, out: &mut Out) -> Result<(), Broken> {
        let left = left(self.watch.now(), self.order.until);
        match tokio::time::timeout(left.min(KEEP_OPEN), self.ticket.turn()).await {
            Err(_) if left <= KEEP_OPEN => Err(Broken::Late),
            Err(_) => {
                keep_open(out);
                Ok(())
            }
            // Nobody goes on: what the client is told is how the answer broke.
            Ok(Err(_)) => Err(self.cause.unwrap_or(Broken::Off)),
            Ok(Ok(go)) => {
                self.ask(go);
                Ok(())
            }
        }
    }

    /// Asks a replica for the rest of the answer.
    fn ask(&mut self, go: Go) {
        let Some(resume) = &mut self.resume else { return };
        let request = resume.continuation(&self.order.served);
        self.watch.asked_on(go.attempt, &go.why, self.produced);
        let now = self.watch.now();
        let (gateway, order) = (self.gateway.clone(), Arc::clone(&self.order));
        self.fresh = true;
        self.heard = now;
        self.source = Source::Asked(Box::pin(attempt::go_on(
            gateway,
            order,
            (self.ticket.id(), go),
            request,
            now,
        )));
    }

    /// Waits for the replica that was asked.
    pub(super) async fn await_answer(&mut self, out: &mut Out) -> Result<(), Broken> {
        let now = self.watch.now();
        let (left, quiet) = (left(now, self.order.until), self.patience(now));
        let Source::Asked(asked) = &mut self.source else { return Ok(()) };
        let waited = left.min(quiet).min(KEEP_OPEN);
        let opened = tokio::select! {
            biased;
            opened = tokio::time::timeout(waited, asked) => opened,
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
        match opened {
            Ok(Ok(opened)) => {
                self.source = Source::Open(opened);
                Ok(())
            }
            Ok(Err(Failed { kind, told, fault, status })) => {
                self.ticket.heard(told);
                self.ticket.faulted(fault);
                self.watch.faulted(fault, status);
                Err(Broken::Unresumed(kind))
            }
            Err(_) => self.nothing_came((left, quiet, KEEP_OPEN), out),
        }
    }

    /// How much longer an attempt that goes on has for its first token.
    pub(super) fn patience(&self, now: Time) -> Duration {
        left(now, self.heard + span(self.order.timeouts.first_token))
    }
}
