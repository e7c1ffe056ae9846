//! Decides how many replicas a model has, again and again: remembers what came, what was needed and how
//! often goals were missed.

use std::collections::BTreeMap;

use super::capacity::Service;
use super::damp::{Damper, Move, Need};
use super::decision::Decision;
use super::fit::{self, View};
use super::forecast::Forecast;
use super::policy::{Policy, PolicyError, Zero};
use super::signals::{ReplicaSeen, Seen, Signals, Speed, Stage, Work};
use super::why::{Held, Why};
use crate::{Band, ReplicaId, Span, Time};

const BANDS: usize = Band::ALL.len();

/// Over how long it is averaged what requests are like.
const MIX_SECONDS: f64 = 300.0;

/// Answers that tell whether goals are missed.
const ANSWERS_MIN: f64 = 20.0;

/// How much more the load is believed for each minute in which goals are missed, and how much of that is
/// forgotten in each minute in which they are not.
const BOOST_MINUTE: (f64, f64) = (0.05, 0.05);

/// A start that takes so many times longer than starts do may never end: others need not wait for it.
const STUCK: u64 = 3;

/// Shorter starts are taken to be as long, for that: a busy machine makes a second of two many.
const START_MIN: Span = Span::from_secs(10);

/// An autoscaler of one model.
#[derive(Clone, Debug)]
pub struct Scaler {
    policy: Policy,
    signals: Signals,
    forecast: Forecast,
    /// What requests are like and how they divide over bands: a fading sum.
    mix: [Work; BANDS],
    mixed: Option<Time>,
    /// For how long it was averaged: the first requests are no better a sample than the next ones.
    mixed_for: f64,
    /// How fast replicas were when that was last known.
    speed: Option<Speed>,
    /// How long starting and waking took last.
    took: (Option<Span>, Option<Span>),
    damper: Damper,
    boost: f64,
    boosted: Option<Time>,
    /// When somebody last was there, or nobody knew.
    busy: Option<Time>,
    wanted: Option<(u32, u32)>,
}

/// Replicas by what they do.
#[derive(Clone, Debug, Default)]
struct Counts {
    ready: u32,
    asleep: u32,
    /// How long until each of those on their way serves; those that take far too long are not among them.
    coming: Vec<Span>,
    /// All on their way.
    starting: u32,
}

impl Counts {
    /// All that serve or are to.
    const fn awake(&self) -> u32 {
        self.ready.saturating_add(self.starting)
    }

    /// Those on their way that are overdue.
    fn stuck(&self) -> u32 {
        self.starting.saturating_sub(u32::try_from(self.coming.len()).unwrap_or(u32::MAX))
    }
}

impl Scaler {
    /// An autoscaler that has seen nothing. `phase` is how far into its day or week the origin of time
    /// is, for seasons.
    ///
    /// # Errors
    /// What makes no sense in the policy.
    pub fn new(policy: Policy, phase: Span) -> Result<Self, PolicyError> {
        let policy = policy.checked()?;
        Ok(Self {
            forecast: Forecast::new(policy.foresight.clone(), phase),
            policy,
            signals: Signals::default(),
            mix: [Work::default(); BANDS],
            mixed: None,
            mixed_for: 0.0,
            speed: None,
            took: (None, None),
            damper: Damper::default(),
            boost: 1.0,
            boosted: None,
            busy: None,
            wanted: None,
        })
    }

