//! What a lane tells those who decide how many replicas it has: what came, what waits, what runs, which
//! goals were missed. Counted under the lane's lock as it happens, into a few fixed slots, so that a
//! request costs an addition; added up only when somebody asks.

use std::collections::BTreeMap;

use pilotage_core::scale::{
    Goal, Misses, Policy, ReplicaSeen, Running, Seen, Signals, Speed, Stage, Waiting, Work,
};
use pilotage_core::{Band, Input, ReplicaId, Report, Request, RequestId, Span, Time, Tokens};

use super::{Driver, Known, LaneHandle, is_near};

const BANDS: usize = Band::ALL.len();

/// Over how many seconds arrivals are averaged.
const ARRIVALS_SECONDS: usize = 10;

/// In how many slots of [`MISSES_SLOT`] answers are counted.
const MISSES_SLOTS: usize = 12;

/// The length of such a slot.
const MISSES_SLOT: Span = Span::from_secs(5);

/// Tokens of an answer before any has ended, and for how many answers that counts: the first one alone
/// tells little of the next.
const ANSWER_TOKENS: f64 = 128.0;
const ANSWERS_BEFORE: f64 = 10.0;

/// How much the newest answer counts for what answers are like.
const NEWEST: f64 = 0.02;

/// How much the newest answer counts for how fast tokens come.
const PACE_NEWEST: f64 = 0.1;

/// What is counted as it happens.
pub(super) struct Counts {
    /// Since when.
    begun: Time,
    goals: [Goal; BANDS],
    arrivals: Ring<[Work; BANDS], ARRIVALS_SECONDS>,
    answers: Ring<[Misses; BANDS], MISSES_SLOTS>,
    /// Tokens of an answer, on average.
    answer: f64,
    /// The part of a prompt that caches had, on average.
    cached: f64,
    ended: u64,
    /// Seconds for each token of answers in one piece, on average, and whether streams told more exactly.
    each: Option<f64>,
    streamed: bool,
    /// How long the last start took and the last waking up, and when that was.
    start: Option<(Time, Span)>,
    wake: Option<(Time, Span)>,
}

/// What is remembered of a request until it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    band: Band,
    arrived: Time,
    sent: Option<Time>,
    begun: Option<Time>,
}

impl Course {
    pub(super) const fn new(now: Time, band: Band) -> Self {
        Self { band, arrived: now, sent: None, begun: None }
    }

    /// It goes to a replica.
    pub(super) const fn send(&mut self, now: Time) {
        self.sent = Some(now);
    }

    /// The same request under another name.
    pub(super) const fn copy(&self, now: Time) -> Self {
        Self { sent: Some(now), begun: None, ..*self }
    }
}

/// Sums of the last while, slot by slot.
struct Ring<T, const SLOTS: usize> {
    slots: [T; SLOTS],
    width: Span,
    /// The number of the newest slot since the origin of time.
    newest: u64,
}

impl<T: Copy + Default, const SLOTS: usize> Ring<T, SLOTS> {
    fn new(width: Span) -> Self {
        Self { slots: [T::default(); SLOTS], width, newest: 0 }
    }

    /// The slot of now.
    fn now(&mut self, now: Time) -> &mut T {
        let number = now.as_nanos() / self.width.as_nanos();
        let passed = number.saturating_sub(self.newest).min(SLOTS as u64);
        self.newest = self.newest.max(number);
        for back in 0..passed {
            self.slots[((self.newest - back) % SLOTS as u64) as usize] = T::default();
        }
        &mut self.slots[(self.newest % SLOTS as u64) as usize]
    }

    fn all(&mut self, now: Time) -> &[T; SLOTS] {
        self.now(now);
        &self.slots
    }

    /// Seconds that the slots are about.
    fn seconds(&self, now: Time, begun: Time) -> f64 {
        let width = self.width.as_nanos();
        let whole = (SLOTS as u64 - 1) * width + now.as_nanos() % width;
        let whole = Span::from_nanos(whole).min(now.since(begun));
        whole.as_secs_f64().max(1.0)
    }
}

impl Counts {
    pub(super) fn new(now: Time) -> Self {
        Self {
            begun: now,
            goals: Policy::default().goals,
            arrivals: Ring::new(Span::from_secs(1)),
            answers: Ring::new(MISSES_SLOT),
            answer: ANSWER_TOKENS,
            cached: 0.0,
            ended: 0,
            each: None,
            streamed: false,
            start: None,
            wake: None,
        }
    }

    pub(super) const fn set_goals(&mut self, goals: [Goal; BANDS]) {
        self.goals = goals;
    }

