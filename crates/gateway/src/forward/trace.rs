//! Where a request is in its trace: below its client's span, where that sent one, and above the spans of its
//! attempts.

use http::HeaderMap;
use pilotage_shell::id::random_u64;
use pilotage_wire::trace::TraceParent;

use crate::app::Gateway;
use crate::names;

/// A request's own span in a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced {
    /// Its span: the parent of its attempts'.
    pub(crate) own: TraceParent,
    /// Its client's span.
    pub(crate) parent: Option<u64>,
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
        Self { own: TraceParent { sampled, ..own }, parent: sent.map(|sent| sent.span) }
    }

    /// The place of a copy, or of what several requests share: a span beside its first one.
    pub(super) fn beside(self) -> Self {
        Self { own: self.own.child(random_u64()), parent: Some(self.own.span) }
    }

    /// Where an attempt is.
    pub(super) const fn attempt(self, attempt: u32) -> TraceParent {
        TraceParent { span: pilotage_lens::attempt_span(self.own.span, attempt), ..self.own }
    }
}
