//! A request, watched from its first byte to its last: marks, counts, and one record at the end. A
//! watch that is dropped without an end was left by its client.

use http::HeaderValue;
use pilotage_core::traffic::tally::Sample;
use pilotage_core::{Band, Refusal, Span, Time, Tokens, Why, traffic};
use pilotage_lens::{Mark, Record, Termination, Timeline};
use pilotage_wire::openai::usage::Usage;
use pilotage_wire::trace::TraceParent;

use crate::app::Gateway;
use crate::auth::Caller;
use crate::quotas::{Header, Lease};
use crate::trials::Place;

/// Status of a request whose client went away: nginx's own for it, never sent to anybody.
const CLIENT_CLOSED: u16 = 499;

pub(crate) struct Watch {
    gateway: Gateway,
    timeline: Timeline,
    path: &'static str,
    request_id: String,
    trace: TraceParent,
    tenant: Option<String>,
    lane: Option<String>,
    band: Band,
    stream: bool,
    attempts: u32,
    replica: Option<String>,
    why: Option<Why>,
    /// Why this model.
    routed: Option<traffic::Why>,
    /// Where its end counts; none once it counted.
    place: Option<Place>,
    tokens: Tokens,
    /// Whether the engine itself told the tokens.
    counted: bool,
    stops: u32,
    lease: Option<Lease>,
    /// Prompt tokens, as far as the body tells.
    estimated_input: u32,
    /// What is left of limits, for the client.
    limits: Vec<Header>,
    /// Time in which the client's body came in.
    body: Span,
    over: bool,
}

impl Watch {
    pub(crate) fn new(
        gateway: Gateway,
        path: &'static str,
        request_id: String,
        trace: TraceParent,
    ) -> Self {
        let timeline = Timeline::new(Time::from_nanos(gateway.inner.clock.now_nanos()));
        Self {
            gateway,
            timeline,
            path,
            request_id,
            trace,
            tenant: None,
            lane: None,
            band: Band::default(),
            stream: false,
            attempts: 0,
            replica: None,
            why: None,
            routed: None,
            place: None,
            tokens: Tokens::default(),
            counted: false,
            stops: 0,
            lease: None,
            estimated_input: 0,
            limits: Vec::new(),
            body: Span::ZERO,
            over: false,
        }
    }

    pub(crate) fn caller(&mut self, caller: &Caller) {
        self.tenant = Some(caller.name.clone());
        self.band = caller.band;
    }

    pub(crate) const fn stream(&mut self, stream: bool) {
        self.stream = stream;
    }

    /// The request's model is chosen.
    pub(crate) fn routed(&mut self, why: traffic::Why, role: traffic::Role) {
        self.place = Some(Place { route: why.route.clone(), role });
        self.routed = Some(why);
    }

    /// The model did not answer, and another may: what is its own failure counts against it.
    pub(crate) fn missed(&mut self, miss: Option<&traffic::Miss>) {
        if let Some(traffic::Miss::Refused(Refusal::Exhausted { .. })) = miss {
            self.sample(true, Span::ZERO);
        }
        if let Some(place) = &mut self.place {
            place.role = traffic::Role::Stable;
        }
    }

    /// Counts the request's end for the arm that it took.
    fn sample(&self, failed: bool, total: Span) {
        let (Some(place), Some(lane)) = (&self.place, &self.lane) else { return };
        let phases = self.timeline.phases(self.now());
        let begun = self.timeline.ttft().is_some() && !failed;
        let Tokens { input, cached, output } = self.tokens;
        let sample = Sample {
            failed,
            prefill: input.saturating_sub(cached).into(),
            input: input.into(),
            output: output.into(),
            ttft: begun.then(|| phases.connect + phases.prefill),
            tpot: self.timeline.tpot(output).filter(|_| begun),
            total,
        };
        self.gateway.inner.trials.ended(place, lane, &sample);
    }

    /// The request goes to a lane.
    pub(crate) fn lane(&mut self, name: &str) {
        name.clone_into(self.lane.get_or_insert_default());
    }

    pub(crate) fn dispatched(&mut self, replica: &str, attempt: u32, why: &Why) {
        self.mark(Mark::Dispatched);
        self.attempts = attempt;
        self.replica = Some(replica.to_owned());
        self.why = Some(*why);
        if let Some(lease) = &self.lease {
            lease.started();
        }
    }

    /// The body, asked for at that time, is here.
    pub(crate) fn body_came(&mut self, asked: Time) {
        self.body = self.now().since(asked);
    }

    /// Sets a mark; returns the time.
    pub(crate) fn mark(&mut self, mark: Mark) -> Time {
        let now = self.now();
        self.timeline.set(now, mark);
        now
    }

    pub(crate) fn usage(&mut self, usage: &Usage) {
        self.tokens = Tokens {
            input: usage.prompt_tokens,
            cached: usage.cached_tokens(),
            output: usage.completion_tokens,
        };
        self.counted = true;
    }

