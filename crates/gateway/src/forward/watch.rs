//! A request, watched from its first byte to its last: marks, counts, and one record at the end. A
//! watch that is dropped without an end was left by its client. An answer that several callers share has a
//! watch of its own, which leaves no record but tells theirs.

mod end;
mod shared;

use std::sync::Arc;

use http::HeaderValue;
use pilotage_core::{Band, Refusal, Span, Time, Tokens, traffic};
use pilotage_lens::{Mark, Termination, Timeline};
use pilotage_wire::openai::usage::Usage;
use pilotage_wire::trace::TraceParent;

use super::generation::{Generation, Told};
use crate::app::Gateway;
use crate::auth::Caller;
use crate::config::Price;
use crate::driver::Reason;
use crate::quotas::{Header, Lease};
use crate::trials::Place;

/// Status of a request whose client went away: nginx's own for it, never sent to anybody.
const CLIENT_CLOSED: u16 = 499;

/// Whose way is watched.
#[derive(Clone)]
enum Part {
    /// A request's, from its client to a replica.
    Request,
    /// That of a request that shares a generation; whether another had begun that.
    Caller(Arc<Generation>, bool),
    /// That of a generation.
    Generation(Arc<Generation>),
    /// A copy's, which has no client.
    Copy,
}

/// What did not go straight on the way of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detours {
    /// Times it went on elsewhere.
    resumed: u32,
    /// Replicas of earlier attempts.
    earlier: Vec<String>,
    /// Whether the engine said something that had to be put right.
    corrupted: bool,
}

pub(crate) struct Watch {
    gateway: Gateway,
    part: Part,
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
    why: Option<Reason>,
    /// Why this model.
    routed: Option<traffic::Why>,
    /// Where its end counts; none once it counted.
    place: Option<Place>,
    tokens: Tokens,
    /// Whether the engine itself told the tokens.
    counted: bool,
    stops: u32,
    /// Whether its answer was kept.
    cache: Option<&'static str>,
    detours: Detours,
    /// What became of a second attempt.
    hedge: Option<&'static str>,
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
            part: Part::Request,
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
            cache: None,
            detours: Detours::default(),
            hedge: None,
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

    /// The request goes to a lane.
    pub(crate) fn lane(&mut self, name: &str, price: Price) {
        name.clone_into(self.lane.get_or_insert_default());
        self.tell(|told| {
            name.clone_into(told.lane.get_or_insert_default());
            told.price = price;
        });
    }

    /// Tells the callers' records.
    fn tell(&self, note: impl FnOnce(&mut Told)) {
        if let Part::Generation(generation) = &self.part {
            generation.tell(note);
        }
    }

    pub(crate) fn dispatched(&mut self, replica: &str, attempt: u32, why: &Reason) {
        self.mark(Mark::Dispatched);
        self.moved(replica, attempt, why);
        self.begins();
        if let Part::Generation(generation) = &self.part {
            generation.started();
        }
    }

    /// The request waits no more.
    pub(crate) fn begins(&self) {
        if let Some(lease) = &self.lease {
            lease.started();
        }
    }

    /// The request goes to a replica, perhaps in the middle of its answer.
    pub(crate) fn moved(&mut self, replica: &str, attempt: u32, why: &Reason) {
        self.attempts = attempt;
        self.detours.earlier.extend(self.replica.replace(replica.to_owned()));
        self.why = Some(why.clone());
        self.tell(|told| {
            told.attempts = attempt;
            told.replica = Some(replica.to_owned());
            told.why = Some(why.clone());
            told.detours.clone_from(&self.detours);
        });
    }

    /// The body, asked for at that time, is here.
    pub(crate) fn body_came(&mut self, asked: Time) {
        self.body = self.now().since(asked);
    }

    /// Sets a mark; returns the time.
    pub(crate) fn mark(&mut self, mark: Mark) -> Time {
        let now = self.now();
        self.timeline.set(now, mark);
        match mark {
            Mark::Dispatched => self.tell(|told| told.dispatched = Some(now)),
            Mark::Answered => self.tell(|told| told.answered = Some(now)),
            Mark::Read | Mark::FirstToken | Mark::LastToken => {}
        }
        now
    }

