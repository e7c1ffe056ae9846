//! Replicas that come and go: starts that take their time, drains, sleep, spot machines that are taken
//! away, and what all of it costs.

use pilotage_chance::{Draws, derive};
use pilotage_core::scale::{Stage, Zero};
use pilotage_core::{Input, ReplicaId, Span, Time};

use super::look::Window;
use super::{Event, Simulation};
use crate::scaler::{Scale, Wanted};
use crate::scenario::{Scaling, Scenario};

/// Decisions whose reasons are kept.
const REASONS_MAX: usize = 200;

/// How long after the last arrival it is still decided.
const AFTER: Span = Span::from_secs(3600);

/// What became of a fleet.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Seconds of replicas that were awake, starting or ending, at the full price.
    pub on_demand_seconds: f64,
    /// The same of those that may be taken away.
    pub spot_seconds: f64,
    /// Seconds of replicas asleep.
    pub asleep_seconds: f64,
    /// How many were wanted awake, wherever that changed.
    pub wanted: Vec<(Time, u32)>,
    /// Why, for the first of these changes that have a reason.
    pub reasons: Vec<(Time, String)>,
    /// Replicas that were taken away.
    pub interruptions: u32,
    /// Most that were awake at once.
    pub awake_max: u32,
}

/// A fleet in motion.
#[derive(Debug)]
pub(super) struct Motion {
    pub(super) scaling: Scaling,
    pub(super) scaler: Box<dyn Scale>,
    pub(super) slots: Vec<Slot>,
    pub(super) window: Window,
    pub(super) wanted: Wanted,
    pub(super) log: Fleet,
    seed: u64,
    starts: u64,
    /// Until when it costs.
    end: Time,
}

/// A place where a replica may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// What the replica there does; none where there is none.
    pub(super) stage: Option<Stage>,
    pub(super) since: Time,
    /// When its machine came.
    born: Time,
    /// Changes with every stage.
    epoch: u64,
    spot: bool,
    /// It sleeps once it has ended what it has.
    to_sleep: bool,
}

impl Motion {
    pub(super) fn new(scenario: &Scenario) -> Option<Box<Self>> {
        let scaling = scenario.scaling.clone()?;
        let end = scenario.arrivals.last().map_or(Time::ZERO, |last| last.at);
        Some(Box::new(Self {
            scaler: scaling.scaler.start(scenario, &scaling),
            slots: vec![Slot::default(); scenario.replicas.len()],
            window: Window::new(scenario.replicas.len()),
            wanted: Wanted::awake(scaling.begin),
            log: Fleet { wanted: vec![(Time::ZERO, scaling.begin)], ..Fleet::default() },
            seed: derive(scenario.seed, u64::from(u32::MAX)),
            starts: 0,
            end,
            scaling,
        }))
    }

    pub(super) fn count(&self, stage: Stage) -> u32 {
        self.slots.iter().map(|slot| u32::from(slot.stage == Some(stage))).sum()
    }

    fn awake(&self) -> u32 {
        self.count(Stage::Ready) + self.count(Stage::Starting) + self.count(Stage::Waking)
    }

    /// A replica does something else from now on; its new epoch.
    fn turn(&mut self, now: Time, at: usize, stage: Option<Stage>) -> u64 {
        let slot = &mut self.slots[at];
        let seconds = now.min(self.end).since(slot.since).as_secs_f64();
        match (slot.stage, slot.spot) {
            (None, _) => {}
            (Some(Stage::Asleep), _) => self.log.asleep_seconds += seconds,
            (Some(_), true) => self.log.spot_seconds += seconds,
            (Some(_), false) => self.log.on_demand_seconds += seconds,
        }
        slot.stage = stage;
        slot.since = now;
        slot.epoch += 1;
        slot.epoch
    }

    /// Whether the next replica is one that may be taken away.
    fn is_spot(&self) -> bool {
        let Some(spot) = &self.scaling.spot else { return false };
        let there = |kind: bool| {
            let all = self.slots.iter().filter(|slot| slot.stage.is_some() && slot.spot == kind);
            all.count()
        };
        there(false) >= spot.on_demand_min as usize && there(true) < spot.max as usize
    }

    /// How long a replica lives that may be taken away; none where it lives on.
    fn life(&mut self) -> Option<Span> {
        self.starts += 1;
        let per_hour =
            self.scaling.spot.as_ref().map(|spot| spot.per_hour).filter(|it| *it > 0.0)?;
        let mut draws = Draws::new(derive(self.seed, self.starts), "interruptions");
        let seconds = draws.exponential() * 3600.0 / per_hour;
        Some(Span::from_millis((seconds * 1000.0) as u64))
    }
}

