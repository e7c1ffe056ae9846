//! Between the scheduler and the engines: turns become jobs, and phases become tokens.

use pilotage_core::{Failure, FailureKind, Input, Output, RequestId, Span, Ticket, Tokens, Why};

use super::record::Fate;
use super::{Event, Simulation, job, place};
use crate::engine::Job;

impl Simulation<'_> {
    /// A phase of an engine ended: its tokens are there.
    pub(super) fn phase_over(&mut self, engine: usize) {
        let done = self.engines[engine].complete();
        self.note_tokens(engine, &done);
        for (id, cached) in done.begun {
            if self.out.records[place(id)].fate.is_some() {
                // It was called off, and the engine does not know.
                continue;
            }
            let record = &mut self.out.records[place(id)];
            if record.first_token.is_none() {
                let sent = record.dispatched.unwrap_or(self.now);
                self.board.began(engine, self.now.since(sent));
                record.first_token = Some(self.now);
                self.note_began(id);
            }
            self.out.records[place(id)].cached = cached;
            self.scheduler.handle(self.now, Input::FirstToken { id });
        }
        for id in done.ended {
            if self.out.records[place(id)].fate.is_some() {
                continue;
            }
            let arrival = &self.scenario.arrivals[place(id)];
            let record = &mut self.out.records[place(id)];
            record.generated = arrival.output;
            let (input, output) = (arrival.input, arrival.output);
            let tokens = Tokens { input, cached: record.cached, output };
            self.note_ended(id);
            self.left(engine);
            self.scheduler.handle(self.now, Input::Finished { id, tokens: Some(tokens) });
        }
        self.end_drains();
        self.work();
    }

    /// A place became free: the scheduler gives it to the one that was paused first.
    fn left(&mut self, engine: usize) {
        self.engines[engine].resume_one();
    }

    /// Everything that follows from what happened: ends, stops, turns, and the engines' next phases.
    pub(super) fn work(&mut self) {
        while let Some(output) = self.scheduler.poll_decided() {
            self.obey(output);
        }
        let forms = self.scenario.engine.formation_steps == 1;
        let idle = |engine: &crate::engine::Engine| !engine.is_busy() && engine.may_form();
        if forms || self.engines.iter().any(idle) {
            self.give_turns();
        }
        for at in 0..self.engines.len() {
            if self.hung[at] {
                continue;
            }
            if let Some(span) = self.engines[at].start() {
                self.note_step(at, span);
                let (engine, epoch) = (at as u32, self.engines[at].epoch);
                self.out.busy[at] = self.out.busy[at] + span;
                self.expect(self.now + span, Event::Phase { engine, epoch });
            }
        }
    }

    fn give_turns(&mut self) {
        if self.scheduler.queue().is_empty() {
            return;
        }
        self.tell();
        self.note_gap();
        while let Some(output) = self.next_turn() {
            self.obey(output);
        }
        self.note_gap();
        if let Some(watch) = &mut self.watch {
            watch.drained(self.now, &self.scheduler);
        }
    }

    fn next_turn(&mut self) -> Option<Output> {
        if let Some(watch) = &mut self.watch {
            watch.before(&self.scheduler);
        }
        let output = if self.scenario.config.fair.quantum == 0 {
            self.scheduler.poll(self.now)
        } else {
            let (arrivals, engines) = (&self.scenario.arrivals, &self.engines);
            let cached = |ticket: &Ticket| {
                let one = &arrivals[place(ticket.id)];
                let found = engines
                    .iter()
                    .map(|engine| engine.cached(&one.prefix, one.block_tokens, one.input));
                found.max().unwrap_or(0)
            };
            self.scheduler.poll_near(self.now, &cached)
        }?;
        if let (Some(watch), Output::Dispatch { id, .. }) = (&mut self.watch, output) {
            watch.dispatched(self.now, id, &self.scheduler);
        }
        Some(output)
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Dispatch { id, replica, displaces, why, .. } => {
                if let Why::Placed { cached, .. } = why {
                    self.out.records[place(id)].hoped = cached;
                }
                let Some(engine) = self.ids.iter().position(|other| *other == replica) else {
                    return;
                };
                if let Some(victim) = displaces {
                    self.engines[engine].pause(victim);
                    self.out.records[place(victim)].stops += 1;
                    self.out.stops += 1;
                }
                self.dispatch(id, engine);
            }
            Output::Stop { id, replica, .. } => {
                let engine = self.ids.iter().position(|other| *other == replica);
                let job = engine.and_then(|engine| self.take(engine, id));
                if let Some(job) = job {
                    let record = &mut self.out.records[place(id)];
                    record.generated = job.generated;
                    record.stops += 1;
                    self.out.stops += 1;
                    self.progress(id, job.generated);
                }
                if let Some(engine) = engine {
                    self.left(engine);
                }
                self.scheduler.handle(self.now, Input::Stopped { id });
            }
            // Engines here say themselves when they die, and nobody is sent twice.
            Output::GiveUp { .. } | Output::Hedge { .. } => {}
            Output::Abort { id, replica } => {
                let engine = self.ids.iter().position(|other| *other == replica);
                if let Some(engine) = engine.filter(|at| !self.leaky[*at]) {
                    self.note_abort(engine, id);
                    let was_active = self.engines[engine].is_active(id);
                    if let Some(job) = self.take(engine, id) {
                        self.out.records[place(id)].generated = job.generated;
                    }
                    if was_active {
                        self.left(engine);
                    }
                }
            }
            Output::End { id, outcome } => self.end(id, Fate::of(outcome)),
        }
    }

    fn dispatch(&mut self, id: RequestId, engine: usize) {
        let arrival = &self.scenario.arrivals[place(id)];
        let record = &mut self.out.records[place(id)];
        if record.dispatched.is_some() {
            self.out.recomputed += u64::from(arrival.input) + u64::from(record.generated);
        }
        record.dispatched.get_or_insert(self.now);
        record.replica = u32::try_from(engine).ok();
        let job = job(arrival, id, record.generated);
        let network = self.scenario.replicas[engine].network;
        if network == Span::ZERO {
            self.note_put(engine, id);
            self.engines[engine].put(job);
        } else {
            self.transit.insert(id, (engine, job));
            self.expect(self.now + network, Event::Delivery(id));
        }
        self.gatekeeper.started(id);
    }

    /// Takes a request back, wherever it is on its way.
    fn take(&mut self, engine: usize, id: RequestId) -> Option<Job> {
        let underway = self.transit.remove(&id).map(|(_, job)| job);
        underway.or_else(|| self.engines[engine].take(id))
    }

    fn end(&mut self, id: RequestId, fate: Fate) {
        let record = &mut self.out.records[place(id)];
        record.fate = Some(fate);
        record.end = Some(self.now);
        let arrival = &self.scenario.arrivals[place(id)];
        self.gatekeeper.ended(self.now, id, arrival.input, record);
        if let Some(watch) = &mut self.watch {
            watch.ended(self.now, id, fate);
        }
    }

    /// Tells the scheduler of the tokens that came since it was told last.
    pub(super) fn tell(&mut self) {
        for at in 0..self.engines.len() {
            let steps = self.engines[at].steps();
            if std::mem::replace(&mut self.told[at], steps) == steps {
                continue;
            }
            for (id, output) in self.engines[at].progress() {
                self.scheduler.handle(self.now, Input::Progress { id, output });
            }
        }
    }

    fn progress(&mut self, id: RequestId, output: u32) {
        self.scheduler.handle(self.now, Input::Progress { id, output });
    }

    fn note_gap(&mut self) {
        if self.scenario.one_line {
            return;
        }
        let gap = self.scheduler.queue().gap() as f64 / 1000.0;
        if self.out.gap.last().is_none_or(|(_, last)| *last != gap) {
            self.out.gap.push((self.now, gap));
        }
    }

    /// A replica dies. Requests of which nothing was answered are tried elsewhere.
    pub(super) fn crash(&mut self, engine: usize) {
        self.tell();
        let replica = self.ids[engine];
        let mut lost = self.engines[engine].crash();
        lost.extend(self.transit.extract_if(.., |_, (at, _)| *at == engine).map(|(id, _)| id));
        self.scheduler.handle(self.now, Input::ReplicaDown { replica });
        for id in lost {
            let record = &mut self.out.records[place(id)];
            let answered = record.first_token.is_some();
            let failure = if answered {
                Failure::in_answer(FailureKind::Broken, false)
            } else {
                Failure::before_answer(FailureKind::Broken)
            };
            self.scheduler.handle(self.now, Input::Failed { id, failure });
        }
        self.work();
    }
}
