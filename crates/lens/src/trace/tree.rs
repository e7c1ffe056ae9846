//! The spans of a request that is over, made from its record.

use core::fmt::Write as _;

use pilotage_core::traffic::Name;
use pilotage_core::{Span, Why};

use super::key::{Convention, Key};
use super::sample::{Reasons, failed};
use super::span::{Event, Kind, Outcome, TraceSpan, Value};
use crate::record::attempt_span;
use crate::{AttemptFault, Phase, Record, Termination};

/// Shorter parts have no span of their own: the phases say how long they took.
const SPAN_LEAST: Span = Span::from_millis(1);

/// Failed attempts that are shown.
const EARLIER_MAX: usize = 16;

/// Parts of a request that have a span, beside its attempts. Their ids are those of attempts that no request
/// comes to, so that all differ.
#[derive(Clone, Copy)]
enum Part {
    Queue,
    Pick,
    Connect,
    Prefill,
    Decode,
    Flush,
}

/// Adds the spans of a request to `out`, the request's own first.
pub fn spans(record: &Record, reasons: Reasons, convention: Convention, out: &mut Vec<TraceSpan>) {
    let tree = Tree { record, convention, course: Course::of(record) };
    out.push(tree.server(reasons));
    out.extend(tree.queue());
    // Who shares an answer has made no attempts: they are in the trace of who asked for it first.
    if record.attempts > 0 && !record.merged {
        out.push(tree.pick());
        tree.earlier(out);
        let attempt = tree.last();
        let id = attempt.span_id;
        out.push(attempt);
        tree.inside(id, out);
    }
    out.extend(tree.flush());
}

/// When a request's phases ended, in nanoseconds since 1970. They add up to its total, so that the last one ends
/// with it.
struct Course {
    begin: u64,
    ends: [u64; Phase::ALL.len()],
}

impl Course {
    fn of(record: &Record) -> Self {
        let end = record.unix_ms.saturating_mul(1_000_000);
        let begin = end.saturating_sub(record.total.as_nanos());
        let mut at = begin;
        let ends = Phase::ALL.map(|phase| {
            at = at.saturating_add(record.phases.of(phase).as_nanos()).min(end);
            at
        });
        Self { begin, ends }
    }

    const fn end_of(&self, phase: Phase) -> u64 {
        self.ends[phase as usize]
    }

    /// From the end of one phase to that of another.
    const fn between(&self, before: Phase, last: Phase) -> (u64, u64) {
        (self.end_of(before), self.end_of(last))
    }
}

struct Tree<'a> {
    record: &'a Record,
    convention: Convention,
    course: Course,
}

/// Attributes by the names of a convention.
struct Said {
    convention: Convention,
    all: Vec<(&'static str, Value)>,
}

impl Said {
    fn say(&mut self, key: Key, value: impl Into<Value>) {
        if let Some(name) = key.name(self.convention) {
            self.all.push((name, value.into()));
        }
    }

    fn say_if<T: Into<Value>>(&mut self, key: Key, value: Option<T>) {
        if let Some(value) = value {
            self.say(key, value);
        }
    }

    /// What is said only where it is more than nothing.
    fn say_some(&mut self, key: Key, count: u32) {
        self.say_if(key, Some(count).filter(|count| *count > 0));
    }

    fn say_true(&mut self, key: Key, holds: bool) {
        self.say_if(key, Some(true).filter(|_| holds));
    }
}

impl Tree<'_> {
    const fn said(&self) -> Said {
        Said { convention: self.convention, all: Vec::new() }
    }

    const fn id(&self, part: Part) -> u64 {
        attempt_span(self.record.span_id, u32::MAX - part as u32)
    }

    fn span(
        &self,
        (id, parent): (u64, u64),
        name: impl Into<Name>,
        times: (u64, u64),
    ) -> TraceSpan {
        TraceSpan {
            trace_id: self.record.trace_id,
            span_id: id,
            parent: Some(parent),
            parent_is_remote: false,
            sampled: self.record.sampled,
            name: name.into(),
            kind: Kind::Internal,
            begin_nanos: times.0,
            end_nanos: times.1,
            attributes: Vec::new(),
            events: Vec::new(),
            outcome: Outcome::Unset,
        }
    }

    fn part(&self, part: Part, name: &'static str, times: (u64, u64), said: Said) -> TraceSpan {
        let ids = (self.id(part), self.record.span_id);
        TraceSpan { attributes: said.all, ..self.span(ids, name, times) }
    }