impl Simulation<'_> {
    /// Those that serve from the begin, and the first look.
    pub(super) fn raise_begun(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        let (begin, reclaims) = (motion.scaling.begin, motion.scaling.spot.clone());
        for at in 0..begin as usize {
            self.start_one(at, true);
        }
        self.lay_to_sleep();
        let times = reclaims.map(|spot| spot.reclaimed).unwrap_or_default();
        times.into_iter().for_each(|at| self.expect(at, Event::Reclaim));
        self.expect(Time::ZERO, Event::Scale);
    }

    /// Where the last one sleeps instead of ending, one does from the begin.
    fn lay_to_sleep(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        if motion.scaling.begin == 0 && motion.scaling.policy.zero == Zero::WarmZero {
            motion.turn(self.now, 0, Some(Stage::Asleep));
        }
    }

    /// Looks and does what is decided.
    pub(super) fn scale(&mut self, regular: bool) {
        self.tell();
        let look = self.look(regular);
        let Some(motion) = &mut self.motion else { return };
        let wanted = motion.scaler.decide(self.now, &look);
        if wanted.awake != motion.wanted.awake {
            motion.log.wanted.push((self.now, wanted.awake));
            if let Some(why) = wanted.why.clone().filter(|_| motion.log.reasons.len() < REASONS_MAX)
            {
                motion.log.reasons.push((self.now, why));
            }
        }
        motion.wanted = wanted;
        let every = motion.scaler.every();
        self.reconcile();
        let last = self.scenario.arrivals.last().map_or(Time::ZERO, |last| last.at);
        if regular && self.now < last + AFTER {
            self.expect(self.now + every, Event::Scale);
        }
        self.work();
    }

    /// A request came while nothing is awake: who hears of that decides at once.
    pub(super) fn hold(&mut self) {
        let hears = self.motion.as_ref().is_some_and(|motion| {
            motion.awake() == 0 && motion.wanted.awake == 0 && motion.scaler.hears()
        });
        if hears {
            self.scale(false);
        }
    }

    /// Starts, wakes, and takes away until there is what is wanted.
    fn reconcile(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        let wanted = motion.wanted.clone();
        let awake = motion.awake();
        let asleep = motion.count(Stage::Asleep);
        motion.log.awake_max = motion.log.awake_max.max(awake);
        if awake < wanted.awake {
            let missing = wanted.awake - awake;
            let waking = missing.min(asleep);
            (0..waking).for_each(|_| self.wake_one());
            (waking..missing).for_each(|_| self.start_new());
        } else {
            let over = awake - wanted.awake;
            let sleeping = wanted.asleep.saturating_sub(asleep).min(over);
            (0..over).for_each(|gone| self.retire_one(gone < sleeping));
        }
        let Some(motion) = &mut self.motion else { return };
        let surplus = motion.count(Stage::Asleep).saturating_sub(wanted.asleep);
        for _ in 0..surplus {
            let asleep = motion.slots.iter().rposition(|slot| slot.stage == Some(Stage::Asleep));
            if let Some(at) = asleep {
                motion.turn(self.now, at, None);
            }
        }
    }

    fn start_new(&mut self) {
        let motion = self.motion.as_ref();
        let free = motion.and_then(|it| it.slots.iter().position(|slot| slot.stage.is_none()));
        if let Some(at) = free {
            self.start_one(at, false);
        }
    }

    fn start_one(&mut self, at: usize, ready: bool) {
        let Some(motion) = &mut self.motion else { return };
        let spot = motion.is_spot();
        let epoch = motion.turn(self.now, at, Some(Stage::Starting));
        motion.slots[at].spot = spot;
        motion.slots[at].born = self.now;
        motion.slots[at].to_sleep = false;
        let life = if spot { motion.life() } else { None };
        let start = motion.scaling.policy.start;
        let at = at as u32;
        if let Some(life) = life {
            self.expect(self.now + life, Event::Notice { slot: at, born: self.now });
        }
        if ready {
            self.staged(at as usize, epoch);
        } else {
            self.expect(self.now + start, Event::Staged { slot: at, epoch });
        }
    }

    fn wake_one(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        let asleep = motion.slots.iter().position(|slot| slot.stage == Some(Stage::Asleep));
        let Some(at) = asleep else { return };
        let epoch = motion.turn(self.now, at, Some(Stage::Waking));
        let wake = motion.scaling.policy.wake;
        self.expect(self.now + wake, Event::Staged { slot: at as u32, epoch });
    }

    /// One fewer: one that does not serve yet, else the one with least to do.
    fn retire_one(&mut self, to_sleep: bool) {
        let Some(motion) = &mut self.motion else { return };
        let begun = |slot: &Slot| matches!(slot.stage, Some(Stage::Starting | Stage::Waking));
        if let Some(at) = motion.slots.iter().rposition(begun) {
            motion.turn(self.now, at, None);
            return;
        }
        let ready = motion.slots.iter().enumerate();
        let ready = ready.filter(|(_, slot)| slot.stage == Some(Stage::Ready)).map(|(at, _)| at);
        let load = |at: &usize| {
            let gauges = self.engines[*at].gauges();
            (gauges.running + gauges.waiting, std::cmp::Reverse(*at))
        };
        if let Some(at) = ready.min_by_key(load) {
            let drain = motion.scaling.drain;
            self.drain_slot(at, drain, to_sleep);
        }
    }

    /// No new work goes there. What it has not ended by then is lost.
    fn drain_slot(&mut self, at: usize, most: Span, to_sleep: bool) {
        let Some(motion) = &mut self.motion else { return };
        let epoch = motion.turn(self.now, at, Some(Stage::Draining));
        motion.slots[at].to_sleep = to_sleep;
        let replica = self.ids[at];
        self.scheduler.handle(self.now, Input::ReplicaDown { replica });
        self.expect(self.now + most, Event::Staged { slot: at as u32, epoch });
        self.end_drains();
    }

    /// What a replica did has taken its time.
    pub(super) fn staged(&mut self, at: usize, epoch: u64) {
        let Some(motion) = &mut self.motion else { return };
        if motion.slots[at].epoch != epoch {
            return;
        }
        match motion.slots[at].stage {
            Some(Stage::Starting | Stage::Waking) => {
                motion.turn(self.now, at, Some(Stage::Ready));
                // A replica that was gone comes back under another id.
                self.ids[at] = ReplicaId(self.ids[at].0 + self.scenario.replicas.len() as u32);
                self.raise(at);
                self.work();
            }
            Some(Stage::Draining) => {
                motion.turn(self.now, at, None);
                self.crash(at);
            }
            Some(Stage::Ready | Stage::Asleep) | None => {}
        }
    }

    /// Replicas that have ended what they had are gone, or sleep.
    pub(super) fn end_drains(&mut self) {
        let Some(motion) = &mut self.motion else { return };
        for at in 0..motion.slots.len() {
            let slot = motion.slots[at];
            if slot.stage != Some(Stage::Draining) {
                continue;
            }
            let gauges = self.engines[at].gauges();
            let busy = self.engines[at].is_busy() || gauges.running + gauges.waiting > 0;
            if !busy && !self.transit.values().any(|(engine, _)| *engine == at) {
                motion.turn(self.now, at, slot.to_sleep.then_some(Stage::Asleep));
            }
        }
    }

    /// A machine that may be taken away is told to go.
    pub(super) fn notice(&mut self, at: usize, born: Option<Time>) {
        let Some(motion) = &mut self.motion else { return };
        let slot = motion.slots[at];
        let other = born.is_some_and(|born| born != slot.born) || !slot.spot;
        let notice = motion.scaling.spot.as_ref().map_or(Span::ZERO, |spot| spot.notice);
        if other {
            return;
        }
        match slot.stage {
            Some(Stage::Ready) => {
                motion.log.interruptions += 1;
                self.drain_slot(at, notice, false);
            }
            Some(Stage::Starting | Stage::Waking | Stage::Asleep) => {
                motion.log.interruptions += 1;
                motion.turn(self.now, at, None);
            }
            Some(Stage::Draining) | None => return,
        }
        // Whoever keeps replicas running starts another at once, whatever the scaler thinks.
        self.reconcile();
        self.work();
    }

    pub(super) fn reclaim(&mut self) {
        let count = self.motion.as_ref().map_or(0, |motion| motion.slots.len());
        (0..count).for_each(|at| self.notice(at, None));
    }

    /// Adds up what is there at the end.
    pub(super) fn close_fleet(&mut self) -> Option<Fleet> {
        let motion = self.motion.as_mut()?;
        for at in 0..motion.slots.len() {
            let stage = motion.slots[at].stage;
            motion.turn(self.now.max(motion.end), at, stage);
        }
        Some(std::mem::take(&mut motion.log))
    }
}