    /// The request's place in its tenant's quotas, and what is left there.
    pub(crate) fn lease(&mut self, lease: Lease, input: u32, limits: Vec<Header>) {
        self.lease = Some(lease);
        self.estimated_input = input;
        self.limits = limits;
    }

    /// What is left of limits, for the client.
    pub(crate) fn take_limits(&mut self) -> Vec<Header> {
        std::mem::take(&mut self.limits)
    }

    /// The answer has so many tokens by now, as far as events tell; its prompt is about as long as
    /// was estimated.
    pub(crate) const fn produced(&mut self, input: u32, output: u32) {
        if !self.counted {
            self.tokens = Tokens { input, cached: 0, output };
        }
    }

    /// The tokens, where the engine told them.
    pub(crate) fn exact_tokens(&self) -> Option<Tokens> {
        self.counted.then_some(self.tokens)
    }

    /// The attempt was stopped for somebody else.
    pub(crate) const fn stopped(&mut self) {
        self.stops += 1;
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    pub(crate) const fn trace(&self) -> TraceParent {
        self.trace
    }

    /// When its first byte came.
    pub(crate) const fn begun(&self) -> Time {
        self.timeline.begun()
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(self.gateway.inner.clock.now_nanos())
    }

    /// The reason of the last placement, as a header.
    pub(crate) fn take_why(&self) -> Option<HeaderValue> {
        let routed = self.routed.as_ref().map(|why| format!("{why}; ")).unwrap_or_default();
        HeaderValue::from_str(&format!("{routed}{}", self.why?)).ok()
    }

    /// The watch for the rest of the way; this one is done.
    pub(crate) fn hand_over(&mut self) -> Self {
        self.over = true;
        Self {
            gateway: self.gateway.clone(),
            timeline: self.timeline,
            path: self.path,
            request_id: self.request_id.clone(),
            trace: self.trace,
            tenant: self.tenant.clone(),
            lane: self.lane.clone(),
            band: self.band,
            stream: self.stream,
            attempts: self.attempts,
            replica: self.replica.clone(),
            why: self.why,
            routed: self.routed.take(),
            place: self.place.take(),
            tokens: self.tokens,
            counted: self.counted,
            stops: self.stops,
            lease: self.lease.take(),
            estimated_input: self.estimated_input,
            limits: Vec::new(),
            body: self.body,
            over: false,
        }
    }

    /// The request is over.
    pub(crate) fn end(&mut self, status: u16, termination: Termination) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        // Whoever got an answer, or a part of one, used what it took. What failed on our side used
        // nothing, not even a place among the requests of its minute; what the client got wrong, or
        // left, did.
        let used = self.tokens.output > 0 || self.counted;
        // An answer that its client did not wait for was begun all the same: its prompt was computed.
        let left = matches!(termination, Termination::ClientCancel | Termination::Timeout);
        if left && !used && self.attempts > 0 {
            self.tokens.input = self.estimated_input;
        }
        let used = used || (left && self.attempts > 0);
        if let Some(lease) = self.lease.take().filter(|_| used || !is_ours(termination)) {
            lease.settle(self.tokens);
        }
        let now = self.now();
        let phases = self.timeline.phases(now);
        if let Some(failed) = outcome(termination) {
            self.sample(failed, phases.total());
        }
        let record = Record {
            request_id: self.request_id.clone(),
            trace_id: format!("{:032x}", self.trace.trace),
            tenant: self.tenant.clone(),
            path: self.path,
            lane: self.lane.clone(),
            band: self.band,
            stream: self.stream,
            status,
            termination,
            attempts: self.attempts,
            stops: self.stops,
            replica: self.replica.clone(),
            why: self.why.map(|why| why.to_string()),
            tokens: self.tokens,
            phases,
            total: phases.total(),
            ttft: self.timeline.ttft(),
            tpot: self.timeline.tpot(self.tokens.output),
        };
        let own = phases.read.as_nanos().saturating_sub(self.body.as_nanos());
        self.gateway.inner.counts.count(&record, Span::from_nanos(own));
        if let Ok(line) = serde_json::to_string(&record) {
            tracing::info!(target: "access", record = line, "request");
        }
    }
}

/// Whether a request that ended so was failed by its model; none where that says nothing of it.
const fn outcome(termination: Termination) -> Option<bool> {
    match termination {
        Termination::Ok => Some(false),
        Termination::UpstreamError | Termination::UpstreamInterrupted | Termination::Timeout => {
            Some(true)
        }
        _ => None,
    }
}

/// Whether a request that ended so without a token is not its client's doing.
const fn is_ours(termination: Termination) -> bool {
    match termination {
        Termination::Ok | Termination::ClientCancel | Termination::BadRequest => false,
        Termination::Quota
        | Termination::Budget
        | Termination::QueueFull
        | Termination::Deadline
        | Termination::UpstreamError
        | Termination::UpstreamInterrupted
        | Termination::Timeout
        | Termination::Draining => true,
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(CLIENT_CLOSED, Termination::ClientCancel);
    }
}