    pub(crate) fn usage(&mut self, usage: &Usage) {
        self.tokens = Tokens {
            input: usage.prompt_tokens,
            cached: usage.cached_tokens(),
            output: usage.completion_tokens,
        };
        self.counted = true;
        self.tell_tokens();
    }

    fn tell_tokens(&self) {
        let (tokens, counted) = (self.tokens, self.counted);
        self.tell(|told| (told.tokens, told.counted) = (tokens, counted));
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
    pub(crate) fn produced(&mut self, input: u32, output: u32) {
        if !self.counted {
            self.tokens = Tokens { input, cached: 0, output };
            self.tell_tokens();
        }
    }

    /// The tokens, where the engine told them.
    pub(crate) fn exact_tokens(&self) -> Option<Tokens> {
        self.counted.then_some(self.tokens)
    }

    /// The attempt was stopped for somebody else.
    pub(crate) fn stopped(&mut self) {
        self.stops += 1;
        let stops = self.stops;
        self.tell(|told| told.stops = stops);
    }

    /// The answer broke off, and goes on elsewhere.
    pub(crate) fn resumed(&mut self) {
        self.detours.resumed += 1;
        self.tell_detours();
        self.count_resume("resumed");
    }

    /// The answer broke off, and could have gone on, but nobody did; or it could not.
    pub(crate) fn not_resumed(&self, could: bool) {
        self.count_resume(if could { "failed" } else { "impossible" });
    }

    fn count_resume(&self, outcome: &'static str) {
        let lane = self.lane.as_deref().unwrap_or_default();
        self.gateway.inner.counts.resume(lane, outcome);
    }

    /// There was a second attempt, of which that became.
    pub(crate) fn hedged(&mut self, outcome: &'static str) {
        self.hedge = Some(outcome);
        let lane = self.lane.as_deref().unwrap_or_default();
        self.gateway.inner.counts.hedge(lane, outcome);
    }

    /// A watch for an attempt that counts only once it has won: it leaves no record.
    pub(crate) fn aside(&self) -> Self {
        let (gateway, request_id) = (self.gateway.clone(), self.request_id.clone());
        let mut aside = Self::new(gateway, self.path, request_id, self.trace);
        (aside.part, aside.over) = (Part::Copy, true);
        aside
    }

    /// The engine said something that had to be put right.
    pub(crate) fn corrupted(&mut self) {
        self.detours.corrupted = true;
        self.tell_detours();
    }

    fn tell_detours(&self) {
        self.tell(|told| told.detours.clone_from(&self.detours));
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
    pub(crate) fn why(&self) -> Option<HeaderValue> {
        let routed = self.routed.as_ref().map(|why| format!("{why}; ")).unwrap_or_default();
        let hedge = self.hedge.map(|hedge| format!(" second_attempt={hedge}")).unwrap_or_default();
        HeaderValue::from_str(&format!("{routed}{}{hedge}", self.why.as_ref()?)).ok()
    }

    /// The watch for the rest of the way; this one is done.
    pub(crate) fn hand_over(&mut self) -> Self {
        self.over = true;
        Self {
            gateway: self.gateway.clone(),
            part: self.part.clone(),
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
            why: self.why.clone(),
            routed: None,
            place: self.place.take(),
            tokens: self.tokens,
            counted: self.counted,
            stops: self.stops,
            cache: self.cache,
            detours: std::mem::take(&mut self.detours),
            hedge: self.hedge,
            lease: self.lease.take(),
            estimated_input: self.estimated_input,
            limits: Vec::new(),
            body: self.body,
            over: false,
        }
    }

    /// Whether the route keeps answers, and had this one.
    pub(super) const fn cache(&mut self, found: &'static str) {
        self.cache = Some(found);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(CLIENT_CLOSED, Termination::ClientCancel);
    }
}