    /// The request itself.
    fn server(&self, reasons: Reasons) -> TraceSpan {
        let record = self.record;
        let mut said = self.said();
        said.say(Key::Method, "POST");
        said.say(Key::UrlPath, record.path);
        said.say(Key::HttpRoute, record.path);
        said.say(Key::Status, record.status);
        said.say_if(Key::ErrorType, self.error_type());
        said.say(Key::RequestId, record.request_id.clone());
        said.say_if(Key::Tenant, record.tenant.clone());
        said.say_if(Key::TenantPath, record.tenant_path.clone());
        said.say_if(Key::Route, record.route.clone());
        said.say_if(Key::RouteWhy, record.route_why.as_ref().map(text));
        said.say_if(Key::Model, record.lane.clone());
        said.say_if(Key::Version, record.version.clone());
        said.say_if(Key::Adapter, record.adapter.clone());
        said.say(Key::Band, record.band.name());
        said.say(Key::Stream, record.stream);
        said.say(Key::Termination, record.termination.name());
        said.say(Key::Attempts, record.attempts);
        said.say_some(Key::Preempted, record.stops);
        said.say_some(Key::Resumed, record.resumed);
        said.say_true(Key::Merged, record.merged);
        said.say_true(Key::Mirror, record.mirror);
        said.say_true(Key::Corrupted, record.corrupted);
        said.say_if(Key::Cache, record.cache);
        said.say(Key::Kept, Value::Words(reasons.names().collect()));
        for phase in Phase::ALL {
            said.say(key_of(phase), record.phases.of(phase));
        }
        let (kind, verb) =
            if record.mirror { (Kind::Internal, "mirror") } else { (Kind::Server, "POST") };
        let times = (self.course.begin, self.course.end_of(Phase::Other));
        let name = Name::from(format!("{verb} {}", record.path));
        TraceSpan {
            parent: record.parent_span,
            parent_is_remote: record.parent_span.is_some() && !record.mirror,
            kind,
            attributes: said.all,
            outcome: self.outcome(),
            ..self.span((record.span_id, 0), name, times)
        }
    }

    fn queue(&self) -> Option<TraceSpan> {
        let record = self.record;
        if record.phases.queue < SPAN_LEAST {
            return None;
        }
        let left = record.attempts == 0 && !record.merged;
        let outcome = if left { record.termination.name() } else { "dispatched" };
        let mut said = self.said();
        said.say(Key::Band, record.band.name());
        said.say(Key::QueueOutcome, outcome);
        said.say(Key::QueueDepth, record.queue_depth);
        let times = self.course.between(Phase::Route, Phase::Queue);
        Some(self.part(Part::Queue, "admission.queue", times, said))
    }

    /// The choice of the last attempt's replica, which takes no time that could be measured here.
    fn pick(&self) -> TraceSpan {
        let mut said = self.said();
        said.say_if(Key::Replica, self.record.replica.clone());
        match &self.record.why {
            Some(Why::Placed { policy, costs, cached, next, candidates, .. }) => {
                said.say(Key::Policy, *policy);
                said.say(Key::Candidates, *candidates);
                said.say(Key::PickCost, costs.total());
                said.say_if(Key::PickNext, *next);
                said.say(Key::PickCached, *cached);
            }
            Some(Why::Displaces { .. }) => said.say(Key::Policy, "displaces"),
            None => {}
        }
        said.say_if(Key::PickWhy, self.record.why.as_ref().map(text));
        let at = self.course.end_of(Phase::Retry);
        self.part(Part::Pick, "route.pick", (at, at), said)
    }

    /// Attempts that failed before the last one. When each of several ended is not known.
    fn earlier(&self, out: &mut Vec<TraceSpan>) {
        let record = self.record;
        let times = self.course.between(Phase::Queue, Phase::Retry);
        let shared = record.earlier_replicas.len() > 1;
        let faults = record.earlier_faults.iter().copied().chain(core::iter::repeat(None));
        let earlier = record.earlier_replicas.iter().zip(faults).take(EARLIER_MAX);
        for (number, (replica, fault)) in (1..).zip(earlier) {
            let mut said = self.said();
            self.say_of_attempt(&mut said, number);
            said.say(Key::Replica, replica.clone());
            said.say_if(Key::AttemptBounds, Some("shared").filter(|_| shared));
            let ids = (attempt_span(record.span_id, number), record.span_id);
            let outcome = match fault {
                Some(fault) => say_fault(&mut said, fault),
                None => {
                    said.say(Key::Fault, "stopped");
                    Outcome::Unset
                }
            };
            let span = self.span(ids, self.attempt_name(), times);
            out.push(TraceSpan { kind: Kind::Client, outcome, attributes: said.all, ..span });
        }
    }

