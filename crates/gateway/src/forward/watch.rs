//! A request, watched from its first byte to its last: marks, counts, and one record at the end. A
//! watch that is dropped without an end was left by its client. An answer that several callers share has a
//! watch of its own, which leaves no record but tells theirs.

mod end;
mod shared;

use std::sync::Arc;

use http::HeaderValue;
use pilotage_core::traffic::Name;
use pilotage_core::{Band, Span, Time, Tokens, traffic};
use pilotage_lens::{At, AttemptFault, Away, Gaps, Mark, Runs, Termination, Timeline};
use pilotage_wire::openai::usage::Usage;

use super::generation::{Generation, Told};
use super::trace::Traced;
use crate::app::Gateway;
use crate::auth::Caller;
use crate::driver::{Reason, Replica};
use crate::metrics::Fault;
use crate::quotas::{Header, Lease};
use crate::table::Lane;
use crate::trail::Seat;
use crate::trials::Place;

/// Status of a request whose client went away: nginx's own for it, never sent to anybody.
const CLIENT_CLOSED: u16 = 499;

/// Whose way is watched.
#[derive(Clone)]
enum Part {
    /// A request's, from its client to a replica.
    Request,
    /// That of a request that shares a generation, as the how manieth of those who asked for it, from zero.
    Caller(Arc<Generation>, u64),
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
    earlier: Vec<Name>,
    /// What was wrong with each of these.
    faults: Vec<Option<AttemptFault>>,
    /// What is wrong with the last attempt.
    fault: Option<AttemptFault>,
    /// Whether the connection to its replica was open already.
    reused: Option<bool>,
    /// Requests that waited when it got in line.
    waiting: u32,
    /// Whether the engine said something that had to be put right.
    corrupted: bool,
}

pub(crate) struct Watch {
    gateway: Gateway,
    part: Part,
    timeline: Timeline,
    path: &'static str,
    request_id: Name,
    traced: Traced,
    /// Whose it is: its name, and that below those above it.
    tenant: Option<(Name, Name)>,
    lane: Option<Arc<Lane>>,
    adapter: Option<Name>,
    band: Band,
    stream: bool,
    attempts: u32,
    /// What they took of engines.
    runs: Runs,
    /// Where the last attempt went, and why there.
    why: Option<Reason>,
    /// Why this model.
    routed: Option<traffic::Why>,
    /// Where its end counts.
    place: Option<Place>,
    /// Whether the model that it is at failed it, and that was counted.
    failed: bool,
    tokens: Tokens,
    /// Tokens of the answer that were thoughts.
    reasoning: u32,
    /// Whether the engine itself told the tokens.
    counted: bool,
    /// What it was charged, in millionths.
    charged: u64,
    /// The gaps between its tokens.
    gaps: Option<Box<Gaps>>,
    /// Of an answer that it shares: events with tokens that it got, and when the last of them came.
    events: u32,
    token_at: Option<Time>,
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
    /// Where it is among those that are under way.
    seat: Option<Seat>,
    /// The number of its row in the ledger, until that was waited for.
    row: Option<u64>,
    over: bool,
}

impl Watch {
    /// A request that begins now, among those that are under way.
    pub(crate) fn new(
        gateway: Gateway,
        path: &'static str,
        request_id: Name,
        traced: Traced,
    ) -> Self {
        let mut watch = Self::unseen(gateway, path, request_id, traced);
        watch.seat = Some(watch.gateway.inner.trail.live.enter(&watch.request_id, watch.timeline));
        watch
    }

    /// A watch of something that is no request of its own.
    fn unseen(gateway: Gateway, path: &'static str, request_id: Name, traced: Traced) -> Self {
        let timeline = Timeline::new(Time::from_nanos(gateway.inner.clock.now_nanos()));
        Self {
            gateway,
            part: Part::Request,
            timeline,
            path,
            request_id,
            traced,
            tenant: None,
            lane: None,
            adapter: None,
            band: Band::default(),
            stream: false,
            attempts: 0,
            runs: Runs::default(),
            why: None,
            routed: None,
            place: None,
            failed: false,
            tokens: Tokens::default(),
            reasoning: 0,
            counted: false,
            charged: 0,
            gaps: None,
            events: 0,
            token_at: None,
            stops: 0,
            cache: None,
            detours: Detours::default(),
            hedge: None,
            lease: None,
            estimated_input: 0,
            limits: Vec::new(),
            body: Span::ZERO,
            seat: None,
            row: None,
            over: false,
        }
    }

    pub(crate) fn caller(&mut self, caller: &Caller) {
        self.tenant = Some((caller.name.clone(), caller.path.clone()));
        self.band = caller.band;
        self.mark(Mark::Known);
        let tenant = &self.tenant;
        self.show(|seen| {
            seen.tenant.clone_from(tenant);
            seen.band = caller.band;
        });
    }

