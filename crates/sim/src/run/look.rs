//! What autoscalers get to see of a run: what gateways count, and what engines say of themselves.

use std::collections::{BTreeMap, VecDeque};

use pilotage_core::scale::{
    Misses, ReplicaSeen, Running, Seen, Signals, Speed, Stage, Waiting, Work,
};
use pilotage_core::{Band, RequestId, Span, Ticket, Time};

use super::{Simulation, place};
use crate::scaler::Look;

const BANDS: usize = Band::ALL.len();

/// Over how long answers are counted that missed their goals.
const MISSES: Span = Span::from_secs(60);

/// Tokens of an answer before any has ended.
const ANSWER: f64 = 128.0;

/// How much the newest answer counts for what answers are like.
const NEWEST: f64 = 0.02;

/// What happened since the last look, and a little before.
#[derive(Debug)]
pub(super) struct Window {
    /// Arrivals that were counted.
    counted: usize,
    from: Time,
    arrivals: Option<Seen<[Work; BANDS]>>,
    /// Answers that began or ended: whether too late, whether too slowly.
    answers: VecDeque<(Time, usize, Answer)>,
    /// How long each engine had computed at the last look.
    busy: Vec<Span>,
    busy_part: f64,
    answer: f64,
    ended: u64,
}

/// What became of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Began { late: bool },
    Slow,
}

impl Window {
    pub(super) fn new(engines: usize) -> Self {
        Self {
            counted: 0,
            from: Time::ZERO,
            arrivals: None,
            answers: VecDeque::new(),
            busy: vec![Span::ZERO; engines],
            busy_part: 0.0,
            answer: ANSWER,
            ended: 0,
        }
    }

    fn misses(&mut self, now: Time) -> [Misses; BANDS] {
        while self.answers.front().is_some_and(|(at, ..)| now.since(*at) > MISSES) {
            self.answers.pop_front();
        }
        let mut misses = [Misses::default(); BANDS];
        for (_, band, answer) in &self.answers {
            let band = &mut misses[*band];
            match answer {
                Answer::Began { late } => {
                    band.answers += 1.0;
                    band.late += f64::from(u8::from(*late));
                }
                Answer::Slow => band.slow += 1.0,
            }
        }
        misses
    }
}

