//! A request, watched from its first byte to its last: marks, counts, and one record at the end. A
//! watch that is dropped without an end was left by its client. An answer that several callers share has a
//! watch of its own, which leaves no record but tells theirs.

use std::sync::Arc;

use http::HeaderValue;
use pilotage_core::traffic::tally::Sample;
use pilotage_core::{Band, Refusal, Span, Time, Tokens, Why, traffic};
use pilotage_lens::{Mark, Record, Termination, Timeline};
use pilotage_wire::openai::usage::Usage;
use pilotage_wire::trace::TraceParent;

use super::generation::{Generation, Member, Told};
use crate::app::Gateway;
use crate::auth::Caller;
use crate::config::Price;
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
    why: Option<Why>,
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

    pub(crate) fn dispatched(&mut self, replica: &str, attempt: u32, why: &Why) {
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
    pub(crate) fn moved(&mut self, replica: &str, attempt: u32, why: &Why) {
        self.attempts = attempt;
        self.detours.earlier.extend(self.replica.replace(replica.to_owned()));
        self.why = Some(*why);
        self.tell(|told| {
            told.attempts = attempt;
            told.replica = Some(replica.to_owned());
            told.why = Some(*why);
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
    pub(crate) fn take_why(&self) -> Option<HeaderValue> {
        let routed = self.routed.as_ref().map(|why| format!("{why}; ")).unwrap_or_default();
        HeaderValue::from_str(&format!("{routed}{}", self.why?)).ok()
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
            why: self.why,
            routed: self.routed.take(),
            place: self.place.take(),
            tokens: self.tokens,
            counted: self.counted,
            stops: self.stops,
            cache: self.cache,
            detours: std::mem::take(&mut self.detours),
            lease: self.lease.take(),
            estimated_input: self.estimated_input,
            limits: Vec::new(),
            body: self.body,
            over: false,
        }
    }

    /// The request joined a generation. Its lease is there if somebody pays together with others.
    pub(super) fn joins(
        &mut self,
        member: &Member,
        (lease, input): (Option<Lease>, u32),
        limits: Vec<Header>,
    ) {
        self.part = Part::Caller(Arc::clone(member.generation()), !member.is_first());
        self.lease = lease;
        self.estimated_input = input;
        self.limits = limits;
    }

    /// What happened to the generation so far is what happened to its caller.
    pub(super) fn learn(&mut self) {
        let Part::Caller(generation, _) = &self.part else { return };
        let told = generation.told();
        // Set once: a later attempt of the generation must not undo what its caller has seen since.
        if self.attempts == 0 {
            let marks = [(Mark::Dispatched, told.dispatched), (Mark::Answered, told.answered)];
            for (mark, at) in marks {
                if let Some(at) = at {
                    self.timeline.set(at, mark);
                }
            }
        }
        self.lane = told.lane.or_else(|| self.lane.take());
        self.attempts = told.attempts;
        self.stops = told.stops;
        self.detours = told.detours;
        self.replica = told.replica;
        self.why = told.why;
    }

    /// The caller has so many tokens of the answer.
    pub(super) const fn shares(&mut self, tokens: Tokens, counted: bool) {
        self.tokens = tokens;
        self.counted = counted;
    }

    /// The caller has all of the answer: it ended as the generation did, or so if that did not say.
    pub(super) fn end_shared(&mut self, otherwise: Termination) {
        let Part::Caller(generation, _) = &self.part else { return };
        let Told { tokens, counted, end, .. } = generation.told();
        self.shares(tokens, counted);
        let (status, termination) = end.unwrap_or((200, otherwise));
        self.end(status, termination);
    }

    /// The watch of a generation that begins for this request.
    pub(super) fn generation(&self, generation: Arc<Generation>) -> Self {
        let mut watch = self.beside();
        watch.part = Part::Generation(generation);
        watch.tenant.clone_from(&self.tenant);
        watch.band = self.band;
        watch.estimated_input = self.estimated_input;
        watch
    }

    /// The watch of a copy of this request.
    pub(super) fn copy(&self) -> Self {
        let mut watch = self.beside();
        watch.part = Part::Copy;
        watch.band = Band::Batch;
        watch
    }

    /// A watch that begins now.
    fn beside(&self) -> Self {
        let gateway = self.gateway.clone();
        let mut watch = Self::new(gateway, self.path, self.request_id.clone(), self.trace);
        watch.stream = self.stream;
        watch.mark(Mark::Read);
        watch
    }

    /// Whether the route keeps answers, and had this one.
    pub(super) const fn cache(&mut self, found: &'static str) {
        self.cache = Some(found);
    }

    /// The request is over.
    pub(crate) fn end(&mut self, status: u16, termination: Termination) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.learn();
        self.pay(termination);
        if let Part::Generation(generation) = &self.part {
            generation.tell(|told| told.end = Some((status, termination)));
            let lane = self.lane.as_deref();
            self.gateway.inner.counts.generated(lane, self.tokens, self.attempts);
            return;
        }
        let record = self.record(status, termination);
        let own = record.phases.read.as_nanos().saturating_sub(self.body.as_nanos());
        let counts = &self.gateway.inner.counts;
        match self.part {
            Part::Copy => counts.copied(&record),
            _ => counts.count(&record, Span::from_nanos(own)),
        }
        // What callers share is counted once, with the generation, and what was kept not again.
        if matches!(self.part, Part::Request | Part::Caller(_, false))
            && self.cache != Some("hit")
            && let Some(failed) = outcome(termination)
        {
            self.sample(failed, record.total);
        }
        if matches!(self.part, Part::Request) && self.cache.is_none() {
            counts.generated(record.lane.as_deref(), record.tokens, record.attempts);
        }
        if let Ok(line) = serde_json::to_string(&record) {
            tracing::info!(target: "access", record = line, "request");
        }
    }

    /// Settles what was reserved.
    fn pay(&mut self, termination: Termination) {
        // Whoever got an answer, or a part of one, used what it took. What failed on our side used
        // nothing, not even a place among the requests of its minute; what the client got wrong, or
        // left, did.
        let used = self.tokens.output > 0 || self.counted;
        // An answer that its client did not wait for was begun all the same: its prompt was computed.
        let left = matches!(termination, Termination::ClientCancel | Termination::Timeout);
        if left && !used && self.attempts > 0 {
            self.tokens.input = self.estimated_input;
            self.tell_tokens();
        }
        let used = used || (left && self.attempts > 0) || !is_ours(termination);
        match &self.part {
            Part::Generation(generation) => {
                generation.close();
                let (purse, price) = (generation.take_purse(), generation.told().price);
                if used {
                    Lease::settle_shared(purse, price, self.tokens);
                }
            }
            Part::Caller(generation, _) => {
                let price = generation.told().price;
                if let Some(lease) = self.lease.take().filter(|_| used) {
                    lease.settle_at(price, self.tokens);
                }
            }
            Part::Request | Part::Copy => {
                if let Some(lease) = self.lease.take().filter(|_| used) {
                    lease.settle(self.tokens);
                }
            }
        }
    }

    fn record(&self, status: u16, termination: Termination) -> Record {
        let phases = self.timeline.phases(self.now());
        Record {
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
            merged: matches!(self.part, Part::Caller(_, true)),
            mirror: matches!(self.part, Part::Copy),
            cache: self.cache,
            resumed: self.detours.resumed,
            corrupted: self.detours.corrupted,
            earlier_replicas: self.detours.earlier.clone(),
            replica: self.replica.clone(),
            why: self.why.map(|why| why.to_string()),
            tokens: self.tokens,
            phases,
            total: phases.total(),
            ttft: self.timeline.ttft(),
            tpot: self.timeline.tpot(self.tokens.output),
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