    pub(super) fn arrive(&mut self, now: Time, request: &Request) {
        let work = self.work(request.tokens);
        let band = &mut self.arrivals.now(now)[request.band as usize];
        *band = *band + work;
    }

    /// What a request is expected to take.
    fn work(&self, tokens: Tokens) -> Work {
        Work {
            requests: 1.0,
            prompt: f64::from(tokens.input) * (1.0 - self.cached),
            answer: self.answer.min(f64::from(tokens.output)),
        }
    }

    /// The first token of an answer went out.
    fn began(&mut self, now: Time, course: &mut Course) {
        if course.begun.is_some() {
            return;
        }
        course.begun = Some(now);
        self.answered(now, course.band, now.since(course.arrived));
    }

    /// An answer began, so long after its request came.
    fn answered(&mut self, now: Time, band: Band, took: Span) {
        let late = self.goals[band as usize].ttft.is_some_and(|goal| took > goal);
        let band = &mut self.answers.now(now)[band as usize];
        band.answers += 1.0;
        band.late += f64::from(u8::from(late));
    }

    /// An answer is complete. Of one in a single piece it is not known when it began: no sooner than it
    /// was sent.
    fn ended(&mut self, now: Time, course: &Course, tokens: Option<Tokens>) {
        let sent = course.sent.unwrap_or(now);
        if course.begun.is_none() {
            self.answered(now, course.band, sent.since(course.arrived));
        }
        let Some(tokens) = tokens else { return };
        self.learn(tokens);
        self.pace(now, course, tokens.output);
        let goal = self.goals[course.band as usize];
        let Some(tpot) = goal.tpot else { return };
        let (took, allowed) = match course.begun {
            Some(begun) => (now.since(begun), Span::ZERO),
            None => (now.since(sent), goal.ttft.unwrap_or(Span::ZERO)),
        };
        let each = tpot.as_secs_f64() * f64::from(tokens.output.saturating_sub(1));
        let slow = tokens.output > 1 && took.as_secs_f64() > allowed.as_secs_f64() + each;
        let band = &mut self.answers.now(now)[course.band as usize];
        band.slow += f64::from(u8::from(slow));
    }

    /// How fast tokens come.
    fn pace(&mut self, now: Time, course: &Course, output: u32) {
        match (course.begun, course.sent) {
            (Some(_), _) => self.streamed |= output > 1,
            (None, Some(sent)) if output > 0 => {
                let each = now.since(sent).as_secs_f64() / f64::from(output);
                let mean = self.each.unwrap_or(each);
                self.each = Some(mean + PACE_NEWEST * (each - mean));
            }
            _ => {}
        }
    }

    /// What answers are like.
    fn learn(&mut self, tokens: Tokens) {
        self.ended += 1;
        let newest = NEWEST.max(1.0 / (self.ended as f64 + ANSWERS_BEFORE));
        self.answer += newest * (f64::from(tokens.output) - self.answer);
        if tokens.input > 0 {
            let part = f64::from(tokens.cached.min(tokens.input)) / f64::from(tokens.input);
            self.cached += newest * (part - self.cached);
        }
    }

    fn rate(&mut self, now: Time) -> [Work; BANDS] {
        let each = 1.0 / self.arrivals.seconds(now, self.begun);
        let slots = self.arrivals.all(now);
        std::array::from_fn(|band| {
            slots.iter().fold(Work::default(), |sum, slot| sum + slot[band]) * each
        })
    }

    fn misses(&mut self, now: Time) -> [Misses; BANDS] {
        let slots = self.answers.all(now);
        std::array::from_fn(|band| {
            slots.iter().fold(Misses::default(), |sum, slot| Misses {
                answers: sum.answers + slot[band].answers,
                late: sum.late + slot[band].late,
                slow: sum.slow + slot[band].slow,
            })
        })
    }
}

impl Driver {
    /// Counts what happens to a request, before the scheduler forgets it.
    pub(super) fn count(&mut self, input: &Input) {
        let now = self.now();
        match input {
            Input::FirstToken { id } => {
                if let Some(waiter) = self.waiters.get_mut(id) {
                    self.counts.began(now, &mut waiter.course);
                }
            }
            Input::Finished { id, tokens } => {
                if let Some(waiter) = self.waiters.get(id) {
                    self.counts.ended(now, &waiter.course, *tokens);
                }
            }
            Input::Reported { replica, report } => self.note_cache(now, *replica, report),
            _ => {}
        }
    }

    fn note_cache(&mut self, now: Time, replica: ReplicaId, report: &Report) {
        let Some(known) = self.replicas.get_mut(&replica) else { return };
        let most = report.kv_tokens_max.unwrap_or(known.replica.capacity.tokens_max);
        if let Some(used) = report.kv_tokens.filter(|_| most > 0 && most != u64::MAX) {
            known.kv_used = Some(Seen::new(now, (used as f64 / most as f64).min(1.0)));
        }
    }