impl Simulation<'_> {
    /// A first token came.
    pub(super) fn note_began(&mut self, id: RequestId) {
        let Some(motion) = &mut self.motion else { return };
        let arrival = &self.scenario.arrivals[place(id)];
        let band = self.scenario.tenants[arrival.tenant as usize].band;
        let took = self.now.since(arrival.at);
        let late = motion.scaling.goal(band).ttft.is_some_and(|goal| took > goal);
        motion.window.answers.push_back((self.now, band as usize, Answer::Began { late }));
    }

    /// An answer is complete.
    pub(super) fn note_ended(&mut self, id: RequestId) {
        let Some(motion) = &mut self.motion else { return };
        let (arrival, record) = (&self.scenario.arrivals[place(id)], &self.out.records[place(id)]);
        let window = &mut motion.window;
        window.ended += 1;
        let newest = NEWEST.max(1.0 / window.ended as f64);
        window.answer += newest * (f64::from(arrival.output) - window.answer);
        let band = self.scenario.tenants[arrival.tenant as usize].band;
        let took = record.first_token.map_or(0.0, |at| self.now.since(at).as_secs_f64());
        let each = took / f64::from(arrival.output.saturating_sub(1).max(1));
        if motion.scaling.goal(band).tpot.is_some_and(|goal| each > goal.as_secs_f64()) {
            window.answers.push_back((self.now, band as usize, Answer::Slow));
        }
    }

    /// What is to be seen now. What comes in a second is counted anew only by regular looks.
    pub(super) fn look(&mut self, regular: bool) -> Look {
        if regular {
            self.count_arrivals();
            self.count_busy();
        }
        let waiting = self.waiting();
        let Some(motion) = &mut self.motion else { return Look::default() };
        let now = self.now;
        let misses = motion.window.misses(now);
        let (mut replicas, mut kv, mut running, mut queued) = (BTreeMap::new(), 0.0, 0.0, 0.0);
        let mut tokens = 0.0;
        for (at, slot) in motion.slots.iter().enumerate() {
            let Some(stage) = slot.stage else { continue };
            let gauges = self.engines[at].gauges();
            running += f64::from(gauges.running);
            queued += f64::from(gauges.waiting);
            tokens += self.engines[at].kv_tokens() as f64;
            let mut seen = ReplicaSeen::new(stage, slot.since);
            if stage == Stage::Ready {
                kv += gauges.kv_usage;
                seen.kv_used = Some(Seen::new(now, gauges.kv_usage));
                (seen.running, seen.waiting) = (Some(gauges.running), Some(gauges.waiting));
            }
            replicas.insert(self.ids[at], seen);
        }
        let ready = motion.count(Stage::Ready);
        let engine = &self.scenario.engine;
        let slowness = motion.scaling.believed_slowness;
        let speed = Speed {
            token_seconds: engine.prefill_ms_per_token / 1e3 * slowness,
            step_seconds: engine.step_ms / 1e3 * slowness,
            sequence_seconds: engine.step_ms_per_sequence / 1e3 * slowness,
            sequences_max: engine.sequences_max,
            kv_tokens: Some(engine.kv_tokens),
        };
        let held = waiting.iter().map(|band| band.work.requests).sum::<f64>();
        let signals = Signals {
            arrivals: motion.window.arrivals,
            waiting: Some(Seen::new(now, waiting)),
            running: Some(Seen::new(now, Running { requests: running + queued, tokens })),
            misses: Some(Seen::new(now, misses)),
            speed: Some(Seen::new(now, speed)),
            replicas: Some(Seen::new(now, replicas)),
            start: None,
            wake: None,
        };
        Look {
            signals,
            wanted: motion.wanted.awake,
            ready,
            starting: motion.count(Stage::Starting) + motion.count(Stage::Waking),
            waiting: held + queued,
            running,
            busy: motion.window.busy_part,
            kv_used: kv / f64::from(ready.max(1)),
        }
    }

    /// What waits in the gateway, by band.
    fn waiting(&self) -> [Waiting; BANDS] {
        let mut bands = [Waiting::default(); BANDS];
        let answer = self.motion.as_ref().map_or(ANSWER, |motion| motion.window.answer);
        for ticket in self.scheduler.queue().iter() {
            let Ticket { band, tokens, arrived, .. } = ticket;
            let waiting = &mut bands[*band as usize];
            waiting.work = waiting.work
                + Work {
                    requests: 1.0,
                    prompt: f64::from(tokens.input),
                    answer: answer.min(f64::from(tokens.output)),
                };
            waiting.oldest = waiting.oldest.max(self.now.since(*arrived));
        }
        bands
    }

    fn count_arrivals(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        let window = &mut motion.window;
        let seconds = self.now.since(window.from).as_secs_f64();
        let mut bands = [Work::default(); BANDS];
        let came = &self.scenario.arrivals[window.counted..self.next_arrival];
        for arrival in came {
            let band = self.scenario.tenants[arrival.tenant as usize].band as usize;
            let answer = window.answer.min(f64::from(arrival.output_max));
            let one = Work { requests: 1.0, prompt: f64::from(arrival.input), answer };
            bands[band] = bands[band] + one;
        }
        window.counted = self.next_arrival;
        window.from = self.now;
        let each = if seconds > 0.0 { 1.0 / seconds } else { 0.0 };
        window.arrivals = Some(Seen::new(self.now, bands.map(|band| band * each)));
    }

    fn count_busy(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        let (mut sum, mut count) = (0.0, 0.0);
        let window = &mut motion.window;
        let seconds = motion.scaler.every().as_secs_f64();
        for (at, slot) in motion.slots.iter().enumerate() {
            let since = std::mem::replace(&mut window.busy[at], self.out.busy[at]);
            if slot.stage == Some(Stage::Ready) {
                let computed = self.out.busy[at].as_secs_f64() - since.as_secs_f64();
                sum += (computed / seconds).min(1.0);
                count += 1.0;
            }
        }
        window.busy_part = if count > 0.0 { sum / count } else { 0.0 };
    }
}