    /// Another policy from now on. What was learnt stays, unless it is about how to look ahead.
    ///
    /// # Errors
    /// What makes no sense in the policy.
    pub fn set_policy(&mut self, policy: Policy, phase: Span) -> Result<(), PolicyError> {
        let policy = policy.checked()?;
        if policy.foresight != self.policy.foresight {
            self.forecast = Forecast::new(policy.foresight.clone(), phase);
        }
        self.policy = policy;
        Ok(())
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Goes on where another one ended that wanted so many awake and asleep. What it saw is not known, so
    /// that nothing is taken away before this one has looked on for as long as the policy wants.
    pub fn resume(&mut self, awake: u32, asleep: u32) {
        let most = self.policy.max.max(self.policy.asleep_max);
        self.wanted = Some((awake.min(self.policy.max), asleep.min(most)));
    }

    /// What is seen now, all of it. Numbers that cannot be were not seen.
    pub fn observe(&mut self, now: Time, signals: Signals) {
        let signals = signals.sound();
        self.speed = signals.speed.map(|seen| seen.value).or(self.speed);
        let took = |seen: Option<Seen<Span>>, old: Option<Span>| seen.map(|it| it.value).or(old);
        self.took = (took(signals.start, self.took.0), took(signals.wake, self.took.1));
        self.signals = signals;
        let fresh = self.signals.arrivals.filter(|seen| seen.whole);
        let arrivals = fresh.and_then(|seen| seen.fresh(now, self.policy.age_max).copied());
        if let Some(arrivals) = arrivals {
            self.mix_in(now, arrivals);
            let rate = arrivals.iter().map(|band| band.requests).sum();
            let lead = self.lead(self.asleep());
            self.forecast.observe(now, rate, lead);
        }
        self.rate_misses(now);
        if self.busy.is_none() || self.somebody(now) {
            self.busy = Some(now);
        }
    }

    /// What is wanted. None until it was seen once which replicas there are: who does not know them
    /// would take them away.
    pub fn decide(&mut self, now: Time) -> Option<Decision> {
        let counts = match self.fresh(self.signals.replicas.as_ref(), now) {
            Some(all) => self.count(now, all),
            None => self.remembered()?,
        };
        let view = self.view(now, &counts);
        let terms = fit::terms(&view, &self.policy);
        let blind = self.blind(now);
        let current = self.current(&counts);
        let need = match blind {
            None => fit::span(&view, &self.policy),
            // What is there may be needed, for all that is known.
            Some(_) => {
                let need = fit::span(&view, &self.policy);
                Need { most: need.most.max(current), ..need }
            }
        };
        self.damper.note(now, need, &self.policy);
        let (awake, held) = self.damped(now, &counts, current, blind);
        let asleep = self.sleepers(&counts, awake);
        self.wanted = Some((awake, asleep));
        let idle_end = self.busy.map(|at| at + self.policy.idle).filter(|at| *at > now);
        let next = now + self.policy.every;
        let why = Why {
            awake,
            ready: counts.ready,
            starting: counts.starting,
            bound: fit::bound(&terms),
            terms,
            held,
            arriving: view.arriving,
            expected: self.policy.foresight.enabled.then_some((view.expected, view.lead)),
            waiting: view.waiting.iter().map(|band| band.work.requests).sum(),
            service: view.service,
            between: fit::between(&view, &self.policy, awake),
        };
        let again = idle_end.map_or(next, |at| at.min(next));
        Some(Decision { awake, asleep, again, why })
    }

    /// Where to go from here, and what is in the way.
    fn damped(
        &mut self,
        now: Time,
        counts: &Counts,
        current: u32,
        blind: Option<&'static str>,
    ) -> (u32, Option<Held>) {
        let step = self.damper.go(now, current, &self.policy);
        let policy = &self.policy;
        let clamp = |count: u32| count.clamp(policy.floor(), policy.max);
        let left = |until: Time| until.since(now);
        let coming = u32::try_from(counts.coming.len()).unwrap_or(u32::MAX);
        let nobody = self.damper.last().is_some_and(|need| need.most == 0);
        match step {
            // Nothing runs and somebody waits: every second counts, and there is nothing to flap.
            Move::NotYetUp(_) if current == 0 => (clamp(1), None),
            Move::NotYetUp(until) => (clamp(current), Some(Held::Up { left: left(until) })),
            // That it was idle for so long has been waited for already.
            Move::NotYetDown(_) | Move::To(_) if nobody && coming == 0 && blind.is_none() => {
                (clamp(0), None)
            }
            Move::NotYetDown(_) if blind.is_some() => (clamp(current), blind.map(Held::blind)),
            Move::NotYetDown(until) => (clamp(current), Some(Held::Down { left: left(until) })),
            Move::To(count) if count < current && blind.is_some() => {
                (clamp(current), blind.map(Held::blind))
            }
            Move::To(count) if count < current && coming > 0 => {
                (clamp(current), Some(Held::Starting { count: coming }))
            }
            Move::To(count) => {
                let held = self.cut(count, current);
                (clamp(count), held)
            }
            Move::Stay => {
                (clamp(current), blind.map(Held::blind).or_else(|| self.cut(current, current)))
            }
        }
    }

    /// How many there are to be as yet: those that were wanted last, of which one that died is still to come
    /// back, or as many as there are where somebody else wanted more.
    fn current(&self, counts: &Counts) -> u32 {
        let wanted = self.wanted.map_or(0, |(awake, _)| awake.min(self.policy.max));
        counts.awake().max(wanted)
    }

    /// What keeps it from being what is needed.
    fn cut(&self, count: u32, current: u32) -> Option<Held> {
        let need = self.damper.last()?;
        if count >= self.policy.max && need.least >= self.policy.max {
            return Some(Held::Most);
        }
        let short = count >= current && count < need.least;
        let long = count <= current && count > need.most;
        (short || long).then_some(Held::Step)
    }

    /// How many sleep once so many are awake.
    fn sleepers(&self, counts: &Counts, awake: u32) -> u32 {
        if self.policy.zero != Zero::WarmZero {
            return 0;
        }
        let current = counts.awake();
        let woken = awake.saturating_sub(current).min(counts.asleep);
        let retired = current.saturating_sub(awake);
        let kept = (counts.asleep - woken).saturating_add(retired).min(self.policy.asleep_max);
        // The last one sleeps instead of ending, whatever else is allowed.
        if awake == 0 { kept.max(1) } else { kept }
    }

    /// What there is to decide from. Sleepers help at once, and only as many as there are.
    fn view(&self, now: Time, counts: &Counts) -> View {
        let view = self.view_ahead(now, counts, self.took.0.unwrap_or(self.policy.start));
        let lead = self.lead(counts.asleep);
        let there = counts.awake().saturating_add(counts.asleep);
        if lead >= view.lead || fit::bound(&fit::terms(&view, &self.policy)).1 > there {
            return view;
        }
        // Beyond those that sleep, help is not there any sooner.
        let most = there.max(self.policy.floor()).min(view.most);
        View { most, ..self.view_ahead(now, counts, lead) }
    }

    fn view_ahead(&self, now: Time, counts: &Counts, lead: Span) -> View {
        let waiting = self.fresh(self.signals.waiting.as_ref(), now).copied();
        let waiting = waiting.unwrap_or_default();
        let mix_known = self.mix.iter().any(|band| band.requests > 0.0);
        let mix = if mix_known { self.mix } else { waiting.map(|band| band.work) };
        let arriving = self.arriving(now);
        let expected = self.expected(now, lead, arriving);
        let recent = self.busy.is_none_or(|at| now.since(at) < self.policy.idle);
        View {
            // Where nobody came for so long, what is left of the level is no load.
            arriving: if recent { arriving } else { 0.0 },
            expected: if recent || self.wakes(expected) { expected } else { 0.0 },
            latest: self.latest(now),
            service: self.service(mix),
            mix,
            waiting,
            ready: counts.ready,
            stuck: counts.stuck(),
            coming: counts.coming.clone(),
            lead,
            kv_used: self.kv_used(now),
            boost: self.boost,
            recent,
            most: self.policy.max,
        }
    }

    /// Requests a second that come: the level, and what a part of the gateways sees beyond it.
    fn arriving(&self, now: Time) -> f64 {
        let level = self.forecast.level().unwrap_or(0.0);
        let partial = self.signals.arrivals.is_some_and(|seen| !seen.whole);
        if partial { level.max(self.latest(now)) } else { level }
    }

    /// Requests a second that came last.
    fn latest(&self, now: Time) -> f64 {
        let seen = self.fresh(self.signals.arrivals.as_ref(), now);
        seen.map_or(0.0, |bands| bands.iter().map(|band| band.requests).sum())
    }

    /// Requests a second that may come until then. Who sees nothing does not look ahead.
    fn expected(&self, now: Time, lead: Span, arriving: f64) -> f64 {
        let seen = self.fresh(self.signals.arrivals.as_ref(), now);
        if !self.policy.foresight.enabled || seen.is_none() {
            return arriving;
        }
        let peak = self.forecast.peak(now, lead + self.policy.every);
        peak.map_or(arriving, |peak| peak.high.max(arriving))
    }

    /// Whether so much is to be expected that an idle model is woken for it: a request within the time
    /// after which it would be idle again. Only what days are like says so.
    fn wakes(&self, rate: f64) -> bool {
        let seasonal = !self.policy.foresight.seasons.is_empty();
        seasonal && rate * self.policy.idle.as_secs_f64() >= 1.0
    }

    fn service(&self, mix: [Work; BANDS]) -> Option<Service> {
        let whole = mix.iter().copied().fold(Work::default(), |sum, band| sum + band);
        let goals = self.policy.goals.iter().zip(&mix).filter(|(_, band)| band.requests > 0.0);
        let tpot = goals.filter_map(|(goal, _)| goal.tpot).min();
        Service::of(&self.speed?, whole, tpot)
    }

    fn kv_used(&self, now: Time) -> Option<f64> {
        let all = self.fresh(self.signals.replicas.as_ref(), now)?;
        let ready = all.values().filter(|one| one.stage == Stage::Ready);
        let used = ready.filter_map(|one| one.kv_used?.fresh(now, self.policy.age_max).copied());
        let (sum, count) = used.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    fn count(&self, now: Time, all: &BTreeMap<ReplicaId, ReplicaSeen>) -> Counts {
        let mut counts = Counts::default();
        for one in all.values() {
            let takes = match one.stage {
                Stage::Ready => {
                    counts.ready += 1;
                    continue;
                }
                Stage::Asleep => {
                    counts.asleep += 1;
                    continue;
                }
                Stage::Draining => continue,
                Stage::Starting => self.took.0.unwrap_or(self.policy.start),
                Stage::Waking => self.took.1.unwrap_or(self.policy.wake),
            };
            counts.starting += 1;
            let since = now.since(one.since);
            if since.as_nanos() <= takes.max(START_MIN).as_nanos().saturating_mul(STUCK) {
                counts
                    .coming
                    .push(Span::from_nanos(takes.as_nanos().saturating_sub(since.as_nanos())));
            }
        }
        counts
    }

    /// Who sees no replicas takes what was wanted for what there is.
    fn remembered(&self) -> Option<Counts> {
        let (awake, asleep) = self.wanted?;
        Some(Counts { ready: awake, asleep, ..Counts::default() })
    }

    fn asleep(&self) -> u32 {
        let all = self.signals.replicas.as_ref().map(|seen| seen.value.values());
        let count = all.map_or(0, |all| all.filter(|one| one.stage == Stage::Asleep).count());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How long until one serves that is asked for now.
    fn lead(&self, asleep: u32) -> Span {
        if asleep > 0 && self.policy.zero == Zero::WarmZero {
            return self.took.1.unwrap_or(self.policy.wake);
        }
        self.took.0.unwrap_or(self.policy.start)
    }

    /// The signal without which nothing is taken away, if one is missing.
    fn blind(&self, now: Time) -> Option<&'static str> {
        let age_max = self.policy.age_max;
        fn whole<T>(seen: Option<&Seen<T>>, now: Time, age_max: Span) -> bool {
            seen.is_some_and(|seen| seen.whole && seen.fresh(now, age_max).is_some())
        }
        let all = [
            ("what comes", whole(self.signals.arrivals.as_ref(), now, age_max)),
            ("what waits", whole(self.signals.waiting.as_ref(), now, age_max)),
            ("what runs", whole(self.signals.running.as_ref(), now, age_max)),
            ("the list of replicas", whole(self.signals.replicas.as_ref(), now, age_max)),
        ];
        all.into_iter().find(|(_, known)| !known).map(|(name, _)| name)
    }

    fn fresh<'a, T>(&self, seen: Option<&'a Seen<T>>, now: Time) -> Option<&'a T> {
        seen.and_then(|seen| seen.fresh(now, self.policy.age_max))
    }