    /// A replica served so long after it was started or woken.
    pub(super) const fn note_took(&mut self, now: Time, was_asleep: bool, took: Span) {
        let taken = Some((now, took));
        if was_asleep {
            self.counts.wake = taken;
        } else {
            self.counts.start = taken;
        }
    }

    /// Whether somebody waits, and no replica of this region takes work.
    pub(super) fn is_held(&self) -> bool {
        !self.scheduler.queue().is_empty() && !self.scheduler.fleet().iter().any(is_near)
    }

    /// What is to be seen of the lane now.
    pub(super) fn signals(&mut self) -> Signals {
        let now = self.now();
        let took = |taken: Option<(Time, Span)>| taken.map(|(at, took)| Seen::new(at, took));
        Signals {
            arrivals: Some(Seen::new(now, self.counts.rate(now))),
            waiting: Some(Seen::new(now, self.waiting(now))),
            running: Some(Seen::new(now, self.running())),
            misses: Some(Seen::new(now, self.counts.misses(now))),
            speed: self.speed().map(|speed| Seen::new(now, speed)),
            replicas: Some(Seen::new(now, self.replicas_seen())),
            start: took(self.counts.start),
            wake: took(self.counts.wake),
        }
    }

    /// The name of a replica.
    pub(super) fn replica_name(&self, id: ReplicaId) -> Option<String> {
        self.replicas.get(&id).map(|known| known.replica.name.to_string())
    }

    fn waiting(&self, now: Time) -> [Waiting; BANDS] {
        let mut bands = [Waiting::default(); BANDS];
        for ticket in self.scheduler.queue().iter() {
            let waiting = &mut bands[ticket.band as usize];
            waiting.work = waiting.work + self.counts.work(ticket.tokens);
            waiting.oldest = waiting.oldest.max(now.since(ticket.arrived));
        }
        bands
    }

    fn running(&self) -> Running {
        let fleet = self.scheduler.fleet().iter();
        fleet.fold(Running::default(), |sum, replica| Running {
            requests: sum.requests + f64::from(replica.requests),
            tokens: sum.tokens + replica.tokens.saturating_sub(replica.shared) as f64,
        })
    }

    /// What one replica does, once that was measured.
    fn speed(&self) -> Option<Speed> {
        let (speed, measured) = self.scheduler.speed();
        // What a gateway of another region has room for says nothing of a replica.
        let own = self.scheduler.fleet().iter().filter(|one| !one.site.passes_on);
        let serving = own.filter(|one| one.capacity.requests_max > 0);
        let largest = serving.map(|one| one.capacity).max_by_key(|one| one.requests_max);
        let largest = largest.filter(|_| measured || self.counts.each.is_some())?;
        // Answers in one piece tell the scheduler nothing of steps.
        let step = match self.counts.each {
            Some(each) if !self.counts.streamed => (each - speed.sequence_seconds).max(0.0),
            _ if self.counts.streamed => speed.step_seconds,
            _ => return None,
        };
        Some(Speed {
            token_seconds: speed.token_seconds,
            step_seconds: step,
            sequence_seconds: speed.sequence_seconds,
            sequences_max: largest.requests_max,
            kv_tokens: Some(largest.tokens_max).filter(|tokens| *tokens != u64::MAX),
        })
    }

    fn replicas_seen(&self) -> BTreeMap<ReplicaId, ReplicaSeen> {
        let fleet = self.scheduler.fleet().iter().filter(|one| one.up && !one.site.passes_on);
        let seen = fleet.filter_map(|one| {
            let Known { since, kv_used, .. } = *self.replicas.get(&one.id)?;
            let drains = one.capacity.requests_max == 0;
            let stage = if drains { Stage::Draining } else { Stage::Ready };
            let running = Some(one.requests);
            Some((one.id, ReplicaSeen { kv_used, running, ..ReplicaSeen::new(stage, since) }))
        });
        seen.collect()
    }

    /// How a copy of a request counts.
    pub(super) fn course_of_copy(&self, of: RequestId) -> Course {
        let now = self.now();
        let course = self.waiters.get(&of).map(|waiter| waiter.course.copy(now));
        course.unwrap_or_else(|| Course::new(now, Band::default()))
    }
}

impl LaneHandle {
    /// What is to be seen of the lane now, and how its replicas are called.
    pub fn signals(&self) -> (Signals, BTreeMap<ReplicaId, String>) {
        let mut driver = self.shared.driver.lock();
        let signals = driver.signals();
        let ids = signals.replicas.iter().flat_map(|seen| seen.value.keys());
        let names = ids.filter_map(|id| Some((*id, driver.replica_name(*id)?))).collect();
        (signals, names)
    }