    pub(crate) fn stream(&mut self, stream: bool) {
        self.stream = stream;
        self.show(|seen| seen.stream = stream);
    }

    /// The request's model is chosen.
    pub(crate) fn routed(&mut self, why: traffic::Why, role: traffic::Role) {
        self.place = Some(Place { route: why.route.clone(), role });
        self.routed = Some(why);
    }

    /// The request goes to a lane, and asks for that LoRA adapter there.
    pub(crate) fn lane(&mut self, lane: &Arc<Lane>, adapter: Option<&str>) {
        self.adapter = adapter.map(Name::from);
        self.lane = Some(Arc::clone(lane));
        self.failed = false;
        self.show(|seen| seen.lane = Some(lane.name.clone()));
        self.tell(|told| {
            told.lane = Some(Arc::clone(lane));
            told.failed = false;
            told.price = lane.config.price;
        });
    }

    /// The name of its lane, empty where it has none.
    fn lane_name(&self) -> &str {
        self.lane.as_ref().map_or("", |lane| lane.name.as_str())
    }

    /// Shows it to those who look at what is under way.
    fn show(&self, note: impl FnOnce(&mut crate::trail::Seen)) {
        if let Some(seat) = &self.seat {
            self.gateway.inner.trail.live.note(seat, note);
        }
    }

    /// Tells the callers' records.
    fn tell(&self, note: impl FnOnce(&mut Told)) {
        if let Part::Generation(generation) = &self.part {
            generation.tell(note);
        }
    }

    pub(crate) fn dispatched(&mut self, attempt: u32, why: &Reason) {
        let now = self.mark(Mark::Dispatched);
        self.runs.begin(now, self.at(why.replica()), 0);
        self.moved(attempt, why);
        self.begins();
        if let Part::Generation(generation) = &self.part {
            generation.started();
        }
    }

    /// Its turn came in the middle of its answer, of which its client has so many tokens: a replica is asked to go on.
    pub(crate) fn asked_on(&mut self, attempt: u32, why: &Reason, sent: u32) {
        let now = self.now();
        self.timeline.asked_again(now);
        self.runs.begin(now, self.at(why.replica()), sent);
        self.moved(attempt, why);
        self.show_timeline();
    }

    /// It has a token that it had not before it was asked to go on.
    pub(crate) fn went_on(&mut self, now: Time) {
        self.timeline.went_on(now);
        self.runs.first(now);
        self.show_timeline();
    }

    /// A replica of the model that it is at.
    fn at(&self, replica: &Replica) -> At {
        let lane = self.lane.as_deref();
        At {
            replica: replica.name.clone(),
            lane: lane.map(|lane| lane.name.clone()),
            version: lane.and_then(|lane| lane.version.clone()),
            hardware: replica.hardware.clone(),
        }
    }

    /// The request waits no more.
    pub(crate) fn begins(&self) {
        if let Some(lease) = &self.lease {
            lease.started();
        }
    }

    /// The request is at a replica, perhaps in the middle of its answer.
    fn moved(&mut self, attempt: u32, why: &Reason) {
        self.attempts = attempt;
        let (fault, detours) = (self.detours.fault.take(), &mut self.detours);
        detours.reused = None;
        if let Some(before) = self.why.replace(why.clone()) {
            detours.earlier.push(before.replica().name.clone());
            detours.faults.push(fault);
        }
        self.show(|seen| seen.why = Some(why.clone()));
        self.tell(|told| {
            told.attempts = attempt;
            told.why = Some(why.clone());
            told.detours.clone_from(&self.detours);
            told.timeline = Some(self.timeline);
            told.runs.clone_from(&self.runs);
        });
    }

    /// It gets in line, where so many wait.
    pub(crate) fn lined(&mut self, waiting: u32) {
        self.mark(Mark::Lined);
        self.detours.waiting = waiting;
    }

    /// The replica answers, over a connection that was open already or not.
    pub(crate) const fn reused(&mut self, reused: bool) {
        self.detours.reused = Some(reused);
    }

    /// What was wrong with the attempt, with the status that its replica answered with.
    pub(crate) fn faulted(&mut self, fault: Fault, status: Option<u16>) {
        self.detours.fault = Some(AttemptFault { what: fault.name(), status });
        self.tell_detours();
    }

    /// The body, asked for at that time, is here.
    pub(crate) fn body_came(&mut self, asked: Time) {
        self.body = self.now().since(asked);
    }