    /// Whether somebody is there, as far as anybody knows.
    fn somebody(&self, now: Time) -> bool {
        if self.blind(now).is_some() {
            return true;
        }
        let comes = self
            .signals
            .arrivals
            .is_some_and(|seen| seen.value.iter().any(|band| band.requests > 0.0));
        let waits = self
            .signals
            .waiting
            .is_some_and(|seen| seen.value.iter().any(|band| band.work.requests > 0.0));
        comes || waits || self.signals.running.is_some_and(|seen| seen.value.requests > 0.0)
    }

    fn mix_in(&mut self, now: Time, arrivals: [Work; BANDS]) {
        let passed = self.mixed.map_or(0.0, |at| now.since(at).as_secs_f64());
        self.mixed = Some(now);
        if arrivals.iter().all(|band| band.requests <= 0.0) {
            return;
        }
        let first = self.mix.iter().all(|band| band.requests <= 0.0);
        self.mixed_for += if first { self.policy.every.as_secs_f64() } else { passed };
        let newest = passed / self.mixed_for;
        let add = (1.0 - (-passed / MIX_SECONDS).exp()).max(newest);
        let (keep, add) = if first { (0.0, 1.0) } else { (1.0 - add, add) };
        for (mix, new) in self.mix.iter_mut().zip(arrivals) {
            *mix = *mix * keep + new * add;
        }
    }

