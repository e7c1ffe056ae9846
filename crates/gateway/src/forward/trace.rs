//! Where a request is in its trace: below its client's span, where that sent one, and above the spans of its
//! attempts.

use http::{HeaderMap, HeaderValue};
use pilotage_shell::id::random_u64;
use pilotage_wire::trace::TraceParent;

use crate::app::Gateway;
use crate::names;

/// Bytes of what tracing systems say of a trace beside its numbers: as many have to be passed on (W3C).
const STATE_BYTES_MAX: usize = 512;

/// A request's own span in a trace.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    /// Its span: the parent of its attempts'.
    pub(crate) own: TraceParent,
    /// Its client's span.
    pub(crate) parent: Option<u64>,
    /// What its client's tracing systems say of it, `tracestate`: passed on as it came.
    state: Option<HeaderValue>,
}

impl Traced {
    /// The place of a request that comes with these headers. Whether its trace is sampled is for the gateway's
    /// sampler to say.
    pub(super) fn of(gateway: &Gateway, headers: &HeaderMap) -> Self {
        let sent = headers.get(&names::TRACEPARENT).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(TraceParent::parse);
        let own = match sent {
            Some(sent) => sent.child(random_u64()),
            None => {
                let random = u128::from(random_u64()) << 64 | u128::from(random_u64());
                TraceParent::start(random, random_u64())
            }
        };
        let sampled = gateway.samples(own.trace, sent.map(|sent| sent.sampled));
        let state = sent.and_then(|_| state(headers));
        Self { own: TraceParent { sampled, ..own }, parent: sent.map(|sent| sent.span), state }
    }

    /// The place of a copy, or of what several requests share: a span beside its first one.
    pub(super) fn beside(&self) -> Self {
        let own = self.own.child(random_u64());
        Self { own, parent: Some(self.own.span), state: self.state.clone() }
    }

    /// Tells a replica where an attempt is.
    pub(super) fn tell(&self, attempt: u32, headers: &mut HeaderMap) {
        if let Ok(parent) = HeaderValue::try_from(self.attempt(attempt).to_string()) {
            headers.insert(&names::TRACEPARENT, parent);
        }
        if let Some(state) = &self.state {
            headers.insert(&names::TRACESTATE, state.clone());
        }
    }

    /// Where an attempt is.
    const fn attempt(&self, attempt: u32) -> TraceParent {
        TraceParent { span: pilotage_lens::attempt_span(self.own.span, attempt), ..self.own }
    }
}

/// What a client's tracing systems say; nothing where that is too long or in several parts.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut said = headers.get_all(&names::TRACESTATE).iter();
    let state = said.next().filter(|state| (1..=STATE_BYTES_MAX).contains(&state.len()))?;
    said.next().is_none().then(|| state.clone())
}