    /// The attempt that was answered, or the last one that failed.
    fn last(&self) -> TraceSpan {
        let record = self.record;
        let mut said = self.said();
        self.say_of_attempt(&mut said, record.attempts);
        said.say_if(Key::Replica, record.replica.clone());
        self.say_address(&mut said);
        said.say_if(Key::Reused, record.reused);
        said.say_if(Key::Region, record.region.clone());
        said.say_if(Key::Runtime, record.runtime);
        said.say_if(Key::RuntimeVersion, record.runtime_version.clone());
        said.say_if(Key::Hardware, record.hardware.clone());
        said.say_if(Key::ResponseModel, record.lane.clone());
        // Of a failure the client got another status than the replica gave.
        let passed = matches!(record.termination, Termination::Ok);
        let outcome = match record.fault.filter(|_| !passed) {
            Some(fault) => say_fault(&mut said, fault),
            None => {
                said.say_if(Key::Status, Some(record.status).filter(|_| passed));
                said.say_if(Key::ErrorType, self.error_type());
                said.say_if(Key::Fault, record.fault.map(|fault| fault.what));
                self.outcome()
            }
        };
        said.say(Key::InputTokens, record.tokens.input);
        said.say(Key::OutputTokens, record.tokens.output);
        said.say(Key::Counted, record.counted);
        said.say(Key::CachedTokens, record.tokens.cached);
        said.say_some(Key::ReasoningTokens, record.reasoning);
        said.say(Key::Streaming, record.stream);
        let first = record.phases.connect + record.phases.prefill;
        let first = record.ttft.filter(|_| record.stream).map(|_| first.as_secs_f64());
        said.say_if(Key::FirstChunk, first);
        let ids = (attempt_span(record.span_id, record.attempts), record.span_id);
        let times = self.course.between(Phase::Retry, Phase::ClientBlocked);
        TraceSpan {
            kind: Kind::Client,
            attributes: said.all,
            events: self.events(times),
            outcome,
            ..self.span(ids, self.attempt_name(), times)
        }
    }

    /// Host and port, as semantic conventions have them.
    fn say_address(&self, said: &mut Said) {
        let Some(address) = &self.record.address else { return };
        let Some((host, port)) = address.as_str().rsplit_once(':') else { return };
        said.say(Key::ServerAddress, Name::from(host.trim_matches(['[', ']'])));
        said.say_if(Key::ServerPort, port.parse::<u16>().ok());
    }

    fn say_of_attempt(&self, said: &mut Said, number: u32) {
        let record = self.record;
        said.say(Key::Operation, operation(record.path));
        said.say(Key::Provider, record.runtime.unwrap_or("pilotage"));
        said.say_if(Key::RequestModel, self.model());
        said.say(Key::Attempt, number);
        said.say_some(Key::Resend, number.saturating_sub(1));
    }

    fn model(&self) -> Option<Name> {
        self.record.route.clone().or_else(|| self.record.lane.clone())
    }

    fn attempt_name(&self) -> Name {
        let operation = operation(self.record.path);
        self.model().map_or_else(|| operation.into(), |model| format!("{operation} {model}").into())
    }

    /// Moments of the last attempt, in order, and within it.
    fn events(&self, (begin, end): (u64, u64)) -> Vec<Event> {
        let record = self.record;
        let answered = record.ttft.is_some() || record.is_answered();
        let first = record.ttft.map(|_| self.course.end_of(Phase::Prefill));
        let gaps = u64::from(record.tokens.output.saturating_sub(1));
        let last = first.zip(record.tpot).map(|(first, tpot)| {
            first.saturating_add(tpot.as_nanos().saturating_mul(gaps)).min(end)
        });
        let moments = [
            ("response.headers", answered.then(|| self.course.end_of(Phase::Connect))),
            ("first_token", first),
            ("last_token", last),
        ];
        let known =
            moments.into_iter().filter_map(|(name, at)| at.map(|at_nanos| (name, at_nanos)));
        let known = known.map(|(name, at_nanos)| Event { name, at_nanos, attributes: Vec::new() });
        let stall = |first: u64, stall: &crate::Stall| {
            let mut said = self.said();
            said.say(Key::StallGap, stall.gap);
            let at_nanos = first.saturating_add(stall.after.as_nanos());
            Event { name: "stall", at_nanos, attributes: said.all }
        };
        let stalls = first
            .into_iter()
            .flat_map(|first| record.stalls.iter().map(move |one| stall(first, one)));
        let mut events: Vec<Event> = known.chain(stalls).collect();
        events.iter_mut().for_each(|event| event.at_nanos = event.at_nanos.clamp(begin, end));
        events.sort_by_key(|event| event.at_nanos);
        events
    }

