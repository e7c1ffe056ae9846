//! What engines would show on their pages to who looks now and then: gauges as they are, counters since
//! their start. It is what their makers count, at the moments at which they count it.

use std::collections::BTreeMap;

use pilotage_core::{RequestId, Span, Time};

use super::{Event, Simulation, place};
use crate::engine::{Done, Tally};

/// How long a client that gave up waits before it sends its request again.
const AGAIN_AFTER: Span = Span::from_millis(200);

/// How engines are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watching {
    /// How often.
    pub every: Span,
    /// When the run is over, whatever is still under way.
    pub until: Time,
}

/// Times that were added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Their sum.
    pub seconds: f64,
    /// Their number.
    pub count: f64,
}

/// What an engine has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Answers that came to their own end.
    pub stopped: u64,
    /// Answers that came to the longest they may be.
    pub cut: u64,
    /// Requests that were called off.
    pub aborted: u64,
    /// Prompt tokens of requests that have begun.
    pub prompt_tokens: u64,
    /// Those of them that were cached.
    pub cached_tokens: u64,
    /// Generated tokens.
    pub generated: u64,
    /// Steps.
    pub steps: u64,
    /// From its coming to its first token.
    pub ttft: Sum,
    /// Between tokens.
    pub itl: Sum,
    /// For each token after the first, by request.
    pub tpot: Sum,
    /// From its coming until it is in the batch.
    pub queue: Sum,
    /// From then to its first token.
    pub prefill: Sum,
    /// From the first to the last token.
    pub decode: Sum,
    /// Seconds in which it computed.
    pub busy: f64,
    /// Preempted sequences.
    pub preemptions: u64,
    /// Drafted tokens.
    pub drafted: u64,
    /// Those that were right.
    pub accepted: u64,
    /// Adapters loaded.
    pub loads: u64,
    /// Steps that decoded.
    pub decode_steps: u64,
    /// Tokens in the KV cache, added up over these.
    pub kv_token_steps: u64,
    /// Prompt tokens computed, some of them twice.
    pub computed_tokens: u64,
}

/// What one engine showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Whether it was there.
    pub is_up: bool,
    /// Since when.
    pub since: Time,
    /// Requests in its batch.
    pub running: u32,
    /// Requests in its own queue.
    pub waiting: u32,
    /// Those that wait for a place for their adapter.
    pub deferred: usize,
    /// The part of its KV cache that is in use.
    pub kv_usage: f64,
    /// Adapters in the batch.
    pub adapters: Vec<u32>,
    /// Adapters of those that wait.
    pub adapters_waiting: Vec<u32>,
    /// What it counted.
    pub counters: Counters,
    /// Requests that the gateway has there.
    pub in_flight: u32,
    /// How old what the gateway knows of it is.
    pub report_age: Span,
}

/// What was seen in one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glance {
    /// When.
    pub at: Time,
    /// Requests that wait in the gateway.
    pub queued: u32,
    /// Each engine.
    pub pages: Vec<Page>,
}

/// A request in an engine.
#[derive(Clone, Copy, Debug)]
struct Timing {
    put: Time,
    batched: Option<Time>,
    first: Option<Time>,
    last: Time,
    tokens: u32,
}

/// What one engine counts.
#[derive(Clone, Debug, Default)]
struct Meter {
    since: Time,
    told: Time,
    counters: Counters,
    requests: BTreeMap<RequestId, Timing>,
}

/// All engines' counters.
#[derive(Debug)]
pub(super) struct Probe {
    watching: Watching,
    meters: Vec<Meter>,
}

impl Sum {
    fn add(&mut self, span: Span) {
        self.seconds += span.as_secs_f64();
        self.count += 1.0;
    }
}

impl Probe {
    pub(super) fn new(watching: Watching, engines: usize) -> Self {
        Self { watching, meters: vec![Meter::default(); engines] }
    }
}

impl Meter {
    fn first(&mut self, now: Time, id: RequestId, (input, cached): (u32, u32)) {
        let Some(timing) = self.requests.get_mut(&id) else { return };
        let batched = timing.batched.unwrap_or(timing.put);
        (timing.first, timing.last, timing.tokens) = (Some(now), now, timing.tokens + 1);
        self.counters.ttft.add(now.since(timing.put));
        self.counters.queue.add(batched.since(timing.put));
        self.counters.prefill.add(now.since(batched));
        self.counters.prompt_tokens += u64::from(input);
        self.counters.cached_tokens += u64::from(cached);
        self.counters.generated += 1;
    }

    fn more(&mut self, now: Time, id: RequestId, tokens: u32) {
        let Some(timing) = self.requests.get_mut(&id) else { return };
        let new = tokens.saturating_sub(timing.tokens);
        if new == 0 || timing.first.is_none() {
            return;
        }
        self.counters.itl.seconds += now.since(timing.last).as_secs_f64();
        self.counters.itl.count += f64::from(new);
        self.counters.generated += u64::from(new);
        (timing.last, timing.tokens) = (now, tokens);
    }

    fn end(&mut self, now: Time, id: RequestId, is_cut: bool) {
        let Some(timing) = self.requests.remove(&id) else { return };
        let first = timing.first.unwrap_or(now);
        self.counters.decode.add(now.since(first));
        if timing.tokens > 1 {
            let gaps = f64::from(timing.tokens - 1);
            self.counters.tpot.seconds += now.since(first).as_secs_f64() / gaps;
            self.counters.tpot.count += 1.0;
        }
        if is_cut {
            self.counters.cut += 1;
        } else {
            self.counters.stopped += 1;
        }
    }
}