    /// Whether requests wait, and no replica of this region takes work.
    pub fn is_held(&self) -> bool {
        !self.is_open_near() && self.shared.driver.lock().is_held()
    }

    /// A replica served so long after it was started, or after it was woken.
    pub fn replica_took(&self, was_asleep: bool, took: Span) {
        let mut driver = self.shared.driver.lock();
        let now = driver.now();
        driver.note_took(now, was_asleep, took);
    }

    /// What each band is promised from now on.
    pub(crate) fn set_goals(&self, goals: [Goal; BANDS]) {
        self.shared.driver.lock().counts.set_goals(goals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn slots_fall_out_when_their_time_is_over() {
        let mut ring: Ring<u32, 3> = Ring::new(Span::from_secs(1));
        let mut check = |millis: u64, add: u32, expect: u32| {
            *ring.now(at(millis)) += add;
            assert_eq!(ring.all(at(millis)).iter().sum::<u32>(), expect, "{millis}");
        };
        check(100, 1, 1);
        check(900, 1, 2);
        check(1000, 2, 4);
        check(2999, 0, 4);
        check(3000, 0, 2);
        check(4500, 5, 5);
        check(60_000, 0, 0);
    }

    #[test]
    fn rates_are_of_the_time_there_was() {
        let mut counts = Counts::new(at(50_500));
        let request = |band| {
            let tokens = Tokens { input: 100, cached: 0, output: 50 };
            Request::new(RequestId(1), pilotage_core::TenantId(0), band, tokens)
        };
        (0..8).for_each(|_| counts.arrive(at(50_600), &request(Band::Bulk)));
        let check = |counts: &mut Counts, millis: u64, expect: f64| {
            let rate = counts.rate(at(millis))[Band::Bulk as usize];
            assert!((rate.requests - expect).abs() < 1e-9, "{millis}: {rate:?}");
            assert!((rate.prompt - expect * 100.0).abs() < 1e-6, "{millis}: {rate:?}");
        };
        check(&mut counts, 50_600, 8.0);
        check(&mut counts, 54_500, 2.0);
        check(&mut counts, 59_999, 8.0 / 9.499);
        check(&mut counts, 60_000, 0.0);
    }

    #[test]
    fn what_is_cached_and_how_long_answers_are_is_learnt() {
        let mut counts = Counts::new(Time::ZERO);
        let tokens = Tokens { input: 100, cached: 0, output: 1000 };
        assert_eq!(counts.work(tokens), Work { requests: 1.0, prompt: 100.0, answer: 128.0 });
        counts.learn(Tokens { input: 50, cached: 40, output: 10 });
        let work = counts.work(tokens);
        assert!(work.prompt < 95.0 && work.answer < 120.0, "{work:?}");
        assert!(work.prompt > 80.0 && work.answer > 100.0, "one tells little: {work:?}");
        (0..500).for_each(|_| counts.learn(Tokens { input: 50, cached: 40, output: 10 }));
        let work = counts.work(tokens);
        assert!((work.prompt - 20.0).abs() < 0.1 && (work.answer - 10.0).abs() < 0.1, "{work:?}");
    }

    /// Answers: when they came, were sent, began (in a stream) and ended, in milliseconds, and how many
    /// tokens they had; late ones and slow ones, with 1000 ms to the first token and 50 ms for each.
    #[test]
    fn goals_are_missed_by_what_is_late_or_slow() {
        let check = |sent: u64, begun: Option<u64>, ended: u64, output: u32, expect: (f64, f64)| {
            let mut counts = Counts::new(Time::ZERO);
            let mut course = Course::new(at(0), Band::Realtime);
            course.send(at(sent));
            if let Some(begun) = begun {
                counts.began(at(begun), &mut course);
            }
            let tokens = Tokens { input: 10, cached: 0, output };
            counts.ended(at(ended), &course, Some(tokens));
            let seen = counts.misses(at(ended))[Band::Realtime as usize];
            assert_eq!((seen.answers, (seen.late, seen.slow)), (1.0, expect), "{sent} {begun:?}");
        };
        check(10, Some(900), 1400, 11, (0.0, 0.0));
        check(10, Some(1100), 1500, 11, (1.0, 0.0));
        check(10, Some(900), 1500, 11, (0.0, 1.0));
        check(10, Some(900), 1500, 1, (0.0, 0.0));
        check(10, None, 1500, 11, (0.0, 0.0));
        check(10, None, 1600, 11, (0.0, 1.0));
        check(1100, None, 1500, 11, (1.0, 0.0));
    }
}