    /// Sets a mark; returns the time.
    pub(crate) fn mark(&mut self, mark: Mark) -> Time {
        let now = self.now();
        self.timeline.set(now, mark);
        if mark == Mark::FirstToken {
            self.runs.first(now);
        }
        // Of a stream each event is its last one so far: only the first is news for who looks on.
        if mark != Mark::LastToken {
            self.show_timeline();
        }
        now
    }

    /// Shows where it is, and what its replicas had of it.
    fn show_timeline(&self) {
        let timeline = self.timeline;
        self.show(|seen| seen.timeline = timeline);
        self.tell(|told| {
            told.timeline = Some(timeline);
            told.runs.clone_from(&self.runs);
        });
    }

    /// One more token of a stream, which follows the one before by so much.
    pub(crate) fn gap(&mut self, gap: Span) {
        self.gaps.get_or_insert_default().add(gap);
    }

    /// The client took nothing for so long.
    pub(crate) fn blocked(&mut self, span: Span) {
        self.timeline.blocked(span);
    }

    pub(crate) fn usage(&mut self, usage: &Usage) {
        self.tokens = Tokens {
            input: usage.prompt_tokens,
            cached: usage.cached_tokens(),
            output: usage.completion_tokens,
        };
        self.reasoning = usage.reasoning_tokens();
        self.counted = true;
        self.tell_tokens();
    }

    fn tell_tokens(&self) {
        let (count, counted) = ((self.tokens, self.reasoning), self.counted);
        self.tell(|told| ((told.tokens, told.reasoning), told.counted) = (count, counted));
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
        self.tell(|told| told.events = output);
        if !self.counted {
            self.tokens = Tokens { input, cached: 0, output };
            self.tell_tokens();
            self.show(|seen| seen.output = output);
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
        self.leaves(Away::Turn);
    }

    /// The attempt failed, and another may follow.
    pub(crate) fn failed(&mut self) {
        self.leaves(Away::Retry);
    }

    fn leaves(&mut self, away: Away) {
        let now = self.now();
        self.timeline.leave(now, away);
        self.runs.end(now, self.tokens.output, true);
        self.show_timeline();
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
        self.gateway.inner.counts.resume(self.lane_name(), outcome);
    }

    /// There was a second attempt beside the first one, at that replica from then to then, which came to nothing.
    pub(crate) fn hedged(&mut self, outcome: &'static str, times: (Time, Time), replica: &Replica) {
        self.runs.beside(times, self.at(replica));
        self.outcome_of_hedge(outcome);
    }

    /// A second attempt goes on in its place, as that watch saw it.
    pub(crate) fn outrun(&mut self, by: &Self, attempt: u32, why: &Reason) {
        self.timeline.outrun(&by.timeline);
        let now = self.now();
        let sent = by.timeline.dispatched().unwrap_or(now);
        let times = (sent, by.timeline.first_token());
        self.runs.outrun(now, times, self.at(why.replica()));
        self.moved(attempt, why);
        self.show_timeline();
        self.outcome_of_hedge("won");
    }

    fn outcome_of_hedge(&mut self, outcome: &'static str) {
        self.hedge = Some(outcome);
        self.gateway.inner.counts.hedge(self.lane_name(), outcome);
    }

    /// A watch for an attempt that counts only once it has won: it leaves no record.
    pub(crate) fn aside(&self) -> Self {
        let (gateway, request_id) = (self.gateway.clone(), self.request_id.clone());
        let mut aside = Self::unseen(gateway, self.path, request_id, self.traced.clone());
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

    pub(crate) const fn request_id(&self) -> &Name {
        &self.request_id
    }

    pub(crate) fn traced(&self) -> Traced {
        self.traced.clone()
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
            traced: self.traced.clone(),
            tenant: self.tenant.take(),
            lane: self.lane.take(),
            adapter: self.adapter.take(),
            band: self.band,
            stream: self.stream,
            attempts: self.attempts,
            runs: std::mem::take(&mut self.runs),
            why: self.why.clone(),
            routed: self.routed.clone(),
            place: self.place.take(),
            failed: self.failed,
            tokens: self.tokens,
            reasoning: self.reasoning,
            counted: self.counted,
            charged: self.charged,
            gaps: self.gaps.take(),
            events: self.events,
            token_at: self.token_at,
            stops: self.stops,
            cache: self.cache,
            detours: std::mem::take(&mut self.detours),
            hedge: self.hedge,
            lease: self.lease.take(),
            estimated_input: self.estimated_input,
            limits: Vec::new(),
            body: self.body,
            seat: self.seat.take(),
            row: None,
            over: false,
        }
    }

    /// Waits until its row is in the ledger, for as long as a ledger may hold up an answer's end.
    pub(super) async fn booked(&mut self) {
        if let Some(row) = self.row.take() {
            self.gateway.inner.trail.booked(row).await;
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