    /// What the last attempt consists of.
    fn inside(&self, attempt: u64, out: &mut Vec<TraceSpan>) {
        let record = self.record;
        let mut add = |part, name, times, said: Said| {
            let span = self.span((self.id(part), attempt), name, times);
            out.push(TraceSpan { attributes: said.all, ..span });
        };
        if record.phases.connect >= SPAN_LEAST {
            let times = self.course.between(Phase::Retry, Phase::Connect);
            add(Part::Connect, "connect", times, self.said());
        }
        let Some(ttft) = record.ttft else { return };
        let mut said = self.said();
        said.say(Key::Ttft, ttft);
        add(Part::Prefill, "prefill", self.course.between(Phase::Connect, Phase::Prefill), said);
        if record.tokens.output < 2 {
            return;
        }
        let mut said = self.said();
        said.say(Key::Gaps, record.tokens.output - 1);
        said.say_if(Key::Tpot, record.tpot);
        if let Some(itl) = &record.itl {
            said.say(Key::ItlP50, itl.p50);
            said.say(Key::ItlP99, itl.p99);
            said.say(Key::ItlMax, itl.max);
            said.say(Key::Stalls, itl.stalls);
            said.say(Key::Stalled, itl.stalled);
        }
        add(Part::Decode, "decode", self.course.between(Phase::Prefill, Phase::Decode), said);
    }

    fn flush(&self) -> Option<TraceSpan> {
        let times = self.course.between(Phase::Decode, Phase::ClientBlocked);
        let long = self.record.phases.client_blocked >= SPAN_LEAST;
        long.then(|| self.part(Part::Flush, "stream.flush", times, self.said()))
    }

    fn outcome(&self) -> Outcome {
        if !failed(self.record) {
            return Outcome::Unset;
        }
        match self.record.termination {
            Termination::Ok => Outcome::Error("the engine answered with an error"),
            termination => Outcome::Error(termination.name()),
        }
    }

    fn error_type(&self) -> Option<Value> {
        match self.record.termination {
            Termination::Ok if self.record.status < 400 => None,
            Termination::Ok => Some(Value::Text(self.record.status.to_string().into())),
            termination => Some(Value::Word(termination.name())),
        }
    }
}

/// Says what was wrong with an attempt: a status that is a failure is its own type of error.
fn say_fault(said: &mut Said, fault: AttemptFault) -> Outcome {
    said.say_if(Key::Status, fault.status);
    match fault.status.filter(|status| *status >= 400) {
        Some(status) => said.say(Key::ErrorType, Name::from(status.to_string())),
        None => said.say(Key::ErrorType, fault.what),
    }
    said.say(Key::Fault, fault.what);
    Outcome::Error(fault.what)
}

const fn key_of(phase: Phase) -> Key {
    match phase {
        Phase::Auth => Key::Auth,
        Phase::Read => Key::Read,
        Phase::Route => Key::RouteMs,
        Phase::Queue => Key::Queue,
        Phase::Retry => Key::Retry,
        Phase::Connect => Key::Connect,
        Phase::Prefill => Key::Prefill,
        Phase::Decode => Key::Decode,
        Phase::ClientBlocked => Key::ClientBlocked,
        Phase::Other => Key::Other,
    }
}

/// The word of the conventions for what a path does; where they have none, the path's own.
fn operation(path: &'static str) -> &'static str {
    match path {
        "/v1/chat/completions" | "/v1/messages" | "/v1/responses" => "chat",
        "/v1/completions" => "text_completion",
        other => other.strip_prefix("/v1/").unwrap_or(other),
    }
}

fn text(why: &impl core::fmt::Display) -> Name {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write!(text, "{why}");
    text.into()
}