    /// Learns from goals that are missed though there should be enough: then work takes more than it is
    /// taken to.
    fn rate_misses(&mut self, now: Time) {
        let passed = self.boosted.map_or(0.0, |at| now.since(at).as_secs_f64()) / 60.0;
        self.boosted = Some(now);
        let Some(misses) = self.fresh(self.signals.misses.as_ref(), now) else { return };
        let with_goal = misses.iter().zip(&self.policy.goals);
        let goals = with_goal.filter(|(_, goal)| goal.ttft.is_some() || goal.tpot.is_some());
        let (answers, missed) = goals.fold((0.0, 0.0), |(answers, missed), (band, _)| {
            (answers + band.answers, missed + band.late.max(band.slow))
        });
        let enough = self.settled(now);
        let missing = answers >= ANSWERS_MIN && missed > (1.0 - self.policy.attainment) * answers;
        let (more, less) = BOOST_MINUTE;
        if missing && enough {
            self.boost = (self.boost + more * passed).min(self.policy.boost_max);
        } else if !missing {
            self.boost = 1.0 + (self.boost - 1.0) * (-less * passed).exp();
            if self.boost < 1.001 {
                self.boost = 1.0;
            }
        }
    }

    /// Whether all that was asked for is there.
    fn settled(&self, now: Time) -> bool {
        let Some(all) = self.fresh(self.signals.replicas.as_ref(), now) else { return false };
        let counts = self.count(now, all);
        self.wanted.is_some_and(|(awake, _)| counts.starting == 0 && counts.ready >= awake)
    }
}

impl Held {
    const fn blind(signal: &'static str) -> Self {
        Self::Blind { signal }
    }
}