impl Simulation<'_> {
    /// Whether all was seen that was to be seen.
    pub(super) fn is_watched_out(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| self.now >= probe.watching.until)
    }

    /// A request came to an engine.
    pub(super) fn note_put(&mut self, engine: usize, id: RequestId) {
        let now = self.now;
        if let Some(probe) = &mut self.probe {
            let tokens = self.out.records[place(id)].generated;
            let timing = Timing { put: now, batched: None, first: None, last: now, tokens };
            probe.meters[engine].requests.insert(id, timing);
        }
    }

    /// An engine began a step.
    pub(super) fn note_step(&mut self, engine: usize, span: Span) {
        let Some(probe) = &mut self.probe else { return };
        let meter = &mut probe.meters[engine];
        meter.counters.steps += 1;
        meter.counters.busy += span.as_secs_f64();
        for id in self.engines[engine].stepped().into_iter().flat_map(|inner| inner.running()) {
            if let Some(timing) = meter.requests.get_mut(&id) {
                timing.batched.get_or_insert(self.now);
            }
        }
    }

    /// A step brought tokens.
    pub(super) fn note_tokens(&mut self, engine: usize, done: &Done) {
        let Some(probe) = &mut self.probe else { return };
        let (now, meter) = (self.now, &mut probe.meters[engine]);
        for (id, cached) in &done.begun {
            meter.first(now, *id, (self.scenario.arrivals[place(*id)].input, *cached));
        }
        for (id, tokens) in self.engines[engine].progress() {
            meter.more(now, id, tokens);
        }
        for id in &done.ended {
            let arrival = &self.scenario.arrivals[place(*id)];
            meter.more(now, *id, arrival.output);
            meter.end(now, *id, arrival.output >= arrival.output_max);
        }
    }

    /// An engine was told to stop a request.
    pub(super) fn note_abort(&mut self, engine: usize, id: RequestId) {
        if let Some(probe) = &mut self.probe {
            let meter = &mut probe.meters[engine];
            meter.counters.aborted += u64::from(meter.requests.remove(&id).is_some());
        }
    }

    /// An engine was started again: it counts from zero.
    pub(super) fn note_start(&mut self, engine: usize) {
        if let Some(probe) = &mut self.probe {
            probe.meters[engine] = Meter { since: self.now, told: self.now, ..Meter::default() };
        }
    }

    /// An engine that stood still goes on with its step.
    pub(super) fn go_on(&mut self, engine: usize) {
        self.hung[engine] = false;
        if self.engines[engine].is_busy() {
            let epoch = self.engines[engine].epoch;
            self.expect(self.now, Event::Phase { engine: engine as u32, epoch });
        }
    }

    /// A client whose request was given up sends it again, if it is one that does so.
    pub(super) fn send_again(&mut self, id: RequestId) {
        if let Some(again) = self.scenario.again.get(&place(id)) {
            self.expect(self.now + AGAIN_AFTER, Event::Again(*again));
        }
    }

    /// Looks at all engines.
    pub(super) fn glance(&mut self) {
        let Some(mut probe) = self.probe.take() else { return };
        let mut in_flight: BTreeMap<usize, u32> = BTreeMap::new();
        for record in &self.out.records[..] {
            if record.fate.is_none()
                && let Some(replica) = record.replica
            {
                *in_flight.entry(replica as usize).or_default() += 1;
            }
        }
        let seen = |engine: usize| in_flight.get(&engine).copied().unwrap_or(0);
        let pages = (0..self.engines.len())
            .map(|engine| {
                let meter = &mut probe.meters[engine];
                if !self.blind[engine] {
                    meter.told = self.now;
                }
                self.page(engine, meter, seen(engine))
            })
            .collect();
        let queued = self.scheduler.queue().len();
        self.out.glances.push(Glance { at: self.now, queued, pages });
        self.expect(self.now + probe.watching.every, Event::Glance);
        self.probe = Some(probe);
    }

    fn page(&self, at: usize, meter: &Meter, in_flight: u32) -> Page {
        let engine = &self.engines[at];
        let gauges = engine.gauges();
        let stepped = engine.stepped();
        let (adapters, adapters_waiting) =
            stepped.map(|inner| inner.adapters()).unwrap_or_default();
        let tally = stepped.map(|inner| inner.tally()).unwrap_or_default();
        let is_down = self.scenario.faults.iter().any(|fault| {
            let is_now = fault.from <= self.now && self.now < fault.until;
            fault.replica as usize == at && is_now && fault.kind == crate::scenario::FaultKind::Down
        });
        Page {
            is_up: !is_down,
            since: meter.since,
            running: gauges.running,
            waiting: gauges.waiting,
            deferred: stepped.map_or(0, |inner| inner.deferred()),
            kv_usage: gauges.kv_usage,
            adapters: adapters.into_iter().collect(),
            adapters_waiting: adapters_waiting.into_iter().collect(),
            counters: with(meter.counters, tally),
            in_flight,
            report_age: self.now.since(meter.told),
        }
    }
}

const fn with(counters: Counters, tally: Tally) -> Counters {
    Counters {
        preemptions: tally.preemptions,
        drafted: tally.drafted,
        accepted: tally.accepted,
        loads: tally.loads,
        decode_steps: tally.decode_steps,
        kv_token_steps: tally.kv_token_steps,
        computed_tokens: tally.prompt_tokens,
        ..counters
    }
}
